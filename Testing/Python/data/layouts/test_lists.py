"""Data sets with a list of their own: Learn2Reg's NLST, and the Medical Segmentation Decathlon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlir.data.layouts.decathlon import Decathlon, person_of
from dlir.data.layouts.learn2reg import Learn2Reg
from dlir.errors import EvaluationError, ImageNote
from dlir.io.writing import write_image
from evaluation_runs import GRID, body, label_of

# -- Learn2Reg ---------------------------------------------------------------------------------------


def nlst(folder: Path, **lists: Any) -> Path:
    """Two cases at inspiration (0000) and expiration (0001) in NLST's layout; `lists` go into its JSON."""
    for kind in ("imagesTr", "masksTr", "keypointsTr"):
        (folder / kind).mkdir(parents=True)
    for case in (1, 2):
        for phase in (0, 1):
            values = body(GRID, np.full(3, 2.0 * phase))
            name = f"NLST_{case:04d}_{phase:04d}"
            write_image(folder / "imagesTr" / f"{name}.nii.gz", values, GRID)
            write_image(folder / "masksTr" / f"{name}.nii.gz", values > 30, GRID)
            points = np.array([[3, 4, 5], [10.5, 11.25, 2 + phase]])
            np.savetxt(folder / "keypointsTr" / f"{name}.csv", points, "%.2f", delimiter=",")
    content = {
        "name": "NLST",
        "modality": {"0": "CT"},
        "tensorImageShape": {"0": [224, 192, 224]},
        "training": [{"image": f"./imagesTr/NLST_0001_000{p}.nii.gz"} for p in (0, 1)],
        "training_paired_images": [entry(1)],
        "registration_val": [entry(2)],
        **lists,
    }
    (folder / "NLST_dataset.json").write_text(json.dumps(content))
    return folder


def entry(case: int) -> dict[str, str]:
    return {role: f"./imagesTr/NLST_{case:04d}_000{p}.nii.gz" for role, p in (("fixed", 0), ("moving", 1))}


def test_pairs_are_those_that_the_challenge_scores(tmp_path: Path) -> None:
    data = Learn2Reg(nlst(tmp_path))
    assert data.title == "NLST"
    (pair,) = data.pairs()
    assert pair.name == "NLST_0002 0001-to-0000"


def test_keypoints_are_indices_and_masks_masks(tmp_path: Path) -> None:
    (pair,) = Learn2Reg(nlst(tmp_path)).pairs()
    image = pair.moving.read_image()
    landmarks, mask = pair.moving.read_landmarks(image), pair.moving.read_mask(image)
    assert landmarks is not None
    np.testing.assert_allclose(image.grid.to_index(landmarks.points), [[3, 4, 5], [10.5, 11.25, 3]], atol=1e-4)
    assert mask is not None
    assert mask.array.dtype == bool
    assert pair.moving.read_label(image) is None


def test_without_others_the_pairs_for_training_serve(tmp_path: Path) -> None:
    (pair,) = Learn2Reg(nlst(tmp_path, registration_val=[])).pairs()
    assert pair.fixed.subject == "NLST_0001"


def test_a_list_without_pairs_or_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="names no pairs"):
        Learn2Reg(nlst(tmp_path, registration_val=[], training_paired_images=[])).pairs()
    for text, words in (("[]", "holds no list"), ("{", "not valid JSON")):
        (tmp_path / "NLST_dataset.json").write_text(text)
        with pytest.raises(EvaluationError, match=words):
            Learn2Reg(tmp_path)
    (tmp_path / "NLST_dataset.json").unlink()
    with pytest.raises(EvaluationError, match="0 files"):
        Learn2Reg(tmp_path)


# -- Decathlon ---------------------------------------------------------------------------------------


def task(folder: Path, images: str = "imagesTr", labels: str = "labelsTr") -> Path:
    for kind in (images, labels):
        (folder / kind).mkdir(parents=True)
    for number in (1, 3, 4):
        values = body(GRID, np.full(3, float(number)))
        write_image(folder / images / f"hippocampus_{number:03d}.nii.gz", values, GRID)
        write_image(folder / labels / f"hippocampus_{number:03d}.nii.gz", label_of(values), GRID)
    return folder


def test_a_task_with_its_list(tmp_path: Path) -> None:
    numbers = (1, 4)
    files = [{k: f"./{k}sTr/hippocampus_{n:03d}.nii.gz" for k in ("image", "label")} for n in numbers]
    content = {
        "name": "Hippocampus",
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": files,
    }
    (task(tmp_path) / "dataset.json").write_text(json.dumps(content))
    data = Decathlon(tmp_path)
    assert data.title == "Hippocampus"
    assert data.labels == {1: "Anterior", 2: "Posterior"}
    assert [p.name for p in data.pairs()] == [
        "person002 hippocampus_004-to-person001 hippocampus_001",
        "person001 hippocampus_001-to-person002 hippocampus_004",
    ]
    image = data.pairs()[0].fixed.read_image()
    label = data.pairs()[0].fixed.read_label(image)
    assert label is not None
    np.testing.assert_array_equal(label.array, label_of(image.array))


