"""`dlir apply` and `dlir jacobian`: saved transforms on images, labels and points, forward and back."""

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
from dlir.io import Landmarks, read_landmarks, write_image, write_landmarks
from dlir.io.formats.surfaces import read_surface
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform


@pytest.fixture
def transform(pair: Pair) -> Path:
    """The saved transform of the pair, with displacements of millimetres."""
    succeed(pair.register(pair.folder / "run"))
    return pair.folder / "run" / "transform.h5"


def _sitk_resample(image: Path, reference: Path, transform: Path, mode: int, default: float) -> np.ndarray:
    moved = sitk.Resample(
        sitk.ReadImage(str(image)), sitk.ReadImage(str(reference)), sitk.ReadTransform(str(transform)), mode, default
    )
    return sitk.GetArrayFromImage(moved)


def test_image_onto_the_fixed_grid(pair: Pair, transform: Path) -> None:
    output = pair.folder / "new" / "moved.nii.gz"
    succeed(["apply", "--transform", transform, "--image", pair.moving, "--reference", pair.fixed, "--output", output])
    expected = _sitk_resample(pair.moving, pair.fixed, transform, sitk.sitkLinear, float(read(pair.moving).min()))
    np.testing.assert_allclose(read(output), expected, atol=1e-3)
    np.testing.assert_allclose(read(output), read(pair.folder / "run" / "warped.nrrd"), atol=4)


def test_label_onto_any_grid(pair: Pair, transform: Path) -> None:
    grid = FIXED.with_spacing((1.0, 1.5, 4.0))
    reference, output = pair.folder / "reference.nrrd", pair.folder / "label.nrrd"
    write_image(reference, np.zeros(grid.shape, np.uint8), grid)  # where it lies is all that matters
    succeed(
        ["apply", "--transform", transform, "--label", pair.moving_label, "--reference", reference, "--output", output]
    )
    expected = _sitk_resample(pair.moving_label, reference, transform, sitk.sitkNearestNeighbor, 0)
    assert expected.any()
    np.testing.assert_array_equal(read(output), expected)


def test_image_back_onto_the_moving_grid(pair: Pair, transform: Path) -> None:
    """The fixed image taken to the moving grid and back again is the fixed image, but for two interpolations."""
    there, back = pair.folder / "there.nrrd", pair.folder / "back.nrrd"
    common = ["apply", "--transform", transform, "--image"]
    told = succeed([*common, pair.fixed, "--reference", pair.moving, "--inverse", "--output", there, "--json"])
    report = json.loads(told)
    assert report["unsolved"] == 0
    assert report["largest_residual_mm"] < 1e-4
    succeed([*common, there, "--reference", pair.fixed, "--output", back])
    fixed, again = read(pair.fixed), read(back)
    inner = (slice(4, -4),) * 3
    assert np.corrcoef(fixed[inner].ravel(), again[inner].ravel())[0, 1] > 0.99


def test_points_forward_and_back(pair: Pair, transform: Path) -> None:
    points = FIXED.to_physical(np.random.default_rng(0).uniform(2, np.array(FIXED.size) - 3, (20, 3)))
    drawn, there, back = (pair.folder / name for name in ("drawn.csv", "there.mrk.json", "back.fcsv"))
    write_landmarks(drawn, Landmarks(points, tuple(f"p{i}" for i in range(20))))
    succeed(["apply", "--transform", transform, "--points", drawn, "--output", there])
    saved = sitk.ReadTransform(str(transform))
    expected = [saved.TransformPoint(point) for point in points.tolist()]
    np.testing.assert_allclose(read_landmarks(there).points, expected, atol=1e-4)
    assert np.abs(read_landmarks(there).points - points).max() > 1
    printed = succeed(["apply", "--transform", transform, "--points", there, "--inverse", "--output", back])
    assert "inverse to within" in printed
    np.testing.assert_allclose(read_landmarks(back).points, points, atol=1e-3)
    assert read_landmarks(back).labels == read_landmarks(drawn).labels


