"""Bending energy with analytic answers, and against finite differences of the field in millimetres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.losses.regularization import bending_energy
from dlir.transforms.spatial import BSplineTransform
from grids import make_grid

SPACING = (1.5, 2.0, 7.0)  # mm between control points
SHAPE = (6, 7, 8)


def control_points() -> Tensor:
    """(3, z, y, x): position of every control point in mm, components (x, y, z)."""
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SHAPE), indexing="ij")
    return torch.stack([x, y, z]) * torch.tensor(SPACING, dtype=torch.float64)[:, None, None, None]


def lattice(count: int = 5) -> list[Tensor]:
    """Positions along (z, y, x) well inside the valid domain."""
    return [torch.linspace(1.2, n - 2.2, count, dtype=torch.float64) for n in SHAPE]


def energy(coefficients: Tensor, spacing: tuple[float, float, float] = SPACING) -> Tensor:
    return bending_energy(coefficients, lattice(), torch.tensor([spacing], dtype=torch.float64))


def test_a_linear_field_bends_nothing() -> None:
    matrix = torch.tensor([[1.1, 0.2, -0.3], [0.5, 0.7, 0.0], [-0.2, 0.1, 1.4]], dtype=torch.float64)
    field = torch.einsum("ij,jzyx->izyx", matrix, control_points()) + 12.0
    assert energy(field[None]).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("component", range(3))
def test_a_square_has_second_derivative_two(axis: int, component: int) -> None:
    """u = a x^2 bends by (2a)^2 everywhere, in 1/mm^2, whatever the spacing of the control points."""
    field = torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    field[0, component] = 0.3 * control_points()[axis] ** 2
    assert energy(field).item() == pytest.approx(0.6**2)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_a_mixed_product_counts_twice(first: int, second: int) -> None:
    """u = a x y: the mixed derivative a stands twice in the energy."""
    points, field = control_points(), torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    field[0, 1] = 0.3 * points[first] * points[second]
    assert energy(field).item() == pytest.approx(2 * 0.3**2)


def test_components_add_up() -> None:
    points = control_points()
    field = torch.stack([0.1 * points[0] ** 2, 0.2 * points[1] ** 2, 0.3 * points[0] * points[2]])[None]
    assert energy(field).item() == pytest.approx(0.2**2 + 0.4**2 + 2 * 0.3**2)


def test_a_batch_keeps_its_own_spacings() -> None:
    fields = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, *SHAPE)))
    spacings = torch.tensor([SPACING, (3.0, 4.0, 14.0)], dtype=torch.float64)
    together = bending_energy(fields, lattice(), spacings)
    assert together.shape == (2,)
    assert together[0].item() == pytest.approx(energy(fields[:1]).item())
    # Twice as far apart, second derivatives are a quarter, their squares a sixteenth.
    assert together[1].item() == pytest.approx(energy(fields[1:]).item() / 16)


@pytest.mark.parametrize("seed", range(3))
def test_energy_matches_finite_differences_in_mm(seed: int) -> None:
    """On an oblique grid: the energy does not depend on the axes in which it is taken."""
    rng = np.random.default_rng(seed)
    grid: ImageGrid = make_grid(SHAPE, SPACING, tuple(rng.uniform(-50, 50, 3)), tuple(rng.uniform(-3, 3, 3)))
    transform = BSplineTransform(rng.normal(size=(3, *SHAPE)), grid)
    axes = np.meshgrid(*(p.numpy() for p in reversed(lattice(4))), indexing="ij")
    points, h = grid.to_physical(np.stack(axes, -1).reshape(-1, 3)), 1e-3
    total = 0.0
    for a in h * np.eye(3):
        for b in h * np.eye(3):
            corners = [s * t * transform.displacement(points + s * a + t * b) for s in (1, -1) for t in (1, -1)]
            total += ((sum(corners) / (4 * h**2)) ** 2).sum(1).mean()
    found = bending_energy(
        torch.from_numpy(transform.coefficients)[None], lattice(4), torch.tensor([SPACING], dtype=torch.float64)
    )
    assert found.item() == pytest.approx(total, rel=1e-3)


def test_gradients_match_finite_differences() -> None:
    coefficients = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 4, 4, 5))).requires_grad_()
    positions = [torch.tensor([1.0, 1.4]), torch.tensor([1.5]), torch.tensor([1.2, 2.6])]
    spacing = torch.tensor([SPACING, (1.0, 1.0, 1.0)], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c: bending_energy(c, positions, spacing), (coefficients,))
