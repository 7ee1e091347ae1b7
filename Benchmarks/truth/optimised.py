"""Pairs by which the verdict on what is optimised without a model is calibrated, and what elastix makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dlir.errors import EvaluationError
from truth import records
from truth.pair import TruthPair
from truth.records import Baseline, digest, read_rows
from truth.store import COMPARED, ROOT, pairs

# Scores of methods that need no training, pair by pair: of the pairs that are reported, and of those that tune.
_RESULTS = ROOT / "Benchmarks" / "results"
PEERS, TUNED = _RESULTS / "anything.jsonl", _RESULTS / "verdict_optimised_elastix.jsonl"


def optimised_pairs(data: Path | None = None) -> list[TruthPair]:
    """Those that methods are compared on, then those of the models' own kind, undamaged and damaged.

    The split is that of the first: what is of subjects that are reported there is reported here. A pair of one of these
    and another is left out.
    """
    compared = pairs(data, COMPARED)
    names = {pair.name for pair in compared}
    reported = frozenset[str]().union(*(pair.subjects for pair in compared if pair.split == "report"))
    own = [pair for pair in pairs(data) if pair.own and pair.name not in names]
    return [
        *compared,
        *(replace(pair, split="report") for pair in own if pair.subjects <= reported),
        *(replace(pair, split="tune") for pair in own if not pair.subjects & reported),
    ]


def baseline(pair: TruthPair, every: Sequence[TruthPair]) -> Baseline | None:
    """What is known of a pair, as methods are compared, else as elastix was run for the verdicts on models.

    Where elastix was not run on a damaged pair it is held to what elastix makes of the undamaged one. None where
    nothing is recorded.
    """
    key = (pair.name, digest(pair))
    scores = {row["method"]: row.get("score") for file in (PEERS, TUNED) for row in read_rows(file) if _of(row) == key}
    if {"nothing", "elastix"} <= scores.keys():
        before = scores["nothing"]
        return Baseline(before, scores["elastix"], before, before, method="default maps of anything")
    try:
        return records.baseline(pair)
    except EvaluationError:
        undamaged = [other for other in every if pair.damage and other.name == pair.undamaged]
        return baseline(undamaged[0], every) if undamaged else None


def _of(row: dict[str, str]) -> tuple[str, str]:
    return row["pair"], row["digest"]
