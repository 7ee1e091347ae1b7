"""The tables of a report: results, differences, landmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dlir.evaluation.report.content import registering
from dlir.evaluation.report.page import Page
from dlir.evaluation.results import Row
from dlir.evaluation.significance import Comparison, compare
from dlir.evaluation.summary import Measure, all_landmarks, by_method, structures, without_largest_motion
from dlir.evaluation.tables import UNDEFINED, mean_sd, median_iqr, summary_table

_LABEL_KEYS = ("dice", "hd", "hd95", "asd")
_TESTED = ("dice", "hd", "asd", "tre", "folding", "jacobian")
_SIGNIFICANT = 0.05
# Comparisons listed in the page; all are in a file beside it.
_LISTED = 30


def add_tables(page: Page, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """Results by structure and of the deformations, as medians and again as means."""
    by_structure = [[m for m in found if m.key in {f"{k}_{name}" for k in _LABEL_KEYS}] for name in structures(rows)]
    labelled = {m.key for chosen in by_structure for m in chosen}
    groups = [*by_structure, [m for m in found if m.key not in labelled]]
    page.section(
        "Results", "Median ± interquartile range over pairs; time as mean (SD). As Tables 2 and 4 of the paper."
    )
    for chosen in groups:
        page.table(summary_table(rows, chosen, median_iqr))
    page.section("Means", "The same as mean ± standard deviation over pairs.")
    for chosen in groups:
        page.table(summary_table(rows, chosen, mean_sd))


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
    own = by_method(row for row in rows if row.after)
    table = [["pair", "n", "before", *own]]
    for case in dict.fromkeys(row.case for row in rows if row.after):
        table.append(_line(case[1], {name: [row for row in rows if row.case == case] for name, rows in own.items()}))
    table.append(_line("all landmarks", own))
    trimmed = [without_largest_motion(listed) for listed in own.values()]
    cells = [f"{t.mean:.2f} ({t.sd:.2f})" for t in trimmed]
    return [*table, ["without the tenth that moved most", str(trimmed[0].count), UNDEFINED, *cells]]


def _line(title: str, by_name: Mapping[str, Sequence[Row]]) -> list[str]:
    figures = [all_landmarks(rows) for rows in by_name.values()]
    before = figures[0][0]
    cells = [f"{after.mean:.2f} ({after.sd:.2f})" for _, after in figures]
    return [title, str(before.count), f"{before.mean:.2f} ({before.sd:.2f})", *cells]
