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

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.io.writing import replacing
from dlir.transforms.folding import jacobian_statistics
from dlir.transforms.inverse import invert_points
from dlir.transforms.resample import Mode, jacobian_map, resample
from dlir.transforms.spatial import CompositeTransform

# Distance between the lines of the deformation grid, in mm.
GRID_SPACING = 8.0
# Shown around the labels, in mm.
CROP_MARGIN = 55.0
FOLDING_COLOR = (1.0, 0.0, 0.0, 1.0)
JACOBIAN_RANGE = (0.0, 2.0)

# Teal for shrinking, brown for stretching, white for neither; nothing in it is near red.
_COLORMAP = "BrBG_r"
_FIXED_COLOR, _MOVING_COLOR, _GRID_COLOR = "#35c8ff", "#ffb000", "#ffe14d"
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
    view = _upright(grid)
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


def _upright(grid: ImageGrid) -> ImageGrid:
    """`grid` with its thickest axis last and the others as on a light box."""
    left, back, up = grid.direction_matrix
    thickest = max(range(3), key=lambda a: (grid.spacing[a], a))
    rest = [a for a in range(3) if a != thickest]
    # The axis along the body runs down the page; in an axial slice, the one from front to back.
    down = max(rest, key=lambda a: 2 * abs(up[a]) + abs(back[a]))
    across = rest[0] if rest[1] == down else rest[1]
    flips = (bool(left[across] + back[across] < 0), bool(back[down] - up[down] < 0), False)
    return grid.permuted((across, down, thickest), flips)


def carried_coordinates(transform: CompositeTransform, start: CompositeTransform, plane: ImageGrid) -> NDArray[Any]:
    """(rows, columns, 2): where in the moving image each point of the plane comes from, in mm across and down.

    Counted in the plane's own axes from its first voxel, with the moving image as `start` placed it. Lines of
    equal value are lines of a regular grid on the moving image, carried along with it onto the fixed one; each is
    the cut of the plane with a sheet at right angles to it, so what moves through the plane does not show.
    """
    points = plane.voxel_centers().reshape(-1, 3)
    origin = invert_points(start, transform.apply(points)).points
    in_mm = plane.to_index(origin)[:, :2] * plane.spacing[:2]
    coordinates: NDArray[Any] = in_mm.reshape(*plane.shape[1:], 2)
    return coordinates


def jacobian_colors(determinant: ArrayLike) -> NDArray[np.float64]:
    """(..., 4) RGBA of Jacobian determinants: diverging about 1, and bright red for folding and only for that.

    Folding is a determinant of 0 or less, or one that is not a number. Values above 2 look like 2.
    """
    values = np.asarray(determinant, float)
    shown = np.clip(np.nan_to_num(values), *JACOBIAN_RANGE)
    colors: NDArray[np.float64] = mpl.colormaps[_COLORMAP](Normalize(*JACOBIAN_RANGE)(shown))
    colors[~(np.isfinite(values) & (values > 0))] = FOLDING_COLOR
    return colors


def _slice(volume: Volume, transform: CompositeTransform, plane: ImageGrid, mode: Mode = "linear") -> NDArray[Any]:
    """(rows, columns): the values of `volume` at the plane's points moved by `transform`."""
    outside = float(volume.array.min()) if mode == "linear" else 0
    values: NDArray[Any] = resample(volume.array, volume.grid, transform, plane, mode, outside)[0]
    return values


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
        _slice(volume, by, plane) for volume, by in ((fixed, _IDENTITY), (moving, start), (moving, transform))
    )
    window = _window(before)
    carried = carried_coordinates(transform, start, plane)

    def draw_fixed(axes: Axes) -> None:
        _show(axes, still, plane, _window(still))
        _scale_bar(axes, plane)

    def draw_warped(axes: Axes) -> None:
        _show(axes, warped, plane, window)
        _draw_grid(axes, carried, plane)

    grid = (
        f"Grid: {GRID_SPACING:g} mm on the moving image, carried along with it.\nMotion through the slice is not shown."
    )
    return [
        _Panel(titles[0], "", draw_fixed),
        _Panel(titles[1], "In its position before registration", lambda axes: _show(axes, before, plane, window)),
        _Panel("Moving, warped", grid, draw_warped),
    ]


def _contour_panels(
    fixed: Volume, labels: LabelPair, transform: CompositeTransform, start: CompositeTransform, plane: ImageGrid
) -> list[_Panel]:
    image, reference = _slice(fixed, _IDENTITY, plane), _slice(labels.fixed, _IDENTITY, plane, "nearest")

    def panel(title: str, name: str, by: CompositeTransform, note: str) -> _Panel:
        propagated = _slice(labels.moving, by, plane, "nearest")

        def draw(axes: Axes) -> None:
            _show(axes, image, plane, _window(image))
            for values, color in ((reference, _FIXED_COLOR), (propagated, _MOVING_COLOR)):
                _outline(axes, values, labels.common, plane, color, 1.6)
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
        axes.imshow(jacobian_colors(determinant), interpolation="nearest", extent=_extent(plane))
        if labels is not None:
            values = _slice(labels.fixed, _IDENTITY, plane, "nearest")
            _outline(axes, values, labels.common, plane, "black", 0.8)
        _color_bar(axes)

    found = f"{folded} voxels" if folded else "none"
    outline = "" if labels is None else " Black: label."
    caption = f"Below 1: smaller in the moving image.{outline}\nFolding in this slice (bright red): {found}."
    return _Panel("Jacobian determinant", caption, draw)


