"""Several transforms as one: in the order of ITK's composite, from files and from memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_affine, random_bspline
from dlir.applying.chain import chained
from dlir.errors import OptionError, TransformError
from dlir.io import read_image
from dlir.transforms.files import to_sitk, write_transform
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import make_grid


def test_the_last_one_is_applied_first_as_in_a_composite_of_itk(tmp_path: Path) -> None:
    """A composite within the list as well; which order it is shows, because the two do not commute."""
    rng = np.random.default_rng(0)
    control = make_grid((8, 9, 10), (20.0, 20.0, 20.0), (-80.0, -80.0, -80.0))
    first = CompositeTransform((random_bspline(rng, control, zero_layers=3), random_affine(rng)))
    second, third = CompositeTransform((random_affine(rng),)), sitk.TranslationTransform(3, (5.0, -3.0, 2.0))
    for name, transform in (("a.h5", first), ("b.tfm", second)):
        write_transform(tmp_path / name, transform)
    found = chained([tmp_path / "a.h5", str(tmp_path / "b.tfm"), third])
    reference = sitk.CompositeTransform([to_sitk(first), to_sitk(second), third])
    points = rng.uniform(-60, 60, (50, 3))
    expected = [reference.TransformPoint(point) for point in points.tolist()]
    np.testing.assert_allclose(found.apply(points), expected, atol=1e-9)
    np.testing.assert_allclose(expected, first.apply(second.apply(points + np.array([5.0, -3.0, 2.0]))), atol=1e-9)
    other = chained([third, second, first]).apply(points)
    assert np.abs(other - expected).max() > 1
    # The inverse of the whole, which a composite of inverses in the other order is.
    np.testing.assert_allclose(InverseTransform(found).apply(np.array(expected)), points, atol=1e-5)


def test_ants_lists_its_files_the_other_way_round(repo_root: Path) -> None:
    """ANTs made the image from its warp and its affine transform, in this order."""
    folder = repo_root / "Testing" / "Data" / "ants"
    fixed, moving, expected = (read_image(str(folder / f"{name}.nii.gz")) for name in ("fixed", "moving", "warped"))
    listed = [folder / "1Warp.nii.gz", folder / "0GenericAffine.mat"]
    off = [
        np.abs(resample(moving.array, moving.grid, chained(order), fixed.grid) - expected.array).max()
        for order in (listed[::-1], listed)
    ]
    assert off[0] < 1e-3 * np.ptp(moving.array)
    assert off[1] > 0.1 * np.ptp(moving.array)


def test_what_is_no_transform() -> None:
    with pytest.raises(OptionError, match="no transform is given"):
        chained([])
    with pytest.raises(OptionError, match="a ndarray is no transform"):
        chained([np.eye(4)])
    with pytest.raises(TransformError, match="does not exist"):
        chained([CompositeTransform((AffineTransform(np.eye(4)),)), "absent.h5"])
