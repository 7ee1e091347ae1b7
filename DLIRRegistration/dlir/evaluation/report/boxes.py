"""Box plots of measures by method, in the manner of Figures 7, 8, 13 and 14."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dlir.evaluation.report.style import new_figure, tidy
from dlir.evaluation.results import Row
from dlir.evaluation.summary import Measure, by_method

_COLUMNS = 3
_WIDTH, _LINE, _AROUND = 3.5, 0.27, 0.95
# Values farther than this many interquartile ranges from every box are pointed at instead of drawn.
_FAR = 4.0


def box_plots(rows: Sequence[Row], chosen: Sequence[Measure], palette: Mapping[str, str]) -> Figure:
    """One panel per measure, up to three in a row; one box per method, with every value as a dot.

    palette: a colour for each method. Boxes are quartiles and median, whiskers reach to 1.5 interquartile ranges.
    Values far beyond all boxes are left out, and an arrow at the border says how many and the most extreme one.
    """
    methods = by_method(rows)
    columns = 2 if len(chosen) == 4 else min(_COLUMNS, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    height = lines * (_AROUND + _LINE * len(methods))
    figure = new_figure(columns * _WIDTH + 0.9, height)
    grid = figure.subplots(lines, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number >= len(chosen):
            axes.set_visible(False)
            continue
        values = {name: _defined(own, chosen[number]) for name, own in methods.items()}
        _draw(axes, values, chosen[number], palette, named=number % columns == 0)
    return figure


def _defined(rows: Sequence[Row], measure: Measure) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.array([measure.value(row) for row in rows], float)
    defined: NDArray[np.float64] = values[np.isfinite(values)]
    return defined


def _draw(
    axes: Axes, values: dict[str, NDArray[np.float64]], measure: Measure, palette: Mapping[str, str], *, named: bool
) -> None:
    tidy(axes)
    low, high = _limits(list(values.values()))
    rng = np.random.default_rng(0)
    for place, (name, own) in enumerate(values.items()):
        shown = own[(own >= low) & (own <= high)]
        if not own.size:
            continue
        _draw_box(axes, own, place, palette[name])
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


def _draw_box(axes: Axes, own: NDArray[np.float64], place: int, color: str) -> None:
    lower, median, upper = np.percentile(own, (25, 50, 75))
    reach = 1.5 * (upper - lower)
    # A quartile between two values may lie beyond all that are no outliers.
    left = min(lower, own[own >= lower - reach].min())
    right = max(upper, own[own <= upper + reach].max())
    axes.add_patch(Rectangle((lower, place - 0.3), upper - lower, 0.6, facecolor=color + "33", edgecolor=color, lw=1.2))
    axes.plot([median, median], [place - 0.3, place + 0.3], color=color, lw=2)
    for end, box in ((left, lower), (right, upper)):
        axes.plot([end, box], [place, place], color=color, lw=1.2)
        axes.plot([end, end], [place - 0.15, place + 0.15], color=color, lw=1.2)


def _limits(values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """What is shown: all values, except those far from every box."""
    together = np.concatenate(values) if values else np.empty(0)
    if not together.size:
        return 0.0, 1.0
    quartiles = [np.percentile(own, (25, 75)) for own in values if own.size]
    reach = _FAR * max(upper - lower for lower, upper in quartiles)
    low = max(float(together.min()), min(float(lower) for lower, _ in quartiles) - reach)
    high = min(float(together.max()), max(float(upper) for _, upper in quartiles) + reach)
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
