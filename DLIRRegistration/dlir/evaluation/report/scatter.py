"""Scatter plots: method against method (Figures 9 and 15), and landmark errors before and after (Figure 16)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlir.evaluation.report.style import colors, new_figure, tidy
from dlir.evaluation.results import Row
from dlir.evaluation.summary import Measure, by_method

_PANEL = 3.3
_BINS = 45


def method_scatter(rows: Sequence[Row], chosen: Sequence[Measure], reference: str, others: Sequence[str]) -> Figure:
    """One panel per measure, one dot per pair: its value by the reference method across, by each of `others` up.

    A dot above the line is a pair on which the other method has the larger value.
    """
    figure = new_figure(len(chosen) * _PANEL + 1.6, _PANEL)
    palette = colors(list(by_method(rows)))
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axes, measure in zip(panels, chosen, strict=True):
        _scatter(axes, by_method(rows), measure, reference, others, palette)
    panels[-1].legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


def _scatter(
    axes: Axes,
    methods: Mapping[str, Sequence[Row]],
    measure: Measure,
    reference: str,
    others: Sequence[str],
    palette: Mapping[str, str],
) -> None:
    tidy(axes)
    known = {row.case: measure.value(row) for row in methods[reference]}
    drawn = []
    for name in others:
        points = np.array([(known.get(row.case, math.nan), measure.value(row)) for row in methods[name]])
        points = points[np.isfinite(points).all(1)]
        drawn.append(points)
        axes.plot(*points.T, "o", color=palette[name], markersize=4, alpha=0.7, markeredgewidth=0, label=name)
    together = np.concatenate(drawn)
    low, high = (float(together.min()), float(together.max())) if together.size else (0.0, 1.0)
    margin = 0.05 * max(high - low, 1e-6)
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color="#606060", linewidth=0.8, linestyle="--")
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel(f"{measure.label}: {reference}", fontsize=8)
    axes.set_ylabel(f"{measure.label}: the others", fontsize=8)
    axes.set_title(f"{measure.title}, n = {max(map(len, drawn))} pairs", fontsize=9, loc="left")


def landmark_histograms(rows: Sequence[Row]) -> Figure:
    """Per method, a joint histogram of every landmark's error before (across) and after (up), with its margins.

    Below the line are landmarks that came closer. Counts are on a logarithmic scale.
    """
    methods = {
        name: (np.array([e for row in own for e in row.before]), np.array([e for row in own for e in row.after]))
        for name, own in by_method(rows).items()
        if any(row.seconds is not None for row in own) and any(row.after for row in own)
    }
    figure = new_figure(max(1, len(methods)) * (_PANEL + 0.6), _PANEL + 0.5)
    largest = max(float(max(before.max(), after.max())) for before, after in methods.values())
    edges: NDArray[np.float64] = np.linspace(0, 1.03 * largest, _BINS + 1, dtype=np.float64)
    for part, (name, (before, after)) in zip(
        np.atleast_1d(figure.subfigures(1, len(methods))), methods.items(), strict=True
    ):
        grid = part.subplots(2, 2, width_ratios=(4, 1), height_ratios=(1, 4), sharex="col", sharey="row")
        _joint(grid[1, 0], before, after, edges)
        for axes, values, orientation in ((grid[0, 0], before, "vertical"), (grid[1, 1], after, "horizontal")):
            tidy(axes)
            axes.hist(values, bins=list(edges), color="#0072b2", alpha=0.6, orientation=orientation)
            axes.set_frame_on(False)
        grid[0, 0].set_ylabel("landmarks", fontsize=7)
        grid[1, 1].set_xlabel("landmarks", fontsize=7)
        grid[0, 1].set_visible(False)
        part.suptitle(f"{name}, n = {len(before)} landmarks", fontsize=9)
    return figure


def _joint(axes: Axes, before: NDArray[np.float64], after: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    tidy(axes)
    counts = np.histogram2d(before, after, [edges, edges])[0]
    norm = LogNorm(1, max(2.0, float(counts.max())))
    axes.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, cmap="viridis_r", norm=norm)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color="#606060", linewidth=0.8, linestyle="--")
    axes.set_xlabel("Landmark error before (mm)", fontsize=8)
    axes.set_ylabel("Landmark error after (mm)", fontsize=8)
