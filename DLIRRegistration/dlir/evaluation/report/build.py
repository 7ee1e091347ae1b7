"""The report of an evaluation: what it has, in which order, and what is said about it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from dlir.data.layouts import DATA_SETS, TESTED_ON
from dlir.errors import DLIRError
from dlir.evaluation.methods.network import NetworkMethod, stage_names
from dlir.evaluation.report.charts import (
    History,
    box_plots,
    chart_uri,
    colors,
    landmark_histograms,
    learning_curves,
    method_scatter,
    read_history,
)
from dlir.evaluation.report.examples import add_examples
from dlir.evaluation.significance import Comparison, compare
from dlir.evaluation.study import Evaluated
from dlir.evaluation.summary import Measure, count_cases, marked_name, measures, registering, structures
from dlir.evaluation.tables import UNDEFINED, landmark_table, mean_sd, median_iqr, summary_tables
from dlir.io.page import Page
from dlir.io.source import without_folders

_TESTED = ("dice", "hd", "asd", "tre", "folding", "jacobian")
_SIGNIFICANT = 0.05
# Comparisons listed in the page; all are in a file beside it.
_LISTED = 30

_OVERLAP = ("dice", "hd", "asd")
_TOPOLOGY = ("folding_percent", "jacobian_sd", "log_jacobian_sd", "inverse_consistency")
# Structures with a scatter plot.
_SCATTERED = 3

_BETWEEN = (
    "A pair between two subjects is counted with the first of them by name; that the other is in pairs with others too "
    "remains, so p is somewhat too small. "
)
_DEFINITIONS = (
    "Labels of the moving image are carried to the fixed image by nearest neighbour through the exact transform. A "
    "structure that one of the two label maps lacks is not scored. Surfaces are voxels with a face outside the "
    "structure; distances are between voxel centres in mm. HD is the largest and HD95 the larger 95th percentile of "
    "both directions, ASD the mean over both surfaces.",
    "Landmark errors are 3D Euclidean distances between a fixed landmark sent to the moving image and its counterpart "
    "there. Jacobian determinants are exact, at every voxel centre of the fixed image, or of its mask where the data "
    "have one; folding is a determinant of 0 or less; the logarithm leaves folded voxels out. Inverse consistency is "
    "the mean distance of a point from itself after it was sent there by one registration and back by the other.",
    "Seconds are of the registration alone, with the images in memory and the model warm, resampling included.",
)


def build_report(evaluated: Evaluated) -> str:
    """The page. Figures and tables are of the pairs that all methods have; problems of the rest are listed."""
    table = evaluated.shared
    page = Page(f"Registration of {evaluated.data.title}", _lead(evaluated))
    if evaluated.notes:
        page.section("What the models have seen", "Figures of pairs that a model was trained on say nothing of others.")
        page.problems(evaluated.notes)
    _add_problems(page, evaluated)
    if not table.empty:
        found = measures(table)
        _add_tables(page, table)
        _add_tests(page, table, found)
        _add_box_plots(page, table, found)
        _add_scatters(page, table, found)
        if "tre_mean" in table:
            _add_landmarks(page, table, found)
        add_examples(page, evaluated)
    _add_curves(page, evaluated)
    page.section("Methods", "Whatever decides the outcome.")
    page.table([["method", "settings"], *([m.name, _short(m.settings)] for m in evaluated.methods)], words=True)
    page.section("How it is measured")
    for text in _DEFINITIONS:
        page.text(text)
    page.section("How the readers of data sets were tested", "By the tests of DLIR itself, not by this evaluation.")
    page.table([["data set", "tested on"], *([name, TESTED_ON[name]] for name in DATA_SETS)], words=True)
    return page.html()


def _lead(evaluated: Evaluated) -> str:
    table = evaluated.shared
    people = {*table["fixed_subject"], *table["moving_subject"]}
    counts = ((count_cases(table), "pair"), (len(people), "subject"), (len(evaluated.methods), "method"))
    pairs, subjects, methods = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
    return f"{pairs} of {subjects}, {methods}. Labels and landmarks were used for measuring only."


def _add_problems(page: Page, evaluated: Evaluated) -> None:
    shown = set(evaluated.shared["pair"])
    left_out = [pair.name for pair in evaluated.pairs if pair.name not in shown]
    problems = [f"{p.pair}{', ' + p.method if p.method else ''}: {p.message}" for p in evaluated.outcome.problems]
    if left_out or problems:
        page.section(
            "Not evaluated", f"{len(left_out)} of {len(evaluated.pairs)} pairs are missing from all that follows."
        )
        page.problems(problems or left_out)


def _short(settings: Mapping[str, object]) -> str:
    """Settings without what fills pages: of elastix's parameters, those that differ."""
    shown = {key: value for key, value in settings.items() if key != "parameters"}
    parameters = settings.get("parameters")
    if isinstance(parameters, list):
        wanted = ("Metric", "Transform", "FinalGridSpacingInPhysicalUnits", "GridSpacingSchedule")
        shown["parameters"] = [{key: " ".join(p[key]) for key in wanted if key in p} for p in parameters]
    return json.dumps(shown, sort_keys=True, ensure_ascii=False)


# -- sections ----------------------------------------------------------------------------------------


def _add_tables(page: Page, table: pd.DataFrame) -> None:
    """Results by structure and of the deformations, as medians and again as means."""
    page.section(
        "Results", "Median ± interquartile range over pairs; time as mean (SD). As Tables 2 and 4 of the paper."
    )
    for lines in summary_tables(table, median_iqr):
        page.table(lines)
    page.section("Means", "The same as mean ± standard deviation over pairs.")
    for lines in summary_tables(table, mean_sd):
        page.table(lines)


