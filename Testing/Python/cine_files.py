"""A tiny cine for tests: a body that becomes smaller and larger again, with a label on each phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.io.sequence_writing import sequence_writer
from dlir.io.writing import write_image
from grids import make_grid

GRID = make_grid((10, 18, 20), (2.4, 2.2, 3.0), (30, -80, 55), (0.3, -0.5, 0.8))
# Of the body, phase by phase: end-diastole is phase 1, end-systole phase 3.
SIZES = (0.96, 1.0, 0.9, 0.8)
SECONDS = (0.0, 0.05, 0.1, 0.15)

Images = NDArray[np.int16]


def images(sizes: Sequence[float] = SIZES) -> Images:
    """(t, z, y, x)."""
    return np.round(np.stack([_body(size) for size in sizes])).astype(np.int16)


def labels(sizes: Sequence[float] = SIZES) -> NDArray[np.uint8]:
    """(t, z, y, x): 1 the inner part, 2 what is around it."""
    values = np.stack([_body(size) for size in sizes])
    return (values > 60).astype(np.uint8) + (values <= 180).astype(np.uint8) * (values > 60)


def _body(size: float) -> NDArray[np.float64]:
    points = (GRID.voxel_centers() - GRID.center) / size
    texture = np.sin(points[..., 0] / 5) * np.cos(points[..., 1] / 6) + np.sin(points[..., 2] / 9)
    values: NDArray[np.float64] = np.exp(-((points / 14) ** 2).sum(-1)) * (300 + 60 * texture)
    return values


def write_sequence(
    path: Path,
    arrays: NDArray[np.generic],
    grid: ImageGrid = GRID,
    seconds: tuple[float, ...] | None = SECONDS,
) -> Path:
    """A 4D file, by the ending of its name."""
    with sequence_writer(path, len(arrays), grid, arrays.dtype, seconds) as add:
        for array in arrays:
            add(array)
    return path


def write_label(path: Path, array: NDArray[np.generic]) -> Path:
    write_image(path, array, GRID)
    return path


def read_4d(path: Path | str) -> NDArray[np.generic]:
    """(t, z, y, x), as SimpleITK reads it."""
    array: NDArray[np.generic] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return np.moveaxis(array, -1, 0) if str(path).endswith(".nrrd") else array
