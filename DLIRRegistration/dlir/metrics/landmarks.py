"""How far corresponding landmarks lie apart (§4), in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError


@dataclass(frozen=True)
class LandmarkErrors:
    """Target registration error over landmarks, in mm; `sd` is the population standard deviation."""

    count: int
    mean: float
    sd: float
    lower_quartile: float
    median: float
    upper_quartile: float
    max: float


def landmark_distances(transformed: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """(n,): Euclidean distances in mm between corresponding points, (n, 3) each.

    With T mapping fixed to moving points, compare T(fixed landmarks) with the moving landmarks.
    Raises GeometryError if the two lists do not correspond.
    """
    points, targets = np.asarray(transformed, float), np.asarray(reference, float)
    if points.shape != targets.shape or points.ndim != 2 or points.shape[1] != 3:
        raise GeometryError(f"landmark lists of shapes {points.shape} and {targets.shape} are not both (n, 3)")
    distances: NDArray[np.float64] = np.linalg.norm(points - targets, axis=1)
    return distances


def error_statistics(distances: ArrayLike) -> LandmarkErrors:
    """The figures of target registration errors (n,) in mm; all `nan` for none."""
    errors = np.asarray(distances, float)
    if not errors.size:
        return LandmarkErrors(0, *[float("nan")] * 6)
    lower, median, upper, largest = (float(q) for q in np.percentile(errors, (25, 50, 75, 100)))
    return LandmarkErrors(errors.size, float(errors.mean()), float(errors.std()), lower, median, upper, largest)
