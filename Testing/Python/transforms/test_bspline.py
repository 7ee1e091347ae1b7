"""The separable B-spline of §2.2 against its dense 3-D kernel, its own derivatives and known sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.transforms.bspline import (
    EDGE_LAYERS,
    PADDING,
    ZERO_LAYERS,
    basis,
    basis_matrix,
    control_positions,
    evaluate_lattice,
    evaluate_points,
    expand,
    pad_coefficients,
)

SPACINGS = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 2, 4), (8, 4, 1), (5, 3, 2), (2, 7, 1)]


def random_coefficients(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def random_positions(size: int, count: int, seed: int = 0) -> Tensor:
    """Positions in the valid domain of `size` control points, both ends and every control point included."""
    inner = np.random.default_rng(seed).uniform(1, size - 2, count)
    return torch.from_numpy(np.concatenate([inner, np.arange(1, size - 1)]))


def dense_reference(padded: Tensor, spacing: tuple[int, int, int], shape: tuple[int, int, int]) -> Tensor:
    """§2.2 as written: one transposed convolution with the 3-D kernel, sampled where voxels lie from a control point.

    padded: (B, C, gz, gy, gx), PADDING control points before the first cell. spacing: voxels (x, y, z).
    """
    weights, crop = [], []
    for s, n in zip(spacing[::-1], shape, strict=True):
        # Control point 0 of the first cell lies half a voxel off where s is even, and so do all voxels from it.
        center = 2 * s - 1 + ((s - 1) / 2) % 1
        weights.append(basis((torch.arange(4 * s, dtype=torch.float64) - center) / s))
        first = round(PADDING * s - (s - 1) / 2 + center)
        crop.append(slice(first, first + n))
    kernel = torch.einsum("z,y,x->zyx", *weights)
    channels = padded.shape[1]
    dense = F.conv_transpose3d(padded, kernel.repeat(channels, 1, 1, 1, 1), stride=spacing[::-1], groups=channels)
    return dense[:, :, crop[0], crop[1], crop[2]]


# -- the basis ---------------------------------------------------------------------------------------


def test_basis_has_its_known_values() -> None:
    offsets = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0, -3.0], dtype=torch.float64)
    torch.testing.assert_close(basis(offsets), torch.tensor([2 / 3, 1 / 6, 1 / 6, 23 / 48, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize(("derivative", "total"), [(0, 1.0), (1, 0.0), (2, 0.0)])
def test_basis_sums_to_one_and_its_derivatives_to_zero(derivative: int, total: float) -> None:
    weights = basis_matrix(random_positions(9, 50), 9, derivative)
    torch.testing.assert_close(weights.sum(1), torch.full((len(weights),), total, dtype=torch.float64))


@pytest.mark.parametrize("derivative", [1, 2])
def test_basis_derivatives_match_finite_differences(derivative: int) -> None:
    offsets, h = torch.linspace(-2.5, 2.5, 997, dtype=torch.float64), 1e-5
    numeric = (basis(offsets + h, derivative - 1) - basis(offsets - h, derivative - 1)) / (2 * h)
    torch.testing.assert_close(basis(offsets, derivative), numeric, rtol=0, atol=2 * h)


def test_a_linear_sequence_of_coefficients_is_reproduced() -> None:
    positions = random_positions(8, 20)
    slope = 3 * torch.arange(8, dtype=torch.float64) - 5
    torch.testing.assert_close(basis_matrix(positions, 8) @ slope, 3 * positions - 5)
    torch.testing.assert_close(basis_matrix(positions, 8, 1) @ slope, torch.full_like(positions, 3))


# -- dense fields ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
def test_lattice_equals_the_dense_transposed_convolution(spacing: tuple[int, int, int]) -> None:
    cells = (3, 2, 4)
    padded = pad_coefficients(random_coefficients((2, 3, *cells)))
    shape = tuple(n * s for n, s in zip(cells, spacing[::-1], strict=True))
    positions = [
        control_positions(torch.arange(n, dtype=torch.float64), s) for n, s in zip(shape, spacing[::-1], strict=True)
    ]
    expected = dense_reference(padded, spacing, shape)  # type: ignore[arg-type]
    assert expected.shape == (2, 3, *shape)
    torch.testing.assert_close(evaluate_lattice(padded, positions), expected, rtol=0, atol=1e-12)


def test_expand_applies_one_matrix_per_axis() -> None:
    field, matrices = (
        random_coefficients((2, 3, 4, 5, 6)),
        [random_coefficients((n, m)) for n, m in ((7, 4), (2, 5), (3, 6))],
    )
    torch.testing.assert_close(expand(field, matrices), torch.einsum("bczyx,iz,jy,kx->bcijk", field, *matrices))


@pytest.mark.parametrize("spacing", [1, 2, 3, 8])
def test_control_points_sit_in_the_middle_of_their_cells(spacing: int) -> None:
    for cell in range(3):
        voxels = torch.arange(cell * spacing, (cell + 1) * spacing, dtype=torch.float64)
        assert control_positions(voxels, spacing).mean().item() == pytest.approx(cell + PADDING)


def test_padding_repeats_the_edge_then_vanishes() -> None:
    coefficients = random_coefficients((1, 3, 2, 3, 4))
    padded = pad_coefficients(coefficients)
    core = padded[..., PADDING:-PADDING, PADDING:-PADDING, PADDING:-PADDING]
    assert torch.equal(core, coefficients)
    edge = padded[..., ZERO_LAYERS:-ZERO_LAYERS, ZERO_LAYERS:-ZERO_LAYERS, ZERO_LAYERS:-ZERO_LAYERS]
    assert torch.equal(edge, F.pad(coefficients, (EDGE_LAYERS,) * 6, mode="replicate"))
    assert padded.abs().sum() == edge.abs().sum()


def test_field_and_its_derivatives_vanish_where_the_padded_grid_ends() -> None:
    padded = pad_coefficients(random_coefficients((1, 3, 2, 3, 4)))
    inner = [torch.linspace(1, n - 2, 15, dtype=torch.float64) for n in padded.shape[2:]]
    for axis, order in itertools.product(range(3), range(3)):
        ends = torch.tensor([1, padded.shape[2 + axis] - 2], dtype=torch.float64)
        positions = [ends if a == axis else p for a, p in enumerate(inner)]
        derivative = [order if a == axis else 0 for a in range(3)]
        assert evaluate_lattice(padded, positions, derivative).abs().max() < 1e-14


# -- single points -----------------------------------------------------------------------------------


def lattice_points(positions: list[Tensor]) -> Tensor:
    """(1, 3, N), rows x, y and z, of a lattice given along (z, y, x)."""
    z, y, x = torch.meshgrid(*positions, indexing="ij")
    return torch.stack([x, y, z]).flatten(1)[None]


def test_points_equal_the_lattice() -> None:
    coefficients = random_coefficients((2, 3, 5, 6, 7))
    positions = [random_positions(n, 4, seed=n) for n in (5, 6, 7)]
    dense = evaluate_lattice(coefficients, positions)
    (points,) = evaluate_points(coefficients, lattice_points(positions).expand(2, -1, -1))
    torch.testing.assert_close(points, dense.flatten(2), rtol=0, atol=1e-12)


def test_derivatives_at_points_equal_the_lattice() -> None:
    coefficients = random_coefficients((1, 3, 5, 6, 7))
    positions = [random_positions(n, 4, seed=n) for n in (5, 6, 7)]
    jacobian = evaluate_points(coefficients, lattice_points(positions), wanted="jacobian")[1]
    for axis, derivative in enumerate(((0, 0, 1), (0, 1, 0), (1, 0, 0))):
        dense = evaluate_lattice(coefficients, positions, derivative)[0].flatten(1)
        dense[axis] += 1  # that of x itself
        torch.testing.assert_close(jacobian[0, :, axis], dense, rtol=0, atol=1e-12)


def test_points_beyond_the_valid_domain_stay() -> None:
    coefficients = random_coefficients((1, 3, 5, 6, 7)) + 10
    middle = torch.tensor([3.0, 2.5, 2.0], dtype=torch.float64)
    for axis, size in enumerate((7, 6, 5)):
        for outside in (-np.inf, -1e6, -0.5, 0.999, size - 1.999, size + 3.0, 1e30):
            point = middle.clone()
            point[axis] = outside
            value, jacobian = evaluate_points(coefficients, point[None, :, None], wanted="jacobian")
            assert not value.any()
            assert torch.equal(jacobian[0, ..., 0], torch.eye(3, dtype=torch.float64))
    assert (evaluate_points(coefficients, middle[None, :, None])[0] > 1).all()


def test_the_smallest_grid_has_one_interval() -> None:
    coefficients = torch.full((1, 3, 4, 4, 4), 2.5, dtype=torch.float64)
    points = torch.tensor([[1.0, 1.0, 1.0], [1.5, 1.2, 1.9], [2.0, 2.0, 2.0]], dtype=torch.float64).T[None]
    (found,) = evaluate_points(coefficients, points)
    torch.testing.assert_close(found, torch.full((1, 3, 3), 2.5, dtype=torch.float64))


def test_cells_too_many_for_single_precision_are_told_apart() -> None:
    # 42 million control points, all of one row in memory.
    row = torch.randn(2201, generator=torch.Generator().manual_seed(0))
    points = torch.rand(1, 3, 1000, generator=torch.Generator().manual_seed(1))
    control = 1 + points * torch.tensor([2195.0, 1595.0, 8.9])[:, None]
    (found,) = evaluate_points(row.expand(1, 3, 12, 1600, 2201), control)
    (expected,) = evaluate_points(
        row.double().expand(1, 3, 4, 4, 2201), torch.cat([control[:, :1], 1 + points[:, 1:]], 1)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# -- bounds ------------------------------------------------------------------------------------------


def test_stripes_bend_by_four_times_their_height() -> None:
    """Coefficients that alternate along x bend by their second difference at control points."""
    stripes = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).expand(1, 3, 5, 6, 8)
    positions = [torch.tensor([2.0], dtype=torch.float64)] * 3
    torch.testing.assert_close(evaluate_lattice(stripes, positions, (0, 0, 2)).abs().max().item(), 4.0)
