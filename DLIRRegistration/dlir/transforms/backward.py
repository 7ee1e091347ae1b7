"""Labels drawn on the fixed image, carried onto the moving one by nearest neighbour through the inverse.

The inverse is solved only in the part of the moving grid that the labels can reach, and only where it matters: a
guess that is nearer to the truth than the next voxel of another label is as good as the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.geometry import ImageGrid, transform_points
from dlir.transforms.dense import slabs
from dlir.transforms.inverse import invert_points
from dlir.transforms.resample import linear_bound
from dlir.transforms.sampling import Lattice, lookup
from dlir.transforms.spatial import CompositeTransform, Points

# An inverse that is off by more than this, in mm, is none.
TOLERANCE = 0.01
# Distance in mm of the points between which the transform is interpolated to guess its inverse.
_STEP = 4.0
# Such points beyond the labels on every side, and rounds of guessing.
_MARGIN = 3
_ROUNDS = 10
# Stretch of an inverse that does not exist: only what is exact is good enough then.
_ANY_STRETCH = 1e9
# Layers of background around a cropped label map, so that what lies outside of it can be looked up too.
_PAD = 2
# Voxels at once.
_SLAB_VOXELS = 1 << 19


@dataclass(frozen=True, eq=False)
class Layer:
    """Labels (z, y, x) on a grid of their own; 0 is background."""

    array: NDArray[Any]
    grid: ImageGrid


@dataclass(frozen=True, eq=False)
class Carried:
    """Labels on the moving grid, one array for each layer.

    largest_residual: mm; with x where a label was read for the voxel y, the largest |T(x) - y| of those that had to
    be solved. unsolved: voxels for which no x was found to TOLERANCE; their label is 0.
    """

    arrays: list[NDArray[Any]]
    largest_residual: float
    unsolved: int


def carry_to_moving(layers: Sequence[Layer], transform: CompositeTransform, onto: ImageGrid) -> Carried:
    """The labels at T^-1(y) for every voxel y of `onto`, in their own types; 0 for what comes from outside.

    layers: on the fixed image's side. transform: T, fixed point -> moving point, LPS mm. onto: the moving grid.
    Where T folds it has no inverse: that raises nothing, `unsolved` tells.
    """
    arrays = [np.zeros(onto.shape, layer.array.dtype) for layer in layers]
    filled = [(_Labels(layer, box), array) for layer, array in zip(layers, arrays, strict=True) if (box := _box(layer))]
    if not filled:
        return Carried(arrays, 0.0, 0)
    guess = _Guess(transform, [labels for labels, _ in filled])
    low, high = guess.reach(onto)
    if (low == high).any():
        return Carried(arrays, 0.0, 0)
    worst, unsolved = 0.0, 0
    for start, stop in slabs(_shape(low, high), _SLAB_VOXELS):
        first = low + np.array([0, 0, start])
        part = onto.lattice(tuple(first), (1, 1, 1), (*(high - low)[:2], stop - start))
        where = tuple(slice(a, a + n) for a, n in zip(first[::-1], part.shape, strict=True))
        points, residual = _solve(part.voxel_centers().reshape(-1, 3), guess, [labels for labels, _ in filled])
        found = residual <= TOLERANCE
        unsolved += int(np.count_nonzero(~found))
        worst = max(worst, float(residual[found].max(initial=0)))
        for labels, array in filled:
            array[where] = np.where(found, labels.values(points), 0).reshape(part.shape)
    return Carried(arrays, worst, unsolved)


def _solve(targets: Points, guess: _Guess, layers: Sequence[_Labels]) -> tuple[Points, NDArray[np.float64]]:
    """Where the moving points `targets` (N, 3) come from, as well as it matters, and the residuals (N,) in mm.

    A guess that is good enough counts as exact.
    """
    points, error = guess(targets)
    doubtful = np.zeros(len(targets), bool)
    for labels in layers:
        doubtful |= labels.may_differ(points, error)
    residual = np.zeros(len(targets))
    solved = invert_points(guess.transform, targets[doubtful], start=points[doubtful], tolerance=TOLERANCE)
    points[doubtful], residual[doubtful] = solved.points, solved.residual
    return points, residual


class _Labels:
    """A label map cropped to its labels, and where in it a label has another one beside it."""

    def __init__(self, layer: Layer, box: tuple[slice, ...]) -> None:
        self.low = np.array([part.start for part in box[::-1]])
        self.grid = layer.grid
        self._array = np.pad(layer.array[box], _PAD)
        self._mixed = _neighbourhood(self._array, np.maximum) != _neighbourhood(self._array, np.minimum)
        self.high = self.low + np.array(self._array.shape[::-1]) - 2 * _PAD - 1

    @property
    def corners(self) -> Points:
        """(8, 3): corners in LPS mm of the box of the labels, voxel borders included."""
        choice = np.array(list(np.ndindex(2, 2, 2)))
        return self.grid.to_physical(np.where(choice, self.high + 0.5, self.low - 0.5))

    def _voxels(self, points: Points) -> tuple[NDArray[np.intp], ...]:
        """Indices (z, y, x) into the cropped arrays; what lies outside is moved into the padding."""
        index = np.floor(self.grid.to_index(points) + 0.5)
        inner = np.clip(index, self.low - _PAD, self.high + _PAD) - self.low + _PAD
        x, y, z = inner.astype(np.intp).T
        return z, y, x

    def values(self, points: Points) -> NDArray[Any]:
        """The labels (N,) at points (N, 3), LPS mm."""
        values: NDArray[Any] = self._array[self._voxels(points)]
        return values

    def may_differ(self, points: Points, error: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the label may be another within `error` (N,) mm of each point."""
        index = self.grid.to_index(points)
        outside = np.maximum(self.low - 0.5 - index, index - self.high - 0.5).clip(0) * self.grid.spacing
        near = np.linalg.norm(outside, axis=1) <= error
        differs: NDArray[np.bool_] = near & (self._mixed[self._voxels(points)] | (error > min(self.grid.spacing)))
        return differs