def _add_tests(page: Page, table: pd.DataFrame, found: Sequence[Measure]) -> None:
    """Which differences between methods are more than chance."""
    titles = {m.key: m.label for m in found if m.key.partition("_")[0] in _TESTED}
    comparisons = [c for measure in found if measure.key in titles for c in compare(table, measure)]
    comparisons = [c for c in comparisons if {c.first, c.second} <= set(registering(table))]
    if not comparisons:
        return
    between = (table["fixed_subject"] != table["moving_subject"]).any()
    page.section(
        "Differences between methods",
        "Wilcoxon's signed-rank test on subjects, two-sided; p after Holm's correction for all comparisons by one "
        "measure. Pairs of one subject, such as both directions, are not independent of each other, so second − first "
        "is averaged within each subject first; n is the number of subjects, and the difference the median over them. "
        f"{_BETWEEN if between else ''}Comparisons by other measures and with what was before are in comparisons.csv.",
    )
    different = [c for c in comparisons if c.p_holm < _SIGNIFICANT]
    page.text(f"{len(different)} of {len(comparisons)} comparisons have a corrected p below {_SIGNIFICANT}.")
    if different:
        names = {str(name): marked_name(own) for name, own in table.groupby("method")}
        head = ["measure", "first", "second", "n", "pairs", "difference", "p", "p corrected"]
        lines = [[titles[c.measure], names[c.first], names[c.second], *_figures(c)] for c in different[:_LISTED]]
        page.table([head, *lines])
    if len(different) > _LISTED:
        page.text(f"{len(different) - _LISTED} more are in comparisons.csv.")


def _figures(c: Comparison) -> list[str]:
    return [str(c.count), str(c.pairs), f"{c.difference:+.3g}", _p(c.p), _p(c.p_holm)]


def _p(value: float) -> str:
    return UNDEFINED if math.isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _add_box_plots(page: Page, table: pd.DataFrame, found: Sequence[Measure]) -> None:
    """Topology, and label propagation where there are labels."""
    n, palette = count_cases(table), colors(list(table["method"].unique()))
    moving = table[table["method"].isin(registering(table))]
    if not moving.empty:
        page.section("Topology of the deformations")
        page.figure(
            chart_uri(box_plots(moving, [m for m in found if m.key in _TOPOLOGY], palette)),
            "Folding (Jacobian determinant of 0 or less, % of voxels), standard deviation of the Jacobian determinant "
            f"and of its logarithm (no unit), and inverse consistency error (mm); n = {n} pairs. As Figures 7 and 13.",
        )
    chosen = [m for name in structures(table) for key in _OVERLAP for m in found if m.key == f"{key}_{name}"]
    if chosen:
        page.section("Label propagation")
        page.figure(
            chart_uri(box_plots(table, chosen, palette)),
            "Dice coefficient (no unit), Hausdorff distance (mm) and average surface distance (mm) of each structure; "
            f"n = {n} pairs. As Figures 8 and 14 of the paper.",
        )


def _add_scatters(page: Page, table: pd.DataFrame, found: Sequence[Measure]) -> None:
    """The first method that registers against all later ones: in up to three structures, else by landmarks."""
    active, names = registering(table), structures(table)[:_SCATTERED]
    chosen = [m for m in found if m.key in ({f"dice_{name}" for name in names} or {"tre_mean"})]
    if len(active) < 2 or not chosen:
        return
    what = f"Dice coefficient (no unit) of {', '.join(names)}" if names else "Mean landmark error (mm)"
    page.section("Method against method")
    page.figure(
        chart_uri(method_scatter(table, chosen, active[0], active[1:])),
        f"{what}, pair by pair: {active[0]} across, the others up; n = {count_cases(table)} pairs. "
        f"{'Above' if names else 'Below'} the line the other method is better. As Figures 9 and 15 of the paper.",
    )


def _add_landmarks(page: Page, table: pd.DataFrame, found: Sequence[Measure]) -> None:
    """Landmark errors pair by pair and landmark by landmark."""
    marked = table[table["after"].map(len) > 0]
    page.section("Landmarks", "Distance between corresponding landmarks in mm, mean (SD), as Table 6 of the paper.")
    page.table(landmark_table(marked))
    page.figure(
        chart_uri(box_plots(marked, [m for m in found if m.key == "tre_mean"], colors(list(table["method"].unique())))),
        f"Mean landmark error of each pair (mm); n = {count_cases(marked)} pairs. As Figure 14 (d) of the paper.",
    )
    if registering(marked):
        page.figure(
            chart_uri(landmark_histograms(marked)),
            "Landmark error in mm before (across) and after registration (up), below the line where it fell; "
            "darker is more landmarks, on a logarithmic scale; n is the number of landmarks. As Figure 16.",
        )


def _add_curves(page: Page, evaluated: Evaluated) -> None:
    """Learning curves of the runs from which models came."""
    models = [method for method in evaluated.methods if isinstance(method, NetworkMethod)]
    histories, problems = [], []
    for name, path in evaluated.histories:
        # The models of a cross-validation's folds are one method, and of one design.
        of_run = next((model for model in models if model.path.parent == path.parent), models[0] if models else None)
        known = ([], []) if of_run is None else (stage_names(of_run.spec), of_run.trained_for)
        try:
            if rows := read_history(path):
                histories.append(History(name, rows, *known))
        except DLIRError as error:
            problems.append(without_folders(str(error)))
    if histories or problems:
        page.section("Learning curves")
        page.problems(problems)
    if histories:
        page.figure(
            chart_uri(learning_curves(histories)),
            "Negative similarity (no unit) against iterations, stage by stage: above those that the stages are "
            "trained for, below the global correlation on held-out pairs, which alone can be compared between stages; "
            f"n = {len(histories)} training runs. As Figures 5 and 10 of the paper.",
        )
