"""What rises and falls with another image is told from what only rises, whatever the curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlir.optimization.contrast import rising, turning
from grids import Array

CURVES: list[tuple[Callable[[Array], Array], bool]] = [
    (lambda x: 3 * x - 1, False),
    (lambda x: x**4, False),
    (lambda x: np.floor(5 * x), False),
    (lambda x: np.sin(6 * x), True),
    (lambda x: 1 - x, True),
    (lambda x: np.abs(x - 0.3), True),
]


@pytest.mark.parametrize(("curve", "turns"), CURVES)
@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("count", [500, 30_000])
def test_a_curve_that_turns_is_found(curve: Callable[[Array], Array], turns: bool, spread: float, count: int) -> None:
    """Beside noise, and of few voxels."""
    rng = np.random.default_rng(0)
    image = rng.uniform(size=count) ** 2
    other = curve(image)
    other = other + spread * other.std() * rng.normal(size=count)
    assert (turning(image, other) > 0.001) == turns
    assert turning(other, image) == turning(image, other)


def test_images_without_relation_do_not_turn() -> None:
    rng = np.random.default_rng(0)
    assert turning(rng.normal(size=20_000), rng.normal(size=20_000)) < 0.001


@pytest.mark.parametrize("image", [np.zeros(0), np.zeros(50), np.repeat([0.0, 1.0], 30)])
def test_what_has_hardly_any_values_does_not(image: Array) -> None:
    assert turning(image, image) <= 0


def test_the_nearest_that_rises() -> None:
    """By trying: no other values that never fall are nearer."""
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=4), rng.integers(1, 5, 4)
    found = rising(values, weights)
    assert (np.diff(found) >= 0).all()
    tried = np.sort(found + rng.normal(scale=rng.choice([0.01, 0.3], (20_000, 1)), size=(20_000, 4)), axis=1)
    assert (weights * (found - values) ** 2).sum() <= (weights * (tried - values) ** 2).sum(1).min() + 1e-12
    np.testing.assert_array_equal(rising(np.arange(5.0), np.ones(5, int)), np.arange(5.0))
    np.testing.assert_allclose(rising(np.array([3.0, 1.0]), np.array([1, 3])), [1.5, 1.5])
