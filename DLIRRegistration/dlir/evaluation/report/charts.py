"""The charts of a report: box plots, scatter plots, histograms of landmarks, learning curves; and figures as data."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import boxplot_stats
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dlir.errors import EvaluationError
from dlir.evaluation.summary import Measure, by_method, landmarks, registering

HISTORY = "history.json"

# Okabe and Ito's colours, which most people can tell apart; the first is for what was before.
_COLORS = ("#999999", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Inches beside each panel, so that the ticks of two neighbours do not run into each other.
_BETWEEN = 0.08
_CHART_DPI, _PICTURE_DPI, _PICTURE_QUALITY = 110, 150, 82

# Box plots: panels in a row; inches of a panel, of a box, and of what is around them.
_COLUMNS = 3
_WIDTH, _LINE, _AROUND = 3.5, 0.27, 0.95
# Values farther than this many interquartile ranges from every box are pointed at instead of drawn.
_FAR = 4.0
# Scatter plots and histograms: inches of a panel, bins along an axis.
_PANEL, _BINS = 3.3, 45
# Learning curves: inches of a panel; what is validated by.
_CURVES = (2.6, 2.4)
_VALIDATION = "NCC\nin validation"


# -- what all figures share ---------------------------------------------------------------------------


def colors(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the same in all charts."""
    return {method: _COLORS[i % len(_COLORS)] for i, method in enumerate(methods)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), facecolor="white", layout=ConstrainedLayoutEngine(w_pad=_BETWEEN))
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Axes) -> None:
    """A frame of two lines, small ticks, a light grid behind."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color="#808080", linewidth=0.6)
    axes.tick_params(labelsize=8, length=2.5, width=0.6, color="#808080")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def chart_uri(figure: Figure) -> str:
    """The figure as a data URI, without loss: for lines and letters."""
    return _uri(figure, "png", _CHART_DPI)


def picture_uri(figure: Figure) -> str:
    """The figure as a data URI, small: for images."""
    return _uri(figure, "webp", _PICTURE_DPI, {"quality": _PICTURE_QUALITY})


def _uri(figure: Figure, kind: str, dpi: int, encoding: dict[str, int] | None = None) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, pil_kwargs=encoding)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


# -- measures by method (Figures 7, 8, 13 and 14) -----------------------------------------------------


def box_plots(table: pd.DataFrame, chosen: Sequence[Measure], palette: Mapping[str, str]) -> Figure:
    """One panel per measure, up to three in a row; one box per method, with every value as a dot.

    palette: a colour for each method. Boxes are quartiles and median, whiskers reach to 1.5 interquartile ranges.
    Values far beyond all boxes are left out, and an arrow at the border says how many and the most extreme one.
    """
    columns = 2 if len(chosen) == 4 else min(_COLUMNS, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    height = lines * (_AROUND + _LINE * table["method"].nunique())
    figure = new_figure(columns * _WIDTH + 0.9, height)
    grid = figure.subplots(lines, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(chosen):
            axes.set_visible(False)
            continue
        values = {
            str(name): own.dropna().to_numpy(np.float64) for name, own in by_method(table, chosen[number]).items()
        }
        _draw_boxes(axes, values, chosen[number], palette, named=number % columns == 0)
    return figure


def _draw_boxes(
    axes: Axes, values: Mapping[str, NDArray[np.float64]], measure: Measure, palette: Mapping[str, str], *, named: bool
) -> None:
    _tidy(axes)
    boxes = {name: boxplot_stats(own)[0] for name, own in values.items() if own.size}
    low, high = _limits(list(values.values()), list(boxes.values()))
    rng = np.random.default_rng(0)
    for place, (name, own) in enumerate(values.items()):
        if not own.size:
            continue
        line = {"color": palette[name], "linewidth": 1.2}
        axes.bxp(
            [boxes[name]],
            [place],
            widths=0.6,
            capwidths=0.3,
            orientation="horizontal",
            patch_artist=True,
            showfliers=False,
            manage_ticks=False,
            boxprops={"facecolor": palette[name] + "33", "edgecolor": palette[name], "linewidth": 1.2},
            whiskerprops=line,
            capprops=line,
            medianprops=line | {"linewidth": 2},
        )
        shown = own[(own >= low) & (own <= high)]
        around = place + rng.uniform(-0.2, 0.2, shown.size)
        axes.plot(shown, around, ".", color=palette[name], markersize=6, alpha=0.75, markeredgewidth=0)
        _point_at(axes, own, place, (low, high), palette[name])
    margin = 0.03 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(len(values) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), list(values) if named else [""] * len(values))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=False, axis="y")
    counts = sorted({own.size for own in values.values()})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    axes.set_title(f"{measure.title}, {n} pairs", fontsize=9, loc="left")
    axes.set_xlabel(measure.label, fontsize=8)


def _limits(values: Sequence[NDArray[np.float64]], boxes: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """What is shown: all values, except those far from every box."""
    if not boxes:
        return 0.0, 1.0
    together = np.concatenate(values)
    reach = _FAR * max(box["q3"] - box["q1"] for box in boxes)
    low = max(float(together.min()), min(float(box["q1"]) for box in boxes) - reach)
    high = min(float(together.max()), max(float(box["q3"]) for box in boxes) + reach)
    return (low, high) if high > low else (low, low + 1.0)


def _point_at(axes: Axes, own: NDArray[np.float64], place: int, limits: tuple[float, float], color: str) -> None:
    """Arrows towards the values that are not shown."""
    for border, beyond, extreme, sign in (
        (limits[1], own[own > limits[1]], own.max(), 1),
        (limits[0], own[own < limits[0]], own.min(), -1),
    ):
        if beyond.size:
            text = f"{extreme:.3g}" if beyond.size == 1 else f"{beyond.size}, to {extreme:.3g}"
            axes.annotate(
                text,
                (border, place),
                (-sign * 30, 9),
                textcoords="offset points",
                fontsize=6.5,
                color=color,
                ha="center",
                va="center",
                arrowprops={"arrowstyle": "->", "color": color, "linewidth": 0.8},
            )


# -- method against method (Figures 9 and 15) ---------------------------------------------------------


def method_scatter(table: pd.DataFrame, chosen: Sequence[Measure], reference: str, others: Sequence[str]) -> Figure:
    """One panel per measure, one dot per pair: its value by the reference method across, by each of `others` up.

    A dot above the line is a pair on which the other method has the larger value.
    """
    figure = new_figure(len(chosen) * _PANEL + 1.6, _PANEL)
    palette = colors(list(table["method"].unique()))
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axes, measure in zip(panels, chosen, strict=True):
        _tidy(axes)
        values = by_method(table, measure)
        drawn = {name: values[[reference, name]].dropna().to_numpy() for name in others}
        for name, points in drawn.items():
            axes.plot(*points.T, "o", color=palette[name], markersize=4, alpha=0.7, markeredgewidth=0, label=name)
        together = np.concatenate(list(drawn.values()))
        low, high = (float(together.min()), float(together.max())) if together.size else (0.0, 1.0)
        margin = 0.05 * max(high - low, 1e-6)
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color="#606060", linewidth=0.8, linestyle="--")
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_xlabel(f"{measure.label}: {reference}", fontsize=8)
        axes.set_ylabel(f"{measure.label}: the others", fontsize=8)
        axes.set_title(f"{measure.title}, n = {max(map(len, drawn.values()))} pairs", fontsize=9, loc="left")
    panels[-1].legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


# -- landmarks (Figure 16) ----------------------------------------------------------------------------


def landmark_histograms(table: pd.DataFrame) -> Figure:
    """Per method, a joint histogram of every landmark's error before (across) and after (up), with its margins.

    Below the line are landmarks that came closer. Counts are on a logarithmic scale.
    """
    marked = landmarks(table)
    marked = marked[marked["method"].isin(registering(marked))]
    count = marked["method"].nunique()
    figure = new_figure(count * (_PANEL + 0.6), _PANEL + 0.5)
    largest = float(marked[["before", "after"]].to_numpy().max())
    edges: NDArray[np.float64] = np.linspace(0, 1.03 * largest, _BINS + 1, dtype=np.float64)
    groups = list(marked.groupby("method", sort=False))
    counts = [np.histogram2d(own["before"], own["after"], [edges, edges])[0] for _, own in groups]
    norm = LogNorm(1, max(2.0, *(float(own.max()) for own in counts)))
    parts = np.atleast_1d(figure.subfigures(1, count))
    for part, (name, own), found in zip(parts, groups, counts, strict=True):
        grid = part.subplots(2, 2, width_ratios=(4, 1), height_ratios=(1, 4), sharex="col", sharey="row")
        _joint(grid[1, 0], found, edges, norm)
        for axes, when, orientation in ((grid[0, 0], "before", "vertical"), (grid[1, 1], "after", "horizontal")):
            _tidy(axes)
            axes.hist(own[when], bins=list(edges), color="#0072b2", alpha=0.6, orientation=orientation)
            axes.set_frame_on(False)
        grid[0, 0].set_ylabel("landmarks", fontsize=7)
        grid[1, 1].set_xlabel("landmarks", fontsize=7)
        grid[0, 1].set_visible(False)
        part.suptitle(f"{name}, n = {len(own)} landmarks", fontsize=9)
    return figure


def _joint(axes: Axes, counts: NDArray[np.float64], edges: NDArray[np.float64], norm: LogNorm) -> None:
    """counts: of landmarks, (before, after). norm: the same for all methods, whose colours are compared."""
    _tidy(axes)
    axes.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, cmap="viridis_r", norm=norm)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color="#606060", linewidth=0.8, linestyle="--")
    axes.set_xlabel("Landmark error before (mm)", fontsize=8)
    axes.set_ylabel("Landmark error after (mm)", fontsize=8)


# -- learning curves (Figures 5 and 10) ---------------------------------------------------------------


class _Point(NamedTuple):
    """One value of one run's curves. column, kind: of the panel that it belongs in."""

    run: int
    column: str
    kind: str
    iteration: float
    value: float