class _Guess:
    """The inverse by interpolation: d(x) = A^-1 T(x) - x is sampled around the labels, A being the affine part of T.

    x = A^-1 y - d(x) is then iterated.
    """

    def __init__(self, transform: CompositeTransform, layers: Sequence[_Labels]) -> None:
        self.transform = transform
        bound = linear_bound(transform)
        self._affine = np.eye(4) if bound is None else bound[0].matrix
        self._inverse = np.asarray(np.linalg.pinv(self._affine), float)
        axes = layers[0].grid
        index = axes.to_index(np.concatenate([labels.corners for labels in layers]))
        low, step = index.min(0), _STEP / np.array(axes.spacing)
        self._cells = np.ceil((index.max(0) - low) / step).astype(int)
        self._lattice = axes.lattice(tuple(low - _MARGIN * step), tuple(step), tuple(self._cells + 1 + 2 * _MARGIN))
        places = self._lattice.voxel_centers()
        sent = transform.apply(places.reshape(-1, 3))
        shift = transform_points(self._inverse, sent) - places.reshape(-1, 3)
        self._sent = sent.reshape(places.shape)
        self._shift = torch.from_numpy(shift.reshape(places.shape)).movedim(-1, 0)[None]
        self._stretch = self._largest_stretch()

    def _largest_stretch(self) -> float:
        """How far at most a millimetre on the moving side is on the fixed side, anywhere in the lattice."""
        along_axes = np.stack(np.gradient(self._sent, _STEP, axis=(2, 1, 0)), -1)
        volume = np.linalg.det(along_axes)
        if not (np.abs(volume) > 1e-6).all():
            return _ANY_STRETCH
        return float(np.linalg.norm(np.linalg.inv(along_axes), axis=(-2, -1)).max())

    def reach(self, onto: ImageGrid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First index (x, y, z), and the one after the last, of the voxels of `onto` that labels can come to."""
        x, y, z = (slice(_MARGIN, _MARGIN + n + 1) for n in self._cells)
        index = onto.to_index(self._sent[z, y, x].reshape(-1, 3))
        low = np.clip(np.floor(index.min(0)) - 1, 0, onto.size)
        high = np.clip(np.ceil(index.max(0)) + 2, low, onto.size)
        return low.astype(np.intp), high.astype(np.intp)

    def __call__(self, targets: Points) -> tuple[Points, NDArray[np.float64]]:
        """Where moving points (N, 3) come from, and by how many mm (N,) at most that is wrong."""
        straight = transform_points(self._inverse, targets)
        points = straight
        for _ in range(_ROUNDS):
            index = torch.from_numpy(self._lattice.to_index(points))[None, None, None]
            points = straight - lookup(self._shift, Lattice(self._lattice.shape), index)[0, :, 0, 0].T.numpy()
        residual = np.linalg.norm(self.transform.apply(points) - targets, axis=1)
        return points, residual * self._stretch


def _box(layer: Layer) -> tuple[slice, ...] | None:
    """The smallest part of a layer that has all of its labels; None where there are none."""
    box = []
    for axis in range(3):
        hit = np.flatnonzero(layer.array.any(tuple(k for k in range(3) if k != axis)))
        if not hit.size:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _neighbourhood(array: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
    """The extreme of each voxel and its 26 neighbours."""
    for axis in range(3):
        padded = np.pad(array, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [np.take(padded, np.arange(start, start + array.shape[axis]), axis) for start in range(3)]
        array = extreme.reduce(parts)
    return array


def _shape(low: NDArray[np.intp], high: NDArray[np.intp]) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in high - low)
    return z, y, x
