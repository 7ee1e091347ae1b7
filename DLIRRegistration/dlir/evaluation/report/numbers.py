"""The tables of a report: results, differences, landmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlir.evaluation.report.content import registering
from dlir.evaluation.report.page import Page
from dlir.evaluation.results import Row
from dlir.evaluation.significance import Comparison, compare
from dlir.evaluation.summary import Measure, all_landmarks, by_method, without_largest_motion
from dlir.evaluation.tables import UNDEFINED, mean_sd, median_iqr, summary_tables
from dlir.metrics.measures import LandmarkErrors

_TESTED = ("dice", "hd", "asd", "tre", "folding", "jacobian")
_SIGNIFICANT = 0.05
# Comparisons listed in the page; all are in a file beside it.
_LISTED = 30


def add_tables(page: Page, rows: Sequence[Row]) -> None:
    """Results by structure and of the deformations, as medians and again as means."""
    page.section(
        "Results", "Median ± interquartile range over pairs; time as mean (SD). As Tables 2 and 4 of the paper."
    )
    for table in summary_tables(rows, median_iqr):
        page.table(table)
    page.section("Means", "The same as mean ± standard deviation over pairs.")
    for table in summary_tables(rows, mean_sd):
        page.table(table)


def add_tests(page: Page, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """Which differences between methods are more than chance."""
    titles = {m.key: m.label for m in found if m.key.partition("_")[0] in _TESTED}
    comparisons = [c for measure in found if measure.key in titles for c in compare(rows, measure)]
    comparisons = [c for c in comparisons if {c.first, c.second} <= set(registering(rows))]
    if not comparisons:
        return
    page.section(
        "Differences between methods",
        "Wilcoxon's signed-rank test on the pairs, two-sided; p after Holm's correction for all comparisons by one "
        "measure. The difference is the median of second − first. Pairs of one subject are not independent of each "
        "other, so p is somewhat too small. Comparisons by other measures and with what was before are in "
        "comparisons.csv.",
    )
    different = [c for c in comparisons if c.p_holm < _SIGNIFICANT]
    page.text(f"{len(different)} of {len(comparisons)} comparisons have a corrected p below {_SIGNIFICANT}.")
    if different:
        head = ["measure", "first", "second", "n", "difference", "p", "p corrected"]
        page.table([head, *(_comparison_line(c, titles[c.measure]) for c in different[:_LISTED])])
    if len(different) > _LISTED:
        page.text(f"{len(different) - _LISTED} more are in comparisons.csv.")


def _comparison_line(c: Comparison, title: str) -> list[str]:
    return [title, c.first, c.second, str(c.count), f"{c.difference:+.3g}", _p(c.p), _p(c.p_holm)]


def _p(value: float) -> str:
    return UNDEFINED if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


# -- landmarks ----------------------------------------------------------------------------------------


def landmark_table(rows: Sequence[Row]) -> list[list[str]]:
    """Per pair and over all landmarks, mean (SD) of the error in mm, before and by each method (Table 6)."""
    with_landmarks = by_method(row for row in rows if row.after)
    start = next(iter(with_landmarks.values()))
    own = {name: listed for name, listed in with_landmarks.items() if name in registering(rows)}
    table = [["pair", "n", "before", *own]]
    for row in start:
        table.append(_line(row.pair, [row], {n: [r for r in rows if r.case == row.case] for n, rows in own.items()}))
    table.append(_line("all landmarks", start, own))
    trimmed = [without_largest_motion(listed) for listed in own.values()]
    if trimmed:
        cells = [_mean_sd(errors) for errors in trimmed]
        table.append(["without the tenth that moved most", str(trimmed[0].count), UNDEFINED, *cells])
    return table


def _line(title: str, start: Sequence[Row], by_name: Mapping[str, Sequence[Row]]) -> list[str]:
    before, _ = all_landmarks(start)
    return [
        title,
        str(before.count),
        _mean_sd(before),
        *(_mean_sd(all_landmarks(rows)[1]) for rows in by_name.values()),
    ]


def _mean_sd(errors: LandmarkErrors) -> str:
    return f"{errors.mean:.2f} ({errors.sd:.2f})"
