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
from dlir.transforms.lattice import Lattice, lookup
from dlir.transforms.nearest import LabelReader, control_spacing, interpolation_error
from dlir.transforms.resample import linear_bound
from dlir.transforms.spatial import CompositeTransform, Points

# An inverse that is off by more than this, in mm, is none.
TOLERANCE = 0.01
# Points per control spacing between which the transform is interpolated to guess its inverse; the most there may be.
_SAMPLES = 2.5
_MOST_POINTS = 1 << 21
# Such points beyond the labels on every side, and rounds of guessing.
_MARGIN = 3
_ROUNDS = 10
# Stretch of an inverse that does not exist: only what is exact is good enough then.
_ANY_STRETCH = 1e9
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
    readers = [LabelReader(layer.array, layer.grid) for layer in layers]
    filled = [(reader, array) for reader, array in zip(readers, arrays, strict=True) if not reader.empty]
    if not filled:
        return Carried(arrays, 0.0, 0)
    readers = [reader for reader, _ in filled]
    guess = _Guess(transform, readers)
    low, high = guess.reach(onto)
    if (low == high).any():
        return Carried(arrays, 0.0, 0)
    worst, unsolved = 0.0, 0
    for start, stop in slabs(_shape(low, high), _SLAB_VOXELS):
        first = low + np.array([0, 0, start])
        part = onto.lattice(tuple(first), (1, 1, 1), (*(high - low)[:2], stop - start))
        where = tuple(slice(a, a + n) for a, n in zip(first[::-1], part.shape, strict=True))
        points, residual = _solve(part.voxel_centers().reshape(-1, 3), guess, readers)
        found = residual <= TOLERANCE
        unsolved += int(np.count_nonzero(~found))
        worst = max(worst, float(residual[found].max(initial=0)))
        for reader, array in filled:
            values = reader.values(reader.grid.to_index(points))
            array[where] = np.where(found, values, 0).reshape(part.shape)
    return Carried(arrays, worst, unsolved)


def _solve(targets: Points, guess: _Guess, readers: Sequence[LabelReader]) -> tuple[Points, NDArray[np.float64]]:
    """Where the moving points `targets` (N, 3) come from, as well as it matters, and the residuals (N,) in mm.

    A guess that is good enough counts as exact.
    """
    points, error = guess(targets)
    doubtful = _doubtful(readers, points, error)
    error[doubtful] = guess.error(points[doubtful], targets[doubtful])
    doubtful = _doubtful(readers, points, error)
    residual = np.zeros(len(targets))
    solved = invert_points(guess.transform, targets[doubtful], start=points[doubtful], tolerance=TOLERANCE)
    points[doubtful], residual[doubtful] = solved.points, solved.residual
    return points, residual


def _doubtful(readers: Sequence[LabelReader], points: Points, error: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether any label may be another within `error` (N,) mm of points (N, 3), LPS mm."""
    doubtful = np.zeros(len(points), bool)
    for reader in readers:
        doubtful |= reader.may_differ(reader.grid.to_index(points), error)
    return doubtful


class _Guess:
    """The inverse by interpolation: d(x) = A^-1 T(x) - x is sampled around the labels, A being the affine part of T.

    x = A^-1 y - d(x) is then iterated.
    """

    def __init__(self, transform: CompositeTransform, readers: Sequence[LabelReader]) -> None:
        self.transform = transform
        bound = linear_bound(transform)
        self._affine = np.eye(4) if bound is None else bound[0].matrix
        self._inverse = np.asarray(np.linalg.pinv(self._affine), float)
        self._lattice, self._cells = _lattice_around(readers, transform)
        places = self._lattice.voxel_centers()
        self._sent = transform.apply(places.reshape(-1, 3)).reshape(places.shape)
        shift = transform_points(self._inverse, self._sent) - places
        content = np.concatenate([shift, interpolation_error(self._sent)[..., None]], -1)
        self._content = torch.from_numpy(content).movedim(-1, 0)[None]
        self._stretch = self._largest_stretch()

    def _largest_stretch(self) -> float:
        """How far at most a millimetre on the moving side is on the fixed side, anywhere in the lattice."""
        along_axes = np.stack(np.gradient(self._sent, *self._lattice.spacing, axis=(2, 1, 0)), -1)
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
        """Where moving points (N, 3) come from, and by how many mm (N,) at most that is wrong, quickly told."""
        straight = transform_points(self._inverse, targets)
        points, lattice = straight, Lattice(self._lattice.shape)
        for _ in range(_ROUNDS):
            index = self._lattice.to_index(points)
            found = lookup(self._content, lattice, torch.from_numpy(index)[None, None, None])[0, :, 0, 0].numpy()
            former, points = points, straight - found[:3].T
        unsettled = np.linalg.norm(points - former, axis=1) * np.linalg.norm(self._affine[:3, :3], 2)
        error = found[3] + unsettled
        beyond = np.flatnonzero(((index < 0) | (index > np.array(self._lattice.size) - 1)).any(1))
        error *= self._stretch
        error[beyond] = self.error(points[beyond], targets[beyond])
        return points, error

    def error(self, points: Points, targets: Points) -> NDArray[np.float64]:
        """By how many mm (N,) at most `points` (N, 3) are wrong as the places where `targets` come from."""
        missed: NDArray[np.float64] = np.linalg.norm(self.transform.apply(points) - targets, axis=1)
        return missed * self._stretch


def _lattice_around(
    readers: Sequence[LabelReader], transform: CompositeTransform
) -> tuple[ImageGrid, NDArray[np.intp]]:
    """Points around the labels, _MARGIN more on each side, and how many spaces (x, y, z) there are without those."""
    axes = readers[0].grid
    index = axes.to_index(np.concatenate([reader.corners for reader in readers]))
    low, extent = index.min(0), np.ptp(index, axis=0)
    spacing = control_spacing(transform, axes)
    step = extent / 2 if spacing is None else np.array(spacing) / axes.spacing / _SAMPLES
    cells = np.ceil(extent / step).astype(np.intp)
    while np.prod(cells + 1 + 2 * _MARGIN) > _MOST_POINTS:
        step *= 2
        cells = np.ceil(extent / step).astype(np.intp)
    return axes.lattice(tuple(low - _MARGIN * step), tuple(step), tuple(cells + 1 + 2 * _MARGIN)), cells


def _shape(low: NDArray[np.intp], high: NDArray[np.intp]) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in high - low)
    return z, y, x
