"""`dlir register` on a small oblique pair: its files agree with each other, with the report and with SimpleITK."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cli_runs import Pair, read, refuse, snapshot, start, succeed
from dlir.geometry import ImageGrid
from dlir.io import read_landmarks
from dlir.io.writing import write_image
from dlir.transforms.files import write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform

FILES = {"warped.nrrd", "transform.h5", "jacobian.nrrd", "report.json"}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _resample(pair: Pair, output: Path, moving: Path, mode: int) -> np.ndarray:
    fixed, image = sitk.ReadImage(str(pair.fixed)), sitk.ReadImage(str(moving))
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    lowest = float(sitk.GetArrayFromImage(image).min())
    return sitk.GetArrayFromImage(sitk.Resample(image, fixed, transform, mode, lowest))


def _away_from_the_border(pair: Pair, output: Path) -> np.ndarray:
    """Fixed voxels that map at least a hundredth of a millimetre to either side of the moving image's border."""
    fixed, moving = sitk.ReadImage(str(pair.fixed)), ImageGrid.from_sitk(sitk.ReadImage(str(pair.moving)))
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    centers = ImageGrid.from_sitk(fixed).voxel_centers()
    mapped = np.array([transform.TransformPoint(point) for point in centers.reshape(-1, 3).tolist()])
    index = moving.to_index(mapped)
    gap = np.minimum(np.abs(index + 0.5), np.abs(index - np.array(moving.size) + 0.5)) * moving.spacing
    return (gap.min(1) > 0.05).reshape(centers.shape[:3])


def test_files_agree_with_the_written_transform(pair: Pair, output: Path, tmp_path: Path) -> None:
    labels = ("--moving-label", pair.moving_label, "--fixed-label", pair.fixed_label)
    succeed(pair.register(output, "--displacement", *labels))
    assert {path.name for path in output.iterdir()} == FILES | {"warped_label.nrrd", "displacement.nrrd"}
    warped, sure = read(output / "warped.nrrd"), _away_from_the_border(pair, output)
    assert sure.mean() > 0.95
    expected = _resample(pair, output, pair.moving, sitk.sitkLinear)
    assert np.abs(warped - expected)[sure].max() <= 0.01 * np.ptp(expected)
    np.testing.assert_array_equal(
        read(output / "warped_label.nrrd"), _resample(pair, output, pair.moving_label, sitk.sitkNearestNeighbor)
    )
    succeed(
        ["jacobian", "--transform", output / "transform.h5", "--reference", pair.fixed, "--output", tmp_path / "j.mha"]
    )
    np.testing.assert_allclose(read(output / "jacobian.nrrd"), read(tmp_path / "j.mha"), rtol=0.01)
    for name in ("warped.nrrd", "jacobian.nrrd", "warped_label.nrrd", "displacement.nrrd"):
        written = sitk.ReadImage(str(output / name))
        assert ImageGrid.from_sitk(written).same_as(ImageGrid.from_sitk(sitk.ReadImage(str(pair.fixed))))


