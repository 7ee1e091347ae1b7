"""Measures of registration quality (§4 of the paper): label overlap, surface distances, folding, landmarks.

Masks and label maps are (z, y, x) arrays on one `ImageGrid`; every distance is in millimetres. A measure
that is not defined, such as the distance to a surface that does not exist, is `nan`, never 0 or infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.metrics.folding import JacobianStatistics, jacobian_statistics

if TYPE_CHECKING:
    from dlir.transforms.spatial import SpatialTransform

__all__ = [
    "InverseConsistency",
    "JacobianStatistics",
    "LabelScores",
    "LandmarkErrors",
    "SurfaceDistances",
    "average_surface_distance",
    "dice",
    "error_statistics",
    "hausdorff",
    "inverse_consistency",
    "jacobian_statistics",
    "label_report",
    "landmark_distances",
    "landmark_errors",
    "log_jacobian_sd",
    "surface",
    "surface_distances",
]

Mask = NDArray[np.bool_]

# Points along each axis over which inverse consistency is measured.
_CONSISTENCY_POINTS = 24


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from each surface voxel of one mask to the nearest surface voxel of the other.

    a_to_b: (number of surface voxels of a,), b_to_a: likewise. Both are empty when either mask is.
    """

    a_to_b: NDArray[np.float64]
    b_to_a: NDArray[np.float64]


@dataclass(frozen=True)
class LabelScores:
    """How well one propagated label fits the reference: Dice, and HD, its 95th percentile and ASD in mm.

    The voxel counts tell why a score is `nan`: which of the two masks is empty.
    """

    dice: float
    hd: float
    hd95: float
    asd: float
    fixed_voxels: int
    warped_voxels: int


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


@dataclass(frozen=True)
class InverseConsistency:
    """How far a point of the fixed image ends from where it began, sent there and back, in mm.

    count: points that counted. All figures are `nan` where none did.
    """

    count: int
    mean: float
    percentile95: float
    max: float


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """2|A∩B| / (|A|+|B|) of two masks of one shape; 0 if one is empty and `nan` if both are.

    Two empty masks hold no structure to judge: calling that a perfect 1 would raise the mean of a study
    by structures that are not there.
    Raises GeometryError if the shapes differ.
    """
    first, second = _masks(a, b)
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * int(np.count_nonzero(first & second)) / total if total else float("nan")


def surface(mask: Mask) -> Mask:
    """The voxels of a (z, y, x) mask that share a face with a voxel outside it; beyond the array is outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    border: Mask = mask & ~inner[(slice(1, -1),) * mask.ndim]
    return border


def surface_distances(a: ArrayLike, b: ArrayLike, grid: ImageGrid) -> SurfaceDistances:
    """The distance d(x, S) of §4 for every x on either surface, between voxel centres in mm.

    a, b: masks (z, y, x) on `grid`. A surface is what `surface` returns. Orientation and origin do not
    matter, spacing does. Raises GeometryError if a mask does not fit the grid.
    """
    first, second = _masks(a, b)
    if first.shape != grid.shape:
        raise GeometryError(f"mask of shape {first.shape} does not fit a grid of shape {grid.shape}")
    if not first.any() or not second.any():
        return SurfaceDistances(np.empty(0), np.empty(0))
    # Distances at surface voxels depend on nothing outside the box that holds both surfaces.
    box = _bounding_box(first | second)
    surface_a, surface_b = surface(first[box]), surface(second[box])
    return SurfaceDistances(
        _distance_map(surface_b, grid)[surface_a],
        _distance_map(surface_a, grid)[surface_b],
    )


def hausdorff(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """The larger of both directed distances' percentiles in mm: 100 is HD of §4, 95 is HD95; `nan` if undefined."""
    if not distances.a_to_b.size:
        return float("nan")
    return float(max(np.percentile(distances.a_to_b, percentile), np.percentile(distances.b_to_a, percentile)))


def average_surface_distance(distances: SurfaceDistances) -> float:
    """The symmetric ASD of §4 in mm: the mean over the voxels of both surfaces together; `nan` if undefined."""
    both = np.concatenate([distances.a_to_b, distances.b_to_a])
    return float(both.mean()) if both.size else float("nan")


