"""Folding and the spread of the Jacobian determinant against hand-computed values."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest

from dlir.errors import GeometryError
from dlir.metrics.folding import jacobian_statistics, log_jacobian_sd


def test_jacobian_statistics_by_hand() -> None:
    statistics = jacobian_statistics(np.array([[[-1.0, 0.0], [2.0, 3.0]]]))
    assert astuple(statistics) == (0.5, 2, 1.0, math.sqrt((4 + 1 + 1 + 4) / 4), -1.0, 3.0)


def test_jacobian_statistics_inside_a_mask() -> None:
    determinant = np.array([[[-1.0, 0.5], [1.5, 9.0]]])
    statistics = jacobian_statistics(determinant, np.array([[[0, 1], [1, 0]]]))
    assert astuple(statistics) == (0, 0, 1.0, 0.5, 0.5, 1.5)
    with pytest.raises(GeometryError, match="does not fit determinants"):
        jacobian_statistics(determinant, np.ones((2, 2, 2)))


def test_a_determinant_that_is_not_finite_counts_as_folding() -> None:
    statistics = jacobian_statistics([1.0, math.nan, math.inf, 1.0])
    assert astuple(statistics) == (0.5, 2, 1.0, 0.0, 1.0, 1.0)
    assert jacobian_statistics([math.nan]).folding_fraction == 1


def test_jacobian_statistics_of_no_voxels_are_undefined() -> None:
    statistics = jacobian_statistics(np.ones((2, 2, 2)), np.zeros((2, 2, 2)))
    assert statistics.folding_count == 0
    assert math.isnan(statistics.folding_fraction)
    assert math.isnan(statistics.sd)


def test_halving_and_doubling_weigh_alike_in_the_logarithm() -> None:
    assert log_jacobian_sd([0.5, 2.0]) == pytest.approx(math.log(2))
    assert log_jacobian_sd([3.0, 3.0, 3.0]) == 0
    values = np.random.default_rng(0).uniform(0.1, 3, (4, 5, 6))
    assert log_jacobian_sd(values) == pytest.approx(np.std(np.log(values)))


def test_folded_voxels_have_no_logarithm() -> None:
    assert log_jacobian_sd([0.5, 2.0, 0.0, -1.0, math.nan, math.inf]) == log_jacobian_sd([0.5, 2.0])
    assert math.isnan(log_jacobian_sd([-1.0, 0.0]))
    assert math.isnan(log_jacobian_sd([]))


def test_the_logarithm_inside_a_mask() -> None:
    values = np.array([[[0.5, 9.0], [2.0, -1.0]]])
    assert log_jacobian_sd(values, [[[1, 0], [1, 1]]]) == pytest.approx(math.log(2))
    with pytest.raises(GeometryError, match="does not fit"):
        log_jacobian_sd(values, np.ones((2, 2)))
