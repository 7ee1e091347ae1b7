"""The pairs that the verdict on optimised results is calibrated on, and what is known of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from truth import optimised, records
from truth.optimised import baseline, optimised_pairs
from truth.pair import TruthPair
from truth.records import Baseline, add_row, digest, record, wrong_beside

from dlir.data.pair import Pair, Scan

PAIR = TruthPair("a/x", "a", "tune", Pair(Scan("p", "1", "f"), Scan("p", "2", "m")), "labels", "scanner")
NOISY = replace(PAIR, name="a/x noisy", damage="noisy", undamaged="a/x")

_BOTH = ("tune", "report")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    peers, others = tmp_path / "peers.jsonl", tmp_path / "elastix.jsonl"
    monkeypatch.setattr(optimised, "PEERS", peers)
    monkeypatch.setattr(optimised, "TUNED", tmp_path / "tuned.jsonl")
    monkeypatch.setattr(records, "RECORDS", others)
    return peers, others


def test_no_subject_of_the_models_own_pairs_is_in_both_halves() -> None:
    listed = optimised_pairs(Path())
    own = {
        split: frozenset[str]().union(*(p.subjects for p in listed if p.own and p.split == split)) for split in _BOTH
    }
    reported = frozenset[str]().union(*(pair.subjects for pair in listed if not pair.own and pair.split == "report"))
    assert own["tune"]
    assert own["report"]
    assert not own["tune"] & (own["report"] | reported)


_BOTH = ("tune", "report")


def test_no_pair_is_there_twice_and_both_halves_have_damage() -> None:
    listed = optimised_pairs(Path())
    assert len({pair.name for pair in listed}) == len(listed)
    assert {pair.split for pair in listed if pair.damage} == set(_BOTH)


def test_what_methods_are_compared_by_comes_first(files: tuple[Path, Path]) -> None:
    peers, others = files
    assert baseline(PAIR, [PAIR]) is None
    record(PAIR, Baseline(0.1, 0.6, 0.1, 0.1), others)
    assert baseline(PAIR, [PAIR]) == Baseline(0.1, 0.6, 0.1, 0.1)
    for method, score in (("nothing", 0.2), ("elastix", 0.7)):
        add_row(peers, {"pair": PAIR.name, "digest": digest(PAIR), "method": method, "score": score})
    known = baseline(PAIR, [PAIR])
    assert known is not None
    assert (known.before, known.elastix) == (0.2, 0.7)


def test_a_damaged_pair_is_held_to_the_undamaged_one_where_elastix_was_not_run(files: tuple[Path, Path]) -> None:
    _, others = files
    record(PAIR, Baseline(0.1, 0.6, 0.1, 0.1), others)
    found = baseline(NOISY, [PAIR, NOISY])
    assert found is not None
    assert wrong_beside(found, NOISY, 0.5)
    assert not wrong_beside(found, NOISY, 0.58)
    record(NOISY, Baseline(0.1, 0.4, 0.1, 0.1), others)
    own = baseline(NOISY, [PAIR, NOISY])
    assert own is not None
    assert not wrong_beside(own, NOISY, 0.5)