def test_displacement_is_in_mm_and_lps(pair: Pair, output: Path) -> None:
    succeed(pair.register(output, "--displacement"))
    field = sitk.ReadImage(str(output / "displacement.nrrd"))
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    for index in ((3, 4, 5), (20, 11, 9), (0, 0, 0)):
        point = np.array(field.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(field[index], transform.TransformPoint(point.tolist()) - point, atol=1e-4)
    assert np.abs(read(output / "displacement.nrrd")).max() > 1


def test_report_tells_what_was_done(pair: Pair, output: Path) -> None:
    labels = ("--moving-label", pair.moving_label, "--fixed-label", pair.fixed_label)
    printed = succeed(pair.register(output, "--json", *labels))
    report = json.loads(printed)
    assert report == json.loads((output / "report.json").read_text())
    assert report["fixed"]["file"] == pair.fixed.name
    assert report["model"]["name"] == "tiny"
    assert report["model"]["licence"] == "CC0"
    assert len(report["model"]["sha256"]) == 64
    assert report["device"] == "cpu"
    assert report["fold_free_by_construction"] is True
    assert report["initialization"]["mode"] == "centers of mass"
    assert "scanner positions" in report["initialization"]["reason"]
    assert set(report["outputs"].values()) == {path.name for path in output.iterdir()}
    assert {"read", "load", "preprocess", "networks", "figures"} <= set(report["seconds"])
    assert set(report["versions"]) == {"dlir", "python", "torch", "SimpleITK", "numpy"}
    assert report["peak_memory_mb"] > 50
    jacobian = read(output / "jacobian.nrrd").astype(float)
    assert report["jacobian"]["sd"] == pytest.approx(jacobian.std(), rel=1e-5)
    assert report["jacobian"]["min"] == pytest.approx(jacobian.min(), rel=1e-5)
    assert report["jacobian"]["folding_count"] == (jacobian <= 0).sum()


def test_the_report_names_files_and_no_folders(pair: Pair, output: Path) -> None:
    """Where it is passed on, the folders above the files, often called as the patient, do not go along."""
    labels = ("--moving-label", pair.moving_label, "--fixed-label", pair.fixed_label)
    masks = ("--fixed-mask", pair.fixed_label, "--moving-mask", pair.moving_label)
    printed = succeed(pair.register(output, "--json", *labels, *masks))
    for text in (printed, (output / "report.json").read_text()):
        assert str(pair.folder) not in text
        assert pair.folder.name not in text
    report = json.loads(printed)
    names = [report["moving"]["file"], report["fixed_mask"], report["moving_mask"]]
    assert names == [pair.moving.name, pair.fixed_label.name, pair.moving_label.name]
    report = json.loads(succeed(pair.register(output, "--json", "--full-paths", *masks)))
    assert report["fixed"]["file"] == str(pair.fixed)
    assert report["moving_mask"] == str(pair.moving_label)


def test_label_scores_are_those_of_the_written_labels(pair: Pair, output: Path) -> None:
    labels = ("--moving-label", pair.moving_label, "--fixed-label", pair.fixed_label)
    report = json.loads(succeed(pair.register(output, "--json", *labels)))
    fixed, warped = read(pair.fixed_label), read(output / "warped_label.nrrd")
    assert set(report["labels"]) == {"1", "2"}
    for label in (1, 2):
        overlap = 2 * ((fixed == label) & (warped == label)).sum() / ((fixed == label).sum() + (warped == label).sum())
        assert report["labels"][str(label)]["after"]["dice"] == pytest.approx(overlap)
        assert set(report["labels"][str(label)]["before"]) == {"dice", "hd_mm", "hd95_mm", "asd_mm"}


def test_similarity_is_that_of_the_voxels_with_a_counterpart(pair: Pair, output: Path) -> None:
    report = json.loads(succeed(pair.register(output, "--json")))
    fixed, warped = read(pair.fixed), read(output / "warped.nrrd")
    ones = sitk.ReadImage(str(pair.moving)) * 0 + 1
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    inside = sitk.GetArrayFromImage(sitk.Resample(ones, sitk.ReadImage(str(pair.fixed)), transform)) > 0.5
    expected = np.corrcoef(fixed[inside], warped[inside])[0, 1]
    assert report["similarity"]["after"] == pytest.approx(expected, abs=1e-3)
    assert report["similarity"]["voxels_after"] == pytest.approx(inside.sum(), rel=0.01)


def test_masks_restrict_the_figures(pair: Pair, output: Path, tmp_path: Path) -> None:
    masks = ("--fixed-mask", pair.fixed_label, "--moving-mask", pair.moving_label)
    report = json.loads(succeed(pair.register(output, "--json", *masks)))
    within = read(pair.fixed_label) > 0
    jacobian = read(output / "jacobian.nrrd").astype(float)[within]
    assert report["jacobian"]["mean"] == pytest.approx(jacobian.mean(), rel=1e-5)
    both = within & (_resample(pair, output, pair.moving_label, sitk.sitkNearestNeighbor) > 0)
    assert report["similarity"]["voxels_after"] == both.sum()
    assert report["fixed_mask"] == pair.fixed_label.name


def test_an_initial_transform_is_part_of_the_result(pair: Pair, output: Path, tmp_path: Path) -> None:
    start_file = tmp_path / "start.tfm"
    write_transform(start_file, CompositeTransform((AffineTransform.translation((2.5, 2.0, 3.0)),)))
    report = json.loads(succeed(pair.register(output, "--json", "--initial-transform", start_file)))
    assert report["initialization"]["mode"] == "given transform"
    written = sitk.ReadTransform(str(output / "transform.h5"))
    far = (400.0, 500.0, 600.0)  # where the stages end, only the start is left
    np.testing.assert_allclose(np.array(written.TransformPoint(far)) - far, (2.5, 2.0, 3.0), atol=1e-6)


def test_a_deformable_initial_transform_is_followed(pair: Pair, output: Path, tmp_path: Path) -> None:
    succeed(pair.register(tmp_path / "first"))
    succeed(pair.register(output, "--initial-transform", tmp_path / "first" / "transform.h5"))
    sure = _away_from_the_border(pair, output)
    expected = _resample(pair, output, pair.moving, sitk.sitkLinear)
    assert np.abs(read(output / "warped.nrrd") - expected)[sure].max() <= 0.01 * np.ptp(expected)


def test_table_names_scores_and_files(pair: Pair, output: Path) -> None:
    labels = ("--moving-label", pair.moving_label, "--fixed-label", pair.fixed_label)
    printed = succeed(pair.register(output, *labels))
    for word in ("similarity (NCC)", "label 1", "Dice", "HD (mm)", "folding", "image centers", "tiny", "transform.h5"):
        assert word in printed


def test_landmarks_are_in_the_table_and_keep_their_labels(pair: Pair, output: Path) -> None:
    center = ImageGrid.from_sitk(sitk.ReadImage(str(pair.fixed))).center
    points = {"fixed": center, "moving": center + 3}
    for name, (x, y, z) in points.items():
        (pair.folder / f"{name}.csv").write_text(f"x,y,z,label\n{x},{y},{z},apex\n")
    given = [text for name in points for text in (f"--{name}-landmarks", pair.folder / f"{name}.csv")]
    printed = succeed(pair.register(output, *given))
    assert "TRE, mean of 1 (mm)" in printed
    assert "moving_landmarks.csv" in printed
    found = read_landmarks(output / "moving_landmarks.csv")
    assert found.labels == ("apex",)
    sent = sitk.ReadTransform(str(output / "transform.h5")).TransformPoint(found.points[0].tolist())
    np.testing.assert_allclose(sent, points["moving"], atol=0.01)


def test_landmarks_as_voxel_indices_count_on_their_own_image(pair: Pair, output: Path) -> None:
    for name, index in (("fixed", "10 11 5"), ("moving", "9 12 6")):
        (pair.folder / f"{name}.txt").write_text(f"index\n1\n{index}\n")
    given = [text for name in ("fixed", "moving") for text in (f"--{name}-landmarks", pair.folder / f"{name}.txt")]
    report = json.loads(succeed(pair.register(output, "--json", *given)))
    fixed, moving = (sitk.ReadImage(str(path)) for path in (pair.fixed, pair.moving))
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    sent = transform.TransformPoint(fixed.TransformIndexToPhysicalPoint((10, 11, 5)))
    error = np.linalg.norm(np.array(sent) - moving.TransformIndexToPhysicalPoint((9, 12, 6)))
    assert report["landmarks"]["after"]["mean_mm"] == pytest.approx(error, abs=1e-6)


def test_a_second_run_replaces_the_first(pair: Pair, output: Path) -> None:
    succeed(pair.register(output, "--moving-label", pair.moving_label))
    first = snapshot(output)
    succeed(pair.register(output))
    second = snapshot(output)
    assert set(second) == set(first) - {"warped_label.nrrd"}  # of which the second report says nothing
    assert second["warped.nrrd"] == first["warped.nrrd"]


def test_options_that_contradict_each_other(pair: Pair, output: Path) -> None:
    refuse(pair.register(output, "--fixed-label", pair.fixed_label), pair.folder, "--moving-label")
    (pair.folder / "points.csv").write_text("x,y,z\n1,2,3\n")
    refuse(pair.register(output, "--fixed-landmarks", pair.folder / "points.csv"), pair.folder, "--moving-landmarks")
    both = ("--initial-transform", pair.fixed, "--initialize", "centers")
    refuse(pair.register(output, *both), pair.folder, "--initialize")


def test_the_real_command_prints_json_and_nothing_else(pair: Pair, output: Path) -> None:
    process = start(pair.register(output, "--json"))
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(printed) == json.loads((output / "report.json").read_text())


def test_labels_in_a_type_of_their_own_stay_in_it(pair: Pair, output: Path, tmp_path: Path) -> None:
    grid = ImageGrid.from_sitk(sitk.ReadImage(str(pair.moving)))
    write_image(tmp_path / "wide.nrrd", read(pair.moving_label).astype(np.int32) * 70000, grid)
    succeed(pair.register(output, "--moving-label", tmp_path / "wide.nrrd"))
    warped = read(output / "warped_label.nrrd")
    assert warped.dtype == np.int32
    assert set(np.unique(warped)) == {0, 70000, 140000}
