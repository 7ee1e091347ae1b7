"""A displacement on every voxel, as other tools give it, as a transform like the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.transforms.spatial import Points


@dataclass(frozen=True, eq=False)
class DenseTransform:
    """x -> x + field(x), linear between voxel centres; no displacement outside the grid, as ITK.

    field: (z, y, x, 3) LPS mm on `grid`. Its derivative is taken by central differences at the voxel centres, one-sided
    at the border, and is linear between them.
    """

    field: NDArray[np.float32]
    grid: ImageGrid

    def __post_init__(self) -> None:
        if self.field.shape != (*self.grid.shape, 3):
            raise GeometryError(f"field of shape {self.field.shape} does not fit a grid of shape {self.grid.shape}")

    def apply(self, points: Points) -> Points:
        return points + self._sample(self.field.reshape(-1, 3), points)

    def jacobian(self, points: Points) -> Points:
        per_index = self._sample(self._derivatives.reshape(-1, 9), points).reshape(-1, 3, 3)
        return np.eye(3) + per_index @ self.grid.physical_to_index[:3, :3]

    @cached_property
    def _derivatives(self) -> NDArray[np.float32]:
        """(z, y, x, 3, 3): rows are components of the displacement, columns the index axes (x, y, z)."""
        along = [
            np.gradient(self.field, axis=axis) if self.field.shape[axis] > 1 else 0 * self.field for axis in range(3)
        ]
        return np.stack(along[::-1], -1).astype(np.float32)

    def _sample(self, values: NDArray[np.float32], points: Points) -> Points:
        """(N, C) of values (voxels, C)."""
        index = self.grid.to_index(points)
        size = np.array(self.grid.size)
        inside = self.grid.contains(points)
        index = np.clip(index, 0, size - 1)
        base = np.minimum(index.astype(np.intp), np.maximum(size - 2, 0))
        weight = (index - base).T
        step = np.minimum(size - 1, 1) * np.array([1, size[0], size[0] * size[1]])
        first = base @ np.array([1, size[0], size[0] * size[1]])
        total = np.zeros((len(points), values.shape[1]))
        for corner in np.ndindex(2, 2, 2):
            share = np.prod([w if c else 1 - w for c, w in zip(corner, weight, strict=True)], axis=0)
            total += values[first + step @ np.array(corner)] * share[:, None]
        return total * inside[:, None]
