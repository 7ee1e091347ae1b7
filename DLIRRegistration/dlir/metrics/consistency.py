"""How far registrations with the roles of the images exchanged are from each other's inverse, in mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dlir.geometry import ImageGrid

if TYPE_CHECKING:
    from dlir.transforms.spatial import SpatialTransform

# Points along each axis over which it is measured.
_POINTS = 24


@dataclass(frozen=True)
class InverseConsistency:
    """How far a point of the fixed image ends from where it began, sent there and back, in mm.

    count: points that counted. All figures are `nan` where none did.
    """

    count: int
    mean: float
    percentile95: float
    max: float


def inverse_consistency(
    there: SpatialTransform, back: SpatialTransform, fixed: ImageGrid, moving: ImageGrid
) -> InverseConsistency:
    """|B(T(x)) - x| in mm over a lattice of points x of the fixed image that T sends into the moving image.

    there: T, fixed point -> moving point; back: B, the registration with the roles exchanged; both LPS mm.
    The lattice covers the fixed grid with up to 24 points along each axis, voxel borders left out.
    """
    size = np.minimum(fixed.size, _POINTS)
    step = np.array(fixed.size) / size
    points = fixed.lattice(tuple((step - 1) / 2), tuple(step), tuple(size)).voxel_centers().reshape(-1, 3)
    sent = there.apply(points)
    inside = moving.contains(sent)
    if not inside.any():
        return InverseConsistency(0, *[float("nan")] * 3)
    errors = np.linalg.norm(back.apply(sent[inside]) - points[inside], axis=1)
    return InverseConsistency(errors.size, float(errors.mean()), float(np.percentile(errors, 95)), float(errors.max()))
