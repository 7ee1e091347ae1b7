"""Bending energy in closed form, by quadrature, and against finite differences of the field in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.losses.regularization import bending_energy, squared_divergence
from dlir.transforms.bspline import evaluate_lattice
from dlir.transforms.spatial import BSplineTransform
from grids import Array, make_grid

SPACING = (1.5, 2.0, 7.0)  # mm between control points
SHAPE = (6, 7, 8)


def control_points() -> Tensor:
    """(3, z, y, x): position of every control point in mm, components (x, y, z)."""
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SHAPE), indexing="ij")
    return torch.stack([x, y, z]) * torch.tensor(SPACING, dtype=torch.float64)[:, None, None, None]


# Where the domain begins and ends along (z, y, x): off the knots, and well inside the valid domain.
ENDS = [(1.2, 3.8), (1.45, 4.3), (1.0, 5.9)]


def energy(
    coefficients: Tensor,
    spacing: tuple[float, float, float] = SPACING,
    ends: Sequence[tuple[float, float]] = tuple(ENDS),
) -> Tensor:
    return bending_energy(coefficients, ends, torch.tensor([spacing], dtype=torch.float64))


def midpoints(ends: Sequence[tuple[float, float]], count: int) -> list[Tensor]:
    """Along (z, y, x), the middles of parts of the domain, `count` of which make a control spacing."""
    counts = [round((high - low) * count) for low, high in ends]
    return [
        low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
        for (low, high), n in zip(ends, counts, strict=True)
    ]


def sampled_energy(
    coefficients: Tensor, positions: Sequence[Tensor], spacing: tuple[float, float, float] = SPACING
) -> float:
    """The mean over a lattice of the squared second derivatives, term by term."""
    total = 0.0
    for first in range(3):
        for second in range(3):
            order = [(first == axis) + (second == axis) for axis in (2, 1, 0)]
            derivative = evaluate_lattice(coefficients, positions, order)
            total += derivative.square().sum(1).mean().item() / (spacing[first] * spacing[second]) ** 2
    return total


def test_a_linear_field_bends_nothing() -> None:
    matrix = torch.tensor([[1.1, 0.2, -0.3], [0.5, 0.7, 0.0], [-0.2, 0.1, 1.4]], dtype=torch.float64)
    field = torch.einsum("ij,jzyx->izyx", matrix, control_points()) + 12.0
    # Terms as large as the squares of what moves, up to 60 mm here, cancel.
    assert energy(field[None]).item() == pytest.approx(0, abs=1e-12)


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
    together = bending_energy(fields, ENDS, spacings)
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
    nodes, weights = np.polynomial.legendre.leggauss(4)  # within one interval between knots, exact
    ends = [(2.1, 2.9), (3.0, 3.6), (4.2, 5.0)]
    axes = [(low + high) / 2 + (high - low) / 2 * nodes for low, high in reversed(ends)]
    points = grid.to_physical(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))
    share, h = np.einsum("i,j,k->ijk", weights, weights, weights).ravel() / 8, 1e-3
    total = 0.0
    for a in h * np.eye(3):
        for b in h * np.eye(3):
            corners = [s * t * (transform.apply(points + s * a + t * b)) for s in (1, -1) for t in (1, -1)]
            total += (share * ((sum(corners) / (4 * h**2)) ** 2).sum(1)).sum()
    found = energy(torch.from_numpy(transform.coefficients)[None], ends=ends)
    assert found.item() == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", [SPACING, (1.0, 1.0, 1.0), (12.5, 0.4, 3.0)])
def test_energy_is_the_limit_of_ever_denser_sums(seed: int, spacing: tuple[float, float, float]) -> None:
    """Midpoint sums on three lattices, extrapolated: what is left of their error falls with the sixth power."""
    coefficients = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 3, *SHAPE)))
    ends = [(1.0, 4.0), (1.5, 4.25), (1.25, 5.75)]  # whole parts of the lattices lie between any two knots
    coarse, middle, fine = (sampled_energy(coefficients, midpoints(ends, n), spacing) for n in (4, 8, 16))
    once, better = middle + (middle - coarse) / 3, fine + (fine - middle) / 3
    assert energy(coefficients, spacing, ends).item() == pytest.approx(better + (better - once) / 15, rel=1e-6)


@pytest.mark.parametrize("ends", [ENDS, [(1.0, 4.0), (1.0, 5.0), (1.0, 6.0)], [(2.3, 2.4), (3.0, 3.7), (2.5, 3.5)]])
def test_a_known_polynomial_has_its_known_energy(ends: list[tuple[float, float]]) -> None:
    """u = a x^3: second derivative 6 a x, whose square has the mean 12 a^2 (h^2 + h l + l^2) over [l, h].

    Coefficients of x^3 are c^3 - c at the control point c, of which the term in c is linear and bends nothing.
    """
    for axis, (spacing, size) in enumerate(zip(SPACING, SHAPE[::-1], strict=True)):
        c = torch.arange(size, dtype=torch.float64)
        along = 0.3 * spacing**3 * (c**3 - c).reshape([-1 if a == axis else 1 for a in (2, 1, 0)])
        low, high = ends[2 - axis]
        expected = 12 * 0.3**2 * spacing**2 * (high**2 + high * low + low**2)
        for component in range(3):
            field = torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
            field[0, component] = along
            assert energy(field, ends=ends).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_two_midpoints_a_spacing_would_miss_a_tenth(seed: int) -> None:
    """What training summed before: the squares bend upwards between the knots, so a midpoint rule is too small."""
    shape, spacing = (12, 13, 14), (1.0, 1.0, 1.0)
    coefficients = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 3, *shape)))
    ends = [(1.0, n - 2.0) for n in shape]
    share = sampled_energy(coefficients, midpoints(ends, 2), spacing) / energy(coefficients, spacing, ends).item()
    assert 0.88 < share < 0.94


def test_gradients_match_finite_differences() -> None:
    coefficients = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 4, 4, 5))).requires_grad_()
    ends = [(1.0, 1.4), (1.5, 1.75), (1.2, 2.6)]
    spacing = torch.tensor([SPACING, (1.0, 1.0, 1.0)], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda c: bending_energy(c, ends, spacing), (coefficients,))


# -- change of volume ---------------------------------------------------------------------------------

PLACES = [torch.linspace(low, high, 5, dtype=torch.float64) for low, high in ENDS]


@pytest.mark.parametrize(
    ("linear", "divergence"),
    [
        (np.diag([0.1, 0.2, -0.05]), 0.25),
        (np.diag([0.1, 0.1, -0.2]), 0.0),  # as much is gained as is lost
        (np.array([[0, 0.3, 0.1], [-0.2, 0, 0], [0.4, 0, 0]]), 0.0),
    ],
)
def test_of_a_linear_field_it_is_the_squared_trace(linear: Array, divergence: float) -> None:
    z, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SHAPE), indexing="ij")
    field = torch.einsum("ij,jzyx->izyx", torch.from_numpy(linear), torch.stack([x, y, z]))[None]
    assert squared_divergence(field, PLACES).item() == pytest.approx(divergence**2, abs=1e-12)


def test_the_divergence_is_that_of_finite_differences() -> None:
    field = torch.randn(2, 3, *SHAPE, dtype=torch.float64, generator=torch.manual_seed(0))
    step, total = 1e-5, torch.zeros(2, 5, 5, 5, dtype=torch.float64)
    for axis in range(3):
        moved = [[p + sign * step * (axis == 2 - own) for own, p in enumerate(PLACES)] for sign in (1, -1)]
        ahead, behind = (evaluate_lattice(field, places)[:, axis] for places in moved)
        total += (ahead - behind) / (2 * step)
    torch.testing.assert_close(squared_divergence(field, PLACES), total.square().mean((1, 2, 3)))
