"""Any volume through any transform onto any grid: exact in double precision, in slabs, so memory stays bounded.

`dlir.registration` resamples the image that it registers in a faster way, with a known small error; this is
for everything else: labels, saved transforms, other grids, the inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.transforms.dense import slabs
from dlir.transforms.nearest import resample_labels
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Points, SpatialTransform

Mode = Literal["linear", "nearest"]
Progress = Callable[[float], None]

# Voxels at once: points and their supports stay near 100 MB.
_SLAB_VOXELS = 1 << 19
# Voxels by which a position may be off and still be that of a voxel: more than rounding, less than an intensity shows.
_WHOLE = 1e-6


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
    mode: "linear" gives float32; "nearest" keeps the type and never makes a value that was not there.
    default: the value of voxels that map outside of `grid`, whose voxel borders count as inside (ITK's rule).
    progress: called with the fraction done.
    """
    if (moved := _whole_voxels(array, grid, transform, onto, mode, default)) is not None:
        return moved
    if mode == "nearest" and (labels := resample_labels(array, grid, transform, onto, default, progress)) is not None:
        return labels
    result = np.full(onto.shape, default, np.float32 if mode == "linear" else array.dtype)
    box = _box(array, default, mode)
    if box is None:
        return result
    take = _linear if mode == "linear" else _nearest
    for low, high, points in _grid_points(onto):
        progress(low / onto.shape[0])
        flat = result[low:high].reshape(-1)
        near, index = _map_to_box(points, transform, grid, box)
        within = ((index >= -0.5) & (index < np.array(grid.size) - 0.5)).all(1)
        flat[near[within]] = take(array, index[within])
    return result


def jacobian_map(
    transform: CompositeTransform, onto: ImageGrid, progress: Progress = lambda fraction: None
) -> NDArray[np.float32]:
    """(z, y, x): the exact Jacobian determinant of `transform` at every voxel centre of `onto`."""
    result = np.empty(onto.shape, np.float32)
    for low, high, points in _grid_points(onto):
        progress(low / onto.shape[0])
        result[low:high] = transform.determinant(points).reshape(-1, *onto.shape[1:])
    return result


def displacement_field(
    transform: SpatialTransform, onto: ImageGrid, progress: Progress = lambda fraction: None
) -> NDArray[np.float32]:
    """(z, y, x, 3): T(x) - x in LPS mm at every voxel centre of `onto`."""
    result = np.empty((*onto.shape, 3), np.float32)
    for low, high, points in _grid_points(onto):
        progress(low / onto.shape[0])
        result[low:high] = (transform.apply(points) - points).reshape(-1, *onto.shape[1:], 3)
    return result


def _grid_points(onto: ImageGrid) -> Iterator[tuple[int, int, Points]]:
    """First and last slice and the voxel centres (N, 3) of each slab."""
    _, ny, nx = onto.shape
    for low, high in slabs(onto.shape, _SLAB_VOXELS):
        part = onto.lattice((0, 0, low), (1, 1, 1), (nx, ny, high - low))
        yield low, high, part.voxel_centers().reshape(-1, 3)


# -- values ------------------------------------------------------------------------------------------


def _nearest(array: NDArray[Any], index: Points) -> NDArray[Any]:
    x, y, z = np.floor(index + 0.5).astype(np.intp).T
    values: NDArray[Any] = array[z, y, x]
    return values


def _linear(array: NDArray[Any], index: Points) -> NDArray[np.float64]:
    """Trilinear; in the outer half of a border voxel its own value."""
    last = np.array(array.shape[::-1]) - 1
    index = np.clip(index, 0, last)
    base = np.minimum(index.astype(np.intp), np.maximum(last - 1, 0))
    weight = (index - base).T
    shares = [(1 - w, w) for w in weight]
    step = np.minimum(last, 1) * (1, array.shape[2], array.shape[1] * array.shape[2])
    first = (base[:, 2] * array.shape[1] + base[:, 1]) * array.shape[2] + base[:, 0]
    flat = array.reshape(-1)
    values = np.zeros(len(index))
    for x, y, z in np.ndindex(2, 2, 2):
        values += flat[first + step @ (x, y, z)] * (shares[0][x] * shares[1][y] * shares[2][z])
    return values


# -- what need not be computed -----------------------------------------------------------------------


def _whole_voxels(
    array: NDArray[Any], grid: ImageGrid, transform: SpatialTransform, onto: ImageGrid, mode: Mode, default: float
) -> NDArray[Any] | None:
    """The result where voxels come to lie on voxels, as those of two phases of one scan do; None elsewhere."""
    if not isinstance(transform, CompositeTransform) or not transform.linear:
        return None
    matrix = grid.physical_to_index @ transform.matrix @ onto.index_to_physical
    shift = np.rint(matrix[:3, 3]).astype(int)
    error = np.abs(matrix[:3, :3] - np.eye(3)) @ np.array(onto.size) + np.abs(matrix[:3, 3] - shift)
    if (error > _WHOLE).any():
        return None
    result = np.full(onto.shape, default, np.float32 if mode == "linear" else array.dtype)
    low = np.maximum(0, -shift)
    high = np.maximum(low, np.minimum(onto.size, np.array(grid.size) - shift))
    x, y, z = (slice(a, b) for a, b in zip(low, high, strict=True))
    from_x, from_y, from_z = (slice(a, b) for a, b in zip(low + shift, high + shift, strict=True))
    result[z, y, x] = array[from_z, from_y, from_x]
    return result


def _box(array: NDArray[Any], default: float, mode: Mode) -> tuple[Points, Points] | None:
    """Lowest and highest index (x, y, z) at which something else than `default` is found; None for nowhere."""
    occupied = array != default
    low, high = np.empty(3), np.empty(3)
    for axis in range(3):
        hit = np.flatnonzero(occupied.any(tuple(k for k in range(3) if k != axis)))
        if not hit.size:
            return None
        low[2 - axis], high[2 - axis] = hit[0], hit[-1]
    reach = 1.0 if mode == "linear" else 0.5
    return low - reach, high + reach


def _map_to_box(
    points: Points, transform: SpatialTransform, grid: ImageGrid, box: tuple[Points, Points]
) -> tuple[NDArray[np.intp], Points]:
    """Which points the transform may bring into `box`, and the indices (N, 3) on `grid` where it brings them.

    A label is small beside its image, so this leaves out most.
    """
    bounded = linear_bound(transform)
    if bounded is None:
        return np.arange(len(points)), grid.to_index(transform.apply(points))
    affine, largest = bounded
    slack = np.abs(grid.physical_to_index[:3, :3]) @ largest + 1e-6
    index = grid.to_index(affine.apply(points))
    near = np.flatnonzero(((index >= box[0] - slack) & (index <= box[1] + slack)).all(1))
    return near, grid.to_index(transform.apply(points[near])) if largest.any() else index[near]


def linear_bound(transform: SpatialTransform) -> tuple[AffineTransform, NDArray[np.float64]] | None:
    """The linear parts of a chain alone, and how far at most, per LPS axis in mm, the whole chain is from them.

    A B-spline displaces nothing by more than its largest coefficient. None for a transform of another kind.
    """
    matrix: NDArray[np.float64] = np.eye(4)
    largest: NDArray[np.float64] = np.zeros(3)
    for part in transform.parts if isinstance(transform, CompositeTransform) else (transform,):
        if isinstance(part, BSplineTransform):
            largest = largest + np.abs(part.coefficients).max((1, 2, 3))
        elif isinstance(part, AffineTransform):
            matrix, largest = part.matrix @ matrix, np.abs(part.matrix[:3, :3]) @ largest
        else:
            return None
    return AffineTransform(matrix), largest
