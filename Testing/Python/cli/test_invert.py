"""`dlir invert`: what is written is what other programs read, and what is printed of it is so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from cli_runs import FIXED, Pair, read, refuse, succeed
from dlir.cli import app
from dlir.geometry import ImageGrid
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform


@pytest.fixture
def transform(pair: Pair) -> Path:
    succeed(pair.register(pair.folder / "run"))
    return pair.folder / "run" / "transform.h5"


def test_that_of_a_registration_leads_back(pair: Pair, transform: Path) -> None:
    """As a transform and as an image of vectors, both as SimpleITK reads them."""
    base = ["invert", "--transform", transform, "--reference", pair.moving, "--output"]
    report = json.loads(succeed([*base, pair.folder / "inverse.h5", "--json"]))
    assert (report["unsolved"], report["linear"], report["transform"]) == (0, False, "transform.h5")
    printed = succeed([*base, pair.folder / "inverse.nii.gz"])
    assert (
        f"off by up to {report['largest_residual_mm']:.2g} mm at voxels, {report['between_voxels_mm']:.2g}" in printed
    )
    inverse = sitk.ReadTransform(str(pair.folder / "inverse.h5"))
    image = sitk.Cast(sitk.ReadImage(str(pair.folder / "inverse.nii.gz")), sitk.sitkVectorFloat64)
    as_image = sitk.DisplacementFieldTransform(image)
    grid = ImageGrid.from_sitk(sitk.ReadImage(str(pair.moving)))
    points = grid.voxel_centers()[3:-3, 3:-3, 3:-3].reshape(-1, 3)[::7]
    back = np.array([inverse.TransformPoint(point) for point in points.tolist()])
    assert np.linalg.norm(read_transform(transform).apply(back) - points, axis=1).max() < 2 * 0.01
    np.testing.assert_allclose([as_image.TransformPoint(p) for p in points.tolist()], back, atol=1e-3)
    # The fixed image on the moving grid, by the field and by the exact inverse.
    exact = ["apply", "--transform", transform, "--image", pair.fixed, "--reference", pair.moving, "--inverse"]
    succeed([*exact, "--output", pair.folder / "exact.nrrd"])
    moved = sitk.Resample(
        sitk.ReadImage(str(pair.fixed)),
        sitk.ReadImage(str(pair.moving)),
        inverse,
        sitk.sitkLinear,
        float(read(pair.fixed).min()),
    )
    assert np.isclose(sitk.GetArrayFromImage(moved), read(pair.folder / "exact.nrrd"), atol=0.05).mean() > 0.999


def test_a_linear_one_is_a_matrix_and_needs_no_grid(pair: Pair) -> None:
    rng = np.random.default_rng(0)
    matrices = [np.eye(4) + np.vstack([rng.normal(0, 0.2, (3, 4)), np.zeros(4)]) for _ in range(2)]
    names = [pair.folder / "a.tfm", pair.folder / "b.tfm"]
    for name, matrix in zip(names, matrices, strict=True):
        write_transform(name, CompositeTransform((AffineTransform(matrix),)))
    base = ["invert", "--transform", names[0], "--transform", names[1], "--output"]
    assert "a matrix, exact" in succeed([*base, pair.folder / "inverse.tfm"])
    found = read_transform(pair.folder / "inverse.tfm")
    assert found.linear
    np.testing.assert_allclose(found.matrix, np.linalg.inv(matrices[0] @ matrices[1]), atol=1e-12)
    refuse([*base, pair.folder / "inverse.nrrd"], pair.folder, "image of displacements, which needs --reference")
    succeed([*base, pair.folder / "inverse.nrrd", "--reference", pair.fixed])
    points = FIXED.voxel_centers()
    np.testing.assert_allclose(
        read(pair.folder / "inverse.nrrd"), found.apply(points.reshape(-1, 3)).reshape(points.shape) - points, atol=1e-3
    )


def test_what_has_no_inverse_is_told_or_refused(pair: Pair, transform: Path) -> None:
    flat = pair.folder / "flat.tfm"
    write_transform(flat, CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),)))
    refuse(["invert", "--transform", flat, "--output", pair.folder / "o.h5"], pair.folder, "flattens space")
    base = ["invert", "--transform", transform, "--output"]
    refuse([*base, pair.folder / "o.h5"], pair.folder, "needs --reference")
    refuse([*base, pair.folder / "o.png"], pair.folder, "must end in .h5")
    refuse([*base, pair.folder / "o.tfm", "--reference", pair.moving], pair.folder, "written as .h5, or as an image")
    refuse([*base, transform, "--reference", pair.moving], pair.folder, "is of the registration")
    refuse([*base, transform, "--reference", pair.moving, "--overwrite"], pair.folder, "would replace the input")
    both = ["invert", "--transform", flat, "--transform", transform, "--reference", pair.moving]
    result = CliRunner().invoke(app, list(map(str, [*both, "--output", pair.folder / "o.h5"])))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "voxels have no inverse" in result.stderr
    jacobian = [
        "jacobian",
        "--transform",
        flat,
        "--inverse",
        "--reference",
        pair.moving,
        "--output",
        pair.folder / "j.nrrd",
    ]
    result = CliRunner().invoke(app, list(map(str, jacobian)))
    assert "voxels have no inverse; the determinant is 0 there" in result.stderr
