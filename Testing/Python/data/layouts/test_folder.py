"""Anybody's data: folders whose names say what belongs together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dlir.data.layouts.folder import ImageFolder
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


def test_hidden_files_are_no_images_and_a_link_to_nowhere_is_one(tmp_path: Path) -> None:
    write_phase(tmp_path / "a", np.zeros(3))
    shutil.copy(tmp_path / "a.nrrd", tmp_path / "._a.nrrd")
    (tmp_path / "lost.nrrd").symlink_to("nowhere.nrrd")
    (tmp_path / ".kept").mkdir()
    shutil.copy(tmp_path / "a.nrrd", tmp_path / ".kept" / "b.nrrd")
    assert [[Path(scan.image).name for scan in group] for group in ImageFolder(tmp_path).groups()] == [
        ["a.nrrd", "lost.nrrd"]
    ]


def test_the_longest_name_is_that_of_an_image(tmp_path: Path) -> None:
    longest = "n" * 250 + ".nrrd"
    write_phase(tmp_path / "a", np.zeros(3))
    shutil.copy(tmp_path / "a.nrrd", tmp_path / longest)
    found = ImageFolder(tmp_path).groups()[0][1]
    assert (Path(found.image).name, found.label, found.mask, found.landmarks) == (longest, "", "", "")


def test_images_beside_subfolders_are_told(tmp_path: Path) -> None:
    folder = write_subjects(tmp_path / "hearts", 1)
    write_phase(folder / "alone", np.zeros(3))
    with pytest.warns(UserWarning, match=r"1 images beside them, such as 'alone.nrrd', which are left out"):
        groups = ImageFolder(folder).groups()
    assert len(groups) == 1


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its permissions, which do not bind every user."""
    write_phase(tmp_path / "a", np.zeros(3))

    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(EvaluationError, match=r"cannot be read \(Permission denied\)"):
        ImageFolder(tmp_path).groups()
