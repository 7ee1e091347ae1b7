"""Folds: everybody is tested once, and nobody by a model that has seen them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlir.data.pair import Scan, ordered_pairs
from dlir.errors import EvaluationError, OptionError
from dlir.evaluation.folds import Fold, check_kept_back, files_for_training, make_folds, subjects_of

PEOPLE = [f"patient{i:03d}" for i in range(10)]


@pytest.mark.parametrize("count", [2, 3, 7, 10])
def test_everybody_is_tested_once(count: int) -> None:
    folds = make_folds(PEOPLE, count, seed=1)
    assert sorted(name for fold in folds for name in fold.test) == PEOPLE
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert [(fold.number, fold.count) for fold in folds] == [(k + 1, count) for k in range(count)]


def test_chance_is_the_seeds() -> None:
    assert make_folds(PEOPLE, 3, 1) == make_folds(PEOPLE, 3, 1) != make_folds(PEOPLE, 3, 2)


def test_leave_one_out_keeps_the_order() -> None:
    assert [fold.test for fold in make_folds(PEOPLE, 10, 5)] == [(name,) for name in PEOPLE]


@pytest.mark.parametrize("count", [0, 1, 11])
def test_impossible_folds_are_refused(count: int) -> None:
    with pytest.raises(OptionError, match="10 subjects cannot be dealt"):
        make_folds(PEOPLE, count, 0)


def test_a_fold_tests_pairs_within_itself() -> None:
    pairs = ordered_pairs([Scan(name) for name in ("a", "b", "c", "d")])
    assert subjects_of(pairs) == ["a", "b", "c", "d"]
    fold = Fold(1, 2, ("a", "c"))
    assert [pair.name for pair in fold.pairs(pairs)] == ["c-to-a", "a-to-c"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("acdc/patient001/patient001_frame01.nii.gz", "acdc/patient002/patient002_frame01.nii.gz",
                 "acdc/patient0012/x.nii.gz", "flat/case_[1].nrrd", "flat/case_2.nrrd"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_folders_and_files_name_their_subjects(data: Path) -> None:
    files, kept_back = files_for_training(data, ["acdc/*/*.nii.gz"], ["patient001"])
    assert files == ["acdc/patient0012/x.nii.gz", "acdc/patient002/patient002_frame01.nii.gz"]
    assert kept_back == ["acdc/patient001/patient001_frame01.nii.gz"]
    files, kept_back = files_for_training(data, ["flat/*.nrrd", "flat/case*"], ["case_2"])
    assert kept_back == ["flat/case_2.nrrd"]
    assert files_for_training(data, files, [])[0] == files  # a name with brackets matches itself alone


def test_a_subject_that_cannot_be_told_is_not_tested(data: Path) -> None:
    """Under another name in the training data it would be trained on."""
    _, kept_back = files_for_training(data, ["acdc/*/*.nii.gz"], ["patient001", "Patient 2"])
    with pytest.raises(EvaluationError, match="subject 'Patient 2' has no training file"):
        check_kept_back(Fold(1, 2, ("patient001", "Patient 2")), kept_back, data)
    check_kept_back(Fold(1, 2, ("patient001",)), kept_back, data)
    with pytest.raises(EvaluationError, match="patient001"):
        check_kept_back(Fold(1, 2, ("patient001",)), [], data)
