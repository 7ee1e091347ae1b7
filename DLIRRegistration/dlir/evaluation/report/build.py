"""The report of an evaluation: what it has, in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dlir.data.layouts import DATA_SETS, TESTED_ON
from dlir.evaluation.report.charts import add_box_plots, add_curves, add_landmarks, add_scatters
from dlir.evaluation.report.content import Evaluated, count_cases
from dlir.evaluation.report.examples import add_examples
from dlir.evaluation.report.numbers import add_tables, add_tests
from dlir.evaluation.report.page import Page
from dlir.evaluation.results import Row, common_cases
from dlir.evaluation.summary import measures

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
    rows = common_cases(evaluated.outcome.rows)
    page = Page(f"Registration of {evaluated.data.title}", _lead(evaluated, rows))
    _add_problems(page, evaluated, rows)
    if rows:
        found = measures(rows)
        add_tables(page, rows)
        add_tests(page, rows, found)
        add_box_plots(page, rows, found)
        add_scatters(page, rows, found)
        add_landmarks(page, rows, found)
        add_examples(page, evaluated, rows, found)
    add_curves(page, evaluated)
    page.section("Methods", "Whatever decides the outcome.")
    page.table([["method", "settings"], *([m.name, _short(m.settings)] for m in evaluated.methods)], words=True)
    page.section("How it is measured")
    for text in _DEFINITIONS:
        page.text(text)
    page.section("How the readers of data sets were tested", "By the tests of DLIR itself, not by this evaluation.")
    page.table([["data set", "tested on"], *([name, TESTED_ON[name]] for name in DATA_SETS)], words=True)
    return page.html()


def _lead(evaluated: Evaluated, rows: Sequence[Row]) -> str:
    people = {name for row in rows for name in (row.fixed_subject, row.moving_subject)}
    counts = ((count_cases(rows), "pair"), (len(people), "subject"), (len(evaluated.methods), "method"))
    pairs, subjects, methods = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
    return f"{pairs} of {subjects}, {methods}. Labels and landmarks were used for measuring only."


def _add_problems(page: Page, evaluated: Evaluated, rows: Sequence[Row]) -> None:
    shown = {row.case for row in rows}
    left_out = [pair.name for pair in evaluated.pairs if (evaluated.data.title, pair.name) not in shown]
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
