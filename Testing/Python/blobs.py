"""Smooth synthetic images that are known everywhere in space, seen on any grid, moved by any known transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, make_grid, rotation

# Oblique, anisotropic, off-centre grids of unequal size about the same middle.
CENTER = np.array([40.0, -25.0, 60.0])


def about(center: Array, grid: ImageGrid) -> ImageGrid:
    """A grid moved so that its middle is at `center`, mm."""
    origin = np.array(grid.origin) + center - grid.center
    return ImageGrid(grid.shape, grid.spacing, tuple(origin), grid.direction)


FIXED = about(CENTER, make_grid((22, 26, 28), (2.3, 2.5, 3.1), angles=(0.3, -0.2, 0.4)))
MOVING = about(CENTER + np.array([4.0, -3.0, 5.0]), make_grid((26, 27, 24), (2.6, 2.4, 2.9), angles=(0.2, -0.1, 0.6)))


class Blobs:
    """Bright blobs of several sizes in a ball about `CENTER`: a brightness at any point in LPS mm."""

    def __init__(self, seed: int = 0, count: int = 150, radius: float = 45.0) -> None:
        rng = np.random.default_rng(seed)
        turned = rng.normal(size=(count, 3))
        distance = radius * rng.uniform(0, 1, (count, 1)) ** (1 / 3)
        self._middles = CENTER + turned / np.linalg.norm(turned, axis=1, keepdims=True) * distance
        self._widths, self._heights = rng.uniform(3.5, 8, count), rng.uniform(0.3, 1, count)

    def at(self, points: Array) -> Array:
        """(...), of points (..., 3) in LPS mm."""
        total = np.zeros(points.shape[:-1])
        for middle, width, height in zip(self._middles, self._widths, self._heights, strict=True):
            total += height * np.exp(-((points - middle) ** 2).sum(-1) / (2 * width**2))
        return total

    def seen(
        self,
        grid: ImageGrid,
        moved: Callable[[Array], Array] = lambda points: points,
        contrast: Callable[[Array], Array] = lambda values: values,
        name: str = "blobs",
    ) -> Volume:
        """On a grid: at each voxel x what lies at `moved(x)`, in another contrast."""
        points = moved(grid.voxel_centers().reshape(-1, 3))
        return Volume((100 * contrast(self.at(points))).reshape(grid.shape).astype(np.float32), grid, name)


def noise(grid: ImageGrid, seed: int) -> Volume:
    """An image of nothing but noise."""
    values: NDArray[np.float32] = np.random.default_rng(seed).normal(100, 20, grid.shape).astype(np.float32)
    return Volume(values, grid, f"noise {seed}")


def placed(
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    center: Array = CENTER,
) -> CompositeTransform:
    """Stretched, turned (radians), then shifted (mm), about a centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(angles) @ np.diag(scale)
    matrix[:3, 3] = center + shift - matrix[:3, :3] @ center
    return CompositeTransform((AffineTransform(matrix),))


def inverse_of(transform: CompositeTransform) -> CompositeTransform:
    """Of one that is linear."""
    return CompositeTransform((AffineTransform(np.asarray(np.linalg.inv(transform.matrix), float)),))


def pair_by(
    known: CompositeTransform,
    fixed: ImageGrid = FIXED,
    moving: ImageGrid = MOVING,
    contrast: Callable[[Array], Array] = lambda values: values,
    seed: int = 0,
) -> tuple[Volume, Volume]:
    """A fixed and a moving image that `known` (linear, fixed point -> moving point, LPS mm) brings into register."""
    blobs = Blobs(seed)
    return (
        blobs.seen(fixed, name="fixed"),
        blobs.seen(moving, inverse_of(known).apply, contrast, "moving"),
    )


def apart(a: CompositeTransform, b: CompositeTransform, radius: float = 25.0) -> float:
    """The largest distance in mm between two maps over points about `CENTER`."""
    points = CENTER + np.random.default_rng(9).uniform(-radius, radius, (200, 3)) / np.sqrt(3)
    return float(np.linalg.norm(a.apply(points) - b.apply(points), axis=1).max())
