"""Exact transforms against SimpleITK's own, and their derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from chains import (
    chain_grids,
    points_around,
    random_affine,
    random_bspline,
    random_chain,
    sitk_affine,
    sitk_apply,
    sitk_bspline,
    sitk_parts,
)
from dlir.errors import GeometryError, TransformError
from dlir.geometry import ImageGrid
from dlir.transforms import chain as module
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import Array, central_differences, random_grid

SEEDS = range(4)
TOLERANCE = 1e-4  # mm


def assert_relative(found: Array, expected: Array, relative: float = 1e-3) -> None:
    """Entries agree to a fraction of the largest one."""
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


# -- against SimpleITK -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_affine_matches_sitk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transform, points = random_affine(rng), rng.uniform(-300, 300, (100, 3))
    np.testing.assert_allclose(
        transform.apply(points), sitk_apply([sitk_affine(transform)], points), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_bspline_matches_sitk(seed: int) -> None:
    """Coefficients are large right up to the edge of the grid, so the field jumps where its domain ends."""
    rng = np.random.default_rng(seed)
    transform = random_bspline(rng, random_grid(rng), fraction=3.0)
    points = points_around(rng, transform.grid, 600)
    moved = transform.apply(points)
    still = (moved == points).all(1)
    assert 0.2 < still.mean() < 0.6
    np.testing.assert_allclose(moved, sitk_apply([sitk_bspline(transform)], points), rtol=0, atol=TOLERANCE)


def test_bspline_matches_sitk_exactly_where_its_domain_ends() -> None:
    grid = ImageGrid((5, 6, 7))  # unit spacing, so that the ends are hit without rounding
    transform = random_bspline(np.random.default_rng(0), grid, fraction=1.0)
    ends = np.stack(np.meshgrid([1.0, 3.0, 5.0], [1.0, 3.0, 4.0], [1.0, 2.0, 3.0], indexing="ij"), -1).reshape(-1, 3)
    moved = transform.apply(ends)
    assert (moved != ends).any(1).all()
    np.testing.assert_allclose(moved, sitk_apply([sitk_bspline(transform)], ends), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", SEEDS)
def test_three_stages_match_sitk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng, fraction=1.5, zero_layers=0)
    assert isinstance(chain.parts[0], BSplineTransform)
    points = points_around(rng, chain.parts[0].grid, 600)
    np.testing.assert_allclose(chain.apply(points), sitk_apply(sitk_parts(chain), points), rtol=0, atol=TOLERANCE)


# -- derivatives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_bspline_jacobian_matches_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transform = random_bspline(rng, random_grid(rng), fraction=1.5)
    size = np.array(transform.grid.size)
    # Away from the ends of the domain, where the field jumps.
    points = transform.grid.to_physical(rng.uniform(1.01, size - 2.01, (200, 3)))
    assert_relative(transform.jacobian(points), central_differences(transform.apply, points, 1e-3))


@pytest.mark.parametrize("seed", SEEDS)
def test_chain_jacobian_and_determinant_match_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng, fraction=1.5)
    assert isinstance(chain.parts[0], BSplineTransform)
    points = points_around(rng, chain.parts[0].grid, 300)
    numeric = central_differences(chain.apply, points, 1e-3)
    assert_relative(chain.jacobian(points), numeric)
    assert_relative(chain.determinant(points), np.linalg.det(numeric))
    np.testing.assert_allclose(chain.determinant(points), np.linalg.det(chain.jacobian(points)), rtol=1e-9, atol=1e-12)


def test_the_determinant_of_an_affine_is_the_same_everywhere() -> None:
    rng = np.random.default_rng(0)
    affine, points = random_affine(rng), rng.uniform(-300, 300, (50, 3))
    determinant = CompositeTransform((affine,)).determinant(points)
    np.testing.assert_allclose(determinant, np.linalg.det(affine.matrix[:3, :3]))


def test_outside_its_domain_a_bspline_has_the_identity_as_its_jacobian() -> None:
    rng = np.random.default_rng(1)
    transform = random_bspline(rng, random_grid(rng))
    far = transform.grid.to_physical([[-3.0, 2.0, 2.0], [2.0, 0.99, 2.0], [2.0, 2.0, 1e6]])
    np.testing.assert_array_equal(transform.jacobian(far), np.broadcast_to(np.eye(3), (3, 3, 3)))


# -- composition -------------------------------------------------------------------------------------


def test_the_first_part_is_applied_first() -> None:
    shift = AffineTransform.translation([10.0, 0.0, 0.0])
    double = AffineTransform(np.diag([2.0, 2.0, 2.0, 1.0]))
    point = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(CompositeTransform((shift, double)).apply(point), [[22.0, 4.0, 6.0]])
    np.testing.assert_allclose(CompositeTransform((double, shift)).apply(point), [[12.0, 4.0, 6.0]])


def test_the_matrix_of_linear_parts_maps_as_they_do() -> None:
    rng = np.random.default_rng(2)
    chain = CompositeTransform((random_affine(rng), random_affine(rng), random_affine(rng)))
    points = rng.uniform(-100, 100, (20, 3))
    assert chain.linear
    np.testing.assert_allclose(AffineTransform(chain.matrix).apply(points), chain.apply(points), atol=1e-9)


def test_a_deformable_chain_has_no_matrix() -> None:
    chain = random_chain(np.random.default_rng(3))
    assert not chain.linear
    with pytest.raises(TransformError, match="no matrix"):
        _ = chain.matrix


def test_no_parts_make_the_identity() -> None:
    nothing, points = CompositeTransform(()), np.random.default_rng(4).normal(size=(5, 3))
    assert nothing.linear
    np.testing.assert_array_equal(nothing.apply(points), points)
    np.testing.assert_array_equal(nothing.matrix, np.eye(4))
    np.testing.assert_array_equal(nothing.determinant(points), np.ones(5))


def test_points_are_evaluated_in_parts_and_none_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    transform = random_bspline(rng, chain_grids(rng)[0])
    points = points_around(rng, transform.grid, 70)
    whole, derivatives = transform.apply(points), transform.jacobian(points)
    monkeypatch.setattr(module, "_AT_ONCE", 32)
    np.testing.assert_allclose(transform.apply(points), whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(transform.jacobian(points), derivatives, rtol=0, atol=1e-12)
    assert transform.apply(points[:0]).shape == (0, 3)


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [np.eye(3), np.full((4, 4), np.nan)])
def test_a_matrix_that_is_none_is_refused(matrix: Array) -> None:
    with pytest.raises(TransformError, match="finite 4x4 matrix"):
        AffineTransform(matrix)


@pytest.mark.parametrize(
    ("shape", "grid_shape"), [((3, 5, 5, 6), (5, 5, 5)), ((2, 5, 5, 5), (5, 5, 5)), ((3, 3, 5, 5), (3, 5, 5))]
)
def test_coefficients_that_do_not_fit_are_refused(shape: tuple[int, ...], grid_shape: tuple[int, int, int]) -> None:
    with pytest.raises(GeometryError, match="do not fit a control grid"):
        BSplineTransform(np.zeros(shape), ImageGrid(grid_shape))


def test_coefficients_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(TransformError, match="not finite"):
        BSplineTransform(np.full((3, 4, 4, 4), np.inf), ImageGrid((4, 4, 4)))


def test_affine_parts_in_a_row_become_one_and_what_does_nothing_goes() -> None:
    rng = np.random.default_rng(0)
    (fine, coarse, _), turned = random_chain(rng).parts, [random_affine(rng) for _ in range(3)]
    still = AffineTransform(np.eye(4))
    chain = CompositeTransform((still, fine, turned[0], turned[1], coarse, still, fine, turned[2], still))
    joined = chain.joined()
    kinds = [type(part) for part in joined.parts]
    assert kinds == [BSplineTransform, AffineTransform, BSplineTransform, BSplineTransform, AffineTransform]
    assert joined.parts[0] is fine
    points = points_around(rng, coarse.grid, 100)
    np.testing.assert_allclose(joined.apply(points), chain.apply(points), atol=1e-9)
    assert CompositeTransform((still, still)).joined().parts == ()
