"""Contours that were drawn on single DICOM images, as label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError
from dlir.geometry import ImageGrid

Polygon = NDArray[np.float64]


def read_polygon(path: Path) -> Polygon:
    """(N, 2): columns x and y of a contour, in pixels of its image, the first pixel's centre being 0.

    Raises ImageError for a file that is not at least three lines of two numbers.
    """
    try:
        points = np.array([[float(value) for value in line.split()] for line in path.read_text().splitlines()])
    except (OSError, ValueError) as error:
        raise ImageError(f"contour '{path}' cannot be read ({error}); fetch it again") from error
    if points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        raise ImageError(f"contour '{path}' is not a list of points x y; fetch it again")
    return points


def polygon_area(polygon: Polygon) -> float:
    """In pixels, whichever way round the points run."""
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def fill(polygon: Polygon, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, columns): whether the centre of each pixel lies inside, by the even-odd rule."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def slice_of(position: NDArray[np.float64], grid: ImageGrid) -> int:
    """Which slice of `grid` an image at `position` is. Raises ImageError where it is none."""
    x, y, z = grid.to_index(position)
    nearest = round(float(z))
    if max(abs(x), abs(y), abs(z - nearest)) > 0.5 or not 0 <= nearest < grid.shape[0]:
        raise ImageError(
            f"an image at {np.round(position, 1).tolist()} mm is no slice of its series; export the series again"
        )
    return nearest
