"""Displacement fields as transforms, against SimpleITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.errors import GeometryError
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.spatial import CompositeTransform, DisplacementTransform
from grids import Array, central_differences, index_points, make_grid, random_grid


def random_field(seed: int) -> DisplacementTransform:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng)
    return DisplacementTransform(rng.normal(0, 3, (*grid.shape, 3)).astype(np.float32), grid)


def inner_points(field: DisplacementTransform, count: int = 200) -> Array:
    low, high = np.full(3, 0.01), np.array(field.grid.size) - 1.01
    return field.grid.to_physical(np.random.default_rng(1).uniform(low, high, (count, 3)))


@pytest.mark.parametrize("seed", range(4))
def test_points_go_where_simpleitk_sends_them(seed: int) -> None:
    field = random_field(seed)
    image = field.grid.to_sitk(field.field.astype(np.float64), is_vector=True)
    reference = sitk.DisplacementFieldTransform(image)
    index = index_points(np.random.default_rng(2), np.full(3, -0.5), np.array(field.grid.size) - 0.5, 300)
    points = field.grid.to_physical(index)
    expected = np.array([reference.TransformPoint(point.tolist()) for point in points])
    np.testing.assert_allclose(field.apply(points), expected, atol=1e-5)


def test_a_linear_field_has_its_own_derivative_everywhere() -> None:
    grid = make_grid((6, 7, 8), (1.2, 2.0, 3.5), (5, -8, 30), (0.3, -0.4, 0.9))
    slope = np.array([[0.1, 0.02, 0], [-0.03, 0.2, 0.05], [0, 0.04, -0.1]])
    field = DisplacementTransform((grid.voxel_centers() @ slope.T).astype(np.float32), grid)
    points = inner_points(field)
    np.testing.assert_allclose(field.jacobian(points), np.broadcast_to(np.eye(3) + slope, (200, 3, 3)), atol=1e-4)
    determinant = jacobian_map(CompositeTransform((field,)), grid)
    np.testing.assert_allclose(determinant, np.linalg.det(np.eye(3) + slope), atol=1e-4)


def test_the_derivative_of_a_smooth_field_is_near_the_true_one() -> None:
    grid = make_grid((20, 22, 24), (1.0, 1.2, 1.5), angles=(0.2, 0.1, -0.3))
    waves = np.array([0.06, 0.08, 0.05])

    def smooth(points: Array) -> Array:
        return points + 2 * np.sin(points @ np.diag(waves)) * np.array([1, -1, 1])

    centers = grid.voxel_centers().reshape(-1, 3)
    field = DisplacementTransform((smooth(centers) - centers).reshape(*grid.shape, 3).astype(np.float32), grid)
    points = grid.to_physical(np.random.default_rng(0).uniform(1, 18, (100, 3)))
    np.testing.assert_allclose(field.jacobian(points), central_differences(smooth, points, 1e-4), atol=0.01)


def test_nothing_moves_outside() -> None:
    field = random_field(5)
    points = field.grid.to_physical(np.array([[-3.0, 0, 0], [0, 0, 100]]))
    np.testing.assert_array_equal(field.apply(points), points)
    np.testing.assert_array_equal(field.jacobian(points), np.broadcast_to(np.eye(3), (2, 3, 3)))


def test_a_single_slice_is_a_grid_too() -> None:
    grid = make_grid((1, 4, 5))
    field = DisplacementTransform(np.ones((1, 4, 5, 3), np.float32), grid)
    points = grid.to_physical(np.array([[1.5, 2.5, 0.0]]))
    np.testing.assert_allclose(field.apply(points), points + 1)
    np.testing.assert_allclose(field.jacobian(points), np.eye(3)[None])


def test_a_field_of_another_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="does not fit"):
        DisplacementTransform(np.zeros((2, 3, 4, 3), np.float32), make_grid((2, 3, 5)))
