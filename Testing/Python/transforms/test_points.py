"""A B-spline at any points: cell by cell and by look-ups it is the sum over 64 taps, wherever the points lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import brute_force
from dlir.transforms import cells
from dlir.transforms.bspline import evaluate_points
from dlir.transforms.cells import Wanted, evaluate_cells
from grids import Array

SHAPES = [(4, 4, 4), (5, 6, 7), (4, 9, 5), (12, 4, 4)]
SCALING = np.diag([0.5, 1.25, -0.75])
TURNING = np.array([[0.5, 0.1, -0.2], [0.3, 0.8, 0.1], [-0.1, 0.2, -0.7]])
# Of values and derivatives of the order of 1, and of determinants of the order of 10.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
WANTED: tuple[Wanted, ...] = ("value", "determinant", "jacobian")

each_way = pytest.mark.parametrize("learning", [False, True], ids=["cells", "look-ups"])
each_type = pytest.mark.parametrize("dtype", TOLERANCE, ids=["single", "double"])
each_shape = pytest.mark.parametrize("shape", SHAPES)


def scene(shape: tuple[int, int, int], count: int, seed: int = 0) -> tuple[Array, Array]:
    """Coefficients (3, z, y, x), and points (count, 3) inside, at knots and at the ends of the domain, and outside.

    All are numbers that single precision has, and not so near to an end that it could not tell which side they are on.
    """
    rng = np.random.default_rng(seed)
    size = np.array(shape[::-1])
    points = rng.uniform(1, size - 2, (count, 3))
    points[1::4] = rng.uniform(-2, size + 1, points[1::4].shape)
    points[2::4] = rng.integers(1, size - 1, points[2::4].shape)
    points[3::4, rng.integers(3)] = rng.choice([1.0, 1 - 1e-3, 1 + 1e-3, -500.0, 1e4])
    return rng.normal(size=(3, *shape)), points.astype(np.float32).astype(float)


def expected(coefficients: Array, points: Array, to_control: Array) -> dict[Wanted, Array]:
    value, slopes = brute_force.spline(coefficients, points)
    jacobian = np.eye(3) + slopes @ to_control
    return {"value": value.T, "jacobian": jacobian.transpose(1, 2, 0), "determinant": np.linalg.det(jacobian)}


def evaluate(
    coefficients: Array, points: Array, to_control: Array | None, wanted: Wanted, dtype: torch.dtype, *, learning: bool
) -> list[Tensor]:
    """As `evaluate_points`, of a batch of one."""
    matrix = None if to_control is None else torch.from_numpy(to_control)
    field = torch.from_numpy(coefficients)[None].to(dtype).requires_grad_(learning)
    found = evaluate_points(field, torch.from_numpy(points.T)[None].to(dtype), matrix, wanted)
    assert all(part.requires_grad == learning and part.dtype == dtype for part in found)
    return [part.detach()[0] for part in found]


def check(found: list[Tensor], truth: dict[Wanted, Array], wanted: Wanted, tolerance: float) -> None:
    assert len(found) == (1 if wanted == "value" else 2)
    for part, what in zip(found, ("value", wanted), strict=False):
        assert part.shape == truth[what].shape
        scale = max(1.0, float(np.abs(truth[what]).max(initial=0)))
        np.testing.assert_allclose(part.numpy(), truth[what], rtol=0, atol=tolerance * scale)


@each_shape
@each_type
@each_way
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("to_control", [None, SCALING, TURNING], ids=["unit", "scaling", "turning"])
def test_any_point_has_the_sum_of_its_64_taps(
    shape: tuple[int, int, int], dtype: torch.dtype, learning: bool, wanted: Wanted, to_control: Array | None
) -> None:
    coefficients, points = scene(shape, 400)
    truth = expected(coefficients, points, np.eye(3) if to_control is None else to_control)
    assert 0.2 < (truth["value"] == 0).all(0).mean() < 0.8
    found = evaluate(coefficients, points, to_control, wanted, dtype, learning=learning)
    check(found, truth, wanted, TOLERANCE[dtype])


@each_type
@each_way
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_point_one_and_two(count: int, dtype: torch.dtype, learning: bool, wanted: Wanted) -> None:
    coefficients, points = scene((5, 6, 7), count)
    found = evaluate(coefficients, points, TURNING, wanted, dtype, learning=learning)
    check(found, expected(coefficients, points, TURNING), wanted, TOLERANCE[dtype])


@each_type
@each_way
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e9, -0.0])
def test_what_lies_nowhere_stays(value: float, dtype: torch.dtype, learning: bool, wanted: Wanted) -> None:
    """And its neighbours in the list are none the worse for it; nothing is learned from it."""
    coefficients, points = scene((5, 6, 7), 40)
    points[::3, 1] = value
    found = evaluate(coefficients, points, TURNING, wanted, dtype, learning=learning)
    with np.errstate(invalid="ignore"):
        truth = expected(coefficients, points, TURNING)
    assert (truth["value"][:, ::3] == 0).all()
    check(found, truth, wanted, TOLERANCE[dtype])
    if learning:
        field = torch.from_numpy(coefficients)[None].requires_grad_(True)
        control = torch.from_numpy(points.T.copy())[None].requires_grad_(True)
        result = evaluate_points(field, control, torch.from_numpy(TURNING), wanted)
        sum(part.sum() for part in result).backward()  # type: ignore[union-attr]
        assert field.grad is not None
        assert control.grad is not None
        assert field.grad.isfinite().all()
        assert control.grad.isfinite().all()
        assert not control.grad[0, :, ::3].any()


@each_way
@pytest.mark.parametrize("sign", [-1, 1])
def test_rounding_at_the_end_of_the_domain_counts_as_inside(sign: int, learning: bool) -> None:
    coefficients, _ = scene((5, 6, 7), 0)
    for axis, size in enumerate((7, 6, 5)):
        point = np.array([[2.5, 2.25, 2.75]])
        end = 1.0 if sign < 0 else size - 2.0
        for away, inside in ((0, True), (5e-7, True), (2e-6, False)):
            point[0, axis] = end + sign * away
            value, jacobian = evaluate(coefficients, point, None, "jacobian", torch.float64, learning=learning)
            assert bool(value.any()) == inside
            assert torch.equal(jacobian[..., 0], torch.eye(3, dtype=torch.float64)) != inside
            if inside:
                at_end = expected(coefficients, np.where(np.arange(3) == axis, end, point), np.eye(3))
                np.testing.assert_allclose(value, at_end["value"], rtol=0, atol=1e-5)


@each_type
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize(("sorted_together", "at_once"), [(1, 1), (13, 7), (64, 64), (1000, 3), (17, 1000)])
def test_blocks_of_any_size_make_no_difference(
    sorted_together: int, at_once: int, wanted: Wanted, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    coefficients, points = scene((5, 6, 7), 101)
    whole = evaluate(coefficients, points, TURNING, wanted, dtype, learning=False)
    monkeypatch.setattr(cells, "_SORTED", sorted_together)
    monkeypatch.setattr(cells, "_AT_ONCE", at_once)
    found = evaluate(coefficients, points, TURNING, wanted, dtype, learning=False)
    for part, one in zip(found, whole, strict=True):
        torch.testing.assert_close(part, one, rtol=0, atol=TOLERANCE[dtype])


@each_type
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("shape", [(33, 34, 35), (4, 4, 4096), (31, 32, 33), (32, 32, 32)])
def test_grids_of_more_cells_than_16_bits_count(
    shape: tuple[int, int, int], wanted: Wanted, dtype: torch.dtype
) -> None:
    coefficients, points = scene(shape, 600)
    # Single precision knows a place among thousands of control points less well.
    tolerance = TOLERANCE[dtype] * max(1, max(shape) / 100 if dtype == torch.float32 else 1)
    found = evaluate(coefficients, points, SCALING, wanted, dtype, learning=False)
    check(found, expected(coefficients, points, SCALING), wanted, tolerance)


def test_every_element_of_a_batch_has_its_own_field_and_points() -> None:
    scenes = [scene((5, 6, 7), 50, seed) for seed in range(3)]
    fields = torch.from_numpy(np.stack([c for c, _ in scenes]))
    points = torch.from_numpy(np.stack([p.T for _, p in scenes]))
    for wanted in WANTED:
        for learning in (False, True):
            found = evaluate_points(fields.clone().requires_grad_(learning), points, torch.from_numpy(TURNING), wanted)
            for number, (coefficients, some) in enumerate(scenes):
                own = [part[number].detach() for part in found]
                check(own, expected(coefficients, some, TURNING), wanted, 1e-12)


def test_points_are_left_as_they_are() -> None:
    coefficients, points = scene((5, 6, 7), 50)
    field, control = torch.from_numpy(coefficients), torch.from_numpy(points.T.copy())
    before = field.clone(), control.clone()
    evaluate_cells(field, control, torch.from_numpy(SCALING), "determinant")
    assert torch.equal(field, before[0])
    assert torch.equal(control, before[1])


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("to_control", [SCALING, TURNING], ids=["scaling", "turning"])
def test_gradients_of_the_look_ups_match_finite_differences(wanted: Wanted, to_control: Array) -> None:
    """By the coefficients and by the points, inside and outside, off the ends of the domain, where a field jumps."""
    rng = np.random.default_rng(0)
    field = torch.from_numpy(rng.normal(size=(1, 3, 4, 4, 5))).requires_grad_(True)
    points = np.concatenate([rng.uniform(1.1, [2.9, 1.9, 1.9], (1, 4, 3)), rng.uniform(-3, 0.9, (1, 1, 3))], 1)
    control = torch.from_numpy(points.transpose(0, 2, 1).copy()).requires_grad_(True)
    matrix = torch.from_numpy(to_control)
    assert torch.autograd.gradcheck(lambda f, c: tuple(evaluate_points(f, c, matrix, wanted)), (field, control))


@pytest.mark.parametrize("moved", ["field", "points"])
def test_one_of_the_two_may_be_learned_alone(moved: str) -> None:
    coefficients, points = scene((5, 6, 7), 30)
    field, control = torch.from_numpy(coefficients)[None], torch.from_numpy(points.T.copy())[None]
    (field if moved == "field" else control).requires_grad_(True)
    (found,) = evaluate_points(field, control)
    assert found.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(found.detach(), evaluate_points(field, control)[0], rtol=0, atol=1e-12)
