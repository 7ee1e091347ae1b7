"""Whether two methods differ: Wilcoxon's signed-rank test over subjects (§6.2), corrected for how often it is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dlir.evaluation.summary import Measure, by_method, subject_means


@dataclass(frozen=True)
class Comparison:
    """Two methods by one measure.

    count: subjects of which both have a pair. pairs: that both have; seen: those of them that one of the two has seen
    in its training. difference: median over subjects of their mean `second` - `first`. p: of the test alone. p_holm:
    after Holm's correction for all comparisons by this measure. Both are `nan` where there are no subjects.
    """

    measure: str
    first: str
    second: str
    count: int
    pairs: int
    seen: int
    difference: float
    p: float
    p_holm: float


def compare(table: pd.DataFrame, measure: Measure) -> list[Comparison]:
    """Every two methods on the pairs where both have a value, averaged within subjects; two-sided.

    Each measure is a family of its own.
    """
    values = by_method(table, measure)
    learned = table[table["seen"] != ""]
    seen = {name: set(zip(own["data"], own["pair"], strict=True)) for name, own in learned.groupby("method")}
    found = []
    for first, second in combinations(map(str, values), 2):
        differences = (values[second] - values[first]).dropna()
        known = len((seen.get(first, set()) | seen.get(second, set())) & set(differences.index))
        own = subject_means(table, differences)
        found.append((first, second, len(own), len(differences), known, float(own.median()), signed_rank(own)))
    corrected = holm([p for *_, p in found])
    return [Comparison(measure.key, *item, p) for item, p in zip(found, corrected, strict=True)]


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's test, differences of 0 left out; 1 where all are 0, `nan` where there are none.

    Exact for up to 50 different values, else by the normal approximation.
    """
    from scipy.stats import wilcoxon

    values = np.asarray(differences, float)
    if not values.size:
        return math.nan
    values = values[values != 0]
    if not values.size:
        return 1.0
    ties = len(np.unique(np.abs(values))) < len(values)
    method = "exact" if len(values) <= 50 and not ties else "approx"
    return float(wilcoxon(values, method=method).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; `nan` stays `nan` and does not count."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # those that are `nan` come last
    corrected = np.full(len(p), math.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return list(map(float, corrected))
