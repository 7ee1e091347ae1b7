"""Transforms in plain numpy and double precision, tap by tap, from their numbers alone: a reference for dlir."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import Array

# How far outside of the valid domain, in control spacings, a point counts as on its border.
_ROUNDING = 1e-6


def index_to_mm(grid: ImageGrid) -> tuple[Array, Array]:
    """(3, 3) and (3,): what takes indices (x, y, z) of a grid to LPS mm."""
    return np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing), np.array(grid.origin)


def voxels_in_mm(grid: ImageGrid) -> Array:
    """(N, 3): the voxel centres, x fastest."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in grid.shape), indexing="ij")
    linear, origin = index_to_mm(grid)
    centers: Array = np.stack([x, y, z], -1).reshape(-1, 3) @ linear.T + origin
    return centers


def taps(place: Array) -> tuple[Array, Array]:
    """(N, 4) each: B-splines at -1, 0, 1 and 2 at places (N,) in [0, 1], and their derivatives."""
    t = place[:, None]
    value = np.hstack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    slope = np.hstack([-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2]) / 2
    return value, slope


def spline(coefficients: Array, control: Array) -> tuple[Array, Array]:
    """(N, 3) and (N, 3, 3): a field at points (N, 3) in control-point units, and its derivatives, components first.

    coefficients: (3, gz, gy, gx). Zero outside of the valid domain, and for what is no number.
    """
    count, size = len(control), np.array(coefficients.shape[:0:-1])
    value, slopes = np.zeros((count, 3)), np.zeros((count, 3, 3))
    inside = ((control >= 1 - _ROUNDING) & (control <= size - 2 + _ROUNDING)).all(1)
    control = control[inside]
    cell = np.clip(np.floor(control), 1, size - 3).astype(int)
    x, y, z = (cell[:, axis, None] + np.arange(-1, 3) for axis in range(3))
    around = coefficients[:, z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
    weights = [taps(control[:, axis] - cell[:, axis]) for axis in range(3)]
    for number, order in enumerate([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]):
        along_x, along_y, along_z = (weights[axis][order[axis]] for axis in range(3))
        shares = along_z[:, :, None, None] * along_y[:, None, :, None] * along_x[:, None, None, :]
        found = (around * shares).sum((2, 3, 4)).T
        if number == 0:
            value[inside] = found
        else:
            slopes[inside, :, number - 1] = found
    return value, slopes


@dataclass(frozen=True)
class Followed:
    """Points through a chain: where they go (N, 3), the derivative (N, 3, 3), and whether all stayed clear (N,) of the
    ends of a B-spline's domain, where a field may jump.
    """

    points: Array
    jacobian: Array
    clear: NDArray[np.bool_]


def follow(chain: CompositeTransform, points: Array, hair: float = 1e-5) -> Followed:
    """hair: control spacings from the end of a domain that are not clear of it."""
    jacobian = np.broadcast_to(np.eye(3), (len(points), 3, 3))
    clear = np.ones(len(points), bool)
    for part in chain.parts:
        if isinstance(part, AffineTransform):
            linear = part.matrix[:3, :3]
            points, jacobian = points @ linear.T + part.matrix[:3, 3], linear @ jacobian
            continue
        assert isinstance(part, BSplineTransform)
        to_mm, origin = index_to_mm(part.grid)
        to_control = np.linalg.inv(to_mm)
        control = (points - origin) @ to_control.T
        ends = np.stack([np.ones(3), np.array(part.grid.size) - 2.0])
        clear &= (np.abs(control[:, None] - ends) > hair).all((1, 2))
        value, slopes = spline(part.coefficients, control)
        points, jacobian = points + value, (np.eye(3) + slopes @ to_control) @ jacobian
    return Followed(points, jacobian, clear)
