"""Signed ranks against hand-made and scipy's own answers; Holm against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dlir.evaluation.results import Row
from dlir.evaluation.significance import Comparison, compare, holm, signed_rank
from dlir.evaluation.summary import measures, pairs_table
from dlir.metrics.labels import LabelScores
from evaluation_runs import make_row


def test_all_on_one_side_is_as_unlikely_as_as_many_heads() -> None:
    assert signed_rank([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 2**5)
    assert signed_rank([-1.0, -2.0, -3.0]) == pytest.approx(2 / 2**3)


def test_a_case_counted_by_hand() -> None:
    """Ranks 1 to 4 with 1 against: of 16 sign patterns, those with a rank sum of 1 or less on a side: 2 each."""
    assert signed_rank([-1.0, 2.0, 3.0, 4.0]) == pytest.approx(4 / 16)


def test_no_difference_is_no_evidence() -> None:
    assert signed_rank([0.0, 0.0]) == 1
    assert math.isnan(signed_rank([]))
    assert signed_rank([0.0, 1.0, 2.0, 3.0]) == signed_rank([1.0, 2.0, 3.0])


@pytest.mark.parametrize("seed", range(4))
def test_many_values_match_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0.3, 1, 40)
    assert signed_rank(values) == pytest.approx(stats.wilcoxon(values, mode="exact").pvalue)
    ties = np.round(rng.normal(0.3, 1, 90), 1)
    assert signed_rank(ties) == pytest.approx(stats.wilcoxon(ties[ties != 0], correction=False).pvalue)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    corrected = holm([0.02, math.nan, 0.01])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.02)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(values: list[float]) -> None:
    corrected = holm(values)
    assert all(v <= c <= min(1, len(values) * v) + 1e-12 for v, c in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert corrected[int(order[0])] == pytest.approx(min(1.0, len(values) * min(values)))


def row(pair: str, method: str, dice: float, fixed: str = "", moving: str = "") -> Row:
    """Of a subject of its own where none is named."""
    subjects = {"fixed_subject": fixed or pair, "moving_subject": moving or fixed or pair}
    return make_row(pair, method, labels={"LV": LabelScores(dice, 5, 3, 1, 10, 10)}, **subjects)


def compared(rows: list[Row], seen: dict[tuple[str, str], str] | None = None) -> Comparison:
    table = pairs_table(rows, seen or {})
    (found,) = compare(table, next(m for m in measures(table) if m.key == "dice_LV"))
    return found


def test_both_directions_of_a_subject_count_once() -> None:
    """Ten subjects tell no more by having been registered there and back, or forty times."""
    gains = [0.01, 0.03, -0.02, 0.04, 0.05, 0.06, 0.07, 0.08, -0.09, 0.1]
    for times in (1, 2, 40):
        rows = []
        for subject, gain in enumerate(gains):
            for k in range(times):
                pair = f"s{subject} {k}"
                spread = 0.004 * (k - (times - 1) / 2) / times
                rows += [row(pair, "A", 0.7, f"s{subject}"), row(pair, "B", 0.7 + gain + spread, f"s{subject}")]
        found = compared(rows)
        assert (found.count, found.pairs) == (10, 10 * times)
        assert found.p == pytest.approx(signed_rank(gains))
        assert found.difference == pytest.approx(np.median(gains))


def test_there_and_back_between_two_subjects_counts_once() -> None:
    """Whichever of the two is fixed; and three subjects registered to each other are two that differ from the first."""
    rows = []
    for number in range(5):
        a, b = f"a{number}", f"b{number}"
        for fixed, moving in ((a, b), (b, a)):
            pair = f"{moving}-to-{fixed}"
            rows += [row(pair, "A", 0.5, fixed, moving), row(pair, "B", 0.6, fixed, moving)]
    found = compared(rows)
    assert (found.count, found.pairs) == (5, 10)
    assert found.p == pytest.approx(signed_rank(np.full(5, 0.1)))
    people = ["a", "b", "c"]
    pairs = [(x, y) for x in people for y in people if x != y]
    rows = [row(f"{y}-to-{x}", m, d, x, y) for x, y in pairs for m, d in (("A", 0.5), ("B", 0.6))]
    assert (compared(rows).count, compared(rows).pairs) == (2, 6)


def test_what_was_seen_is_counted() -> None:
    rows = [row(f"p{k}", method, 0.5 + 0.1 * (method == "B")) for k in range(4) for method in "AB"]
    seen = {("A", "p0"): "training", ("B", "p0"): "training", ("B", "p2"): "validation", ("C", "p1"): "training"}
    assert compared(rows, seen).seen == 2
    assert compared(rows).seen == 0


def test_methods_are_compared_pair_by_pair_whatever_the_order() -> None:
    first = {f"p{i}": 0.7 + 0.01 * i for i in range(8)}
    rows = [row(pair, "A", dice) for pair, dice in first.items()]
    rows += [row(pair, "B", dice + 0.1) for pair, dice in reversed(first.items())]
    rows += [row("p0", "C", 0.5), row("p1", "C", math.nan), row("other", "C", 0.5)]
    table = pairs_table(rows)
    dice = next(m for m in measures(table) if m.key == "dice_LV")
    by_names = {(c.first, c.second): c for c in compare(table, dice)}
    assert by_names["A", "B"].count == 8
    assert by_names["A", "B"].difference == pytest.approx(0.1)
    assert by_names["A", "B"].p == pytest.approx(signed_rank(np.full(8, 0.1)))
    assert by_names["A", "B"].p_holm == pytest.approx(3 * by_names["A", "B"].p)
    assert by_names["A", "C"].count == 1
