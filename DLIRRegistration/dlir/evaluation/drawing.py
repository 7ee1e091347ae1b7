"""What every picture of a registration is drawn with: slices, the deformation grid, the Jacobian's colours.

Everything is sampled from the images and the transform on one slice, a grid of shape (1, rows, columns), so a saved
transform gives the same picture as a fresh result. Drawn without a display and without matplotlib's global state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.metrics.folding import jacobian_statistics
from dlir.transforms.inverse import invert_points
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import Mode, resample
from dlir.transforms.spatial import CompositeTransform

# Distance between the lines of the deformation grid, in mm.
GRID_SPACING = 8.0
FOLDING_COLOR = (1.0, 0.0, 0.0, 1.0)
JACOBIAN_RANGE = (0.0, 2.0)

# Teal for shrinking, brown for stretching, white for neither; nothing in it is near red.
_COLORMAP = "BrBG_r"
_GRID_COLOR = "#ffe14d"


# -- what is shown -----------------------------------------------------------------------------------


def sample_slice(
    volume: Volume, transform: CompositeTransform, plane: ImageGrid, mode: Mode = "linear"
) -> NDArray[Any]:
    """(rows, columns): the values of `volume` at the plane's points moved by `transform`."""
    outside = float(volume.array.min()) if mode == "linear" else 0
    values: NDArray[Any] = resample(volume.array, volume.grid, transform, plane, mode, outside)[0]
    return values


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


# -- drawing -----------------------------------------------------------------------------------------


def intensity_window(values: NDArray[Any]) -> tuple[float, float]:
    """Black and white: the minimum and the 99.5th percentile of a slice."""
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    return (low, high) if high > low else (low, low + 1)


def slice_extent(plane: ImageGrid) -> tuple[float, float, float, float]:
    """Borders of the plane in mm from its first voxel's centre: left, right, bottom, top."""
    (columns, rows, _), (dx, dy, _) = plane.size, plane.spacing
    return -dx / 2, (columns - 0.5) * dx, (rows - 0.5) * dy, -dy / 2


def _positions(plane: ImageGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of columns and of rows in mm from the first voxel."""
    across, down = (np.array(plane.spacing[axis] * np.arange(plane.size[axis]), np.float64) for axis in (0, 1))
    return across, down


def show_slice(axes: Axes, values: NDArray[Any], plane: ImageGrid, window: tuple[float, float]) -> None:
    axes.imshow(
        values, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bicubic", extent=slice_extent(plane)
    )


def show_jacobian(axes: Axes, transform: CompositeTransform, plane: ImageGrid) -> int:
    """Draws the Jacobian determinant; returns how many voxels of the slice fold."""
    determinant = jacobian_map(transform, plane)[0]
    axes.imshow(jacobian_colors(determinant), interpolation="nearest", extent=slice_extent(plane))
    return jacobian_statistics(determinant).folding_count


def frame(axes: Axes, plane: ImageGrid, width: float) -> None:
    """All of the plane, true to scale, in a thin border without ticks. width: of the border, in points."""
    left, right, bottom, top = slice_extent(plane)
    axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top), aspect="equal")
    for spine in axes.spines.values():
        spine.set(color="#808080", linewidth=width)


def draw_grid(axes: Axes, carried: NDArray[Any], plane: ImageGrid) -> None:
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


def draw_outline(
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


def draw_scale_bar(axes: Axes, plane: ImageGrid) -> None:
    width, height = plane.size[0] * plane.spacing[0], plane.size[1] * plane.spacing[1]
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= width / 3), default=1)
    left, right, bottom, _ = slice_extent(plane)
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


def draw_jacobian_bar(axes: Axes) -> None:
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
    below: dict[str, Any] = {
        "textcoords": "offset points",
        "xycoords": "axes fraction",
        "va": "center",
        "annotation_clip": False,
    }
    bar.ax.annotate("folding", (1.6, 0), (0, -12), fontsize=7.5, color=FOLDING_COLOR, **below)