def test_points_as_indices_lie_on_the_reference(pair: Pair, transform: Path) -> None:
    (pair.folder / "drawn.pts").write_text("index\n1\n3 4 5\n")
    arguments = [
        "apply",
        "--transform",
        transform,
        "--points",
        pair.folder / "drawn.pts",
        "--output",
        pair.folder / "o.csv",
    ]
    refuse(arguments, pair.folder, "voxel indices", "give the image")
    succeed([*arguments, "--reference", pair.fixed])
    expected = read_transform(transform).apply(FIXED.to_physical([[3, 4, 5]]))
    np.testing.assert_allclose(read_landmarks(pair.folder / "o.csv").points, expected, atol=1e-6)


def test_points_without_an_inverse_are_told(pair: Pair) -> None:
    flat = pair.folder / "flat.tfm"
    write_transform(flat, CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),)))
    write_landmarks(pair.folder / "drawn.csv", Landmarks(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 5.0]])))
    points = ["apply", "--transform", flat, "--points", pair.folder / "drawn.csv", "--inverse"]
    result = CliRunner().invoke(app, [str(a) for a in [*points, "--output", pair.folder / "back.csv", "--json"]])
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: 1 of 2 points have no inverse (off by up to 5 mm)")
    assert result.stderr.count("\n") == 1
    assert json.loads(result.stdout)["unsolved"] == 1


def test_several_transforms_are_one(pair: Pair, transform: Path) -> None:
    """In ITK's order, for images, labels, points and determinants, and inverted as a whole."""
    write_transform(pair.folder / "s.tfm", CompositeTransform((AffineTransform(np.diag([1.2, 0.9, 1.0, 1.0])),)))
    both = ["--transform", transform, "--transform", pair.folder / "s.tfm"]
    whole = sitk.CompositeTransform([sitk.ReadTransform(str(name)) for name in both[1::2]])
    whole.FlattenTransform()  # as files have it
    sitk.WriteTransform(whole, str(pair.folder / "whole.h5"))
    for subject, source, interpolation, mode in (
        ("--image", pair.moving, "bspline", sitk.sitkBSpline3),
        ("--label", pair.moving_label, "gaussian-label", sitk.sitkLabelGaussian),
    ):
        output = pair.folder / f"{interpolation}.nrrd"
        more = [subject, source, "--reference", pair.fixed, "--interpolation", interpolation]
        succeed(["apply", *both, *more, "--output", output])
        outside = float(read(source).min())
        expected = _sitk_resample(source, pair.fixed, pair.folder / "whole.h5", mode, outside)
        assert np.isclose(read(output), expected, atol=1e-2).mean() > 0.999
    drawn, there, back = (pair.folder / name for name in ("drawn.csv", "there.csv", "back.fcsv"))
    places = FIXED.center + np.eye(3)
    write_landmarks(drawn, Landmarks(places, ("a", "b", "c")))
    succeed(["apply", *both, "--points", drawn, "--output", there])
    expected = np.array([whole.TransformPoint(place) for place in places.tolist()])
    np.testing.assert_allclose(read_landmarks(there).points, expected, atol=1e-6)
    report = json.loads(succeed(["apply", *both, "--points", there, "--inverse", "--output", back, "--json"]))
    assert report["transform"] == ["transform.h5", "s.tfm"]
    np.testing.assert_allclose(read_landmarks(back).points, places, atol=1e-4)
    jacobian = ["jacobian", "--reference", pair.fixed, "--output", pair.folder / "j.nrrd", "--json"]
    stretched, deformed, one = (
        json.loads(succeed([*jacobian, *named]))["mean"] for named in (both[2:], both, [*both[2:], "--inverse"])
    )
    assert (stretched, one) == (pytest.approx(1.08), pytest.approx(1 / 1.08))
    assert deformed != pytest.approx(1.08, abs=1e-3)


