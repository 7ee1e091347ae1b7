"""Whole inverses that can be written: exact where linear, else as good as their figures say, and honest about folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_affine, random_bspline, random_chain
from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from dlir.transforms import chain as chains_module
from dlir.transforms.files import write_transform
from dlir.transforms.inverse import TOLERANCE, InverseTransform, inverted_field, inverted_matrix
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import make_grid


def moving_grid(chain: CompositeTransform, shape: tuple[int, int, int] = (9, 10, 11)) -> ImageGrid:
    """An oblique grid about where the middle of a chain's domain goes."""
    assert isinstance(chain.parts[0], BSplineTransform)
    grid = make_grid(shape, (5.0, 4.0, 3.0), angles=(0.3, -0.2, 0.5))
    there = chain.apply(chain.parts[0].grid.center[None])[0]
    return ImageGrid(shape, grid.spacing, tuple(there - (grid.center - np.array(grid.origin))), grid.direction)


def test_that_of_a_linear_transform_is_linear() -> None:
    rng = np.random.default_rng(0)
    chain = CompositeTransform((random_affine(rng), random_affine(rng)))
    found = inverted_matrix(chain)
    assert found.transform.linear
    np.testing.assert_allclose(found.transform.matrix @ chain.matrix, np.eye(4), atol=1e-12)
    with pytest.raises(TransformError, match="flattens space"):
        inverted_matrix(CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),)))
    with pytest.raises(TransformError, match="no matrix"):
        inverted_matrix(random_chain(rng))
    tiny = CompositeTransform((AffineTransform(np.diag([1e-5, 1e-5, 1e-5, 1.0])),))
    np.testing.assert_allclose(inverted_matrix(tiny).transform.matrix[0, 0], 1e5)


@pytest.mark.parametrize("slab", [300, 1 << 18])
def test_a_field_leads_back_as_exactly_as_it_says(slab: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of SimpleITK, which reads the file, at every voxel and everywhere halfway between eight."""
    monkeypatch.setattr(chains_module, "_AT_ONCE", slab)
    chain = random_chain(np.random.default_rng(1), fraction=0.2)
    grid = moving_grid(chain)
    found = inverted_field(chain, grid)
    assert (found.unsolved, found.warning) == (0, None)
    assert found.largest_residual is not None
    assert found.between is not None
    write_transform(tmp_path / "inverse.h5", found.transform)
    inverse = sitk.ReadTransform(str(tmp_path / "inverse.h5"))
    halfway = grid.lattice((0.5, 0.5, 0.5), (1, 1, 1), [n - 1 for n in grid.size])
    for places, told in ((grid, found.largest_residual), (halfway, found.between)):
        points = places.voxel_centers().reshape(-1, 3)
        origins = np.array([inverse.TransformPoint(point) for point in points.tolist()])
        worst = np.linalg.norm(chain.apply(origins) - points, axis=1).max()
        assert worst == pytest.approx(told, abs=1e-5)
    assert found.largest_residual < TOLERANCE < found.between


def test_a_fold_is_told_and_leads_to_what_is_nearest() -> None:
    rng = np.random.default_rng(2)
    control = make_grid((8, 8, 8), (6.0, 6.0, 6.0))
    chain = CompositeTransform((random_bspline(rng, control, fraction=2.5),))
    grid = control.with_spacing((3.0, 3.0, 3.0))
    found = inverted_field(chain, grid)
    assert 0 < found.unsolved < np.prod(grid.shape)
    assert found.warning is not None
    assert found.warning.startswith(f"{found.unsolved} voxels have no inverse")
    points = grid.voxel_centers().reshape(-1, 3)
    residual = np.linalg.norm(chain.apply(found.transform.apply(points)) - points, axis=1)
    assert np.count_nonzero(residual > TOLERANCE) == found.unsolved
    assert found.largest_residual == pytest.approx(residual[residual <= TOLERANCE].max(), rel=1e-3)


def test_a_grid_of_one_slice_has_nothing_between_its_voxels() -> None:
    chain = random_chain(np.random.default_rng(3), fraction=0.2)
    found = inverted_field(chain, moving_grid(chain, (1, 5, 6)))
    assert found.between is None
    assert found.largest_residual is not None


def test_the_determinant_of_an_inverse_is_that_of_the_way_back() -> None:
    chain = random_chain(np.random.default_rng(4))
    grid = moving_grid(chain)
    origins = InverseTransform(chain).apply(grid.voxel_centers().reshape(-1, 3))
    expected = 1 / chain.determinant(origins)
    np.testing.assert_allclose(jacobian_map(InverseTransform(chain), grid).ravel(), expected, rtol=1e-5)
    flat = CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),))
    assert not jacobian_map(InverseTransform(flat), make_grid((3, 4, 5))).any()  # 0: there is none
