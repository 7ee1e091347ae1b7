"""Draws the pictures of docs/how-it-works.md into docs/pictures, from what the code computes.

python docs/site/pictures.py [FOLDER]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import NDArray
from PIL import Image

import dlir
from dlir.evaluation.drawing import (
    carried_coordinates,
    draw_grid,
    draw_outline,
    draw_scale_bar,
    frame,
    intensity_window,
    sample_slice,
    show_slice,
    slice_extent,
)
from dlir.evaluation.figures import LabelPair, figure_plane
from dlir.io import read_image, read_label
from dlir.registration.oneshot import Registration
from dlir.transforms import INJECTIVITY_BOUND
from dlir.transforms.bspline import basis, control_positions, evaluate_lattice, pad_coefficients
from dlir.transforms.spatial import BSplineTransform, CompositeTransform

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
# Of a coefficient, in parts of the grid spacing.
BOUND = INJECTIVITY_BOUND
COLORS = 192
_BLUE, _ORANGE, _GRAY = "#0072b2", "#d55e00", "#606060"
_IDENTITY = CompositeTransform(())


def main(folder: Path = FOLDER) -> list[Path]:
    """Draw them all; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"chain.png": chain(), "control-points.png": control_points(), "stages.png": stages()}
    for name, figure in drawn.items():
        _save(figure, folder / name)
    return [folder / name for name in drawn]


def _save(figure: Figure, path: Path) -> None:
    """With few colours, because what is committed is to stay small."""
    whole = io.BytesIO()
    figure.savefig(whole, dpi=105, facecolor="white", metadata={"Software": None})
    with Image.open(whole) as image:
        image.convert("RGB").quantize(COLORS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


# -- the chain of stages -----------------------------------------------------------------------------


def chain() -> Figure:
    """What goes into each stage and comes out, in the manner of Figure 4, for an affine and two B-spline stages."""
    figure = _figure(9.6, 3.9)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 9.6), ylim=(0, 3.9))
    axes.axis("off")
    _box(axes, 0.2, 2.95, 1.3, "fixed image", "#e8e8e8")
    _box(axes, 0.2, 0.55, 1.3, "moving image", "#e8e8e8")
    names = ("affine stage\n(AIR)", "B-spline stage\n(DIR), coarse", "B-spline stage\n(DIR), fine")
    outputs = ("12 numbers", "control points", "control points")
    maps = ("$T_1$", "$T_2(x) = T_1(x + d_2(x))$", "$T_3(x) = T_2(x + d_3(x))$")
    for k, (name, output, found) in enumerate(zip(names, outputs, maps, strict=True)):
        left = 2.0 + 2.55 * k
        _box(axes, left, 1.65, 1.55, name, "#cfe4f3")
        _arrow(axes, (left + 0.5, 3.2), (left + 0.5, 2.43))
        _box(axes, left + 0.75, 0.55, 1.6, f"moving image,\nwarped once by\n$T_{k + 1}$", "#fbe3d2", 0.75)
        _arrow(axes, (left + 1.3, 1.65), (left + 1.3, 1.3))
        axes.text(left + 1.37, 1.48, output, fontsize=8, color=_GRAY, va="center")
        axes.text(left + 1.55, 0.28, found, fontsize=9, ha="center", color=_ORANGE)
        _arrow(axes, (left + (-0.5 if k == 0 else -0.2), 0.92), (left + 0.3, 1.65))
    axes.plot([1.5, 7.6], [3.2, 3.2], color="black", lw=1.2)
    axes.text(4.4, 3.33, "every stage sees the fixed image", fontsize=8.5, color=_GRAY, ha="center")
    return figure


def _box(axes: Axes, x: float, y: float, width: float, text: str, color: str, height: float = 0.75) -> None:
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": color, "edgecolor": _GRAY, "linewidth": 0.8}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **style))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, lw=1.2, color="black", shrinkB=0))


# -- control points ----------------------------------------------------------------------------------


def control_points() -> Figure:
    """A displacement along one axis as the sum of its B-splines, and the same in a plane, which does not fold."""
    figure = _figure(9.6, 3.9)
    _one_axis(figure.add_axes((0.06, 0.14, 0.5, 0.72)))
    _plane(figure.add_axes((0.62, 0.08, 0.36, 0.8)))
    return figure


