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
