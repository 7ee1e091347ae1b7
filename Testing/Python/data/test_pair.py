"""Lists of pairs: which belong together, and which are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlir.data.layouts import DATA_SETS, open_data_set
from dlir.data.pair import Pair, Scan, both_ways, distinct, ordered_pairs, select
from dlir.errors import EvaluationError, OptionError

PEOPLE = [Scan(f"p{i}") for i in range(5)]


def names(pairs: list[Pair]) -> list[str]:
    return [pair.name for pair in pairs]


def test_every_scan_is_registered_to_every_other_both_ways() -> None:
    pairs = ordered_pairs(PEOPLE)
    assert len(pairs) == 5 * 4
    assert len(set(names(pairs))) == 20
    assert names(both_ways(pairs)[0]) == ["p1-to-p0", "p0-to-p1"]
    assert all(len(group) == 2 for group in both_ways(pairs))


def test_a_pair_within_one_subject_is_called_by_its_phases() -> None:
    assert Pair(Scan("p1", "ED"), Scan("p1", "ES")).name == "p1 ES-to-ED"
    assert Pair(Scan("p1", "ED"), Scan("p2", "ED")).name == "p2 ED-to-p1 ED"


def test_subjects_are_chosen_by_patterns_that_both_images_must_match() -> None:
    assert names(select(ordered_pairs(PEOPLE), ["p[01]"])) == ["p1-to-p0", "p0-to-p1"]
    with pytest.raises(EvaluationError, match="they are called p0, p1"):
        select(ordered_pairs(PEOPLE), ["nobody"])


@pytest.mark.parametrize("limit", [1, 2, 5, 8, 19])
def test_a_limit_keeps_both_ways_together_and_spreads_over_the_list(limit: int) -> None:
    chosen = select(ordered_pairs(PEOPLE), limit=limit)
    assert max(2, limit - 1) <= len(chosen) <= max(2, limit)
    assert all(len(group) == 2 for group in both_ways(chosen))
    assert len(set(names(chosen))) == len(chosen)
    if limit > 3:
        assert {names(chosen)[0], names(chosen)[-1]} == {"p1-to-p0", "p3-to-p4"}  # the first and the last of all


def test_no_limit_means_all() -> None:
    assert select(ordered_pairs(PEOPLE), limit=20) == select(ordered_pairs(PEOPLE)) == ordered_pairs(PEOPLE)


def test_a_pair_that_is_listed_twice_counts_once() -> None:
    pairs = ordered_pairs(PEOPLE)
    assert select([*pairs, *pairs[:3]]) == pairs


def test_two_scans_of_one_name_are_refused() -> None:
    """Results are kept by names: the second would silently get those of the first."""
    pairs = [Pair(Scan("a", image="x/a.nrrd"), Scan("b")), Pair(Scan("a", image="y/a.nrrd"), Scan("c"))]
    with pytest.raises(EvaluationError, match="two scans are called 'a' but differ in image;"):
        select(pairs)
    relabelled = [Pair(Scan("a", label="1.nrrd"), Scan("b")), Pair(Scan("a", label="2.nrrd"), Scan("c"))]
    with pytest.raises(EvaluationError, match="differ in label;"):
        distinct(relabelled)


@pytest.mark.parametrize("kind", [kind for kind in DATA_SETS if kind != "manifest"])
def test_a_folder_that_is_not_there_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="does not exist"):
        open_data_set(kind, tmp_path / "missing")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="choose one of acdc"):
        open_data_set("nothing", Path())