def _one_axis(axes: Axes, spacing: int = 8, count: int = 5) -> None:
    """Control points in the middle of the cells of `spacing` voxels that the network looks at."""
    rng = np.random.default_rng(4)
    coefficients = rng.uniform(-BOUND, BOUND, count) * spacing
    padded = pad_coefficients(torch.from_numpy(coefficients).reshape(1, 1, 1, 1, count))
    voxels = torch.linspace(-0.5, spacing * count - 0.5, 400, dtype=torch.float64)
    zero = control_positions(torch.zeros(1, dtype=torch.float64), 1)
    field = evaluate_lattice(padded, (zero, zero, control_positions(voxels, spacing)))[0, 0, 0, 0]
    for cell in range(count):
        axes.axvspan(spacing * cell - 0.5, spacing * (cell + 1) - 0.5, color="#f0f0f0" if cell % 2 else "white", lw=0)
    places = spacing * np.arange(-1, count + 1) + (spacing - 1) / 2
    ends = np.concatenate([coefficients[:1], coefficients, coefficients[-1:]])
    for place, value in zip(places, ends, strict=True):
        axes.plot(voxels, value * basis((voxels - place) / spacing), color=_BLUE, lw=0.9, alpha=0.7)
    axes.plot(voxels, field, color=_ORANGE, lw=2.2, label="displacement: their sum, at every voxel")
    axes.plot([], [], color=_BLUE, lw=0.9, label="a cubic B-spline for each control point")
    axes.plot(places[1:-1], coefficients, "o", color=_BLUE, label="control points: what the network says")
    for bound in (-BOUND, BOUND):
        axes.axhline(bound * spacing, color=_GRAY, lw=0.8, ls="--")
    axes.text(0.2, BOUND * spacing + 0.12, f"bound: {BOUND} of the grid spacing", fontsize=8, color=_GRAY)
    axes.set(xlim=(-0.5, spacing * count - 0.5), ylim=(-4.1, 5.9), xlabel="voxel", ylabel="displacement (voxels)")
    axes.set_title("Along one axis, control points every 8 voxels", fontsize=10)
    axes.legend(loc="upper right", fontsize=7.5, framealpha=1)


def _plane(axes: Axes, spacing: int = 8, count: int = 5) -> None:
    """Control points moved at random, by as much as the bound allows, and lines of voxels as they are carried along."""
    rng = np.random.default_rng(1)
    moved = rng.choice([-BOUND, BOUND], (3, 1, count, count)) * spacing
    padded = pad_coefficients(torch.from_numpy(moved)[None])
    across = torch.linspace(-0.5, spacing * count - 0.5, 161, dtype=torch.float64)
    positions = (control_positions(torch.zeros(1, dtype=torch.float64), 1), *(control_positions(across, spacing),) * 2)
    field = evaluate_lattice(padded, positions)[0, :2, 0].numpy()
    x, y = np.meshgrid(across, across)
    for k in range(0, 161, 8):
        axes.plot(x[k] + field[0, k], y[k] + field[1, k], color=_ORANGE, lw=0.8)
        axes.plot(x[:, k] + field[0, :, k], y[:, k] + field[1, :, k], color=_ORANGE, lw=0.8)
    places = spacing * np.arange(count) + (spacing - 1) / 2
    for i, py in enumerate(places):
        for j, px in enumerate(places):
            corner = (px - BOUND * spacing, py - BOUND * spacing)
            axes.add_patch(Rectangle(corner, *[2 * BOUND * spacing] * 2, fill=False, ec=_GRAY, lw=0.6, ls="--"))
            axes.annotate("", (px + moved[0, 0, i, j], py + moved[1, 0, i, j]), (px, py), arrowprops=_SMALL)
    axes.plot(*np.meshgrid(places, places), "o", color=_BLUE, ms=3.5, ls="")
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title("In a plane, at the bound: lines never cross", fontsize=10)


_SMALL: dict[str, Any] = {"arrowstyle": "-|>", "color": _BLUE, "lw": 1.0, "shrinkA": 0, "shrinkB": 0}


# -- a pair through the stages -----------------------------------------------------------------------


