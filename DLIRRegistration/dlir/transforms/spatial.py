"""Transforms of points in LPS millimetres, in the resampling direction: fixed point -> moving point.

Exact evaluation in double precision, for points, files and tests; `dlir.transforms.dense` is the fast way
to evaluate a chain on a whole grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.errors import GeometryError, TransformError
from dlir.geometry import ImageGrid, transform_points
from dlir.transforms.bspline import evaluate_points, jacobian_points

Points = NDArray[np.float64]

# Points evaluated at once: few enough to stay in the cache, and for torch not to split the work among its
# threads, whose many meetings would cost more than the work itself on a busy machine.
_CHUNK = 2048


class SpatialTransform(Protocol):
    """A map of points (N, 3) in LPS mm and its derivative (N, 3, 3), rows the output components."""

    def apply(self, points: Points) -> Points: ...

    def jacobian(self, points: Points) -> Points: ...


@dataclass(frozen=True)
class AffineTransform:
    """x -> matrix @ (x, 1); matrix is (4, 4) in LPS mm."""

    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, float)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise TransformError("an affine transform needs a finite 4x4 matrix")
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def translation(cls, offset: Sequence[float]) -> AffineTransform:
        """x -> x + offset."""
        matrix = np.eye(4)
        matrix[:3, 3] = offset
        return cls(matrix)

    def apply(self, points: Points) -> Points:
        return transform_points(self.matrix, points)

    def jacobian(self, points: Points) -> Points:
        return np.broadcast_to(self.matrix[:3, :3], (len(points), 3, 3)).copy()


@dataclass(frozen=True)
class BSplineTransform:
    """x -> x + sum of cubic B-splines, exact; zero displacement outside the grid's valid domain, as ITK.

    coefficients: (3, gz, gy, gx) displacement of each control point in LPS mm, components (x, y, z).
    grid: where the control points lie; at least 4 along each axis.
    """

    coefficients: NDArray[np.float64]
    grid: ImageGrid

    def __post_init__(self) -> None:
        coefficients = np.asarray(self.coefficients, float)
        if coefficients.shape != (3, *self.grid.shape) or min(self.grid.shape) < 4:
            raise GeometryError(
                f"coefficients of shape {coefficients.shape} do not fit a control grid of {self.grid.shape}, "
                "of 4 points at least along each axis"
            )
        if not np.isfinite(coefficients).all():
            raise TransformError("B-spline coefficients are not finite")
        object.__setattr__(self, "coefficients", coefficients)

    def _chunks(self, points: Points, evaluate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Points:
        coefficients = torch.from_numpy(self.coefficients)
        parts = torch.from_numpy(self.grid.to_index(points)).split(_CHUNK)
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return torch.cat(list(threads.map(lambda part: evaluate(coefficients, part), parts))).numpy()

    def displacement(self, points: Points) -> Points:
        """(N, 3) mm."""
        return self._chunks(points, evaluate_points)

    def apply(self, points: Points) -> Points:
        return points + self.displacement(points)

    def jacobian(self, points: Points) -> Points:
        # Derivatives come per control point; the chain rule with the linear index map makes them per mm.
        per_index = self._chunks(points, jacobian_points)
        return np.eye(3) + per_index @ self.grid.physical_to_index[:3, :3]


@dataclass(frozen=True)
class CompositeTransform:
    """Several transforms, the first of `parts` applied first: x -> parts[-1](...parts[0](x)).

    A registration result has its finest B-spline stage first and the affine part last (§2.3), because stage
    k+1 displaces points of the fixed image before stage k sees them.
    """

    parts: tuple[SpatialTransform, ...]

    def apply(self, points: Points) -> Points:
        for part in self.parts:
            points = part.apply(points)
        return points

    def jacobian(self, points: Points) -> Points:
        total = np.broadcast_to(np.eye(3), (len(points), 3, 3))
        for part in self.parts:
            total = part.jacobian(points) @ total
            points = part.apply(points)
        return total.copy()

    def determinant(self, points: Points) -> NDArray[np.float64]:
        """(N,): Jacobian determinant of the chain, the product along it (§4)."""
        product = np.ones(len(points))
        for part in self.parts:
            product *= np.linalg.det(part.jacobian(points))
            points = part.apply(points)
        return product

    @property
    def linear(self) -> bool:
        """Whether every part is affine."""
        return all(isinstance(part, AffineTransform) for part in self.parts)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(4, 4) of a linear composite. Raises TransformError for others."""
        total = np.eye(4)
        for part in self.parts:
            if not isinstance(part, AffineTransform):
                raise TransformError("a deformable transform has no matrix")
            total = part.matrix @ total
        return total
