"""Landmark errors against hand-computed values."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from dlir.errors import GeometryError
from dlir.metrics.landmarks import error_statistics, landmark_distances


def test_landmark_errors_by_hand() -> None:
    reference = np.array([[10.0, -5.0, 3.0]] * 5)
    shift = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 3, 4]])
    errors = error_statistics(landmark_distances(reference + shift, reference))
    sd = math.sqrt(sum((e - 2.2) ** 2 for e in (0, 1, 2, 3, 5)) / 5)
    assert astuple(errors) == pytest.approx((5, 2.2, sd, 1, 2, 3, 5))


def test_errors_of_a_list_of_distances_are_those_of_its_points() -> None:
    rng = np.random.default_rng(1)
    points, targets = rng.normal(size=(2, 30, 3))
    distances = landmark_distances(points, targets)
    assert distances.shape == (30,)
    assert distances[3] == pytest.approx(math.dist(points[3], targets[3]))
    assert error_statistics(distances) == error_statistics(landmark_distances(points, targets))


def test_landmark_errors_of_no_points_are_undefined() -> None:
    errors = error_statistics(landmark_distances(np.empty((0, 3)), np.empty((0, 3))))
    assert errors.count == 0
    assert math.isnan(errors.mean)


@pytest.mark.parametrize("shape", [(4, 3), (3,), (5, 2)])
def test_landmark_lists_that_do_not_correspond_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="landmark lists"):
        error_statistics(landmark_distances(np.zeros((5, 3)), np.zeros(shape)))
