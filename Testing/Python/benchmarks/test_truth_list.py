"""The committed list of pairs: divided by subject, and what the folder of the real data gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from truth import pairs
from truth.damage import DAMAGES
from truth.listing import HIPPOCAMPUS_PERSONS, listed
from truth.pair import MODELS
from truth.store import entry
from truth_pairs import in_turn

from dlir.transforms.spatial import CompositeTransform

LISTED = pairs(Path())
BY_NAME = {pair.name: pair for pair in LISTED}


def test_there_are_enough_pairs_each_named_once() -> None:
    assert len(BY_NAME) == len(LISTED) >= 150
    assert {pair.truth for pair in LISTED} == {"labels", "landmarks", "motion", "still"}


def test_no_subject_is_in_both_splits() -> None:
    subjects = {s: frozenset().union(*(p.subjects for p in LISTED if p.split == s)) for s in ("tune", "report")}
    assert all(subjects.values())
    assert not subjects["tune"] & subjects["report"]


def test_no_image_is_in_both_splits() -> None:
    images = {
        s: {scan.image for p in LISTED if p.split == s for scan in (p.pair.fixed, p.pair.moving)}
        for s in ("tune", "report")
    }
    assert not images["tune"] & images["report"]


def test_own_pairs_are_of_what_no_model_was_trained_on() -> None:
    own = [pair for pair in LISTED if pair.own]
    numbers = {int(s.split("patient")[1]) for pair in own if pair.group == "acdc" for s in pair.subjects}
    assert numbers <= set(range(81, 101))
    persons = {s for pair in own if pair.group == "hippocampus" for s in pair.subjects}
    assert len(persons) == HIPPOCAMPUS_PERSONS
    for pair in (p for p in own if p.group == "hippocampus"):
        for scan in (pair.pair.fixed, pair.pair.moving):
            assert scan.subject == f"person{(int(scan.part) + 1) // 2}"


def test_hippocampi_of_two_persons_are_of_one_side_unless_that_is_the_damage() -> None:
    for pair in (p for p in LISTED if p.group == "hippocampus"):
        fixed, moving = pair.pair.fixed, pair.pair.moving
        assert fixed.subject != moving.subject
        assert ((int(fixed.part) - int(moving.part)) % 2 == 0) is (pair.damage != "wrong side")


def test_models_see_their_own_foreign_and_damaged_pairs() -> None:
    kinds = Counter((model, pair.kind(model), pair.split) for pair in LISTED for model in pair.models)
    for model in MODELS:
        for split in ("tune", "report"):
            assert kinds[model, "own", split] >= 18
            assert kinds[model, "foreign", split] >= 40
            assert kinds[model, "damaged", split] >= 12
    assert all(pair.models[0] == pair.own for pair in LISTED if pair.own)


def test_each_damage_is_in_both_splits() -> None:
    found = {(pair.damage, pair.split) for pair in LISTED if pair.damage}
    assert found == {(damage, split) for damage in DAMAGES for split in ("tune", "report")}


def test_a_damaged_pair_names_the_one_it_was() -> None:
    for pair in LISTED:
        if pair.undamaged:
            was = BY_NAME[pair.undamaged]
            assert (was.split, was.own, was.damage) == (pair.split, pair.own, "")
            assert (was.pair.fixed.image, was.pair.moving.image) == (pair.pair.fixed.image, pair.pair.moving.image)
        else:
            assert pair.damage in ("", "wrong patient", "wrong side")


def test_a_run_takes_own_pairs_first_and_then_each_group_in_turn() -> None:
    turns = in_turn(LISTED)
    assert sorted(pair.name for pair in turns) == sorted(BY_NAME)
    ranks = [(bool(pair.damage), not pair.own) for pair in turns]
    assert ranks == sorted(ranks)
    foreign = [pair.group for pair in turns if not pair.own]
    count = len(set(foreign))
    assert len(set(foreign[:count])) == count
    assert len({pair.damage for pair in turns[-80:-40]}) > 5


@pytest.mark.data
def test_the_list_is_what_the_data_give(shared_data: Path) -> None:
    if not (shared_data / "headneck_ct").is_dir():
        pytest.skip(f"no other anatomies in {shared_data}")
    assert [entry(pair) for pair in listed(shared_data)] == [entry(pair) for pair in LISTED]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("group", sorted({pair.group for pair in LISTED}))
def test_a_pair_of_each_group_is_read_and_scored(shared_data: Path, group: str) -> None:
    pair = next(pair for pair in pairs(shared_data) if pair.group == group)
    if not (shared_data / pair.pair.fixed.image.split("#")[0]).is_file():
        pytest.skip(f"no {group} in {shared_data}")
    fixed, moving = pair.load()
    assert fixed.array.dtype == moving.array.dtype == np.float32
    score = pair.score(CompositeTransform(()))
    assert 0 <= score <= (1 if pair.unit == "dice" else 50)
