"""The charts of a report, and what is said below them."""

from __future__ import annotations

from collections.abc import Sequence

from dlir.errors import DLIRError
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.report.boxes import box_plots
from dlir.evaluation.report.content import Evaluated, count_cases, registering
from dlir.evaluation.report.curves import learning_curves, read_history
from dlir.evaluation.report.numbers import landmark_table
from dlir.evaluation.report.page import Page
from dlir.evaluation.report.scatter import landmark_histograms, method_scatter
from dlir.evaluation.report.style import chart_uri, colors
from dlir.evaluation.results import Row
from dlir.evaluation.summary import Measure, by_method, structures

_OVERLAP = ("dice", "hd", "asd")
_TOPOLOGY = ("folding_percent", "jacobian_sd", "log_jacobian_sd", "inverse_consistency")
# Structures with a scatter plot.
_SCATTERED = 3


def add_box_plots(page: Page, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """Topology, and label propagation where there are labels."""
    n, palette = count_cases(rows), colors(list(by_method(rows)))
    moving = [row for row in rows if row.method in registering(rows)]
    if moving:
        page.section("Topology of the deformations")
        page.figure(
            chart_uri(box_plots(moving, [m for m in found if m.key in _TOPOLOGY], palette)),
            "Folding (Jacobian determinant of 0 or less, % of voxels), standard deviation of the Jacobian determinant "
            f"and of its logarithm (no unit), and inverse consistency error (mm); n = {n} pairs. As Figures 7 and 13.",
        )
    chosen = [m for name in structures(rows) for key in _OVERLAP for m in found if m.key == f"{key}_{name}"]
    if chosen:
        page.section("Label propagation")
        page.figure(
            chart_uri(box_plots(rows, chosen, palette)),
            "Dice coefficient (no unit), Hausdorff distance (mm) and average surface distance (mm) of each structure; "
            f"n = {n} pairs. As Figures 8 and 14 of the paper.",
        )


def add_scatters(page: Page, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """The first method that registers against all later ones: in up to three structures, else by landmarks."""
    active, names = registering(rows), structures(rows)[:_SCATTERED]
    chosen = [m for m in found if m.key in ({f"dice_{name}" for name in names} or {"tre_mean"})]
    if len(active) < 2 or not chosen:
        return
    what = f"Dice coefficient (no unit) of {', '.join(names)}" if names else "Mean landmark error (mm)"
    page.section("Method against method")
    page.figure(
        chart_uri(method_scatter(rows, chosen, active[0], active[1:])),
        f"{what}, pair by pair: {active[0]} across, the others up; n = {count_cases(rows)} pairs. "
        f"{'Above' if names else 'Below'} the line the other method is better. As Figures 9 and 15 of the paper.",
    )


def add_landmarks(page: Page, rows: Sequence[Row], found: Sequence[Measure]) -> None:
    """Landmark errors pair by pair and landmark by landmark."""
    with_landmarks = [row for row in rows if row.after]
    if not with_landmarks:
        return
    page.section("Landmarks", "Distance between corresponding landmarks in mm, mean (SD), as Table 6 of the paper.")
    page.table(landmark_table(with_landmarks))
    page.figure(
        chart_uri(box_plots(with_landmarks, [m for m in found if m.key == "tre_mean"], colors(list(by_method(rows))))),
        f"Mean landmark error of each pair (mm); n = {count_cases(with_landmarks)} pairs. As Figure 14 (d) of the "
        "paper.",
    )
    if registering(with_landmarks):
        page.figure(
            chart_uri(landmark_histograms(with_landmarks)),
            "Landmark error in mm before (across) and after registration (up), below the line where it fell; "
            "darker is more landmarks, on a logarithmic scale; n is the number of landmarks. As Figure 16.",
        )


def add_curves(page: Page, evaluated: Evaluated) -> None:
    """Learning curves of the runs from which models came."""
    histories, problems = [], []
    for name, path in evaluated.histories:
        try:
            histories.append((name, read_history(path)))
        except DLIRError as error:
            problems.append(str(error))
    histories = [(name, rows) for name, rows in histories if rows]
    if histories or problems:
        page.section("Learning curves")
        page.problems(problems)
    if histories:
        names = next((m.stages for m in evaluated.methods if isinstance(m, NetworkMethod)), [])
        page.figure(
            chart_uri(learning_curves(histories, names)),
            f"Negative similarity (no unit) against iterations, stage by stage; n = {len(histories)} training runs. As "
            "Figures 5 and 10 of the paper.",
        )
