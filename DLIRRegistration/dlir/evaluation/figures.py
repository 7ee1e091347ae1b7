"""One picture that shows whether a registration can be trusted, in the manner of the paper's Figure 6.

Everything is sampled from the images and the transform on one slice of the fixed image, so a saved transform
gives the same picture as a fresh result. Drawn without a display and without matplotlib's global state.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from dlir.errors import GeometryError
from dlir.evaluation.drawing import (
    GRID_SPACING,
    carried_coordinates,
    draw_grid,
    draw_jacobian_bar,
    draw_outline,
    draw_scale_bar,
    frame,
    intensity_window,
    jacobian_colors,
    sample_slice,
    show_slice,
    slice_extent,
)
from dlir.geometry import ImageGrid, upright
from dlir.io.reading import Volume
from dlir.io.writing import replacing
from dlir.metrics.folding import jacobian_statistics
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform

# Shown around the labels, in mm.
CROP_MARGIN = 55.0

_FIXED_COLOR, _MOVING_COLOR = "#35c8ff", "#ffb000"
_IDENTITY = CompositeTransform(())

# The page, in inches.
_DPI = 200
_CELL, _TITLE, _CAPTION, _GAP, _BORDER, _BAR = 3.1, 0.30, 0.46, 0.16, 0.14, 0.78
_CAPTION_LETTERS = 54


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Label maps of both images. notes: what to say below the contours before and after, for example their Dice."""

    fixed: Volume
    moving: Volume
    notes: tuple[str, str] = ("", "")

    @cached_property
    def common(self) -> list[int]:
        """The labels that both images have."""
        return [int(v) for v in np.intersect1d(self.fixed.array, self.moving.array) if v != 0]


@dataclass(frozen=True)
class _Panel:
    title: str
    caption: str
    draw: Callable[[Axes], None]


def registration_figure(
    path: Path,
    fixed: Volume,
    moving: Volume,
    transform: CompositeTransform,
    *,
    start: CompositeTransform = _IDENTITY,
    labels: LabelPair | None = None,
    titles: tuple[str, str] = ("Fixed", "Moving"),
    plane: ImageGrid | None = None,
) -> None:
    """Writes a PNG: fixed, moving, warped with deformation grid, Jacobian, and label contours before and after.

    transform: fixed point -> moving point, LPS mm, as a registration gives it. start: where the moving image lay
    before the first stage; "before" and the regular grid are in that position. labels: without them the panels of
    contours are left out; only labels that both maps have are drawn. titles: what the images are.
    plane: the slice, a grid of shape (1, rows, columns) with rows downwards; `figure_plane` by default.
    Raises OutputError where the file cannot be written, GeometryError for a plane of more than one slice.
    """
    if plane is None:
        plane = figure_plane(fixed.grid, labels, start)
    if plane.shape[0] != 1:
        raise GeometryError(f"a figure shows one slice, not a grid of shape {plane.shape}; give (1, rows, columns)")
    panels = _image_panels(fixed, moving, transform, start, titles, plane)
    jacobian = _jacobian_panel(transform, labels, plane)
    if labels is not None:
        panels += _contour_panels(fixed, labels, transform, start, plane)
    figure = _page([*panels, jacobian], plane)
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


# -- what is shown -----------------------------------------------------------------------------------


def figure_plane(grid: ImageGrid, labels: LabelPair | None = None, start: CompositeTransform = _IDENTITY) -> ImageGrid:
    """The slice to show: whole voxels of `grid` across its thickest axis, as a grid of shape (1, rows, columns).

    Columns run towards the patient's left or back and rows towards the back or feet, as far as the axes allow.
    With labels, the slice where the fixed ones and the moving ones before registration differ in most voxels,
    which is where there is most to do, cropped to the surroundings of the labels; otherwise all of the middle one.
    """
    view = upright(grid)
    low, high = np.zeros(3), np.array(view.size) - 1
    number = view.size[2] // 2
    if labels is not None:
        fixed, moved = _common(labels, labels.fixed.array), _common(labels, _before(labels, start))
        marked, differing = (
            view.to_index(labels.fixed.grid.to_physical(np.argwhere(mask)[:, ::-1]))
            for mask in ((fixed != 0) | (moved != 0), fixed != moved)
        )
        if len(marked):
            margin = CROP_MARGIN / np.array(view.spacing)
            low = np.clip(np.rint(marked.min(0) - margin), 0, high)
            high = np.clip(np.rint(marked.max(0) + margin), 0, high)
            chosen = differing if len(differing) else marked
            number = int(np.bincount(np.rint(chosen[:, 2]).astype(int)).argmax())
    columns, rows, _ = (high - low + 1).astype(int)
    return view.lattice((low[0], low[1], number), (1, 1, 1), (int(columns), int(rows), 1))


def _before(labels: LabelPair, start: CompositeTransform) -> NDArray[Any]:
    """The moving labels before registration, on the grid of the fixed ones."""
    return resample(labels.moving.array, labels.moving.grid, start, labels.fixed.grid, "nearest")


def _common(labels: LabelPair, values: NDArray[Any]) -> NDArray[Any]:
    """`values` with 0 in place of labels that only one of the images has, and that cannot be compared."""
    return np.where(np.isin(values, labels.common), values, 0)


