"""The 12 parameters of §2.1 against SimpleITK's rotation and matrices written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from dlir.transforms.affine import affine_matrix, joins_centers, linear_part, transform_points
from grids import random_grid

IDENTITY = [0.0] * 6 + [1.0] * 3 + [0.0] * 3


def parameters(**values: tuple[float, float, float]) -> Tensor:
    """(1, 12): the identity but for the named triples."""
    row = torch.tensor([IDENTITY], dtype=torch.float64)
    for i, name in enumerate(("translation", "rotation", "scale", "shear")):
        if name in values:
            row[0, 3 * i : 3 * i + 3] = torch.tensor(values[name])
    return row


def random_parameters(rng: np.random.Generator, batch: int) -> Tensor:
    translation = rng.normal(0, 30, (batch, 3))
    rotation, shear = rng.uniform(-np.pi, np.pi, (2, batch, 3))
    return torch.from_numpy(np.hstack([translation, rotation, rng.uniform(0.5, 1.5, (batch, 3)), shear]))


def test_the_identity_is_the_identity() -> None:
    center = torch.tensor([[12.0, -7.0, 103.0]], dtype=torch.float64)
    torch.testing.assert_close(affine_matrix(parameters(), center)[0], torch.eye(4, dtype=torch.float64))


def test_rigid_parameters_match_sitk() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        angles, translation = rng.uniform(-np.pi, np.pi, 3), rng.normal(0, 30, 3)
        center, points = rng.uniform(-200, 200, 3), rng.uniform(-300, 300, (20, 3))
        euler = sitk.Euler3DTransform(center.tolist(), *angles.tolist(), translation.tolist())
        euler.SetComputeZYX(True)
        expected = np.array([euler.TransformPoint(p.tolist()) for p in points])
        matrix = affine_matrix(
            parameters(rotation=tuple(angles), translation=tuple(translation)), torch.from_numpy(center)[None]
        )
        found = transform_points(matrix, torch.from_numpy(points)[None])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_scale_and_shear_by_hand() -> None:
    linear = linear_part(parameters(scale=(0.5, 1.5, 1.2), shear=(0.1, 0.2, 0.3)))[0]
    by_hand = np.array([[0.5, 0.1 * 1.5, 0.2 * 1.2], [0, 1.5, 0.3 * 1.2], [0, 0, 1.2]])
    np.testing.assert_allclose(linear, by_hand, atol=1e-12)


def test_rotation_comes_after_shear_and_scale() -> None:
    values = random_parameters(np.random.default_rng(1), 4)
    rigid, rest = values.clone(), values.clone()
    rigid[:, 6:] = torch.tensor(IDENTITY[6:])
    rest[:, :6] = 0
    torch.testing.assert_close(linear_part(values), linear_part(rigid) @ linear_part(rest))


def test_the_determinant_is_the_product_of_the_scales() -> None:
    """Rotations and shears keep volume, so an affine never folds: every scale is at least a half."""
    values = random_parameters(np.random.default_rng(2), 50)
    torch.testing.assert_close(torch.linalg.det(linear_part(values)), values[:, 6:9].prod(1))


def test_the_center_moves_by_the_translation_alone() -> None:
    values = random_parameters(np.random.default_rng(3), 5)
    center = torch.from_numpy(np.array([random_grid(np.random.default_rng(i)).center for i in range(5)]))
    moved = transform_points(affine_matrix(values, center), center[:, None])[:, 0]
    torch.testing.assert_close(moved, center + values[:, :3])


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 3, 4, 5, 3)])
def test_points_of_any_shape(shape: tuple[int, ...]) -> None:
    matrix = affine_matrix(random_parameters(np.random.default_rng(4), 2), torch.zeros(2, 3, dtype=torch.float64))
    points = torch.from_numpy(np.random.default_rng(5).normal(size=shape))
    expected = torch.einsum("bij,b...j->b...i", matrix, torch.cat([points, torch.ones_like(points[..., :1])], -1))
    torch.testing.assert_close(transform_points(matrix, points), expected[..., :3])


@pytest.mark.parametrize(
    ("change", "joined"),
    [
        (parameters(), True),
        (parameters(scale=(1.2, 0.8, 1.0)), True),
        (parameters(translation=(0.05, 0, 0)), True),
        (parameters(translation=(0, 0.2, 0)), False),
        (parameters(rotation=(0, 0, 0.02)), False),
        (parameters(rotation=(0, 0, 0.002)), True),
        (parameters(shear=(0, 0, 0.05)), False),
    ],
)
def test_centers_that_a_map_joins(change: Tensor, joined: bool) -> None:
    """Between grids of unequal size, in voxels: a turn counts by what it moves at the border."""
    sizes, moving_sizes = torch.tensor([[30, 40, 20]]), torch.tensor([[25, 44, 19]])
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = (moving_sizes - sizes)[0] / 2
    matrix = shift @ affine_matrix(change, (sizes.double() - 1) / 2)
    assert joins_centers(matrix, sizes, moving_sizes).tolist() == [joined]


def test_gradients_reach_every_parameter() -> None:
    values = random_parameters(np.random.default_rng(6), 2).requires_grad_()
    center = torch.full((2, 3), 5.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(affine_matrix, (values, center))
