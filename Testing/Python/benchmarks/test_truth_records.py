"""What is recorded of pairs, and what counts as wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from truth import records
from truth.pair import TruthPair
from truth.records import Baseline, baseline, digest, record, recorded, wrong

from dlir.data.pair import Pair, Scan
from dlir.errors import EvaluationError

PAIR = TruthPair("a/x", "a", "tune", Pair(Scan("p", "1", "f"), Scan("p", "2", "m")), "labels", "scanner")
MM = replace(PAIR, name="a/y", truth="landmarks")
UNMOVED = replace(PAIR, name="a/z", truth="still")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "records.jsonl"
    monkeypatch.setattr(records, "RECORDS", path)
    return path


def test_what_is_recorded_is_read_again(file: Path) -> None:
    found = Baseline(0.5, 0.8, 0.5, 0.4, 12.5, "default maps")
    gave_up = Baseline(9.0, None, 9.0, 12.0, problem="elastix failed")
    record(PAIR, found, file)
    assert baseline(PAIR) == found
    record(MM, gave_up, file)
    assert (baseline(PAIR), baseline(MM)) == (found, gave_up)


def test_a_pair_without_a_record_says_what_to_run(file: Path) -> None:
    with pytest.raises(
        EvaluationError, match=r"a/x: nothing is recorded; run python Benchmarks/truth_pairs.py elastix"
    ):
        baseline(PAIR)


def test_an_interrupted_line_is_nothing_and_is_written_over(file: Path) -> None:
    record(PAIR, Baseline(0.5, 0.8, 0.5, 0.5), file)
    with file.open("a") as stream:
        stream.write('{"pair": "a/y", "dig')
    assert len(recorded(file)) == 1
    record(MM, Baseline(9.0, 2.0, 9.0, 9.0), file)
    assert len(recorded(file)) == 2
    assert baseline(MM).elastix == 2


def test_a_record_is_of_what_is_registered_not_of_its_use() -> None:
    assert digest(replace(PAIR, split="report", own="m")) == digest(PAIR)
    for other in (
        replace(PAIR, seed=3),
        replace(PAIR, damage="noisy"),
        replace(PAIR, start="centers"),
        replace(PAIR, labels={1: 1}),
        replace(PAIR, pair=Pair(PAIR.pair.fixed, Scan("p", "2", "other"))),
    ):
        assert digest(other) != digest(PAIR)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.80, False), (0.771, False), (0.769, True), (0.9, False), (0.49, True), (math.nan, True)],
)
def test_dice_is_wrong_three_hundredths_short_of_elastix(file: Path, score: float, expected: bool) -> None:
    record(PAIR, Baseline(0.5, 0.8, 0.5, 0.5), file)
    assert wrong(PAIR, score) is expected


@pytest.mark.parametrize(("score", "expected"), [(2.9, False), (3.1, True), (9.1, True), (math.inf, True)])
def test_millimetres_are_wrong_one_beyond_elastix(file: Path, score: float, expected: bool) -> None:
    record(MM, Baseline(9.0, 2.0, 9.0, 9.0), file)
    assert wrong(MM, score) is expected


@pytest.mark.parametrize("elastix", [None, 0.2])
def test_whatever_is_below_the_start_is_wrong(file: Path, elastix: float | None) -> None:
    """Also where elastix is further below it, or gave up."""
    record(PAIR, Baseline(0.5, elastix, 0.5, 0.5), file)
    assert wrong(PAIR, 0.499)
    assert not wrong(PAIR, 0.5)


def test_what_does_not_move_may_be_displaced_by_a_millimetre(file: Path) -> None:
    record(UNMOVED, Baseline(0.0, 3.4, 0.0, 0.0), file)
    assert wrong(UNMOVED, 1.1)
    assert not wrong(UNMOVED, 0.9)