def test_every_form_of_landmarks_keeps_names_and_places(pair: Pair) -> None:
    """From one format to the next, the first one in RAS."""
    write_transform(pair.folder / "shift.tfm", CompositeTransform((AffineTransform.translation([1.0, 2.0, 3.0]),)))
    names, places = ("apex", "basis, left", "RV"), np.array([[1.5, -2.0, 3.0], [0.0, 1.0, 2.0], [9.0, 8.0, 7.0]])
    rows = (f'{-x},{-y},{z},0,0,0,1,1,1,0,"{name}",,' for name, (x, y, z) in zip(names, places.tolist(), strict=True))
    lines = ["# CoordinateSystem = RAS", *(f"{number},{row}" for number, row in enumerate(rows))]
    source = pair.folder / "a.fcsv"
    source.write_text("\n".join(lines))
    for step, name in enumerate(("b.mrk.json", "c.csv", "d.fcsv"), 1):
        target = pair.folder / name
        succeed(["apply", "--transform", pair.folder / "shift.tfm", "--points", source, "--output", target])
        assert read_landmarks(target).labels == names
        np.testing.assert_allclose(read_landmarks(target).points, places + step * np.array([1.0, 2.0, 3.0]))
        source = target


def test_a_surface_travels_as_points_do(pair: Pair, transform: Path) -> None:
    pytest.importorskip("vtkmodules.vtkCommonCore", reason="VTK is not installed")
    corners = FIXED.center + np.array([[0, 0, 0], [5, 0, 0], [0, 5, 0]])
    head = "# vtk DataFile Version 4.2\nmine\nASCII\nDATASET POLYDATA\nPOINTS 3 double\n"
    rows = "\n".join(" ".join(map(str, row)) for row in corners.tolist())
    drawn, there, back = (pair.folder / name for name in ("model.vtk", "there.ply", "back.vtp"))
    drawn.write_text(f"{head}{rows}\nPOLYGONS 1 4\n3 0 1 2\n")
    base = ["apply", "--transform", transform, "--surface"]
    result = CliRunner().invoke(app, list(map(str, [*base, drawn, "--output", there])))
    assert result.exit_code == 0, result.stderr
    assert "does not state its frame; it is taken to be in LPS" in result.stderr
    succeed([*base, there, "--inverse", "--output", back])
    saved = sitk.ReadTransform(str(transform))
    moved = [saved.TransformPoint(corner) for corner in corners.tolist()]
    np.testing.assert_allclose(read_surface(there).points, moved, atol=1e-4)
    np.testing.assert_allclose(read_surface(back).points, corners, atol=1e-3)
    assert succeed([*base, drawn, "--output", there, "--frame", "lps"]) == f"{there}\n"
    refuse([*base, there, "--frame", "RAS", "--output", pair.folder / "o.stl"], pair.folder, "states that it is in LPS")
    refuse([*base, drawn, "--output", pair.folder / "o.nrrd"], pair.folder, "must end in .vtk")


def test_options_that_do_not_fit(pair: Pair, transform: Path) -> None:
    base = ["apply", "--transform", transform, "--output", pair.folder / "o.nrrd"]
    refuse(base, pair.folder, "exactly one of --image, --label, --points and --surface")
    refuse([*base, "--image", pair.moving, "--label", pair.moving_label], pair.folder, "exactly one")
    refuse([*base, "--image", pair.moving], pair.folder, "--image needs --reference")
    refuse([*base, "--label", pair.moving, "--reference", pair.fixed], pair.folder, "not whole numbers")
    refuse([*base, "--points", pair.moving], pair.folder, "o.nrrd", ".csv")
    image = [*base, "--image", pair.moving, "--reference", pair.fixed]
    refuse([*image, "--interpolation", "gaussian-label"], pair.folder, "of images is 'gaussian-label'; use linear")
    refuse([*image, "--frame", "LPS"], pair.folder, "--frame is that of a surface")


