"""What the command makes of its records; nothing is registered here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from truth.pair import TruthPair

from dlir.data.pair import Pair, Scan
from dlir.registration import session  # noqa: F401 -- what is imported later would keep the command's clock

PAIR = TruthPair(
    "a/x", "a", "tune", Pair(Scan("p", "1", "f"), Scan("p", "2", "m")), "labels", "scanner", "cardiac-cine"
)
NOISY = replace(PAIR, name="a/x noisy", damage="noisy", undamaged="a/x")
OTHER = replace(PAIR, name="b/x", group="b", own="")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command keeps the process's own time; the tests keep theirs."""
    import time

    monkeypatch.setattr(time, "perf_counter", time.perf_counter)


def test_only_undamaged_pairs_of_a_model_are_refined() -> None:
    from verdict_optimised import ALONE, REFINED, to_run

    listed = [PAIR, NOISY, OTHER, replace(PAIR, name="a/y", split="report")]
    found = list(to_run(listed, (ALONE, REFINED), ("tune",), None))
    assert found == [(ALONE, PAIR), (ALONE, OTHER), (ALONE, NOISY), (REFINED, PAIR)]
    assert list(to_run(listed, (REFINED,), ("tune", "report"), ["b"])) == []


def test_shares_are_of_those_called_good_and_of_those_that_are_well() -> None:
    from verdict_optimised import ALONE, _summary

    rows = [(ALONE, PAIR, result, level) for result, level in (("well", "good"), ("wrong", "good"), ("well", "check"))]
    rows.append((ALONE, NOISY, "wrong", "failed"))
    head, undamaged, damaged = _summary(rows)
    assert undamaged == ["no model", "undamaged", "2", "1, 50.0 %", "2", "1, 50.0 %"]
    assert damaged == ["no model", "damaged", "0", "–", "0", "–"]
    assert len(head) == len(damaged)
