"""Charts: that they show the figures they are made of."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from dlir.errors import EvaluationError
from dlir.evaluation.report.charts import (
    History,
    box_plots,
    chart_uri,
    colors,
    landmark_histograms,
    learning_curves,
    method_scatter,
    picture_uri,
    read_history,
)
from dlir.evaluation.results import Row
from dlir.evaluation.summary import measures, pairs_table
from dlir.evaluation.tables import landmark_table
from dlir.metrics.consistency import InverseConsistency
from dlir.metrics.labels import LabelScores
from evaluation_runs import make_row

METHODS = ("before", "elastix", "DLIR")


def make_rows(count: int = 12) -> list[Row]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        before = tuple(float(v) for v in rng.uniform(1, 20, 30))
        for k, method in enumerate(METHODS):
            scores = LabelScores(0.6 + 0.1 * k + 0.02 * rng.normal(), 10 - k, 5, 2 - 0.5 * k, 9, 9)
            rows.append(
                make_row(
                    f"p{i}",
                    method,
                    seconds=None if k == 0 else 0.5,
                    labels={"LV": scores},
                    before=before,
                    after=before if k == 0 else tuple(v / (1 + k) for v in before),
                    inverse_consistency=InverseConsistency(10, 0.5, 1, 2),
                )
            )
    return rows


ROWS = make_rows()
TABLE = pairs_table(ROWS)
PALETTE = colors(METHODS)


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    return "\n".join(t.get_text() for axes in figure.axes for t in axes.findobj() if hasattr(t, "get_text"))


def test_a_box_is_where_the_quartiles_are() -> None:
    dice = [m for m in measures(TABLE) if m.key == "dice_LV"]
    figure = box_plots(TABLE, dice, PALETTE)
    boxes = [p.get_path().get_extents() for p in figure.axes[0].patches if isinstance(p, PathPatch)]
    assert len(boxes) == 3
    for box, method in zip(boxes, METHODS, strict=True):
        values = [row.labels["LV"].dice for row in ROWS if row.method == method]
        lower, upper = np.percentile(values, (25, 75))
        assert (box.x0, box.x1) == pytest.approx((lower, upper))
    assert "Dice LV, n = 12 pairs" in texts(figure)


def test_values_far_away_are_pointed_at_and_counted() -> None:
    wild = pairs_table([*ROWS, make_row("far", "DLIR", labels={"LV": LabelScores(0.8, 500.0, 5, 2, 9, 9)})])
    figure = box_plots(wild, [m for m in measures(wild) if m.key == "hd_LV"], PALETTE)
    assert figure.axes[0].get_xlim()[1] < 100
    assert [t.get_text() for t in figure.axes[0].texts] == ["500"]


def test_a_measure_that_nobody_has_is_an_empty_panel() -> None:
    table = pairs_table([make_row(labels={"LV": LabelScores(*[math.nan] * 4, 0, 0)})])
    figure = box_plots(table, [m for m in measures(table) if m.key == "dice_LV"], {"A": "#000000"})
    assert "n = 0 pairs" in texts(figure)


def test_every_panel_has_a_unit_and_n() -> None:
    figure = box_plots(TABLE, measures(TABLE), PALETTE)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == len(measures(TABLE))
    for axes, measure in zip(shown, measures(TABLE), strict=True):
        assert "n = 12 pairs" in axes.get_title("left")
        assert measure.unit in axes.get_xlabel()


def test_a_dot_is_a_pair() -> None:
    dice = [m for m in measures(TABLE) if m.key == "dice_LV"]
    figure = method_scatter(TABLE, dice, "elastix", ["DLIR"])
    (axes,) = figure.axes
    drawn = np.stack(axes.lines[0].get_data(), 1)
    expected = [[r.labels["LV"].dice for r in ROWS if r.pair == f"p{i}" and r.method != "before"] for i in range(12)]
    np.testing.assert_allclose(drawn, expected)
    assert axes.get_xlim() == axes.get_ylim()
    assert "n = 12 pairs" in axes.get_title("left")
    assert "elastix" in axes.get_xlabel()


def test_every_landmark_is_counted_once() -> None:
    figure = landmark_histograms(TABLE)
    assert len(figure.subfigs) == 2  # not for what was before
    for part, method in zip(figure.subfigs, ("elastix", "DLIR"), strict=True):
        joint = next(axes for axes in part.axes if axes.get_xlabel() == "Landmark error before (mm)")
        assert joint.get_ylabel() == "Landmark error after (mm)"
        assert np.nansum(joint.collections[0].get_array()) == 12 * 30
        assert part.get_suptitle() == f"{method}, n = 360 landmarks"


def test_landmarks_pair_by_pair_and_in_all() -> None:
    table = landmark_table(TABLE)
    assert table[0] == ["pair", "n", "before", "elastix", "DLIR"]
    assert len(table) == 1 + 12 + 2
    row = next(r for r in ROWS if r.pair == "p3" and r.method == "DLIR")
    assert table[4][4] == f"{np.mean(row.after):.2f} ({np.std(row.after):.2f})"
    assert table[4][2] == f"{np.mean(row.before):.2f} ({np.std(row.before):.2f})"
    every = [e for r in ROWS if r.method == "DLIR" for e in r.after]
    assert table[-2][:2] == ["all landmarks", "360"]
    assert table[-2][4] == f"{np.mean(every):.2f} ({np.std(every):.2f})"
    assert table[-1][1] == "324"
    assert len(landmark_table(TABLE[TABLE["method"] == "before"])) == 1 + 12 + 1


# -- learning curves ----------------------------------------------------------------------------------


def history(phases: int = 2) -> list[dict[str, float]]:
    return [
        {"phase": p, "iteration": i, "similarity": 0.5 + i / 100, "validation_similarity": 0.4 + i / 100}
        for p in range(phases)
        for i in (10, 20, 30)
    ]


def test_curves_fall_as_similarity_rises() -> None:
    figure = learning_curves([History("run", history(3), ["AIR", "DIR-1"])])
    titles = ["AIR, n = 3 points", "DIR-1, n = 3 points", "all stages, n = 3 points"]
    assert [axes.get_title("left") for axes in figure.axes] == titles * 2
    (training,), (validation,) = figure.axes[0].lines, figure.axes[3].lines
    np.testing.assert_allclose(training.get_ydata(), [-0.6, -0.7, -0.8])
    np.testing.assert_allclose(validation.get_ydata(), [-0.5, -0.6, -0.7])
    assert list(training.get_xdata()) == [10, 20, 30]


def test_no_axis_has_two_quantities() -> None:
    """What is trained for differs between stages, and from what is validated by; runs of other designs line up."""
    runs = [History("two", history(3), ["AIR", "DIR-1"]), History("one", history(2), ["DIR-1"])]
    figure = learning_curves(runs)
    columns = ["AIR", "DIR-1", "all stages"]
    assert [axes.get_title("left").partition(",")[0] for axes in figure.axes] == columns * 2
    labels = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes[::3]]
    assert labels == ["negative similarity in training (no unit)", "negative NCC in validation (no unit)"]
    above, below = figure.axes[:3], figure.axes[3:]
    assert len({axes.get_ylim() for axes in below}) == 1
    assert not above[0].get_shared_y_axes().joined(above[0], above[1])
    for axes in above:
        drawn = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
        expected = {"AIR": (3, 0), "DIR-1": (3, 3), "all stages": (3, 3)}
        assert tuple(drawn[name] for name in ("two", "one")) == expected[axes.get_title("left").partition(",")[0]]


def test_runs_that_were_trained_for_other_similarities_have_other_axes() -> None:
    kinds = [["NCC", "local NCC, 7 voxels"], ["local NCC, 5 voxels", "local NCC, 7 voxels"]]
    runs = [History(f"run {k}", history(2), ["DIR-1", "DIR-2"], own) for k, own in enumerate(kinds)]
    figure = learning_curves(runs)
    points = [sum(len(line.get_xdata()) for line in axes.lines) for axes in figure.axes]
    labels = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes[::2]]
    assert {label: points[2 * k : 2 * k + 2] for k, label in enumerate(labels)} == {
        "negative NCC in training (no unit)": [3, 0],
        "negative local NCC, 5 voxels in training (no unit)": [3, 0],
        "negative local NCC, 7 voxels in training (no unit)": [0, 6],
        "negative NCC in validation (no unit)": [6, 6],
    }


def test_a_history_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(json.dumps(history()))
    assert read_history(path) == history()
    for text in ("{", '[{"phase": 1}]', "3"):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="history"):
            read_history(path)


# -- how they get into the page -----------------------------------------------------------------------


def test_figures_become_data() -> None:
    figure = box_plots(TABLE, measures(TABLE)[:1], PALETTE)
    assert chart_uri(figure).startswith("data:image/png;base64,iVBORw0KGgo")
    assert picture_uri(figure).startswith("data:image/webp;base64,UklGR")


def test_methods_keep_their_colour() -> None:
    assert colors(METHODS)["DLIR"] == colors([*METHODS, "more"])["DLIR"]
    assert len(set(colors([f"m{i}" for i in range(8)]).values())) == 8


def test_letters_are_not_clipped() -> None:
    figure = box_plots(TABLE, measures(TABLE)[:4], PALETTE)
    figure.canvas.draw()
    for axes in figure.axes:
        assert isinstance(axes, Axes)
        box = axes.get_tightbbox()
        assert box is not None
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.width + 1