@pytest.mark.parametrize("name", ["o.png", "o", "o.csv"])
def test_output_of_a_type_that_no_image_has(pair: Pair, transform: Path, name: str) -> None:
    more = ["--transform", transform, "--reference", pair.fixed, "--output", pair.folder / name]
    refuse(["apply", "--image", pair.moving, *more], pair.folder, name, ".nrrd")
    refuse(["jacobian", *more], pair.folder, name, ".nrrd")


def test_outputs_never_replace_inputs(pair: Pair, transform: Path) -> None:
    base = ["--transform", transform, "--reference", pair.fixed, "--output"]
    refuse(["apply", "--image", pair.moving, *base, pair.moving], pair.folder, "would replace the input")
    refuse(["apply", "--image", pair.moving, *base, pair.fixed], pair.folder, "would replace the input")
    refuse(["jacobian", *base, pair.fixed], pair.folder, "would replace the input")


def test_transform_files_that_cannot_be_used(pair: Pair) -> None:
    bad = pair.folder / "bad.h5"
    more = ["--transform", bad, "--reference", pair.fixed, "--output", pair.folder / "o.nrrd"]
    refuse(["jacobian", *more], pair.folder, "bad.h5", "does not exist", "check the path")
    bad.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    refuse(["jacobian", *more], pair.folder, "bad.h5", "damaged")
    refuse(["apply", "--image", pair.moving, *more], pair.folder, "bad.h5", "damaged")


# -- jacobian -----------------------------------------------------------------------------------------


def test_jacobian_equals_finite_differences(pair: Pair, transform: Path) -> None:
    output = pair.folder / "j.nrrd"
    arguments = ["jacobian", "--transform", transform, "--reference", pair.fixed, "--output", output]
    report = json.loads(succeed([*arguments, "--json"]))
    found, saved, step = read(output), sitk.ReadTransform(str(transform)), 1e-3
    for z, y, x in ((3, 4, 5), (10, 20, 7), (7, 11, 13)):
        point = FIXED.to_physical([x, y, z])
        sides = [[saved.TransformPoint((point + s * step * e).tolist()) for s in (1, -1)] for e in np.eye(3)]
        matrix = np.array([np.subtract(a, b) / (2 * step) for a, b in sides]).T
        assert found[z, y, x] == pytest.approx(np.linalg.det(matrix), rel=1e-3)
    assert report["mean"] == pytest.approx(found.astype(float).mean(), rel=1e-6)
    assert report["folding_count"] == 0
    assert "folding   0.0000 %" in succeed(arguments)


def test_jacobian_figures_inside_a_mask(pair: Pair, transform: Path) -> None:
    output = pair.folder / "j.nrrd"
    base = ["jacobian", "--transform", transform, "--reference", pair.fixed, "--output", output, "--json"]
    report = json.loads(succeed([*base, "--mask", pair.fixed_label]))
    assert report["mean"] == pytest.approx(read(output)[read(pair.fixed_label) > 0].astype(float).mean(), rel=1e-6)
    refuse([*base, "--mask", pair.moving_label], pair.folder, "mask", "does not lie on the voxels")


def test_jacobian_of_folding(pair: Pair) -> None:
    mirror = pair.folder / "mirror.tfm"
    write_transform(mirror, CompositeTransform((AffineTransform(np.diag([-2.0, 1.0, 1.0, 1.0])),)))
    output = pair.folder / "j.nrrd"
    arguments = ["jacobian", "--transform", mirror, "--reference", pair.fixed, "--output", output, "--json"]
    report = json.loads(succeed(arguments))
    assert report["folding_percent"] == 100
    assert report["folding_count"] == np.prod(FIXED.shape)
    assert (report["mean"], report["sd"], report["min"], report["max"]) == pytest.approx((-2, 0, -2, -2))
    assert ImageGrid.from_sitk(sitk.ReadImage(str(output))).same_as(FIXED)
