"""What tells how right a transform is: labels, landmarks, or a motion that is known everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.metrics.landmarks import landmark_distances
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Points

# A known motion: a shift of so many mm, and a smooth field that displaces nothing by more than so many, with control
# points so far apart.
SHIFT, BEND, KNOT = 8.0, 10.0, 50.0
# A slight motion's root mean square in mm: a voxel or so.
SLIGHT = 2.0
# Layers of control points beyond the image, so that the field does not end within it.
_LAYERS = 4
# Points of an image at which a known motion is compared: one voxel in so many along each axis.
_EVERY = 3


class Measure(Protocol):
    """A number for a transform, fixed point -> moving point, LPS mm."""

    def score(self, transform: CompositeTransform) -> float: ...


@dataclass(frozen=True, eq=False)
class LabelMeasure:
    """Mean Dice, from 0 to 1, of the labels that both maps have.

    moving: holds the values of the fixed map.
    """

    fixed: Volume
    moving: Volume

    def score(self, transform: CompositeTransform) -> float:
        """Of the moving labels by nearest neighbour on the fixed grid. Raises EvaluationError for none in common."""
        values = np.intersect1d(self.fixed.array, self.moving.array)
        values = values[values > 0]
        if not values.size:
            raise EvaluationError(f"'{self.fixed.source}' and '{self.moving.source}' have no label in common")
        carried = resample(self.moving.array, self.moving.grid, transform, self.fixed.grid, "nearest")
        size = int(max(self.fixed.array.max(), self.moving.array.max())) + 1
        in_fixed, in_carried = (np.bincount(a.ravel(), minlength=size)[values] for a in (self.fixed.array, carried))
        both = np.bincount(self.fixed.array[self.fixed.array == carried].ravel(), minlength=size)[values]
        return float((2 * both / (in_fixed + in_carried)).mean())


def with_values(label: Volume, values: Mapping[int, int]) -> Volume:
    """A label map in which `values`, new by old, replace the old ones; others become background."""
    array = np.zeros(label.array.shape, np.int32)
    for old, new in values.items():
        array[label.array == old] = new
    return Volume(array, label.grid, label.source)


@dataclass(frozen=True, eq=False)
class LandmarkMeasure:
    """Mean error in mm of landmarks (N, 3), LPS mm."""

    fixed: Points
    moving: Points

    def score(self, transform: CompositeTransform) -> float:
        return float(landmark_distances(transform.apply(self.fixed), self.moving).mean())


@dataclass(frozen=True, eq=False)
class MotionMeasure:
    """Distance in mm between points (N, 3) of the fixed image and where the known way back brings them.

    back: moving point -> the place in the fixed image that it came from; without parts where nothing moved.
    median: the distance of the middle point instead of the mean one.
    """

    points: Points
    back: CompositeTransform
    median: bool = False

    def score(self, transform: CompositeTransform) -> float:
        distances = landmark_distances(self.back.apply(transform.apply(self.points)), self.points)
        return float(np.median(distances) if self.median else distances.mean())


def known_motion(grid: ImageGrid, seed: int) -> CompositeTransform:
    """A shift by SHIFT in some direction after a smooth field of BEND at most, both by chance.

    grid: in whose voxels the field's largest displacement is BEND.
    """
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    shift = AffineTransform.translation(tuple(SHIFT * direction / np.linalg.norm(direction)))
    field, lengths = _smooth(grid, rng)
    return CompositeTransform((_scaled(field, BEND / lengths.max()), shift))


def slight_motion(grid: ImageGrid, seed: int) -> CompositeTransform:
    """A smooth field by chance alone, whose root mean square in the voxels of `grid` is SLIGHT."""
    field, lengths = _smooth(grid, np.random.default_rng(seed))
    return CompositeTransform((_scaled(field, SLIGHT / np.sqrt((lengths**2).mean())),))


def _smooth(grid: ImageGrid, rng: np.random.Generator) -> tuple[BSplineTransform, Points]:
    """A field by chance, KNOT mm between control points, and by how much (N,) it displaces the voxels of `grid`."""
    coarse = grid.with_spacing((KNOT,) * 3)
    size = [n + 2 * _LAYERS for n in coarse.size]
    control = coarse.lattice((-_LAYERS,) * 3, (1, 1, 1), size)
    field = BSplineTransform(rng.normal(size=(3, *control.shape)), control)
    places = grid.voxel_centers()[::2, ::2, ::2].reshape(-1, 3)
    return field, np.linalg.norm(field.apply(places) - places, axis=1)


def _scaled(field: BSplineTransform, factor: float) -> BSplineTransform:
    return BSplineTransform(field.coefficients * factor, field.grid)


def inner_points(fixed: Volume, moving: ImageGrid, back: CompositeTransform, above: float) -> Points:
    """(N, 3) mm: some voxels of the fixed image that are brighter than `above` and that the moving grid holds.

    back: as for MotionMeasure; where a point comes from is estimated from the motion there.
    """
    places = fixed.grid.voxel_centers()[::_EVERY, ::_EVERY, ::_EVERY]
    points = places[fixed.array[::_EVERY, ::_EVERY, ::_EVERY] > above]
    return points[moving.contains(2 * points - back.apply(points))]
