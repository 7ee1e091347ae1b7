"""Points back through a transform: T(y) = x solved by fixed-point iteration, polished by Newton steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import transform_points
from dlir.transforms.chain import Chain
from dlir.transforms.spatial import CompositeTransform, Points, SpatialTransform

# An inverse that is off by more than this, in mm, is none.
TOLERANCE = 0.01

_ITERATIONS = 100
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class InversePoints:
    """points: (N, 3) LPS mm with T(points) = target; residual: (N,) distance of T(points) from it in mm."""

    points: Points
    residual: NDArray[np.float64]


def invert_points(transform: SpatialTransform, targets: Points) -> InversePoints:
    """Where in the fixed image the moving points `targets` (N, 3) come from, to a residual of 1e-6 mm.

    The iteration y <- y + J(y)^-1 (x - T(y)) is a fixed-point iteration preconditioned with the inverse
    Jacobian; its step is halved where it would not lower the residual. A point with no preimage, or in a
    fold, keeps its best position and says so in its residual. Raises nothing.
    """
    targets = np.asarray(targets, float).reshape(-1, 3)
    points = _guess(transform, targets).copy()
    sent, jacobian = _apply_with_jacobian(transform, points)
    error = targets - sent
    residual = np.linalg.norm(error, axis=1)
    active = np.flatnonzero(residual > _TOLERANCE)
    damping = np.ones(len(targets))
    for _ in range(_ITERATIONS):
        if not active.size:
            break
        proposal = points[active] + damping[active, None] * _solve(jacobian[active], error[active])
        sent, found = _apply_with_jacobian(transform, proposal)
        new_error = targets[active] - sent
        new_residual = np.linalg.norm(new_error, axis=1)
        better = new_residual < residual[active]
        chosen = active[better]
        points[chosen], error[chosen], residual[chosen] = proposal[better], new_error[better], new_residual[better]
        jacobian[chosen] = found[better]
        damping[chosen] = np.minimum(1.0, 2 * damping[chosen])
        damping[active[~better]] /= 2
        active = active[(residual[active] > _TOLERANCE) & (damping[active] > 1e-4)]
    return InversePoints(points, residual)


def _guess(transform: SpatialTransform, targets: Points) -> Points:
    if not isinstance(transform, CompositeTransform):
        return targets
    return transform_points(np.asarray(np.linalg.pinv(transform.bound()[0]), float), targets)


def _apply_with_jacobian(transform: SpatialTransform, points: Points) -> tuple[Points, Points]:
    """Both at once, where the transform can: the points are followed once then."""
    if isinstance(transform, CompositeTransform):
        return Chain(transform).apply_with_jacobian(points)
    return transform.apply(points), transform.jacobian(points)


def _solve(jacobian: NDArray[np.float64], error: Points) -> Points:
    """J^-1 e, with a plain fixed-point step where J is singular."""
    regular = np.abs(np.linalg.det(jacobian)) > 1e-3 * np.linalg.norm(jacobian, axis=1).prod(1)
    step = error.copy()
    step[regular] = np.linalg.solve(jacobian[regular], error[regular][..., None])[..., 0]
    return step


class InverseTransform:
    """T^-1 as a transform, moving point -> fixed point, that keeps account of the points where there is none.

    largest_residual: mm, over all points so far. unsolved: how many of them were off by more than TOLERANCE.
    """

    def __init__(self, transform: SpatialTransform) -> None:
        self.transform = transform
        self.largest_residual = self.largest_solved = 0.0
        self.unsolved = 0

    def apply(self, points: Points) -> Points:
        """(N, 3) mm: where points (N, 3) in mm come from, as near as there is anything."""
        return self.solve(points)[0]

    def solve(self, points: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Where points (N, 3) come from, and whether that was found (N,), to the tolerance."""
        found = invert_points(self.transform, points)
        solved: NDArray[np.bool_] = found.residual <= TOLERANCE
        self.largest_residual = max(self.largest_residual, float(found.residual.max(initial=0)))
        self.largest_solved = max(self.largest_solved, float(found.residual[solved].max(initial=0)))
        self.unsolved += int(np.count_nonzero(~solved))
        return found.points, solved

    def jacobian(self, points: Points) -> Points:
        """Raises numpy's LinAlgError where T is singular."""
        forward = self.transform.jacobian(invert_points(self.transform, points).points)
        return np.asarray(np.linalg.inv(forward), float)