def label_report(
    fixed_label: NDArray[Any], warped_label: NDArray[Any], grid: ImageGrid, labels: Sequence[int] | None = None
) -> dict[int, LabelScores]:
    """The scores of each label of a propagated label map against the fixed image's own.

    fixed_label, warped_label: integers (z, y, x) on `grid`; 0 is background. `labels` says which to report;
    by default all that occur in either map. A label that one map lacks has Dice 0 and `nan` distances, one
    that both lack has `nan` throughout. Raises GeometryError if a map does not fit the grid.
    """
    if labels is None:
        labels = sorted(int(v) for v in np.union1d(fixed_label, warped_label) if v != 0)
    return {label: _label_scores(fixed_label == label, warped_label == label, grid) for label in labels}


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


def landmark_errors(transformed: ArrayLike, reference: ArrayLike) -> LandmarkErrors:
    """Target registration error over corresponding points: the figures of their `landmark_distances`."""
    return error_statistics(landmark_distances(transformed, reference))


def error_statistics(distances: ArrayLike) -> LandmarkErrors:
    """The figures of target registration errors (n,) in mm; all `nan` for none."""
    errors = np.asarray(distances, float)
    if not errors.size:
        return LandmarkErrors(0, *[float("nan")] * 6)
    lower, median, upper, largest = (float(q) for q in np.percentile(errors, (25, 50, 75, 100)))
    return LandmarkErrors(errors.size, float(errors.mean()), float(errors.std()), lower, median, upper, largest)


def log_jacobian_sd(determinant: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Population SD of the natural logarithm of the Jacobian determinant, in which halving and doubling weigh alike.

    determinant: any shape; mask: the same, or None for all of it. Folded voxels have no logarithm and are left out:
    the folding fraction counts them. `nan` where nothing is left. Raises GeometryError if the shapes differ.
    """
    values = np.asarray(determinant, float)
    if mask is not None:
        chosen = np.asarray(mask, bool)
        if chosen.shape != values.shape:
            raise GeometryError(f"mask of shape {chosen.shape} does not fit determinants of shape {values.shape}")
        values = values[chosen]
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.log(positive).std()) if positive.size else float("nan")


def inverse_consistency(
    there: SpatialTransform, back: SpatialTransform, fixed: ImageGrid, moving: ImageGrid
) -> InverseConsistency:
    """|B(T(x)) - x| in mm over a lattice of points x of the fixed image that T sends into the moving image.

    there: T, fixed point -> moving point; back: B, the registration with the roles exchanged; both LPS mm.
    The lattice covers the fixed grid with up to 24 points along each axis, voxel borders left out.
    """
    size = np.minimum(fixed.size, _CONSISTENCY_POINTS)
    step = np.array(fixed.size) / size
    points = fixed.lattice(tuple((step - 1) / 2), tuple(step), tuple(size)).voxel_centers().reshape(-1, 3)
    sent = there.apply(points)
    inside = moving.contains(sent)
    if not inside.any():
        return InverseConsistency(0, *[float("nan")] * 3)
    errors = np.linalg.norm(back.apply(sent[inside]) - points[inside], axis=1)
    return InverseConsistency(errors.size, float(errors.mean()), float(np.percentile(errors, 95)), float(errors.max()))


def _masks(a: ArrayLike, b: ArrayLike) -> tuple[Mask, Mask]:
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.shape != second.shape:
        raise GeometryError(f"masks of shapes {first.shape} and {second.shape} do not lie on one grid")
    return first, second


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box, one slice per axis, that holds all of a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _distance_map(border: Mask, grid: ImageGrid) -> NDArray[np.float64]:
    """Distance in mm (z, y, x) of every voxel of a crop to the nearest voxel of `border`."""
    import SimpleITK as sitk

    # The filter takes its contour from where foreground meets background, so there has to be background.
    image = sitk.GetImageFromArray(np.pad(border, 1).astype(np.uint8))
    image.SetSpacing(grid.spacing)
    squared = sitk.SignedMaurerDistanceMap(image, squaredDistance=True, useImageSpacing=True)
    inner = sitk.GetArrayFromImage(squared)[1:-1, 1:-1, 1:-1].astype(float)
    distance: NDArray[np.float64] = np.sqrt(np.abs(inner))
    return distance


def _label_scores(fixed: Mask, warped: Mask, grid: ImageGrid) -> LabelScores:
    distances = surface_distances(fixed, warped, grid)
    return LabelScores(
        dice=dice(fixed, warped),
        hd=hausdorff(distances),
        hd95=hausdorff(distances, 95),
        asd=average_surface_distance(distances),
        fixed_voxels=int(np.count_nonzero(fixed)),
        warped_voxels=int(np.count_nonzero(warped)),
    )
