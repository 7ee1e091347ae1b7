"""Draws the module's icon and the pictures of the samples into DLIRRegistration/Resources/Icons.

python Resources/make_icons.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from dlir.io import read_image, read_label

ROOT = Path(__file__).resolve().parent
ICONS = ROOT.parent / "DLIRRegistration" / "Resources" / "Icons"
SAMPLE = ROOT / "SampleData"
DARK, GRID, FIXED, MOVING = "#14304d", "#9fc3e6", "#ffb02e", "#3ddbd9"
DPI = 100


def canvas(width: int, height: int, name: str) -> tuple[Axes, Path]:
    """Axes that fill a picture of `width` × `height` pixels, and the file it becomes."""
    figure = plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return axes, ICONS / name


def save(axes: Axes, path: Path) -> None:
    axes.figure.savefig(path, dpi=DPI, transparent=True, metadata={"Software": None})
    plt.close(axes.figure)


def bent(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A smooth deformation of the square from -1 to 1 that leaves its border nearly alone."""
    bump = 0.34 * np.exp(-2.2 * (x**2 + y**2))
    return x + bump * (0.5 + y), y + bump * (0.2 - 1.2 * x)


def contour(angle: NDArray[np.float64], radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An outline as of a ventricle."""
    r = radius * (1 + 0.10 * np.cos(2 * angle + 0.6) + 0.05 * np.cos(3 * angle))
    return r * np.cos(angle), r * np.sin(angle)


def draw_icon() -> None:
    """Two contours, one shifted, over a bent grid: few strokes, so that they hold at 24 pixels."""
    axes, path = canvas(128, 128, "DLIRRegistration.png")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    axes.add_patch(FancyBboxPatch((-0.86, -0.86), 1.72, 1.72, boxstyle="round,pad=0.2", fc=DARK, ec="none"))
    along = np.linspace(-0.98, 0.98, 80)
    for at in np.linspace(-0.72, 0.72, 4):
        for x, y in (bent(along, np.full_like(along, at)), bent(np.full_like(along, at), along)):
            axes.plot(x, y, color=GRID, lw=2.2, alpha=0.6, solid_capstyle="round")
    angle = np.linspace(0, 2 * np.pi, 200)
    x, y = contour(angle, 0.52)
    axes.plot(x - 0.15, y - 0.13, color=FIXED, lw=6.5)
    axes.plot(0.93 * x + 0.17, 0.93 * y + 0.15, color=MOVING, lw=6.5)
    save(axes, path)


def draw_samples() -> None:
    """The slice that moves most: once with both cavities, once at four times."""
    fixed, moving = (read_image(SAMPLE / f"{name}.nrrd") for name in ("fixed_ed", "moving_es"))
    cavities = [read_label(SAMPLE / f"{name}_label.nrrd", fixed, "label").array for name in ("fixed_ed", "moving_es")]
    slice_ = int(np.argmax((cavities[0] != cavities[1]).sum((1, 2))))
    rows, columns = (np.flatnonzero(cavities[0][slice_].any(axis)).mean() for axis in (1, 0))
    view = slice_, *(slice(round(middle) - 42, round(middle) + 42) for middle in (rows, columns))
    look = {"cmap": "gray", "vmin": 0, "vmax": np.percentile(fixed.array[view], 98), "interpolation": "bicubic"}

    axes, path = canvas(260, 280, "DLIRCardiacCine.png")
    axes.imshow(moving.array[view], aspect="auto", **look)
    for cavity, color in zip(cavities, (FIXED, MOVING), strict=True):
        axes.contour(cavity[view], levels=[0.5], colors=[color], linewidths=2.5)
    save(axes, path)

    axes, path = canvas(260, 280, "DLIRCardiacCineSequence.png")
    for k, (left, bottom) in zip((0, 2, 3, 5), ((0, 0.505), (0.505, 0.505), (0, 0), (0.505, 0)), strict=True):
        tile = axes.figure.add_axes((left, bottom, 0.495, 0.495))
        tile.axis("off")
        tile.imshow(read_image(f"{SAMPLE / 'cine.seq.nrrd'}#{k}").array[view], aspect="auto", **look)
    save(axes, path)


if __name__ == "__main__":
    ICONS.mkdir(parents=True, exist_ok=True)
    draw_icon()
    draw_samples()
