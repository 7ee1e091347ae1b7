"""How well propagated labels fit (§4): overlap and distances between surfaces.

Masks and label maps are (z, y, x) arrays on one `ImageGrid`; every distance is in millimetres. A measure
that is not defined, such as the distance to a surface that does not exist, is `nan`, never 0 or infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid, bounding_box

Mask = NDArray[np.bool_]


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
    box = bounding_box(first | second) or ()
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


def _masks(a: ArrayLike, b: ArrayLike) -> tuple[Mask, Mask]:
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.shape != second.shape:
        raise GeometryError(f"masks of shapes {first.shape} and {second.shape} do not lie on one grid")
    return first, second


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
