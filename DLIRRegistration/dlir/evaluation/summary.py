"""Measures over many pairs: medians, means and times for each method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dlir.evaluation.results import Row
from dlir.metrics.measures import LandmarkErrors, error_statistics


@dataclass(frozen=True)
class Measure:
    """One figure of a row. key: as a column. unit: empty for a plain number. better: 1 where more is, -1 where less."""

    key: str
    title: str
    unit: str
    better: int
    value: Callable[[Row], float]

    @property
    def label(self) -> str:
        """Title and unit, for axes and heads of columns."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Statistics:
    """Of the values that are defined. sd: of the sample, `nan` for a single one. All but `count` are `nan` for none."""

    count: int
    median: float
    lower_quartile: float
    upper_quartile: float
    mean: float
    sd: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.upper_quartile - self.lower_quartile


def structures(rows: Iterable[Row]) -> list[str]:
    """The structures that any row has scores of, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.labels))


def measures(rows: Sequence[Row]) -> list[Measure]:
    """Everything that these rows hold: overlap and distances of each structure, landmarks, topology, consistency."""
    found: list[Measure] = []
    for name in structures(rows):
        found += [
            Measure(f"{key}_{name}", f"{title} {name}", unit, better, _label(name, key))
            for key, title, unit, better in (
                ("dice", "Dice", "", 1),
                ("hd", "HD", "mm", -1),
                ("hd95", "HD95", "mm", -1),
                ("asd", "ASD", "mm", -1),
            )
        ]
    if any(row.after for row in rows):
        found.append(Measure("tre_mean", "TRE", "mm", -1, lambda row: error_statistics(row.after).mean))
    found += [
        Measure("folding_percent", "Folding", "% of voxels", -1, lambda row: row.topology.folding_percent),
        Measure("jacobian_sd", "SD of Jacobian", "", -1, lambda row: row.topology.sd),
        Measure("log_jacobian_sd", "SD of log Jacobian", "", -1, lambda row: row.topology.log_sd),
        Measure("jacobian_min", "Smallest Jacobian", "", 1, lambda row: row.topology.min),
    ]
    if any(row.inverse_consistency for row in rows):
        found.append(Measure("inverse_consistency", "Inverse consistency error", "mm", -1, _consistency))
    return found


def statistics(values: Iterable[float]) -> Statistics:
    """The figures of those values that are not `nan`."""
    defined = np.array([value for value in values if not math.isnan(value)])
    if not defined.size:
        return Statistics(0, *[math.nan] * 5)
    lower, median, upper = (float(q) for q in np.percentile(defined, (25, 50, 75)))
    sd = float(defined.std(ddof=1)) if defined.size > 1 else math.nan
    return Statistics(defined.size, median, lower, upper, float(defined.mean()), sd)


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each method, in order of appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.method, []).append(row)
    return found


def times(rows: Iterable[Row]) -> Statistics:
    """Seconds of the registrations; those where nothing was done do not count."""
    return statistics(row.seconds for row in rows if row.seconds is not None)


def all_landmarks(rows: Iterable[Row]) -> tuple[LandmarkErrors, LandmarkErrors]:
    """Before and after, over the landmarks of all rows together (Table 6, "Total")."""
    rows = list(rows)
    return (
        error_statistics([e for row in rows for e in row.before]),
        error_statistics([e for row in rows for e in row.after]),
    )


def without_largest_motion(rows: Iterable[Row], fraction: float = 0.1) -> LandmarkErrors:
    """After, without the given fraction of landmarks that began farthest from their counterparts (§8.2)."""
    rows = list(rows)
    before = np.array([e for row in rows for e in row.before])
    after = np.array([e for row in rows for e in row.after])
    kept = len(before) - round(fraction * len(before))
    return error_statistics(after[np.argsort(before, kind="stable")[:kept]])


def _label(name: str, key: str) -> Callable[[Row], float]:
    def value(row: Row) -> float:
        scores = row.labels.get(name)
        return math.nan if scores is None else float(getattr(scores, key))

    return value


def _consistency(row: Row) -> float:
    return math.nan if row.inverse_consistency is None else row.inverse_consistency.mean
