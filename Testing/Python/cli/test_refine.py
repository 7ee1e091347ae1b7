"""`dlir register` without a model, or with a result that is made better: --model none, --refine and --kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from blobs import CENTER, FIXED, MOVING, apart, pair_by, placed
from cli_runs import Pair, read, refuse, snapshot, succeed
from dlir.geometry import ImageGrid
from dlir.io import Landmarks, write_landmarks
from dlir.io.writing import write_image
from dlir.model import catalogue
from dlir.model.catalogue import resource_folder
from dlir.transforms.files import read_transform
from dlir.transforms.spatial import CompositeTransform
from grids import make_grid

TURNED = placed((4, -3, 2), (0.15, -0.10, 0.20))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def turned(pair: Pair) -> Pair:
    """Blobs, and the same turned and shifted."""
    fixed, moving = pair_by(TURNED)
    write_image(pair.folder / "blobs.nrrd", fixed.array, FIXED)
    write_image(pair.folder / "turned.nrrd", moving.array, MOVING)
    return replace(pair, fixed=pair.folder / "blobs.nrrd", moving=pair.folder / "turned.nrrd")


def _report(output: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


# -- without a model ----------------------------------------------------------------------------------


def test_without_a_model(turned: Pair, output: Path) -> None:
    labels = []
    for name, image, grid in (("fixed", turned.fixed, FIXED), ("moving", turned.moving, MOVING)):
        write_image(turned.folder / f"{name}_bright.nrrd", (read(image) > 60).astype(np.uint8), grid)
        labels += [f"--{name}-label", turned.folder / f"{name}_bright.nrrd"]
    printed = succeed(turned.register(output, "--refine", "20it", *labels, model="none"))
    report = _report(output)
    assert report["model"]["name"] == "none"
    assert report["model"]["sha256"] is None
    assert (report["refinement"]["budget"], report["refinement"]["steps"]) == ("20it", 20)
    assert report["jacobian"]["folding_count"] == 0
    assert report["fold_free_by_construction"] is True
    assert report["similarity"]["after"] > 0.97
    for scores in report["labels"].values():
        assert scores["after"]["dice"] > 0.9
    assert report["verdict"]["inputs"]["inverse_consistency_mm"] is not None
    assert report["verdict"]["level"] == "good", report["verdict"]
    assert "model     none on cpu" in printed


def test_two_runs_give_the_same(pair: Pair, tmp_path: Path) -> None:
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        succeed(pair.register(output, "--refine", "6it", model="none"))
    first, second = (read_transform(output / "transform.h5") for output in outputs)
    points = FIXED.voxel_centers().reshape(-1, 3)
    np.testing.assert_array_equal(first.apply(points), second.apply(points))
    np.testing.assert_array_equal(*(read(output / "warped.nrrd") for output in outputs))


def test_files_agree_with_the_written_transform(turned: Pair, output: Path) -> None:
    succeed(turned.register(output, "--refine", "10it", model="none"))
    warped, image = read(output / "warped.nrrd"), sitk.ReadImage(str(turned.moving))
    transform = sitk.ReadTransform(str(output / "transform.h5"))
    lowest = float(sitk.GetArrayFromImage(image).min())
    there = sitk.Resample(image, sitk.ReadImage(str(turned.fixed)), transform, sitk.sitkLinear, lowest)
    difference = np.abs(warped - sitk.GetArrayFromImage(there))
    assert np.quantile(difference, 0.99) < 0.01 * np.ptp(warped)  # the rest lies on the very border


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_turned_pair_without_bending(turned: Pair, output: Path, kind: str) -> None:
    """`auto` needs no model for it."""
    succeed(turned.register(output, "--refine", "5it", "--kind", kind, model="auto"))
    found, report = read_transform(output / "transform.h5"), _report(output)
    assert found.linear
    assert apart(found, TURNED) < 0.3 * min(FIXED.spacing)
    linear = found.matrix[:3, :3]
    if kind == "rigid":
        np.testing.assert_allclose(linear.T @ linear, np.eye(3), atol=1e-5)
    assert report["model"]["name"] == "none"
    assert report["model"]["reason"] == f"what is {kind} is found without a model"
    assert report["refinement"]["kind"] == kind
    assert report["verdict"]["level"] == "good", report["verdict"]


def test_a_given_transform_is_where_it_begins(turned: Pair, output: Path, tmp_path: Path) -> None:
    succeed(turned.register(output, "--refine", "1it", "--kind", "rigid", model=""))
    again = ("--initial-transform", output / "transform.h5", "--kind", "affine", "--refine", "1it")
    succeed(turned.register(tmp_path / "again", *again, model=""))
    report = _report(tmp_path / "again")
    assert report["initialization"]["affine"] == "given transform"
    assert [one["start"] for one in report["refinement"]["affine"]] == ["given transform"]


@pytest.fixture
def inverted(turned: Pair) -> Pair:
    """Blobs, and the same shifted, dark where the others are bright."""
    _, moving = pair_by(placed((2, -2, 1)), contrast=lambda values: 2 - values)
    write_image(turned.folder / "inverted.nrrd", moving.array, MOVING)
    return replace(turned, moving=turned.folder / "inverted.nrrd")


def test_images_of_two_contrasts_are_bent_where_both_ways_agree(inverted: Pair, output: Path) -> None:
    succeed(inverted.register(output, "--refine", "10it", "--initialize", "scanner", model="none"))
    told = _report(output)["refinement"]
    assert told["same_contrast"] is False
    assert (told["similarity"], told["steps"]) == ("mutual_information", 10)
    assert told["stages"]


def test_with_a_similarity_for_them_they_are_bent(inverted: Pair, output: Path) -> None:
    more = ("--similarity", "mutual_information", "--refine", "10it", "--initialize", "scanner")
    succeed(inverted.register(output, *more, model="none"))
    told = _report(output)["refinement"]
    assert (told["similarity"], told["same_contrast"], told["steps"]) == ("mutual_information", True, 10)
    stages = [(stage["before"], stage["after"]) for stage in told["stages"]]
    assert all(after >= before for before, after in stages)
    assert any(after > before for before, after in stages)


def test_landmarks_steer(turned: Pair, output: Path) -> None:
    """Landmarks that are drawn 4 mm off what the images show. Without them the images win, and with them the landmarks
    do, also in the stages that bend: of 10 steps, which were tried before, all that is gained is the affine part's.
    """
    drawn_off, points = 4.0, CENTER + np.random.default_rng(0).uniform(-12, 12, (5, 3))
    for name, drawn in (("fixed", points), ("moving", TURNED.apply(points) + np.array([0, drawn_off, 0]))):
        write_landmarks(turned.folder / f"{name}.csv", Landmarks(drawn))
    given = [text for name in ("fixed", "moving") for text in (f"--{name}-landmarks", turned.folder / f"{name}.csv")]
    errors = []
    for weight in ("0", "1"):
        more = ("--refine", "20it", "--landmark-weight", weight, "--overwrite", "--initialize", "scanner")
        succeed(turned.register(output, *given, *more, model="none"))
        errors.append(_report(output)["landmarks"]["after"]["mean_mm"])
        assert _report(output)["refinement"]["landmark_weight"] == (1.0 if weight == "1" else None)
    assert errors[0] > 0.9 * drawn_off
    assert errors[1] < 0.4 * drawn_off
    assert any(stage["after"] > stage["before"] + 1e-3 for stage in _report(output)["refinement"]["stages"])


def test_one_step_is_enough(turned: Pair, output: Path) -> None:
    succeed(turned.register(output, "--refine", "1it", "--initialize", "scanner", model="none"))
    assert _report(output)["refinement"]["steps"] == 1


# -- where no model fits ------------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [True, False])
def test_where_no_model_fits_there_is_a_reason(
    turned: Pair, output: Path, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setattr(catalogue, "resource_folder", lambda kind: output / "nothing")
    printed = succeed(turned.register(output, "--refine", "2it", model="auto"))
    model = _report(output)["model"]
    assert model["name"] == "none"
    assert model["reason"] == "no installed model was made for such images"
    assert ("distances" in model) == installed
    line = next(line for line in printed.splitlines() if line.startswith("model"))
    assert f"none, because {model['reason']}" in line


# -- on top of a model --------------------------------------------------------------------------------


def test_a_models_result_is_made_better(output: Path, tmp_path: Path) -> None:
    sample = resource_folder("SampleData")
    images = ["--fixed", sample / "fixed_ed.nrrd", "--moving", sample / "moving_es.nrrd", "--device", "cpu"]
    plain, better = tmp_path / "plain", tmp_path / "better"
    succeed(["register", *images, "--model", "cardiac-cine", "--output", plain])
    succeed(["register", *images, "--model", "cardiac-cine", "--output", better, "--refine", "10it"])
    before, after = _report(plain), _report(better)
    assert before["refinement"] is None
    assert after["refinement"]["steps"] == 10
    assert after["refinement"]["affine"] == []
    assert after["model"] == before["model"]
    assert after["verdict"]["inputs"]["local_after"] > before["verdict"]["inputs"]["local_after"]
    assert after["jacobian"]["folding_count"] == 0
    assert after["fold_free_by_construction"] is True
    parts = [read_transform(folder / "transform.h5").parts for folder in (plain, better)]
    assert 0 < len(parts[1]) - len(parts[0]) <= 3


def test_a_tiny_models_result_gets_no_worse(pair: Pair, output: Path, tmp_path: Path) -> None:
    succeed(pair.register(tmp_path / "plain"))
    succeed(pair.register(output, "--refine", "10it"))
    plain, better = (_report(folder) for folder in (tmp_path / "plain", output))
    assert better["similarity"]["after"] >= plain["similarity"]["after"]
    assert better["jacobian"]["folding_count"] == 0


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("none", ("--refine", "off"), ("without a model the pair is optimised", "--refine a budget")),
        ("none", ("--refine", "3x"), ("'3x'", "--refine", "10s", "50it", "converged or off")),
        ("auto", ("--refine", "0it"), ("'0it'", "--refine")),
        ("auto", ("--refine", "off", "--kind", "rigid"), ("without a model", "--refine a budget")),
        (
            "none",
            ("--landmark-weight", "1"),
            ("a landmark weight needs landmarks on both images", "--moving-landmarks"),
        ),
        ("auto", ("--initialize", "2"), ("second best position", "--model none")),
        ("none", ("--similarity", "likeness"), ("'similarity' is 'likeness'", "mutual_information")),
        ("cardiac-cine", ("--kind", "affine"), ("--kind affine is found without a model", "--model none")),
    ],
)
def test_what_contradicts_itself(pair: Pair, model: str, more: tuple[str, ...], words: tuple[str, ...]) -> None:
    refuse(pair.register(pair.folder / "out", *more, model=model), pair.folder, *words)


def test_off_refuses_where_no_model_fits(turned: Pair) -> None:
    arguments = turned.register(turned.folder / "out", "--refine", "off", model="auto")
    refuse(arguments, turned.folder, "no installed model was made for images like", "choose one with --model")


def test_sizes_that_no_body_has(pair: Pair) -> None:
    grid = make_grid((10, 12, 14), (4500.0, 4500.0, 4500.0))
    write_image(pair.folder / "huge.nrrd", np.random.default_rng(0).normal(100, 20, grid.shape), grid)
    arguments = pair.register(pair.folder / "out", "--refine", "2it", model="none", moving=pair.folder / "huge.nrrd")
    refuse(arguments, pair.folder, "huge.nrrd' measures 63 x 54 x 45 m; correct the voxel size")


def test_a_folder_of_another_method_is_not_taken_over(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    before = snapshot(output)
    refuse(pair.register(output, "--refine", "2it", model="none"), output, "holds another registration", "by tiny")
    assert snapshot(output) == before
    succeed(pair.register(output, "--refine", "2it", "--overwrite", model="none"))
    assert _report(output)["model"]["name"] == "none"
    assert isinstance(read_transform(output / "transform.h5"), CompositeTransform)
    assert ImageGrid.from_sitk(sitk.ReadImage(str(output / "warped.nrrd"))).shape == read(pair.fixed).shape
