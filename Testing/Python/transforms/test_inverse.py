"""Points back through a transform: round trips where there is a way back, honest residuals where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from chains import chain_grids, random_affine, random_bspline, random_chain
from dlir.transforms.inverse import invert_points
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, SpatialTransform
from grids import Array

SEEDS = range(4)
TOLERANCE = 1e-4  # mm


def points_of(chain: CompositeTransform, rng: np.random.Generator, count: int) -> Array:
    """Fixed points in and around the domain of a chain."""
    assert isinstance(chain.parts[0], BSplineTransform)
    size = np.array(chain.parts[0].grid.size)
    return chain.parts[0].grid.to_physical(rng.uniform(-1, size, (count, 3)))


def true_residual(transform: SpatialTransform, points: Array, targets: Array) -> Array:
    residual: Array = np.linalg.norm(transform.apply(points) - targets, axis=1)
    return residual


@pytest.mark.parametrize("seed", SEEDS)
def test_an_affine_is_inverted_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine, points = random_affine(rng), rng.uniform(-300, 300, (50, 3))
    found = invert_points(affine, affine.apply(points))
    np.testing.assert_allclose(found.points, points, rtol=0, atol=1e-6)
    assert found.residual.max() < 1e-6


@pytest.mark.parametrize("scale", [1e-3, 0.05, 30.0])
def test_an_affine_that_changes_units_is_inverted(scale: float) -> None:
    affine, points = AffineTransform(np.diag([scale, scale, scale, 1])), np.random.default_rng(0).normal(0, 50, (20, 3))
    np.testing.assert_allclose(invert_points(affine, affine.apply(points)).points, points, rtol=0, atol=1e-2)


@pytest.mark.parametrize("seed", SEEDS)
def test_round_trip_through_a_fold_free_chain(seed: int) -> None:
    """Three stages at the bound of injectivity, every control point on its own."""
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    points = points_of(chain, rng, 500)
    assert chain.determinant(points).min() > 0
    found = invert_points(chain, chain.apply(points))
    assert found.residual.max() < TOLERANCE
    np.testing.assert_allclose(found.points, points, rtol=0, atol=1e-2)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_target_has_a_preimage_where_nothing_folds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    targets = chain.apply(points_of(chain, rng, 500)) + rng.normal(0, 5, (500, 3))
    found = invert_points(chain, targets)
    assert found.residual.max() < TOLERANCE
    np.testing.assert_allclose(found.residual, true_residual(chain, found.points, targets), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_residual_is_honest_in_folds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    folded = random_bspline(rng, chain_grids(rng)[1], fraction=3.0, zero_layers=3)
    points = points_of(CompositeTransform((folded,)), rng, 400)
    assert np.linalg.det(folded.jacobian(points)).min() < 0
    targets = folded.apply(points)
    found = invert_points(folded, targets)
    np.testing.assert_allclose(found.residual, true_residual(folded, found.points, targets), rtol=0, atol=1e-9)


def test_the_residual_is_the_distance_where_there_is_no_preimage() -> None:
    """A map onto the plane z = 0: points off the plane have no preimage, and their height is the residual."""
    flat = AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0]))
    targets = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, -6.0], [7.0, 8.0, 0.0]])
    found = invert_points(flat, targets)
    np.testing.assert_allclose(found.residual, [3.0, 6.0, 0.0], atol=1e-6)


def test_no_points_and_one_point() -> None:
    chain = random_chain(np.random.default_rng(9))
    nothing = invert_points(chain, np.zeros((0, 3)))
    assert nothing.points.shape == (0, 3)
    assert nothing.residual.shape == (0,)
    one = invert_points(chain, chain.apply(np.array([[1.0, 2.0, 3.0]]))[0])
    np.testing.assert_allclose(one.points, [[1.0, 2.0, 3.0]], atol=1e-2)


def test_targets_are_left_as_they_are() -> None:
    chain = random_chain(np.random.default_rng(10))
    targets = np.random.default_rng(11).uniform(-50, 50, (20, 3))
    before = targets.copy()
    invert_points(chain, targets)
    np.testing.assert_array_equal(targets, before)
