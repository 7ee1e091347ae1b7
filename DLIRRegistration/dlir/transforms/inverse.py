"""Points back through a transform: T(y) = x solved by fixed-point iteration, polished by Newton steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlir.errors import TransformError
from dlir.geometry import ImageGrid, transform_points
from dlir.transforms.chain import Chain, voxel_slabs
from dlir.transforms.spatial import (
    AffineTransform,
    CompositeTransform,
    DisplacementTransform,
    Points,
    SpatialTransform,
)

# An inverse that is off by more than this, in mm, is none.
TOLERANCE = 0.01

# By how much more a linear transform may shrink one direction than another before it flattens space.
_FLAT = 1e12
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

    def determinant(self, points: Points) -> NDArray[np.float64]:
        """(N,): that of the derivative of T^-1 at points (N, 3), negative in folds; 0 where there is no inverse."""
        origin, solved = self.solve(points)
        forward = np.linalg.det(self.transform.jacobian(origin))
        solved &= forward != 0
        backward = np.zeros(len(forward))
        backward[solved] = 1 / forward[solved]
        return backward


# -- as a transform that can be written ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Inverted:
    """T^-1, moving point -> fixed point, as a transform that can be written.

    transform: a matrix where T is linear, else a displacement field. largest_residual, between: mm; the largest
    |T(transform(y)) - y| of the voxels y of its grid, and of places halfway between eight of them, where an inverse was
    found; None for a matrix. unsolved: voxels without one, to TOLERANCE; the field leads to what comes nearest there.
    """

    transform: CompositeTransform
    largest_residual: float | None = None
    between: float | None = None
    unsolved: int = 0

    @property
    def warning(self) -> str | None:
        """What its user should know."""
        if not self.unsolved:
            return None
        return f"{self.unsolved} voxels have no inverse: the transform folds there or does not reach them"


def inverted_matrix(transform: CompositeTransform) -> Inverted:
    """The inverse of a linear transform. Raises TransformError for one that is not, and for one that flattens space."""
    matrix = transform.matrix
    if not np.linalg.cond(matrix[:3, :3]) < _FLAT:
        raise TransformError("a linear transform that flattens space has no inverse; give another")
    return Inverted(CompositeTransform((AffineTransform(np.asarray(np.linalg.inv(matrix), float)),)))


def inverted_field(
    transform: CompositeTransform, onto: ImageGrid, progress: Callable[[float], None] = lambda fraction: None
) -> Inverted:
    """The inverse as displacements of the voxels of `onto`, a grid on the moving image's side, slab by slab.

    progress: called with the fraction done. Raises nothing where T folds: `unsolved` tells.
    """
    field, solved = np.empty((*onto.shape, 3), np.float32), np.empty(onto.shape, bool)
    inverse = InverseTransform(transform)
    for low, high in voxel_slabs(onto.shape):
        progress(low / onto.shape[0])
        targets = onto.slab(low, high).voxel_centers()
        points, found = inverse.solve(targets.reshape(-1, 3))
        field[low:high] = points.reshape(targets.shape) - targets
        solved[low:high] = found.reshape(targets.shape[:3])
    made = CompositeTransform((DisplacementTransform(field, onto),))
    return Inverted(made, *_residuals(transform, field, solved, onto), int(np.count_nonzero(~solved)))


def _residuals(
    transform: CompositeTransform, field: NDArray[np.float32], solved: NDArray[np.bool_], onto: ImageGrid
) -> tuple[float | None, float | None]:
    """Of a field as it is written, at voxels and halfway between them; None where there are no such places."""
    largest: list[float | None] = [None, None]
    for low, high in voxel_slabs(onto.shape):
        part = onto.slab(low, high)
        places = [(part.voxel_centers(), field[low:high].astype(float), solved[low:high])]
        z, y, x = min(high, onto.shape[0] - 1) - low, onto.shape[1] - 1, onto.shape[2] - 1
        if min(z, y, x) > 0:
            halfway = onto.lattice((0.5, 0.5, low + 0.5), (1, 1, 1), (x, y, z)).voxel_centers()
            moved, known = field[low : low + z + 1].astype(float), solved[low : low + z + 1]
            for axis in range(3):
                first, second = (np.arange(moved.shape[axis] - 1) + k for k in (0, 1))
                moved = (moved.take(first, axis) + moved.take(second, axis)) / 2
                known = known.take(first, axis) & known.take(second, axis)
            places.append((halfway, moved, known))
        for number, (targets, away, known) in enumerate(places):
            if known.any():
                back = transform.apply(targets[known] + away[known])
                error = float(np.linalg.norm(back - targets[known], axis=1).max())
                largest[number] = max(error, largest[number] or 0.0)
    return largest[0], largest[1]