def stages() -> Figure:
    """The sample pair as the chain of `cardiac-cine` warps it: with the grid, and as it differs from the fixed."""
    pair = dlir.sample_pair()
    fixed, moving = (read_image(pair[role], role) for role in ("fixed", "moving"))
    labels = LabelPair(
        *(
            read_label(pair[f"{role}_label"], volume.grid, role)
            for role, volume in (("fixed", fixed), ("moving", moving))
        )
    )
    transforms, titles = _up_to_each_stage(fixed, moving)
    plane = figure_plane(fixed.grid, labels)
    still = sample_slice(fixed, _IDENTITY, plane).astype(float)
    drawn = sample_slice(labels.fixed, _IDENTITY, plane, "nearest")
    most = float(np.percentile(np.abs(sample_slice(moving, transforms[0], plane) - still), 99.5))
    left, right, bottom, top = slice_extent(plane)
    width = 9.6 / (len(transforms) + 1)
    height = width * (bottom - top) / (right - left)
    figure = _figure(9.6, 2 * height + 0.5)
    share = height / (2 * height + 0.5)
    for column, (transform, title) in enumerate(zip([_IDENTITY, *transforms], ["fixed", *titles], strict=True)):
        upper, lower = (
            figure.add_axes(((column + 0.01) * width / 9.6, place, 0.98 * width / 9.6, share - 0.01))
            for place in (share + 0.01, 0.005)
        )
        image = still if column == 0 else sample_slice(moving, transform, plane).astype(float)
        show_slice(upper, image, plane, intensity_window(still))
        alike = "" if column == 0 else f"\ncorrelation {np.corrcoef(image.ravel(), still.ravel())[0, 1]:.3f}"
        upper.set_title(title + alike, fontsize=8.5)
        if column == 0:
            draw_scale_bar(upper, plane)
            _outlines(lower, still, drawn, labels, transforms, plane)
        else:
            draw_grid(upper, carried_coordinates(transform, transforms[0], plane), plane)
            _difference(lower, image - still, most, plane)
        for axes in (upper, lower):
            frame(axes, plane, 0.5)
    return figure


def _up_to_each_stage(fixed: dlir.Volume, moving: dlir.Volume) -> tuple[list[CompositeTransform], list[str]]:
    """The start, and the chain as far as each stage, with what to call them."""
    model = dlir.load_model("cardiac-cine").network
    parts = Registration(model, torch.device("cpu"))(fixed, moving).transform.parts
    splines = [part for part in parts if isinstance(part, BSplineTransform)]
    transforms, titles = [CompositeTransform(parts[len(splines) :])], ["moving, as it was"]
    for k in range(1, len(splines) + 1):
        transforms.append(CompositeTransform(parts[len(splines) - k :]))
        titles.append(f"stage {k}: {splines[-k].grid.spacing[0]:.0f} mm grid")
    return transforms, titles


def _outlines(
    axes: Axes,
    image: NDArray[Any],
    fixed: NDArray[Any],
    labels: LabelPair,
    transforms: list[CompositeTransform],
    plane: dlir.ImageGrid,
) -> None:
    """The fixed label, and the moving one before and after."""
    show_slice(axes, image, plane, intensity_window(image))
    drawn = ((fixed, "#35c8ff"), *((transforms[k], color) for k, color in ((0, "#ff6a3d"), (-1, "#ffe14d"))))
    for what, color in drawn:
        values = sample_slice(labels.moving, what, plane, "nearest") if isinstance(what, CompositeTransform) else what
        draw_outline(axes, values, labels.common, plane, color, 1.2)
    axes.text(0.03, 0.03, "label: fixed,", color="#35c8ff", fontsize=7, transform=axes.transAxes)
    axes.text(0.38, 0.03, "moving,", color="#ff6a3d", fontsize=7, transform=axes.transAxes)
    axes.text(0.6, 0.03, "warped", color="#ffe14d", fontsize=7, transform=axes.transAxes)


def _difference(axes: Axes, values: NDArray[Any], most: float, plane: dlir.ImageGrid) -> None:
    axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, extent=slice_extent(plane))


if __name__ == "__main__":
    print(*main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER), sep="\n")
