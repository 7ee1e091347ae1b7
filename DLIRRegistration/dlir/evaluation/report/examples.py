"""Example pairs of a report, the worst, the median and the best, with pictures of them.

Pictures show every method side by side (Figures 6 and 12), and one method stage by stage (Figure 11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlir.errors import DLIRError
from dlir.evaluation.drawing import (
    carried_coordinates,
    draw_grid,
    draw_jacobian_bar,
    draw_scale_bar,
    frame,
    intensity_window,
    sample_slice,
    show_jacobian,
    show_slice,
    slice_extent,
)
from dlir.evaluation.figures import LabelPair, figure_plane
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.report.charts import new_figure, picture_uri
from dlir.evaluation.scoring import LoadedPair, load_pair, load_scan
from dlir.evaluation.study import Evaluated
from dlir.evaluation.summary import measures
from dlir.geometry import ImageGrid, upright
from dlir.io.page import Page
from dlir.io.reading import Volume
from dlir.io.source import without_folders
from dlir.model.preprocessing import intensity_range
from dlir.model.spec import Preprocessing
from dlir.transforms.files import load_transform
from dlir.transforms.spatial import CompositeTransform

# Methods side by side in one picture: the last ones of the list.
_SIDE_BY_SIDE = 6
_CELL = 1.75
# So many percent of a figure's differences lie on its scale of colours; those above look alike.
_SHOWN_PERCENT = 99.5
_DIFFERENCE_COLORS = "magma"
_IDENTITY = CompositeTransform(())


def add_examples(page: Page, evaluated: Evaluated) -> None:
    """Pictures of the pairs on which the last method does worst, in the middle, and best."""
    table = evaluated.shared
    shown = table[table["seconds"].notna() & table["transform"].map(evaluated.study.has_transform)]
    if shown.empty:
        return
    last = shown["method"].iloc[-1]
    ranked = _ranked(shown[shown["method"] == last])
    middle = ranked[len(ranked) // 2]
    places = {ranked[0]: "worst", ranked[-1]: "best", middle: "median"}
    page.section("Examples", f"The pairs on which {last} does worst, in the middle, and best.")
    for name in dict.fromkeys((ranked[0], middle, ranked[-1])):
        try:
            _add_example(page, evaluated, shown[shown["pair"] == name], places[name], stages=name == middle)
        except DLIRError as error:
            page.problems([f"{name} cannot be shown: {without_folders(str(error))}"])


def _ranked(table: pd.DataFrame) -> list[str]:
    """Names of the pairs from bad to good: by mean Dice, else by landmarks, else by the spread of the Jacobian."""
    by_key = {m.key: m for m in measures(table)}
    chosen = [m for key, m in by_key.items() if key.startswith("dice_")]
    chosen = chosen or [by_key.get("tre_mean") or by_key["jacobian_sd"]]
    quality = chosen[0].better * table[[m.key for m in chosen]].mean(axis=1)
    return list(table["pair"][quality.sort_values(kind="stable", na_position="first").index])


def _add_example(page: Page, evaluated: Evaluated, lines: pd.DataFrame, which: str, *, stages: bool) -> None:
    """lines: of one pair. Raises the errors of reading the pair and its transforms."""
    pair = next(pair for pair in evaluated.pairs if pair.name == lines["pair"].iloc[0])
    scans = load_scan(pair.fixed), load_scan(pair.moving)
    loaded = load_pair(pair, *scans, evaluated.data.labels, evaluated.study.mode)
    files = lines.tail(_SIDE_BY_SIDE).set_index("method")["transform"].map(evaluated.study.transform_file)
    transforms = {str(method): load_transform(file) for method, file in files.items()}
    page.figure(
        picture_uri(method_panels(loaded, transforms)),
        f"{pair.name} ({which}; n = 1 pair): fixed and moving image, then for each method the warped image with its "
        "deformation grid (8 mm on the moving image) above the Jacobian determinant, folding in bright red. As Figures "
        "6 and 12 of the paper.",
    )
    if stages:
        _add_stages(page, evaluated, loaded, transforms)


def _add_stages(
    page: Page, evaluated: Evaluated, loaded: LoadedPair, transforms: Mapping[str, CompositeTransform]
) -> None:
    """The model with the most stages, one by one."""
    models = [m for m in evaluated.methods if isinstance(m, NetworkMethod) and m.name in transforms]
    method = max(models, key=lambda m: len(m.stages), default=None)
    steps = stages_of(transforms[method.name], loaded.start, method.stages) if method is not None else {}
    if method is None or len(steps) < 2:
        return
    page.figure(
        picture_uri(stage_panels(loaded, steps, method.spec.preprocessing)),
        f"{loaded.pair.name}, {method.name}, stage by stage (n = 1 pair): three slices at right angles, and below each "
        "the absolute difference to the fixed image, each image as a share of its own intensity range (no unit), all "
        "in the colours of one scale. As Figure 11 of the paper.",
    )


# -- pictures ----------------------------------------------------------------------------------------


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
        folded = show_jacobian(below, transform, plane)
        _frame(below, plane, f"folding: {folded} voxels" if folded else "no folding")
    draw_jacobian_bar(grid[1, -1])
    return figure


def stage_panels(loaded: LoadedPair, stages: Mapping[str, CompositeTransform], preprocessing: Preprocessing) -> Figure:
    """Moving, warped by each stage, fixed; axis by axis of the fixed image, with the difference to it below each.

    stages: the transform up to each stage, by its name. preprocessing: what becomes 0 and 1 in each image, whose
    scales may differ. One scale of colours serves all differences, up to what hardly any of them exceeds; what comes
    from outside of the moving image has none.
    """
    fixed, moving = loaded.fixed.image, loaded.moving.image
    shown = {"Moving": loaded.start, **stages}
    planes = _three_planes(loaded)
    width, height = _page(planes[0], len(shown) + 1, 1)
    shares = [_aspect(plane) for plane in planes for _ in range(2)]
    figure = new_figure(width + 0.6, (height - 0.3) * sum(shares) / shares[0] + 0.4)
    grid = figure.subplots(6, len(shown) + 1, squeeze=False, height_ratios=shares)
    ranges = [intensity_range(image.array, preprocessing) for image in (fixed, moving)]
    still = [_scaled(sample_slice(fixed, _IDENTITY, plane), ranges[0]) for plane in planes]
    moved = [
        [_scaled(sample_slice(moving, transform, plane), ranges[1]) for transform in shown.values()] for plane in planes
    ]
    differences = [
        [
            np.where(_within(moving, transform, plane), np.abs(own - reference), np.nan)
            for own, transform in zip(row, shown.values(), strict=True)
        ]
        for row, reference, plane in zip(moved, still, planes, strict=True)
    ]
    colors = ScalarMappable(Normalize(0, _largest([own for row in differences for own in row])), _DIFFERENCE_COLORS)
    for row, plane in enumerate(planes):
        for column, name in enumerate(shown):
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
            _show(above, moved[row][column], plane, name if row == 0 else "", (0, 1))
            below.imshow(differences[row][column], cmap=colors.cmap, norm=colors.norm, extent=slice_extent(plane))
            _frame(below, plane, _mean(differences[row][column]))
        _show(grid[2 * row, -1], still[row], plane, "Fixed" if row == 0 else "", (0, 1))
        grid[2 * row + 1, -1].set_visible(False)
    bar = figure.colorbar(colors, ax=grid[:, -1], shrink=0.5, extend="max")
    bar.set_label("absolute difference (share of the intensity range)", fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    return figure


def _scaled(values: NDArray[Any], window: tuple[float, float]) -> NDArray[Any]:
    return np.clip((values - window[0]) / (window[1] - window[0] or 1.0), 0, 1)


def _largest(differences: Sequence[NDArray[Any]]) -> float:
    """The upper end of a scale for all of them, which a few voxels of any image do not set."""
    every = np.concatenate([own[np.isfinite(own)] for own in differences])
    found = float(np.percentile(every, _SHOWN_PERCENT)) if every.size else 0.0
    return found if found > 0 else 1.0


def _mean(difference: NDArray[Any]) -> str:
    found = difference[np.isfinite(difference)]
    return f"mean {found.mean():.3f}" if found.size else "nothing in common"


def _within(moving: Volume, transform: CompositeTransform, plane: ImageGrid) -> NDArray[np.bool_]:
    """(rows, columns): where the plane's points come from inside the moving image, which alone can be compared."""
    inside: NDArray[np.bool_] = moving.grid.contains(transform.apply(plane.voxel_centers().reshape(-1, 3)))
    return inside.reshape(plane.shape[1:])


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
    frame(axes, plane, 0.4)
    axes.set_title(title, fontsize=7.5, pad=2)


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