@pytest.mark.parametrize("numbers_first", [True, False])
@pytest.mark.parametrize("form", ["version 1", "version 2", "dataset"])
def test_both_versions_of_nnunet(tmp_path: Path, form: str, numbers_first: bool) -> None:
    """Images carry the number of their channel, labels do not, and version 2 has no list of images."""
    for file in (task(tmp_path) / "imagesTr").iterdir():
        name = str(file).removesuffix(".nii.gz")
        shutil.copy(file, f"{name}_0001.nii.gz")
        file.rename(f"{name}_0000.nii.gz")
    names = [f"hippocampus_{number:03d}" for number in (1, 3, 4)]
    content: dict[str, Any] = {
        "labels": {"0": "background", "1": "Anterior", "2": "ignore"}
        if numbers_first
        else {"background": 0, "Anterior": 1, "ignore": 2},
        "file_ending": ".nii.gz",
    }
    if form == "version 1":
        content["training"] = [{k: f"./{k}sTr/{name}.nii.gz" for k in ("image", "label")} for name in names]
    if form == "dataset":
        content["dataset"] = {
            name: {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"} for name in names
        }
    content["channel_names"] = {"0": "T1", "1": "T2"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.warns(ImageNote, match="2 channels; .* the first is taken"):
        data = Decathlon(tmp_path)
    assert data.labels == {1: "Anterior"}
    scans = {pair.fixed.name: pair.fixed for pair in data.pairs()}
    assert [scan.part.removesuffix("_0000") for scan in scans.values()] == names
    for scan in scans.values():
        image = scan.read_image()
        label = scan.read_label(image)
        assert label is not None
        np.testing.assert_array_equal(label.array, label_of(image.array))


def test_a_label_of_the_same_name_comes_before_one_without_channel(tmp_path: Path) -> None:
    folder = task(tmp_path, "images", "labels")
    for kind in ("images", "labels"):
        (folder / kind / "hippocampus_001.nii.gz").rename(folder / kind / "OASIS_0001_0000.nii.gz")
    (scan,) = {pair.fixed for pair in Decathlon(folder).pairs() if "OASIS" in pair.fixed.name}
    assert scan.name == "OASIS_0001_0000"
    assert scan.label.endswith("labels/OASIS_0001_0000.nii.gz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"labels": ["background", "Anterior"], "training": []}, "labels that are not one name and one whole number"),
        ({"labels": {"all": [1, 2]}, "training": []}, "labels that are not one name and one whole number"),
        ({"labels": {"one": "two"}, "training": []}, "labels that are not one name and one whole number"),
        ({"training": ["imagesTr/hippocampus_001.nii.gz"]}, "does not name an image and a label"),
        ({"training": 3}, "does not name an image and a label"),
        ({"dataset": {"hippocampus_001": {"images": []}}}, "does not name an image and a label"),
    ],
)
def test_lists_of_another_form(tmp_path: Path, content: dict[str, Any], words: str) -> None:
    (task(tmp_path) / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match=words) as caught:
        Decathlon(tmp_path)
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_the_case_of_nnunet(shared_cases: Path) -> None:
    data = Decathlon(shared_cases / "13_nnunet_v2_dataset_json" / "Dataset004_Hippocampus")
    assert data.labels == {1: "Anterior", 2: "Posterior"}
    # One person's two sides: there is nobody else.
    assert [pair.name for pair in data.pairs()] == [
        "person167 hippocampus_334-to-hippocampus_333",
        "person167 hippocampus_333-to-hippocampus_334",
    ]
    assert all(pair.fixed.label for pair in data.pairs())


def test_folders_of_equal_names_will_do(tmp_path: Path) -> None:
    data = Decathlon(task(tmp_path, "images", "labels"))
    # 003 and 004 are two sides of one person.
    assert {p.name for p in data.pairs()} == {
        f"person00{(a + 1) // 2} hippocampus_00{a}-to-person00{(b + 1) // 2} hippocampus_00{b}"
        for a, b in ((1, 3), (3, 1), (1, 4), (4, 1))
    }
    assert all(pair.fixed.label and pair.moving.label for pair in data.pairs())


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("hippocampus_001", "person001"),
        ("hippocampus_002", "person001"),
        ("hippocampus_003", "person002"),
        ("hippocampus_394_0000", "person197"),
        ("prostate_003", "prostate_003"),
        ("hippocampus_3", "hippocampus_3"),
        ("my_hippocampus_003", "my_hippocampus_003"),
    ],
)
def test_two_sides_of_one_person_are_numbered_side_by_side(name: str, person: str) -> None:
    assert person_of(name) == person


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no two images"):
        Decathlon(tmp_path).pairs()


@pytest.mark.data
def test_the_real_hippocampi(shared_data: Path) -> None:
    pairs = Decathlon(shared_data / "hippocampus").pairs()
    names = {pair.fixed.name: pair.fixed.subject for pair in pairs}
    both = [list(names.values()).count(person) for person in set(names.values())]
    assert len(names) == 220
    assert len(pairs) == 220 * 219 - sum(n * (n - 1) for n in both)
    assert all(pair.fixed.subject != pair.moving.subject for pair in pairs)
    image = pairs[0].fixed.read_image()
    label = pairs[0].fixed.read_label(image)
    assert label is not None
    assert set(np.unique(label.array)) == {0, 1, 2}
