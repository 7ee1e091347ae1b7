"""Transforms of an evaluation on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chains import random_chain
from dlir.errors import TransformError
from dlir.transforms.files import load_transform, save_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform
from grids import random_grid

POINTS = np.random.default_rng(0).uniform(-60, 60, (100, 3))


@pytest.mark.parametrize(
    "transform", [random_chain(np.random.default_rng(1)), CompositeTransform(())], ids=["chain", "none"]
)
def test_chains_are_itk_files(tmp_path: Path, transform: CompositeTransform) -> None:
    name = save_transform(tmp_path, "t", transform)
    assert name == "t.h5"
    np.testing.assert_allclose(load_transform(tmp_path / name).apply(POINTS), transform.apply(POINTS), atol=1e-9)


def test_fields_keep_their_grid_and_what_follows(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    grid = random_grid(rng)
    field = DisplacementTransform(rng.normal(size=(*grid.shape, 3)).astype(np.float32), grid)
    shift = AffineTransform.translation([1.0, 2.0, 3.0])
    points = grid.voxel_centers().reshape(-1, 3)
    for parts in ((field, shift), (field,)):
        transform = CompositeTransform(parts)
        name = save_transform(tmp_path, "t", transform)
        assert name == "t.npz"
        np.testing.assert_array_equal(load_transform(tmp_path / name).apply(points), transform.apply(points))


@pytest.mark.parametrize("name", ["t.h5", "t.npz"])
def test_what_is_missing_or_damaged_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransformError):
        load_transform(tmp_path / name)
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(TransformError):
        load_transform(tmp_path / name)
