"""The committed list of pairs on which methods are compared."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from truth.compared import compared
from truth.store import COMPARED, entry, pairs

from dlir.transforms.spatial import AffineTransform, CompositeTransform

LISTED = pairs(Path(), COMPARED)
# Of these there are so few persons that a recipe is chosen on other pairs of the same.
FEW = {"brain_t1", "spine_mr", "lung_mr"}


def test_every_kind_of_pair_is_reported() -> None:
    assert len({pair.name for pair in LISTED}) == len(LISTED)
    assert Counter(pair.group for pair in LISTED if pair.split == "report") == {
        "hippocampus": 10,
        "acdc": 10,
        "headneck_ct": 8,
        "brain_t1": 5,
        "spine_mr": 5,
        "lung_mr": 4,
        "lung_ct": 2,
        "ct_mr": 3,
        "no harm": 4,
        "2 mm motion": 4,
    }


def test_recipes_are_chosen_on_other_pairs_of_other_persons_where_there_are_enough() -> None:
    halves = [[pair for pair in LISTED if pair.split == split] for split in ("tune", "report")]
    images = [{frozenset((pair.pair.fixed.image, pair.pair.moving.image)) for pair in half} for half in halves]
    assert not images[0] & images[1]
    persons = [{s for pair in half if pair.group not in FEW for s in pair.subjects} for half in halves]
    assert all(persons)
    assert not persons[0] & persons[1]


def test_hippocampi_are_of_two_persons() -> None:
    for pair in (pair for pair in LISTED if pair.group == "hippocampus"):
        numbers = [int(scan.part) for scan in (pair.pair.fixed, pair.pair.moving)]
        assert len({(number + 1) // 2 for number in numbers}) == len(pair.subjects) == 2


def test_only_organs_that_are_drawn_alike_count_in_heads() -> None:
    assert {tuple(pair.labels) for pair in LISTED if pair.group == "headneck_ct"} == {(1, 3, 4, 7)}


@pytest.mark.data
def test_the_list_is_what_the_data_give(shared_data: Path) -> None:
    if not (shared_data / "headneck_ct").is_dir():
        pytest.skip(f"no other anatomies in {shared_data}")
    assert [entry(pair) for pair in compared(shared_data)] == [entry(pair) for pair in LISTED]


@pytest.mark.data
@pytest.mark.slow
def test_slightly_moved_pairs_start_two_millimetres_apart(shared_data: Path) -> None:
    pair = next(pair for pair in pairs(shared_data, COMPARED) if pair.truth == "slight")
    if not (shared_data / pair.pair.fixed.image).is_file():
        pytest.skip(f"no {pair.pair.fixed.image} in {shared_data}")
    fixed, moving = pair.load()
    assert moving.source.endswith("moved")
    assert 1.5 < pair.score(CompositeTransform(())) < 2.5
    smaller = np.diag([0.9, 1.0, 1.0, 1.0])
    figures = pair.measured(CompositeTransform((AffineTransform(smaller),)))
    assert figures["folding"] == 0
    assert figures["smallest"] == pytest.approx(0.9, abs=1e-6)
    assert figures["score"] > 2.5
    assert fixed.grid.same_as(moving.grid)
