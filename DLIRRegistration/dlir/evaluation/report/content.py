"""What a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlir.data.pair import DataSet, Pair
from dlir.evaluation.methods.base import Method
from dlir.evaluation.results import Row
from dlir.evaluation.study import Outcome, Study
from dlir.evaluation.summary import by_method


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation. histories: name and file of each training run whose curves are shown."""

    study: Study
    data: DataSet
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    outcome: Outcome
    histories: Sequence[tuple[str, Path]] = ()


def registering(rows: Sequence[Row]) -> list[str]:
    """The methods that do something, in order of appearance."""
    return [name for name, own in by_method(rows).items() if any(row.seconds is not None for row in own)]


def count_cases(rows: Sequence[Row]) -> int:
    """How many pairs the rows are of."""
    return len({row.case for row in rows})
