"""Anybody's data: folders whose names say what belongs together, and tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dlir.data.layouts.folder import ImageFolder, Manifest
from dlir.data.pair import select
from dlir.errors import EvaluationError
from evaluation_runs import GRID, OFFSETS, write_phase, write_subjects


def test_subfolders_are_subjects(tmp_path: Path) -> None:
    data = ImageFolder(write_subjects(tmp_path / "hearts", 2))
    assert data.title == "hearts"
    assert [p.name for p in data.pairs()] == ["s00 out-to-in", "s00 in-to-out", "s01 out-to-in", "s01 in-to-out"]
    scan = data.pairs()[0].fixed
    image = scan.read_image()
    label, landmarks = scan.read_label(image), scan.read_landmarks(image)
    assert label is not None
    assert landmarks is not None
    np.testing.assert_allclose(landmarks.points, GRID.center + OFFSETS)
    assert scan.read_mask(image) is None


def test_without_subfolders_every_image_is_a_subject(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_phase(tmp_path / name, np.zeros(3))
    assert [p.name for p in ImageFolder(tmp_path).pairs()] == [
        "b-to-a",
        "a-to-b",
        "c-to-a",
        "a-to-c",
        "c-to-b",
        "b-to-c",
    ]


def test_other_words_for_a_label_and_a_mask(tmp_path: Path) -> None:
    write_phase(tmp_path / "a", np.zeros(3))
    write_phase(tmp_path / "b", np.zeros(3))
    shutil.move(tmp_path / "a_label.nrrd", tmp_path / "a_gt.nrrd")
    shutil.copy(tmp_path / "a_gt.nrrd", tmp_path / "a_mask.nrrd")
    fixed = ImageFolder(tmp_path).pairs()[0].fixed
    assert Path(fixed.label).name == "a_gt.nrrd"
    mask = fixed.read_mask(fixed.read_image())
    assert mask is not None
    assert mask.array.any()


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    write_phase(tmp_path / "alone", np.zeros(3))
    with pytest.raises(EvaluationError, match="no two images"):
        ImageFolder(tmp_path).pairs()


# -- tables ------------------------------------------------------------------------------------------

COLUMNS = "fixed,moving,fixed_label,moving_label,fixed_landmarks,moving_landmarks,fixed_subject,moving_subject"


def test_a_table_names_pairs_and_what_belongs_to_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phase(tmp_path / "data" / name, np.zeros(3))
    files = ",".join(f"data/{n}{kind}" for kind in (".nrrd", "_label.nrrd", "_landmarks.csv") for n in ("a", "b"))
    (tmp_path / "study.csv").write_text(f"{COLUMNS}\n{files},Ann,Ann\n")
    data = Manifest(tmp_path / "study.csv")
    assert data.title == "study"
    (pair,) = data.pairs()
    assert pair.name == "Ann b-to-a"
    image = pair.moving.read_image()
    assert pair.moving.read_label(image) is not None
    assert pair.moving.read_landmarks(image) is not None


def test_a_table_of_images_alone(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("fixed,moving\nx/a.nii.gz,x/b.nii.gz\n,x/b.nii.gz\n")
    first, second = Manifest(tmp_path / "t.csv").pairs()
    assert first.name == "b-to-a"
    assert first.fixed.label == ""
    with pytest.raises(EvaluationError, match="a row without a fixed image"):
        second.fixed.read_image()


def test_images_of_one_name_in_different_folders_are_told_apart(tmp_path: Path) -> None:
    rows = ["fixed,moving", "p1/ed.nrrd,p1/es.nrrd", "p2/ed.nrrd,p2/es.nrrd", "p2/cine.nii.gz#0,p2/cine.nii.gz#7"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    assert [pair.name for pair in select(Manifest(tmp_path / "t.csv").pairs())] == [
        "p1/es.nrrd-to-p1/ed.nrrd",
        "p2/es.nrrd-to-p2/ed.nrrd",
        "p2/cine.nii.gz#7-to-p2/cine.nii.gz#0",
    ]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "fixed,moving\n"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EvaluationError, match="columns fixed and moving"):
        Manifest(tmp_path / "t.csv").pairs()


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read"):
        Manifest(tmp_path / "t.csv").pairs()


@pytest.mark.data
def test_the_real_lung_and_its_landmarks(shared_data: Path, tmp_path: Path) -> None:
    lung = shared_data / "lung_ct"
    row = [f"{lung}/{n}{kind}" for kind in (".mha", "_mask.mha", "_landmarks.txt") for n in ("baseline", "followup")]
    head = "fixed,moving,fixed_mask,moving_mask,fixed_landmarks,moving_landmarks"
    (tmp_path / "lung.csv").write_text(f"{head}\n{','.join(row)}\n")
    (pair,) = Manifest(tmp_path / "lung.csv").pairs()
    fixed, moving = pair.fixed.read_image(), pair.moving.read_image()
    a, b = pair.fixed.read_landmarks(fixed), pair.moving.read_landmarks(moving)
    assert a is not None
    assert b is not None
    assert len(a.points) == len(b.points) == 10
    assert np.linalg.norm(a.points - b.points, axis=1).mean() == pytest.approx(35, abs=15)  # far apart in the scanner
    mask = pair.fixed.read_mask(fixed)
    assert mask is not None
    index = np.rint(fixed.grid.to_index(a.points)).astype(int)
    assert all(mask.array[k, j, i] for i, j, k in index)  # the landmarks lie in the lung