# -- panels ------------------------------------------------------------------------------------------


def _image_panels(
    fixed: Volume,
    moving: Volume,
    transform: CompositeTransform,
    start: CompositeTransform,
    titles: tuple[str, str],
    plane: ImageGrid,
) -> list[_Panel]:
    still, before, warped = (
        sample_slice(volume, by, plane) for volume, by in ((fixed, _IDENTITY), (moving, start), (moving, transform))
    )
    window = intensity_window(before)
    carried = carried_coordinates(transform, start, plane)

    def draw_fixed(axes: Axes) -> None:
        show_slice(axes, still, plane, intensity_window(still))
        draw_scale_bar(axes, plane)

    def draw_warped(axes: Axes) -> None:
        show_slice(axes, warped, plane, window)
        draw_grid(axes, carried, plane)

    grid = (
        f"Grid: {GRID_SPACING:g} mm on the moving image, carried along with it.\nMotion through the slice is not shown."
    )
    return [
        _Panel(titles[0], "", draw_fixed),
        _Panel(titles[1], "In its position before registration", lambda axes: show_slice(axes, before, plane, window)),
        _Panel("Moving, warped", grid, draw_warped),
    ]


def _contour_panels(
    fixed: Volume, labels: LabelPair, transform: CompositeTransform, start: CompositeTransform, plane: ImageGrid
) -> list[_Panel]:
    image, reference = sample_slice(fixed, _IDENTITY, plane), sample_slice(labels.fixed, _IDENTITY, plane, "nearest")

    def panel(title: str, name: str, by: CompositeTransform, note: str) -> _Panel:
        propagated = sample_slice(labels.moving, by, plane, "nearest")

        def draw(axes: Axes) -> None:
            show_slice(axes, image, plane, intensity_window(image))
            for values, color in ((reference, _FIXED_COLOR), (propagated, _MOVING_COLOR)):
                draw_outline(axes, values, labels.common, plane, color, 1.6)
            lines = [Line2D([], [], color=color, lw=1.6) for color in (_FIXED_COLOR, _MOVING_COLOR)]
            axes.legend(lines, ["fixed label", name], **_LEGEND)

        return _Panel(title, note, draw)

    return [
        panel("Labels before", "moving label", start, labels.notes[0]),
        panel("Labels after", "warped label", transform, labels.notes[1]),
    ]


def _jacobian_panel(transform: CompositeTransform, labels: LabelPair | None, plane: ImageGrid) -> _Panel:
    determinant = jacobian_map(transform, plane)[0]
    folded = jacobian_statistics(determinant).folding_count

    def draw(axes: Axes) -> None:
        axes.imshow(jacobian_colors(determinant), interpolation="nearest", extent=slice_extent(plane))
        if labels is not None:
            values = sample_slice(labels.fixed, _IDENTITY, plane, "nearest")
            draw_outline(axes, values, labels.common, plane, "black", 0.8)
        draw_jacobian_bar(axes)

    found = f"{folded} voxels" if folded else "none"
    outline = "" if labels is None else " Black: label."
    caption = f"Below 1: smaller in the moving image.{outline}\nFolding in this slice (bright red): {found}."
    return _Panel("Jacobian determinant", caption, draw)


_LEGEND: dict[str, Any] = {
    "loc": "upper right",
    "fontsize": 7.5,
    "framealpha": 0.6,
    "facecolor": "black",
    "edgecolor": "none",
    "labelcolor": "white",
    "handlelength": 1.4,
    "borderaxespad": 0.3,
}


# -- the page ----------------------------------------------------------------------------------------


def _page(panels: Sequence[_Panel], plane: ImageGrid) -> Figure:
    """Panels in rows of three, or of two where there are four; the last one has a colour bar to its right."""
    columns = 3 if len(panels) > 4 else 2
    rows = math.ceil(len(panels) / columns)
    left, right, bottom, top = slice_extent(plane)
    height = min(max(_CELL * (bottom - top) / (right - left), _CELL / 3), 1.4 * _CELL)
    cell = _TITLE + height + _CAPTION
    page = (2 * _BORDER + columns * _CELL + (columns - 1) * _GAP + _BAR, 2 * _BORDER + rows * cell)
    figure = Figure(figsize=page, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(panels):
        x = _BORDER + i % columns * (_CELL + _GAP)
        y = page[1] - _BORDER - i // columns * cell - _TITLE - height
        axes = figure.add_axes((x / page[0], y / page[1], _CELL / page[0], height / page[1]))
        panel.draw(axes)
        frame(axes, plane, 0.5)
        _write(figure, x, y + height + 0.07, panel.title, page, fontsize=11, fontweight="bold", va="bottom")
        caption = "\n".join(textwrap.fill(line, _CAPTION_LETTERS) for line in panel.caption.splitlines())
        _write(figure, x, y - 0.06, caption, page, fontsize=8, color="#404040", va="top")
    return figure


def _write(figure: Figure, x: float, y: float, text: str, page: tuple[float, float], **style: Any) -> None:
    """Text at a place of the page in inches."""
    figure.text(x / page[0], y / page[1], text, ha="left", linespacing=1.25, **style)