# -- drawing -----------------------------------------------------------------------------------------

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


def _window(values: NDArray[Any]) -> tuple[float, float]:
    """Black and white: the minimum and the 99.5th percentile of a slice."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    return (low, high) if high > low else (low, low + 1)


def _extent(plane: ImageGrid) -> tuple[float, float, float, float]:
    """Borders of the plane in mm from its first voxel's centre: left, right, bottom, top."""
    (columns, rows, _), (dx, dy, _) = plane.size, plane.spacing
    return -dx / 2, (columns - 0.5) * dx, (rows - 0.5) * dy, -dy / 2


def _positions(plane: ImageGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of columns and of rows in mm from the first voxel."""
    across, down = (np.array(plane.spacing[axis] * np.arange(plane.size[axis]), np.float64) for axis in (0, 1))
    return across, down


def _show(axes: Axes, values: NDArray[Any], plane: ImageGrid, window: tuple[float, float]) -> None:
    axes.imshow(values, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bicubic", extent=_extent(plane))


def _draw_grid(axes: Axes, carried: NDArray[Any], plane: ImageGrid) -> None:
    if min(plane.size[:2]) < 2:
        return
    for axis in range(2):
        values = carried[..., axis]
        levels = _grid_lines(plane.size[axis] * plane.spacing[axis], float(values.min()), float(values.max()))
        levels -= plane.spacing[axis] / 2
        style = {"colors": _GRID_COLOR, "linewidths": 0.6, "linestyles": "solid", "alpha": 0.8}
        axes.contour(*_positions(plane), values, levels=levels, **style)


def _grid_lines(width: float, low: float, high: float) -> NDArray[np.float64]:
    """Positions in mm of grid lines from `low` to `high`: alike on both sides of a panel, none close to its border."""
    phases = (width / 2 % GRID_SPACING, (width / 2 + GRID_SPACING / 2) % GRID_SPACING)
    phase = max(phases, key=lambda p: min(p, GRID_SPACING - p))
    first, last = math.ceil((low - phase) / GRID_SPACING), math.floor((high - phase) / GRID_SPACING)
    return phase + GRID_SPACING * np.arange(first, last + 1, dtype=np.float64)


def _outline(
    axes: Axes, values: NDArray[Any], labels: Sequence[int], plane: ImageGrid, color: str, width: float
) -> None:
    """Borders of each label, closed where the panel cuts it."""
    across, down = (
        np.concatenate([[p[0] - s], p, [p[-1] + s]]) for p, s in zip(_positions(plane), plane.spacing[:2], strict=True)
    )
    for label in labels:
        mask = np.pad(values == label, 1).astype(float)
        if mask.any():
            axes.contour(across, down, mask, levels=[0.5], colors=color, linewidths=width)


def _scale_bar(axes: Axes, plane: ImageGrid) -> None:
    width, height = plane.size[0] * plane.spacing[0], plane.size[1] * plane.spacing[1]
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= width / 3), default=1)
    left, right, bottom, _ = _extent(plane)
    x, y = left + 0.05 * (right - left), bottom - 0.05 * height
    axes.add_patch(Rectangle((x, y - 0.012 * height), length, 0.012 * height, fc="white", ec="black", lw=0.5))
    outline = [withStroke(linewidth=1.5, foreground="black")]
    label = f"{length} mm"
    axes.text(
        x + length / 2,
        y - 0.025 * height,
        label,
        color="white",
        fontsize=8,
        ha="center",
        va="bottom",
        path_effects=outline,
    )


def _color_bar(axes: Axes) -> None:
    colormap = mpl.colormaps[_COLORMAP].with_extremes(under=FOLDING_COLOR)
    beside = axes.inset_axes((1.04, 0.0, 0.05, 1.0))
    figure = axes.get_figure()
    assert figure is not None  # the axes have been placed
    bar = figure.colorbar(
        ScalarMappable(Normalize(*JACOBIAN_RANGE), colormap), cax=beside, extend="both", ticks=[0, 0.5, 1, 1.5, 2]
    )
    bar.set_label("Jacobian determinant", fontsize=8)
    bar.ax.tick_params(labelsize=7.5, length=2.5)
    bar.ax.spines["outline"].set_linewidth(0.5)
    bar.ax.text(1.6, -0.055, "folding", transform=bar.ax.transAxes, fontsize=7.5, color=FOLDING_COLOR, va="center")


# -- the page ----------------------------------------------------------------------------------------


def _page(panels: Sequence[_Panel], plane: ImageGrid) -> Figure:
    """Panels in rows of three, or of two where there are four; the last one has a colour bar to its right."""
    columns = 3 if len(panels) > 4 else 2
    rows = math.ceil(len(panels) / columns)
    left, right, bottom, top = _extent(plane)
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
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#808080", linewidth=0.5)
        axes.set_aspect("equal")
        axes.set(xlim=(left, right), ylim=(bottom, top))
        _write(figure, x, y + height + 0.07, panel.title, page, fontsize=11, fontweight="bold", va="bottom")
        caption = "\n".join(textwrap.fill(line, _CAPTION_LETTERS) for line in panel.caption.splitlines())
        _write(figure, x, y - 0.06, caption, page, fontsize=8, color="#404040", va="top")
    return figure


def _write(figure: Figure, x: float, y: float, text: str, page: tuple[float, float], **style: Any) -> None:
    """Text at a place of the page in inches."""
    figure.text(x / page[0], y / page[1], text, ha="left", linespacing=1.25, **style)
