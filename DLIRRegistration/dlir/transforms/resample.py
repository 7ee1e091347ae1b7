"""Any volume through any transform onto any grid, in slabs, so that memory stays bounded: images, labels, both ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.geometry import ImageGrid, bounding_box, common_voxels, transform_points
from dlir.io.reading import Volume
from dlir.transforms.by_itk import Values, bspline_values, gaussian_label_values
from dlir.transforms.chain import Chain, voxel_slabs
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.lattice import Lattice, Samples
from dlir.transforms.spatial import CompositeTransform, Points, SpatialTransform

Mode = Literal["linear", "nearest", "bspline", "gaussian-label"]
Progress = Callable[[float], None]

# Voxels by which a position may be off and still be that of a voxel: more than rounding, less than an intensity shows.
_WHOLE = 1e-6

# Voxels by which the values of each mode reach beyond those that differ from the rest; for B-splines beyond the image.
_REACH: dict[Mode, float] = {"linear": 1.0, "nearest": 0.5, "bspline": 0.5, "gaussian-label": 4.0}
_OF_LABELS = ("nearest", "gaussian-label")
# Voxels of arrays that are prepared for look-ups at once, in double precision: a gigabyte.
_TOGETHER = 1 << 27

_CORNERS = np.array(list(np.ndindex(2, 2, 2)), float)


def resample(
    array: NDArray[Any],
    grid: ImageGrid,
    transform: SpatialTransform,
    onto: ImageGrid,
    mode: Mode = "linear",
    default: float = 0,
    progress: Progress = lambda fraction: None,
) -> NDArray[Any]:
    """The values of `array` at T(x) for every voxel x of `onto`.

    array: (z, y, x) on `grid`. transform: T, from points of `onto` to points of `grid`, LPS mm.
    mode: "linear" and "bspline" (cubic, see `bspline_values`) give float32; "nearest" and "gaussian-label" (see
    `gaussian_label_values`) keep the type and never make a value that was not there.
    default: the value of voxels that map outside of `grid`, whose voxel borders count as inside (ITK's rule).
    progress: called with the fraction done. Raises GeometryError as `bspline_values`.
    """
    return resample_all([array], grid, transform, onto, mode, default, progress)[0]


def resample_all(
    arrays: Sequence[NDArray[Any]],
    grid: ImageGrid,
    transform: SpatialTransform,
    onto: ImageGrid,
    mode: Mode = "linear",
    default: float = 0,
    progress: Progress = lambda fraction: None,
) -> list[NDArray[Any]]:
    """As `resample`, for several arrays on one grid, such as time points: where voxels go is found once for as many as
    there is room for.
    """
    together, results = max(1, _TOGETHER // math.prod(grid.shape)), list[NDArray[Any]]()
    for first in range(0, len(arrays), together):
        some = arrays[first : first + together]
        share, before = len(some) / len(arrays), first / len(arrays)

        def told(done: float, share: float = share, before: float = before) -> None:
            progress(before + share * done)

        results += _resampled(some, grid, transform, onto, mode, default, told)
    return results


def _resampled(
    arrays: Sequence[NDArray[Any]],
    grid: ImageGrid,
    transform: SpatialTransform,
    onto: ImageGrid,
    mode: Mode,
    default: float,
    progress: Progress,
) -> list[NDArray[Any]]:
    kinds = [array.dtype if mode in _OF_LABELS else np.dtype(np.float32) for array in arrays]
    results = [np.full(onto.shape, default, kind) for kind in kinds]
    # Gaussians smooth even what stays where it is.
    if mode != "gaussian-label" and (common := _whole_voxels(grid, transform, onto)) is not None:
        for result, array in zip(results, arrays, strict=True):
            result[common[0]] = array[common[1]]
        return results
    where = _written(arrays, grid, transform, onto, mode, default)
    if where is None:
        return results
    takes = [_values(array, grid, mode) for array in arrays]
    part = onto.part(where)
    for low, high, index in _indices(transform, part, grid):
        progress(low / part.shape[0])
        within = ((index >= -0.5) & (index < np.array(grid.size)[:, None] - 0.5)).all(0)
        there = index[:, within]
        for result, take in zip(results, takes, strict=True):
            inner = result[where]
            values = inner[low:high].reshape(-1)
            values[within] = take(there)
            inner[low:high] = values.reshape(high - low, *part.shape[1:])
    return results


def displacement_field(transform: CompositeTransform, onto: ImageGrid) -> NDArray[np.float32]:
    """(z, y, x, 3): T(x) - x in LPS mm at every voxel centre of `onto`."""
    result = np.empty((*onto.shape, 3), np.float32)
    for low, high, index in _indices(transform, onto, onto):
        start = onto.slab(low, high).voxel_centers()
        result[low:high] = onto.to_physical(index.T).reshape(start.shape) - start
    return result


# -- labels of the fixed image, carried to the moving one ---------------------------------------------


@dataclass(frozen=True, eq=False)
class Carried:
    """Labels on the moving grid, one array for each layer.

    largest_residual: mm; with x where a label was read for the voxel y, the largest |T(x) - y|. unsolved: voxels for
    which no x was found to TOLERANCE; their label is 0.
    """

    arrays: list[NDArray[Any]]
    largest_residual: float
    unsolved: int


def carry_to_moving(layers: Sequence[Volume], transform: CompositeTransform, onto: ImageGrid) -> Carried:
    """The labels at T^-1(y) for every voxel y of `onto`, in their own types; 0 for what comes from outside.

    layers: labels on the fixed image's side, each on any grid; 0 is background. transform: T, fixed point -> moving
    point, LPS mm. onto: the moving grid. Where T folds it has no inverse: that raises nothing, `unsolved` tells. Solved
    once for all layers, and only where labels can come to.
    """
    arrays = [np.zeros(onto.shape, layer.array.dtype) for layer in layers]
    boxes = [bounding_box(layer.array != 0) for layer in layers]
    corners = [_corners(layer.grid, box, _REACH["nearest"]) for layer, box in zip(layers, boxes, strict=True) if box]
    inverse = InverseTransform(transform)
    where = _reached(np.concatenate(corners), inverse, onto) if corners else None
    if where is None:
        return Carried(arrays, 0.0, 0)
    part = onto.part(where)
    for low, high in voxel_slabs(part.shape):
        points = part.slab(low, high).voxel_centers().reshape(-1, 3)
        origin, found = inverse.solve(points)
        for layer, box, array in zip(layers, boxes, arrays, strict=True):
            if box is not None:
                index = layer.grid.to_index(origin).T
                within = found & ((index >= -0.5) & (index < np.array(layer.grid.size)[:, None] - 0.5)).all(0)
                values = np.zeros(len(points), array.dtype)
                values[within] = _nearest(layer.array, index[:, within])
                array[where][low:high] = values.reshape(high - low, *part.shape[1:])
    return Carried(arrays, inverse.largest_solved, inverse.unsolved)


# -- values -------------------------------------------------------------------------------------------


def _indices(
    transform: SpatialTransform, onto: ImageGrid, grid: ImageGrid
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """First and last slice of each slab of `onto`, and where it goes: (3, N) continuous indices of `grid`."""
    if not isinstance(transform, CompositeTransform):
        for low, high in voxel_slabs(onto.shape):
            points = onto.slab(low, high).voxel_centers().reshape(-1, 3)
            yield low, high, grid.to_index(transform.apply(points)).T
        return
    for slab in Chain(transform).slabs(onto, grid, exact=True):
        yield slab.low, slab.high, slab.index.numpy()


def _nearest(array: NDArray[Any], index: Points) -> NDArray[Any]:
    x, y, z = np.floor(index + 0.5).astype(np.intp)
    values: NDArray[Any] = array[z, y, x]
    return values


def _linear(array: NDArray[Any], grid: ImageGrid) -> Values:
    """Trilinear; in the outer half of a border voxel its own value."""
    samples = Samples(torch.from_numpy(np.asarray(array, np.float32))[None, None], Lattice(grid.shape))
    return lambda index: samples.at(torch.from_numpy(index).T[None])[0, 0].numpy()


def _values(array: NDArray[Any], grid: ImageGrid, mode: Mode) -> Values:
    if mode == "nearest":
        return lambda index: _nearest(array, index)
    if mode == "bspline":
        return bspline_values(array)
    return gaussian_label_values(array) if mode == "gaussian-label" else _linear(array, grid)


# -- what need not be computed ------------------------------------------------------------------------


def _whole_voxels(
    grid: ImageGrid, transform: SpatialTransform, onto: ImageGrid
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """As `common_voxels`: where voxels come to lie on voxels, as those of two phases of one scan do; None elsewhere."""
    if not isinstance(transform, CompositeTransform) or not transform.linear:
        return None
    matrix = grid.physical_to_index @ transform.matrix @ onto.index_to_physical
    return common_voxels(onto.shape, grid.shape, matrix, _WHOLE)


def _written(
    arrays: Sequence[NDArray[Any]],
    grid: ImageGrid,
    transform: SpatialTransform,
    onto: ImageGrid,
    mode: Mode,
    default: float,
) -> tuple[slice, ...] | None:
    """The part (z, y, x) of `onto` where a result may be other than the default; None for none of it."""
    if mode == "bspline":
        boxes: list[tuple[slice, ...]] = [tuple(slice(0, n) for n in grid.shape)]
    else:
        boxes = [box for array in arrays if (box := bounding_box(array != default)) is not None]
    if not boxes:
        return None
    return _reached(np.concatenate([_corners(grid, box, _REACH[mode]) for box in boxes]), transform, onto)


def _corners(grid: ImageGrid, box: Sequence[slice], reach: float) -> Points:
    """(8, 3) mm: the corners of a part (z, y, x) of a grid, and `reach` voxels more on each side."""
    low, high = np.array([[part.start, part.stop - 1] for part in box[::-1]], float).T
    return grid.to_physical(np.where(_CORNERS, high + reach, low - reach))


def _reached(corners: Points, transform: SpatialTransform, onto: ImageGrid) -> tuple[slice, ...] | None:
    """The part (z, y, x) of `onto` whose voxels a transform may bring between `corners` (N, 3); None for none of it.

    A label is small beside its image, so this leaves out most. All of it, for a transform that nothing is known of.
    """
    forward = transform.transform if isinstance(transform, InverseTransform) else transform
    whole = tuple(slice(0, n) for n in onto.shape)
    if not isinstance(forward, CompositeTransform):
        return whole
    matrix, largest = forward.bound()
    if isinstance(transform, InverseTransform):
        center = transform_points(matrix, corners)
        ends = [center + sign * largest for sign in 2 * _CORNERS - 1]
    elif abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        return whole
    else:
        back = np.asarray(np.linalg.inv(matrix), float)
        ends = [transform_points(back, np.asarray(corners + sign * largest, float)) for sign in 2 * _CORNERS - 1]
    index = onto.to_index(np.concatenate(ends))
    low = np.clip(np.floor(index.min(0) - _WHOLE), 0, onto.size).astype(int)[::-1]
    high = np.clip(np.ceil(index.max(0) + _WHOLE) + 1, 0, onto.size).astype(int)[::-1]
    return None if (low >= high).any() else tuple(slice(a, b) for a, b in zip(low, high, strict=True))
