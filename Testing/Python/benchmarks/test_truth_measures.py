"""Scores with answers that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from truth.measures import (
    BEND,
    SHIFT,
    SLIGHT,
    LabelMeasure,
    LandmarkMeasure,
    MotionMeasure,
    inner_points,
    known_motion,
    slight_motion,
    with_values,
)

from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.spatial import AffineTransform, CompositeTransform

STILL = CompositeTransform(())
GRID = ImageGrid((20, 40, 30), (2.0, 1.5, 4.0), (10.0, -20.0, 5.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))


def label(boxes: dict[int, tuple[slice, slice, slice]]) -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    for value, box in boxes.items():
        array[box] = value
    return Volume(array, GRID, "label")


def moved_by(voxels: tuple[int, int, int]) -> CompositeTransform:
    offset = GRID.to_physical(voxels) - GRID.to_physical((0, 0, 0))
    return CompositeTransform((AffineTransform.translation(tuple(offset)),))


def test_labels_are_scored_by_the_mean_of_their_dice() -> None:
    fixed = label({1: np.s_[5:10, 10:20, 10:20], 2: np.s_[12:16, 10:20, 10:20]})
    moving = label({1: np.s_[5:10, 10:20, 12:22], 2: np.s_[12:16, 10:20, 10:20]})
    assert LabelMeasure(fixed, moving).score(STILL) == pytest.approx((0.8 + 1) / 2)
    assert LabelMeasure(fixed, moving).score(moved_by((2, 0, 0))) == pytest.approx((1 + 0.8) / 2)
    assert LabelMeasure(fixed, moving).score(moved_by((500, 0, 0))) == 0


def test_only_labels_in_both_images_count() -> None:
    fixed = label({1: np.s_[5:10, 10:20, 10:20], 3: np.s_[0:2, 0:2, 0:2]})
    moving = label({1: np.s_[5:10, 10:20, 10:20], 7: np.s_[15:17, 0:2, 0:2]})
    assert LabelMeasure(fixed, moving).score(STILL) == 1
    with pytest.raises(EvaluationError, match="no label in common"):
        LabelMeasure(fixed, with_values(moving, {7: 4})).score(STILL)


def test_labels_are_renamed() -> None:
    moving = label({1: np.s_[:5, :5, :5], 2: np.s_[6:9, :5, :5], 3: np.s_[10:12, :5, :5]})
    renamed = with_values(moving, {1: 2, 2: 9}).array
    assert (renamed[moving.array == 1] == 2).all()
    assert (renamed[moving.array == 2] == 9).all()
    assert set(np.unique(renamed)) == {0, 2, 9}


def test_landmarks_are_scored_by_their_mean_error() -> None:
    fixed = np.array([[0.0, 0, 0], [10, 0, 0]])
    measure = LandmarkMeasure(fixed, np.add(fixed, [[3, 4, 0], [3, 0, 0]]))
    assert measure.score(STILL) == pytest.approx(4)
    assert measure.score(CompositeTransform((AffineTransform.translation((3, 0, 0)),))) == pytest.approx(2)


@pytest.mark.parametrize("seed", range(3))
def test_a_known_motion_is_smooth_and_of_its_size(seed: int) -> None:
    motion = known_motion(GRID, seed)
    points = GRID.voxel_centers()[::2, ::2, ::2].reshape(-1, 3)
    field, shift = motion.parts
    assert np.linalg.norm(field.apply(points) - points, axis=1).max() == pytest.approx(BEND)
    assert np.linalg.norm(shift.apply(points) - points, axis=1) == pytest.approx(SHIFT)
    assert motion.determinant(points).min() > 0.2
    assert np.array_equal(known_motion(GRID, seed).apply(points), motion.apply(points))


@pytest.mark.parametrize("seed", range(3))
def test_a_slight_motion_is_of_its_size_on_average_and_moves_nothing_as_a_whole(seed: int) -> None:
    motion = slight_motion(GRID, seed)
    points = GRID.voxel_centers()[::2, ::2, ::2].reshape(-1, 3)
    lengths = np.linalg.norm(motion.apply(points) - points, axis=1)
    assert np.sqrt((lengths**2).mean()) == pytest.approx(SLIGHT)
    assert lengths.max() < 3 * SLIGHT
    assert motion.determinant(points).min() > 0.5


def test_the_error_of_most_points_or_of_the_middle_one() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [10, 0, 0]])
    stretch = CompositeTransform((AffineTransform(np.diag([2.0, 1, 1, 1])),))
    assert MotionMeasure(points, STILL).score(stretch) == pytest.approx(11 / 3)
    assert MotionMeasure(points, STILL, median=True).score(stretch) == 1


def test_a_motion_is_undone_by_its_inverse() -> None:
    motion = known_motion(GRID, 5)
    image = Volume(np.ones(GRID.shape, np.float32), GRID, "image")
    points = inner_points(image, GRID, motion, above=0)
    measure = MotionMeasure(points, motion)
    assert measure.score(STILL) == pytest.approx(np.linalg.norm(motion.apply(points) - points, axis=1).mean())
    assert GRID.contains(InverseTransform(motion).apply(points)).mean() > 0.95

    class Inverse:  # what a perfect registration would be, which no composite is
        apply = staticmethod(InverseTransform(motion).apply)

    assert measure.score(Inverse()) < 0.01  # type: ignore[arg-type]


def test_images_that_do_not_move_are_scored_by_what_is_moved() -> None:
    bright = np.zeros(GRID.shape, np.float32)
    bright[5:15, 10:30, 10:20] = 1
    points = inner_points(Volume(bright, GRID, "image"), GRID, STILL, above=0.5)
    assert len(points) == np.count_nonzero(bright[::3, ::3, ::3])
    assert MotionMeasure(points, STILL).score(CompositeTransform((AffineTransform.translation((0, 3, 4)),))) == 5