@dataclass(frozen=True)
class History:
    """How a run went. rows: of its history.json. stages: names of its model's; a further phase is the tuning of all.

    trained_for: the similarity of each phase, where that is known.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    stages: Sequence[str]
    trained_for: Sequence[str] = ()

    def points(self, run: int) -> Iterator[_Point]:
        """Every value, as of the run of that number."""
        for row in self.rows:
            phase = int(row["phase"])
            column = self.stages[phase] if phase < len(self.stages) else "all stages"
            kind = self.trained_for[phase] if phase < len(self.trained_for) else "similarity"
            yield _Point(run, column, f"{kind}\nin training", row["iteration"], -row["similarity"])
            if "validation_similarity" in row:
                yield _Point(run, column, _VALIDATION, row["iteration"], -row["validation_similarity"])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a run's history.json. Raises EvaluationError where it is none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not all({"phase", "iteration", "similarity"} <= set(row) for row in rows):
            raise ValueError("a row lacks its phase, iteration or similarity")
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"history '{path}' cannot be read ({error}); leave it out or train again") from None
    return list(rows)


def learning_curves(histories: Sequence[History]) -> Figure:
    """Negative similarity against iterations; a row for each kind in training, the last one in validation; a column per
    stage.

    Stages are trained for similarities of their own, on windows and with augmentation; all are validated by the global
    correlation of whole images, and only there do the columns share an axis.
    """
    points = [point for number, history in enumerate(histories) for point in history.points(number)]
    titles = list(dict.fromkeys(point.column for point in points))
    kinds = sorted({point.kind for point in points}, key=lambda kind: (kind == _VALIDATION, kind))
    figure = new_figure(max(1, len(titles)) * _CURVES[0] + 1.8, max(1, len(kinds)) * _CURVES[1])
    grid = figure.subplots(max(1, len(kinds)), max(1, len(titles)), squeeze=False)
    for line, kind in zip(grid, kinds, strict=True):
        for axes, title in zip(line, titles, strict=True):
            _tidy(axes)
            shown = [point for point in points if (point.column, point.kind) == (title, kind)]
            for number, history in enumerate(histories):
                own = [(point.iteration, point.value) for point in shown if point.run == number]
                style = {"color": f"C{number}", "lw": 1.2, "marker": ".", "ms": 3, "label": history.name}
                axes.plot(*np.array(own).reshape(-1, 2).T, **style)
            axes.set_title(f"{title}, n = {len(shown)} points", fontsize=8.5, loc="left")
            axes.set_xlabel("iterations", fontsize=8)
            if kind == _VALIDATION:
                axes.sharey(line[0])
            axes.set_visible(bool(shown) or axes is line[0])
        line[0].set_ylabel(f"negative {kind} (no unit)", fontsize=8)
    grid[0, -1].set_visible(True)
    grid[0, -1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure
