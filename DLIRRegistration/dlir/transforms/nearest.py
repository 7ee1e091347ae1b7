"""Labels read by nearest neighbour, and a transform followed exactly only where a label could be another.

A voxel's label is the same wherever in the voxel, and mostly its neighbours', a point falls. So a guess of where it
falls will do, as long as it is known how wrong that can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.transforms.bspline import expand
from dlir.transforms.dense import slabs
from dlir.transforms.spatial import BSplineTransform, CompositeTransform, Points, SpatialTransform

# Layers of background around a cropped label map, so that what lies outside of it can be looked up too.
_PAD = 2
# Lattice points per control spacing at which a transform is followed exactly to guess it everywhere else.
_SAMPLES = 2.5
# The lattice must be so much smaller than the image to be worth it, and small enough for the memory.
_WORTH = 0.5
_MOST_NODES = 1 << 22
# The first look, at where labels can be met at all, is so much coarser.
_COARSER = 3
# How much larger the error of linear interpolation may be than second differences, at the nodes around, tell.
_SAFETY = 2.0
# Voxels at once.
_SLAB_VOXELS = 1 << 19


class LabelReader:
    """A label map, cropped to its labels, that also knows where a label has another one beside it.

    array: (z, y, x) on `grid`. background: its value outside of the grid; an array of nothing else has no labels.
    """

    def __init__(self, array: NDArray[Any], grid: ImageGrid, background: float = 0) -> None:
        self.grid = grid
        box = _box(array != background)
        self.empty = box is None
        box = box or (slice(0, 1),) * 3
        self._array = np.pad(array[box], _PAD, constant_values=background)
        self._mixed = neighbourhood(self._array, np.maximum) != neighbourhood(self._array, np.minimum)
        self._low = np.array([part.start for part in box[::-1]])
        self._high = np.array([part.stop for part in box[::-1]]) - 1

    @property
    def corners(self) -> Points:
        """(8, 3): corners in LPS mm of the box of the labels, voxel borders included."""
        choice = np.array(list(np.ndindex(2, 2, 2)))
        return self.grid.to_physical(np.where(choice, self._high + 0.5, self._low - 0.5))

    def values(self, index: Points) -> NDArray[Any]:
        """The labels (N,) at continuous indices (N, 3) of the grid, (x, y, z)."""
        values: NDArray[Any] = self._array[self._voxels(index)]
        return values

    def reach(self, error: float) -> tuple[Points, Points]:
        """Lowest and highest index (3,) from which a label may be no more than `error` mm away."""
        margin = error / np.array(self.grid.spacing) + 0.5
        return self._low - margin, self._high + margin

    def may_differ(self, index: Points, error: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the label may be another within `error` (N,) mm of continuous indices (N, 3)."""
        margin = error[:, None] / self.grid.spacing + 0.5
        near: NDArray[np.bool_] = np.all((index >= self._low - margin) & (index <= self._high + margin), axis=1)
        # Alike are a voxel and its neighbours, so all points within the smallest of its edges.
        near[near] &= self._mixed[self._voxels(index[near])] | (error[near] > min(self.grid.spacing))
        return near

    def _voxels(self, index: Points) -> tuple[NDArray[np.intp], ...]:
        """Indices (z, y, x) into the cropped arrays; what lies outside is moved into the padding."""
        inner = np.clip(np.floor(index + 0.5), self._low - _PAD, self._high + _PAD) - (self._low - _PAD)
        x, y, z = inner.astype(np.intp).T
        return z, y, x


class _Lattice:
    """Some voxels of a grid, evenly spaced along each axis, and what lies between them by linear interpolation."""

    def __init__(self, grid: ImageGrid, strides: Sequence[int]) -> None:
        # One node more at either end, where only some voxels are nodes: curvature is seen from three.
        extra = [int(stride > 1) for stride in strides]
        size = [(n - 1 + s - 1) // s + 1 + 2 * e for n, s, e in zip(grid.size, strides, extra, strict=True)]
        start = [-float(s * e) for s, e in zip(strides, extra, strict=True)]
        self.grid = grid.lattice(start, strides, size)
        self.strides, self._extra, self._shape = strides, extra, grid.shape

    def voxels(self, nodes: Sequence[slice]) -> tuple[slice, ...]:
        """The voxels (z, y, x) of the grid around some nodes, as far as the next ones."""
        found = []
        for part, stride, extra, size in zip(nodes, self.strides[::-1], self._extra[::-1], self._shape, strict=True):
            low, high = (part.start - 1 - extra) * stride, (part.stop - extra) * stride
            found.append(slice(min(max(0, low), size - 1), max(1, min(size, high + 1))))
        return tuple(found)

    def expanded(self, values: torch.Tensor, low: int, high: int) -> torch.Tensor:
        """(1, C, z, y, x) at the nodes -> the same for slices `low` to `high` of the grid."""
        ranges = ((low, high), (0, self._shape[1]), (0, self._shape[2]))
        return expand(values, [self._matrix(axis, *ranges[2 - axis]) for axis in (2, 1, 0)])

    def _matrix(self, axis: int, low: int, high: int) -> torch.Tensor:
        """(voxels, nodes) along an axis (x, y, z)."""
        nodes = torch.arange(self.grid.size[axis], dtype=torch.float64)
        positions = torch.arange(low, high, dtype=torch.float64) / self.strides[axis] + self._extra[axis]
        return (1 - (positions[:, None] - nodes).abs()).clamp(min=0)


def resample_labels(
    array: NDArray[Any],
    grid: ImageGrid,
    transform: SpatialTransform,
    onto: ImageGrid,
    background: float,
    progress: Callable[[float], None],
) -> NDArray[Any] | None:
    """The same labels as by following `transform` from every voxel of `onto`; see `resample`.

    None where a guess is not worth it: for linear transforms, and where control points lie as close as voxels.
    """
    strides = _strides(transform, onto)
    if strides is None:
        return None
    result = np.full(onto.shape, background, array.dtype)
    reader = LabelReader(array, grid, background)
    box = None if reader.empty else _reached(reader, transform, onto, strides)
    if box is None:
        return result
    part = onto.lattice([b.start for b in box[::-1]], (1, 1, 1), [b.stop - b.start for b in box[::-1]])
    lattice = _Lattice(part, strides)
    content = _sampled(transform, lattice, grid)
    inner = result[box]
    for low, high in slabs(part.shape, _SLAB_VOXELS):
        progress(low / part.shape[0])
        found = lattice.expanded(content, low, high)[0].flatten(1).numpy()
        first, last = reader.reach(float(found[3].max()))
        near = np.flatnonzero(np.logical_and.reduce([(found[a] >= first[a]) & (found[a] <= last[a]) for a in range(3)]))
        index = found[:3, near].T
        doubtful = np.flatnonzero(reader.may_differ(index, found[3, near]))
        shape = (high - low, *part.shape[1:])
        z, y, x = np.unravel_index(near, shape)
        points = part.to_physical(np.stack([x, y, z + low], -1)[doubtful])
        index[doubtful] = grid.to_index(transform.apply(points))
        inner[z + low, y, x] = reader.values(index)
    return result


def interpolation_error(values: NDArray[np.float64], axes: Sequence[int] = (0, 1, 2)) -> NDArray[np.float64]:
    """(z, y, x): how wrong linear interpolation of values (z, y, x, component) may be around each node.

    An eighth of the second difference along each of `axes`, the largest around, with a margin for safety.
    """
    total = np.zeros(values.shape[:3])
    for axis in axes:
        curved = np.linalg.norm(np.diff(values, n=2, axis=axis), axis=-1) / 8
        total += np.pad(curved, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
    return _SAFETY * neighbourhood(total, np.maximum)


def control_spacing(transform: SpatialTransform, grid: ImageGrid) -> list[float] | None:
    """Smallest distance in mm between control points met along each axis (x, y, z); None where nothing bends."""
    parts = transform.parts if isinstance(transform, CompositeTransform) else ()
    bends = [part.grid for part in parts if isinstance(part, BSplineTransform)]
    return (
        [min(_spacing_along(control, axis) for control in bends) for axis in grid.direction_matrix.T] if bends else None
    )


def _sampled(transform: SpatialTransform, lattice: _Lattice, grid: ImageGrid) -> torch.Tensor:
    """(1, 4, z, y, x): the index in `grid` where each node falls, exactly, and the error in mm between nodes."""
    sent = transform.apply(lattice.grid.voxel_centers().reshape(-1, 3)).reshape(*lattice.grid.shape, 3)
    # Along an axis where every voxel is a node nothing is interpolated.
    error = interpolation_error(sent, [axis for axis in range(3) if lattice.strides[2 - axis] > 1])
    return torch.from_numpy(np.concatenate([grid.to_index(sent), error[..., None]], -1)).movedim(-1, 0)[None]


def _reached(
    reader: LabelReader, transform: SpatialTransform, onto: ImageGrid, strides: Sequence[int]
) -> tuple[slice, ...] | None:
    """The part of `onto` from where labels can be met, found on a coarser lattice; None for none of it."""
    lattice = _Lattice(onto, [stride * _COARSER if stride > 1 else 1 for stride in strides])
    index, error = np.split(_sampled(transform, lattice, reader.grid)[0].numpy(), [3])
    first, last = reader.reach(float(error.max()))
    met = np.ones(index.shape[1:], bool)
    for axis in range(3):  # between a node and the next nothing is further out than both, but for the error
        met &= neighbourhood(index[axis], np.maximum) >= first[axis]
        met &= neighbourhood(index[axis], np.minimum) <= last[axis]
    found = _box(met)
    return None if found is None else lattice.voxels(found)


def _strides(transform: SpatialTransform, onto: ImageGrid) -> list[int] | None:
    """Voxels from node to node along (x, y, z); None where that leaves too many nodes."""
    spacing = control_spacing(transform, onto)
    if spacing is None:
        return None
    strides = [max(1, int(control / (_SAMPLES * own))) for control, own in zip(spacing, onto.spacing, strict=True)]
    while np.prod(_Lattice(onto, strides).grid.size) > _MOST_NODES:
        strides = [2 * stride for stride in strides]
    return strides if np.prod(_Lattice(onto, strides).grid.size) <= _WORTH * np.prod(onto.size) else None


def _spacing_along(control: ImageGrid, axis: NDArray[np.float64]) -> float:
    """Distance in mm between planes of control points met along a unit vector."""
    return float(1 / np.linalg.norm(control.direction_matrix.T @ axis / control.spacing))


def _box(occupied: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest part of an array that has all of a mask; None where that is empty."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(occupied.any(tuple(k for k in range(3) if k != axis)))
        if not hit.size:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def neighbourhood(array: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
    """The extreme of each voxel and its 26 neighbours."""
    for axis in range(3):
        padded = np.pad(array, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [np.take(padded, np.arange(start, start + array.shape[axis]), axis) for start in range(3)]
        array = extreme.reduce(parts)
    return array
