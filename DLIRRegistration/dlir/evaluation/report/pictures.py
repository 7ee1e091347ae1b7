"""Pictures of example pairs: every method side by side (Figures 6 and 12), and stage by stage (Figure 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlir.evaluation.drawing import (
    carried_coordinates,
    draw_grid,
    draw_jacobian_bar,
    draw_scale_bar,
    intensity_window,
    jacobian_colors,
    sample_slice,
    show_slice,
    slice_extent,
)
from dlir.evaluation.figures import LabelPair, figure_plane, upright
from dlir.evaluation.report.style import new_figure
from dlir.evaluation.scoring import LoadedPair
from dlir.geometry import ImageGrid
from dlir.metrics.folding import jacobian_statistics
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.spatial import CompositeTransform

_CELL = 1.75
# Differences beyond this share of the intensity range look alike.
_LARGEST_DIFFERENCE = 0.5
_DIFFERENCE_COLORS = "magma"
_IDENTITY = CompositeTransform(())


def method_panels(loaded: LoadedPair, transforms: Mapping[str, CompositeTransform]) -> Figure:
    """Fixed and moving image on the left; then, per method, the warped image with its grid above its Jacobian.

    transforms: by method. The slice is the one where the labels differ most before registration, else the middle.
    """
    plane = example_plane(loaded)
    fixed, moving = loaded.fixed.image, loaded.moving.image
    still = sample_slice(fixed, _IDENTITY, plane)
    before = sample_slice(moving, loaded.start, plane)
    window = intensity_window(before)
    figure = new_figure(*_page(plane, 1 + len(transforms), 2))
    grid = figure.subplots(2, 1 + len(transforms), squeeze=False)
    _show(grid[0, 0], still, plane, "Fixed", intensity_window(still))
    _show(grid[1, 0], before, plane, "Moving", window)
    draw_scale_bar(grid[0, 0], plane)
    for (above, below), (name, transform) in zip(grid.T[1:], transforms.items(), strict=True):
        _show(above, sample_slice(moving, transform, plane), plane, name, window)
        draw_grid(above, carried_coordinates(transform, loaded.start, plane), plane)
        determinant = jacobian_map(transform, plane)[0]
        folded = jacobian_statistics(determinant).folding_count
        below.imshow(jacobian_colors(determinant), interpolation="nearest", extent=slice_extent(plane))
        _frame(below, plane, f"folding: {folded} voxels" if folded else "no folding")
    draw_jacobian_bar(grid[1, -1])
    return figure


def stage_panels(
    loaded: LoadedPair, stages: Mapping[str, CompositeTransform], intensities: tuple[float, float]
) -> Figure:
    """Moving, warped by each stage, fixed; axis by axis of the fixed image, with the difference to it below each.

    stages: the transform up to each stage, by its name. intensities: those that become 0 and 1.
    """
    fixed, moving = loaded.fixed.image, loaded.moving.image
    shown = {"Moving": loaded.start, **stages}
    planes = _three_planes(loaded)
    width, height = _page(planes[0], len(shown) + 1, 1)
    shares = [_aspect(plane) for plane in planes for _ in range(2)]
    figure = new_figure(width + 0.6, (height - 0.3) * sum(shares) / shares[0] + 0.4)
    grid = figure.subplots(6, len(shown) + 1, squeeze=False, height_ratios=shares)
    low, high = intensities

    def scaled(values: NDArray[Any]) -> NDArray[Any]:
        return np.clip((values - low) / (high - low), 0, 1)

    for row, plane in enumerate(planes):
        still = scaled(sample_slice(fixed, _IDENTITY, plane))
        for column, (name, transform) in enumerate(shown.items()):
            values = scaled(sample_slice(moving, transform, plane))
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            _show(above, values, plane, name if row == 0 else "", (0, 1))
            difference = np.abs(values - still)
            below.imshow(
                difference, cmap=_DIFFERENCE_COLORS, vmin=0, vmax=_LARGEST_DIFFERENCE, extent=slice_extent(plane)
            )
            _frame(below, plane, f"mean {difference.mean():.3f}")
        _show(grid[2 * row, -1], still, plane, "Fixed" if row == 0 else "", (0, 1))
        grid[2 * row + 1, -1].set_visible(False)
    mappable = ScalarMappable(Normalize(0, _LARGEST_DIFFERENCE), _DIFFERENCE_COLORS)
    bar = figure.colorbar(mappable, ax=grid[:, -1], shrink=0.5, extend="max")
    bar.set_label("absolute difference (share of the intensity range)", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    return figure


def example_plane(loaded: LoadedPair) -> ImageGrid:
    """The slice that shows a pair best, see `figure_plane`."""
    fixed, moving = loaded.fixed.label, loaded.moving.label
    labels = None if fixed is None or moving is None else LabelPair(fixed, moving)
    return figure_plane(loaded.fixed.image.grid, labels, loaded.start)


def _three_planes(loaded: LoadedPair) -> list[ImageGrid]:
    """The middle of the fixed image across each of its axes; of the labels, where there are some."""
    grid = loaded.fixed.image.grid
    middle = np.array(grid.size) // 2
    if loaded.fixed.label is not None and loaded.structures:
        marked = np.argwhere(np.isin(loaded.fixed.label.array, list(loaded.structures)))[:, ::-1]
        middle = np.rint(marked.mean(0)).astype(int)
    planes = []
    for axis in (2, 1, 0):
        view = upright(grid, axis)
        number = round(float(view.to_index(grid.to_physical(middle))[2]))
        planes.append(view.lattice((0, 0, number), (1, 1, 1), (*view.size[:2], 1)))
    return planes


def _aspect(plane: ImageGrid) -> float:
    return plane.size[1] * plane.spacing[1] / (plane.size[0] * plane.spacing[0])


def _page(plane: ImageGrid, columns: int, rows: int) -> tuple[float, float]:
    """Inches."""
    return columns * _CELL + 0.7, rows * (_CELL * min(_aspect(plane), 1.6) + 0.25) + 0.1


def _show(axes: Axes, values: NDArray[Any], plane: ImageGrid, title: str, window: tuple[float, float]) -> None:
    show_slice(axes, values, plane, window)
    _frame(axes, plane, title)


def _frame(axes: Axes, plane: ImageGrid, title: str) -> None:
    left, right, bottom, top = slice_extent(plane)
    axes.set(xticks=[], yticks=[], xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_title(title, fontsize=7.5, pad=2)
    for spine in axes.spines.values():
        spine.set(color="#808080", linewidth=0.4)


def stages_of(
    transform: CompositeTransform, start: CompositeTransform, names: Sequence[str]
) -> dict[str, CompositeTransform]:
    """The transform up to each of a model's stages, out of the whole chain: each stage comes before those it follows.

    Empty where the chain does not have one part per stage, as when an affine stage did nothing at all.
    """
    parts = transform.parts[: len(transform.parts) - len(start.parts)]
    if len(parts) != len(names):
        return {}
    return {name: CompositeTransform((*parts[len(parts) - 1 - k :], *start.parts)) for k, name in enumerate(names)}
