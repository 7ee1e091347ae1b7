"""Transforms of points in LPS millimetres, in the resampling direction: fixed point -> moving point.

What a transform is, as numbers; `dlir.transforms.chain` evaluates it, and is imported when that is asked for. So
transforms can be read, looked into and written where there is no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, TransformError
from dlir.geometry import ImageGrid

if TYPE_CHECKING:
    from dlir.transforms.chain import Chain

Points = NDArray[np.float64]


class SpatialTransform(Protocol):
    """A map of points (N, 3) in LPS mm and its derivative (N, 3, 3), rows the output components."""

    def apply(self, points: Points) -> Points: ...

    def jacobian(self, points: Points) -> Points: ...


class _Evaluated:
    """What all transforms have in common: they are evaluated at points (N, 3) in LPS mm, in double precision."""

    def apply(self, points: Points) -> Points:
        """(N, 3) mm: where the points go."""
        return self._chain.apply(points)

    def jacobian(self, points: Points) -> Points:
        """(N, 3, 3): the derivative at the points, rows the output components."""
        return self._chain.jacobian(points)

    def determinant(self, points: Points) -> NDArray[np.float64]:
        """(N,): the determinant of the derivative; that of a chain is the product along it (§4)."""
        return self._chain.determinant(points)

    @cached_property
    def _chain(self) -> Chain:
        from dlir.transforms.chain import Chain

        return Chain(self)  # type: ignore[arg-type]  # one of the four below


@dataclass(frozen=True, eq=False)
class AffineTransform(_Evaluated):
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


@dataclass(frozen=True, eq=False)
class BSplineTransform(_Evaluated):
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


@dataclass(frozen=True, eq=False)
class DisplacementTransform(_Evaluated):
    """x -> x + field(x), linear between voxel centres; no displacement outside the grid, as ITK.

    field: (z, y, x, 3) LPS mm on `grid`, as other tools give it. Its derivative is taken by central differences at the
    voxel centres, one-sided at the border, and is linear between them.
    """

    field: NDArray[np.float32]
    grid: ImageGrid

    def __post_init__(self) -> None:
        if self.field.shape != (*self.grid.shape, 3):
            raise GeometryError(f"field of shape {self.field.shape} does not fit a grid of shape {self.grid.shape}")


Part = AffineTransform | BSplineTransform | DisplacementTransform


@dataclass(frozen=True, eq=False)
class CompositeTransform(_Evaluated):
    """Several transforms, the first of `parts` applied first: x -> parts[-1](...parts[0](x)).

    A registration result has its finest B-spline stage first and the affine part last (§2.3), because stage
    k+1 displaces points of the fixed image before stage k sees them.
    """

    parts: tuple[Part, ...]

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

    @property
    def affine_part(self) -> CompositeTransform:
        """Its affine parts alone, in their order."""
        return CompositeTransform(tuple(part for part in self.parts if isinstance(part, AffineTransform)))

    def joined(self) -> CompositeTransform:
        """The same map with affine parts in a row as one, and without those that do nothing."""
        parts: list[Part] = []
        for linear, run in groupby(self.parts, lambda part: isinstance(part, AffineTransform)):
            if not linear:
                parts += run
                continue
            matrix = CompositeTransform(tuple(run)).matrix
            if not np.array_equal(matrix, np.eye(4)):
                parts.append(AffineTransform(matrix))
        return CompositeTransform(tuple(parts))

    def bound(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(4, 4) the linear parts alone, and (3,) how far at most, per LPS axis in mm, the whole is from them.

        A B-spline displaces nothing by more than its largest coefficient, a field by more than its largest vector.
        """
        matrix: NDArray[np.float64] = np.eye(4)
        largest: NDArray[np.float64] = np.zeros(3)
        for part in self.parts:
            if isinstance(part, AffineTransform):
                matrix, largest = part.matrix @ matrix, np.abs(part.matrix[:3, :3]) @ largest
            elif isinstance(part, BSplineTransform):
                largest = largest + np.abs(part.coefficients).max((1, 2, 3))
            else:
                largest = largest + np.abs(part.field).max((0, 1, 2))
        return matrix, largest
