"""A chain on a whole grid, as networks and their training follow it, against the exact transforms of the same
coefficients, and its freedom from folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.transforms import INJECTIVITY_BOUND
from dlir.transforms import chain as module
from dlir.transforms.bspline import PADDING, pad_coefficients
from dlir.transforms.chain import Chain, Spline, follow, follow_with_determinant, voxel_slabs
from dlir.transforms.lattice import Lattice
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import Array, central_differences, make_grid

Size3 = tuple[int, int, int]
# Spacing of the reference grid in mm, its shape, and control spacings in voxels from fine to coarse.
Stages = tuple[tuple[float, float, float], Size3, list[Size3]]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # voxels, and of a determinant
each_precision = pytest.mark.parametrize("dtype", TOLERANCE, ids=["single", "double"])

CINE = ((1.5, 1.5, 10.0), (4, 48, 48), [(8, 8, 1), (16, 16, 1)])
CINE_3 = ((1.25, 1.25, 8.0), (6, 48, 48), [(8, 8, 1), (8, 8, 1), (16, 16, 2)])
VOLUME = ((1.0, 1.0, 1.0), (24, 24, 32), [(4, 4, 4), (8, 8, 8)])
VOLUME_3 = ((1.0, 1.0, 1.0), (32, 32, 32), [(4, 4, 4), (8, 8, 8), (16, 16, 16)])
UNEQUAL = ((1.0, 2.0, 3.0), (16, 32, 32), [(8, 4, 2), (16, 16, 4)])
CHAINS = {"cine": CINE, "cine, 3 stages": CINE_3, "volume": VOLUME, "volume, 3 stages": VOLUME_3, "unequal": UNEQUAL}
each_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def make_stage(fractions: Array, spacing: Size3, dtype: torch.dtype = torch.float32) -> Spline:
    """A stage whose network says `fractions` (3, cells) of the control spacing."""
    in_voxels = torch.from_numpy(fractions * np.array(spacing)[:, None, None, None])
    return Spline.of_cells(pad_coefficients(in_voxels[None].to(dtype)), spacing)


def cells_of(shape: Size3, spacing: Size3) -> list[int]:
    return [-(-n // s) for n, s in zip(shape, spacing[::-1], strict=True)]


def smooth(cells: Sequence[int], seed: int) -> Array:
    """What a trained network says, or rougher: neighbours alike, up to half the bound."""
    values = np.random.default_rng(seed).normal(size=(3, *cells))
    for axis in (1, 2, 3):
        ends = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode="edge")
        low, mid, high = (ends.take(range(k, k + values.shape[axis]), axis) for k in range(3))
        values = (low + 2 * mid + high) / 4
    scaled: Array = values / np.abs(values).max() * INJECTIVITY_BOUND / 2
    return scaled


def alternating(cells: Sequence[int], axes: str) -> Array:
    """Neighbours along `axes` as far apart as the bound allows: no field bends more."""
    index = np.indices(cells)
    parity = sum(index["zyx".index(axis)] for axis in axes)
    return np.broadcast_to(INJECTIVITY_BOUND * (-1.0) ** parity, (3, *cells))


def exact(stage: Spline, reference: ImageGrid) -> BSplineTransform:
    """The transform in mm: padded control point j lies at voxel (j - PADDING) s + (s - 1) / 2 of the reference grid."""
    coefficients = stage.coefficients[0].double().numpy()
    in_mm = np.einsum("ij,jzyx->izyx", reference.index_to_physical[:3, :3], coefficients)
    spacing = (1 / stage.matrix.diagonal()).tolist()
    start = [-PADDING * s + (s - 1) / 2 for s in spacing]
    return BSplineTransform(in_mm, reference.lattice(start, spacing, coefficients.shape[:0:-1]))


def reference_grid(shape: Size3, spacing: tuple[float, float, float]) -> ImageGrid:
    return make_grid(shape, spacing, (-31.0, 12.5, 140.0), (0.4, -0.7, 1.1))


def points_of(lattice: Lattice, reference: ImageGrid) -> Array:
    return reference.to_physical(lattice.points(dtype=torch.float64).reshape(-1, 3).numpy())


def in_voxels(transform: BSplineTransform | CompositeTransform, points: Array, reference: ImageGrid) -> Array:
    """(N, 3): displacements in voxels of the reference grid."""
    return (transform.apply(points) - points) @ reference.physical_to_index[:3, :3].T


def rows(field: Tensor) -> Array:
    """(1, 3, ...) as (N, 3)."""
    found: Array = field[0].flatten(1).T.double().numpy()
    return found


# -- one stage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(4, 4, 4), (8, 8, 1), (3, 2, 5)])
@pytest.mark.parametrize(
    "lattice", [Lattice((9, 16, 17)), Lattice((5, 6, 7), (-3.5, 1.25, 0.5), (2.5, 3.0, 1.5))], ids=["voxels", "other"]
)
@each_precision
def test_one_stage_is_exact_on_any_lattice(spacing: Size3, lattice: Lattice, dtype: torch.dtype) -> None:
    reference = reference_grid((9, 16, 17), (1.5, 2.0, 3.0))
    cells = cells_of(reference.shape, spacing)
    stage = make_stage(np.random.default_rng(0).uniform(-0.4, 0.4, (3, *cells)), spacing, dtype)
    transform, points = exact(stage, reference), points_of(lattice, reference)
    displacement, determinant = stage.on(lattice, "determinant")
    torch.testing.assert_close(stage.on(lattice)[0], displacement)
    expected = in_voxels(transform, points, reference)
    np.testing.assert_allclose(rows(displacement), expected, rtol=0, atol=TOLERANCE[dtype])
    expected = CompositeTransform((transform,)).determinant(points)
    np.testing.assert_allclose(determinant.flatten().numpy(), expected, rtol=0, atol=TOLERANCE[dtype])
    jacobian = stage.on(lattice, "jacobian")[1]
    assert jacobian.shape == (1, 3, 3, *lattice.shape)
    found = np.linalg.det(jacobian[0].movedim((0, 1), (-2, -1)).double().numpy()).ravel()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])


def test_the_determinant_matches_finite_differences() -> None:
    reference = reference_grid((9, 16, 17), (1.5, 2.0, 3.0))
    stage = make_stage(np.random.default_rng(1).uniform(-1, 1, (3, *cells_of(reference.shape, (4, 5, 3)))), (4, 5, 3))
    lattice = Lattice(reference.shape)
    numeric = np.linalg.det(central_differences(exact(stage, reference).apply, points_of(lattice, reference), 1e-3))
    found = stage.on(lattice, "determinant")[1].flatten().double().numpy()
    assert np.abs(found - numeric).max() <= 1e-3 * np.abs(numeric).max()


def test_a_linear_field_has_one_determinant() -> None:
    """u = M x, in voxels: det(1 + M), away from the edge where the padding lets it fall off."""
    spacing, cells = (4, 2, 3), (6, 7, 8)
    matrix = np.array([[0.2, 0.1, 0.0], [-0.1, 0.3, 0.05], [0.0, 0.2, -0.2]])
    positions = [np.arange(n) * s for n, s in zip(cells, spacing[::-1], strict=True)]
    z, y, x = np.meshgrid(*positions, indexing="ij")
    fractions = np.einsum("ij,jzyx->izyx", matrix, np.stack([x, y, z])) / np.array(spacing)[:, None, None, None]
    lattice = Lattice((6, 6, 6), (8.0, 4.0, 6.0), (2.0, 1.0, 1.0))
    determinant = make_stage(fractions, spacing).on(lattice, "determinant")[1]
    torch.testing.assert_close(
        determinant, torch.full_like(determinant, np.linalg.det(np.eye(3) + matrix)), rtol=1e-4, atol=0
    )


def test_the_control_grid_says_where_the_control_points_lie() -> None:
    grid = make_stage(np.zeros((3, 2, 3, 4)), (8, 4, 1)).control_grid
    points = grid.points()
    assert points.shape == (2 + 2 * PADDING, 3 + 2 * PADDING, 4 + 2 * PADDING, 3)
    np.testing.assert_allclose(points[PADDING, PADDING, PADDING], [3.5, 1.5, 0.0])
    np.testing.assert_allclose(points[-1, -1, -1] - points[0, 0, 0], [8 * 11, 4 * 10, 9])


def test_what_inference_keeps_serves_in_training_too() -> None:
    lattice = Lattice((3, 40, 50), (0.25, 0.5, 0.75), (1.5, 1.5, 1.0))
    fine, coarse = (make_stage(smooth(cells, 1), s) for cells, s in (([3, 8, 10], (9, 9, 1)), ([3, 4, 5], (18, 18, 1))))
    with torch.inference_mode():
        expected = follow([coarse, fine], lattice)
    learned = Spline(fine.coefficients.clone().requires_grad_(True), fine.matrix, fine.offset)
    points = follow([coarse, learned], lattice)
    torch.testing.assert_close(points.detach(), expected.clone(), rtol=0, atol=1e-4)
    points.sum().backward()
    assert learned.coefficients.grad is not None
    assert learned.coefficients.grad.abs().max() > 0


# -- at points between ----------------------------------------------------------------------------------


def scattered(stage: Spline, count: int = 4000) -> Tensor:
    """(1, 3, count): voxels in and around the support of a stage."""
    grid = stage.control_grid
    low, size = (torch.tensor(v)[:, None] for v in (grid.start, np.array(grid.step) * grid.shape[::-1]))
    return low - size / 10 + 1.2 * size * torch.rand(1, 3, count, generator=torch.manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 3, 1), (16, 16, 16), (16, 8, 1), (1, 2, 32), (32, 32, 2)])
@each_precision
def test_any_point_is_evaluated_exactly(spacing: Size3, dtype: torch.dtype) -> None:
    reference = reference_grid((8, 8, 8), (1.0, 1.5, 2.0))
    stage = make_stage(alternating((5, 6, 7), "xyz"), spacing, dtype)
    points = scattered(stage)
    start = reference.to_physical(points[0].T.numpy())
    displacement, determinant = stage.at(points.to(dtype), "determinant")
    # In single precision a position along n voxels is known to n times 6e-8, and the field changes by 2 a voxel.
    tolerance = TOLERANCE[dtype] * max(1, max(spacing) / 8)
    transform = exact(stage, reference)
    np.testing.assert_allclose(rows(displacement), in_voxels(transform, start, reference), rtol=0, atol=tolerance)
    np.testing.assert_allclose(determinant[0].numpy(), transform.determinant(start), rtol=0, atol=tolerance)


def test_every_stage_of_a_batch_is_evaluated_for_itself() -> None:
    """Training follows several pairs at once."""
    alone = [make_stage(smooth((5, 6, 7), seed), (16, 8, 1)) for seed in (0, 1)]
    together = Spline(torch.cat([stage.coefficients for stage in alone]), alone[0].matrix, alone[0].offset)
    points = scattered(alone[0]).float().expand(2, -1, -1)
    lattice = Lattice((3, 20, 30))
    for number, stage in enumerate(alone):
        for found, expected in (
            (together.at(points, "determinant"), stage.at(points[:1], "determinant")),
            (together.on(lattice, "determinant"), stage.on(lattice, "determinant")),
        ):
            for several, one in zip(found, expected, strict=True):
                torch.testing.assert_close(several[number], one[0], rtol=0, atol=1e-6)


# -- chains ------------------------------------------------------------------------------------------


def chain_error(chain: Stages, fractions: list[Array], dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Distance in voxels of each point from its exact place, and both determinants."""
    voxel, shape, spacings = chain
    reference = reference_grid(shape, voxel)
    stages = [make_stage(f, s, dtype) for f, s in zip(fractions, spacings, strict=True)]
    lattice = Lattice(shape)
    displacement, determinant = follow_with_determinant(stages[::-1], lattice)
    torch.testing.assert_close(follow(stages[::-1], lattice), displacement, rtol=0, atol=2e-5)
    assert determinant.shape == (1, *lattice.shape)
    truth = CompositeTransform(tuple(exact(s, reference) for s in stages))
    start = points_of(lattice, reference)
    error = np.linalg.norm(rows(displacement) - in_voxels(truth, start, reference), axis=1)
    return error, determinant.flatten().double().numpy(), truth.determinant(start)


@each_chain
@each_precision
@pytest.mark.parametrize("seed", range(2))
def test_smooth_chains_are_exact(chain: Stages, dtype: torch.dtype, seed: int) -> None:
    fractions = [smooth(cells_of(chain[1], s), seed + k) for k, s in enumerate(chain[2])]
    error, determinant, expected = chain_error(chain, fractions, dtype)
    assert error.max() <= TOLERANCE[dtype]
    assert determinant.min() > 0
    assert np.abs(determinant / expected - 1).max() <= TOLERANCE[dtype]


@each_chain
@each_precision
@pytest.mark.parametrize("axes", ["x", "z", "xyz"])
def test_the_worst_chains_are_exact_and_do_not_fold(chain: Stages, dtype: torch.dtype, axes: str) -> None:
    _, shape, spacings = chain
    error, determinant, expected = chain_error(chain, [alternating(cells_of(shape, s), axes) for s in spacings], dtype)
    assert error.max() <= TOLERANCE[dtype]
    np.testing.assert_allclose(determinant, expected, rtol=0, atol=TOLERANCE[dtype])
    assert determinant.min() > 0
    assert expected.min() > 0


@each_chain
def test_slabs_of_a_chain_fit_together(chain: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume is resampled slab by slab; no seam may show."""
    voxel, shape, spacings = chain
    grid = reference_grid(shape, voxel)
    stages = [make_stage(smooth(cells_of(shape, s), k), s, torch.float64) for k, s in enumerate(spacings)]
    ready = Chain(CompositeTransform(tuple(exact(s, grid) for s in stages)))

    def together(exactly: bool) -> tuple[Array, Array]:
        slabs = list(ready.slabs(grid, grid, exact=exactly, determinants=True))
        assert [z for s in slabs for z in range(s.low, s.high)] == list(range(shape[0]))
        index, determinant = torch.cat([s.index for s in slabs], 1), torch.cat([s.determinant for s in slabs])
        return index.numpy(), determinant.double().numpy()

    expected = follow_with_determinant(stages[::-1], Lattice(shape))
    for exactly, tolerance in ((True, 1e-12), (False, 1e-4)):
        whole = together(exactly)
        monkeypatch.setattr(module, "_AT_ONCE", 3 * shape[1] * shape[2])
        for found, one in zip(together(exactly), whole, strict=True):
            np.testing.assert_allclose(found, one, rtol=0, atol=tolerance)
        monkeypatch.undo()
        start = Lattice(shape).rows(expected[0])
        np.testing.assert_allclose(whole[0], start + expected[0][0].flatten(1), rtol=0, atol=max(tolerance, 1e-9))
        np.testing.assert_allclose(whole[1], expected[1].flatten(), rtol=0, atol=max(tolerance, 1e-9))


@each_precision
def test_a_chain_of_one_stage_is_exact(dtype: torch.dtype) -> None:
    voxel, shape, spacings = VOLUME
    error, determinant, expected = chain_error(
        (voxel, shape, spacings[:1]), [alternating(cells_of(shape, spacings[0]), "xyz")], dtype
    )
    assert error.max() < TOLERANCE[dtype]
    np.testing.assert_allclose(determinant, expected, rtol=TOLERANCE[dtype])


def test_points_beyond_every_stage_stay() -> None:
    stages = [make_stage(alternating((4, 4, 4), "xyz"), s) for s in ((8, 8, 8), (4, 4, 4))]
    lattice = Lattice((2, 2, 2), (-200.0, -200.0, -200.0), (600.0, 600.0, 600.0))
    displacement, determinant = follow_with_determinant(stages, lattice)
    assert not displacement.any()
    torch.testing.assert_close(determinant, torch.ones_like(determinant))


@pytest.mark.parametrize("turn", [0.0, 1e-15, 1e-7, 0.2])
@pytest.mark.parametrize("bent", [False, True])
def test_points_are_mapped_alike_whether_the_matrix_turns_or_not(turn: float, bent: bool) -> None:
    matrix = np.diag([1.5, 0.5, -2.0, 1.0])
    matrix[0, 1] = turn
    matrix[:3, 3] = 3.0, -4.0, 5.0
    grid, reads = ImageGrid((4, 5, 6)), make_grid((3, 3, 3), (2.0, 3.0, 0.5), (7.0, 8.0, 9.0))
    spline = exact(make_stage(alternating((2, 3, 3), "xyz"), (2, 2, 2)), grid)
    chain = CompositeTransform((*((spline,) if bent else ()), AffineTransform(matrix)))
    points = grid.voxel_centers().reshape(-1, 3)
    for exactly, tolerance in ((True, 1e-9), (False, 1e-4)):
        slabs = list(Chain(chain).slabs(grid, reads, exact=exactly))
        index = torch.cat([slab.index for slab in slabs], 1)
        np.testing.assert_allclose(index.T, reads.to_index(chain.apply(points)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("voxels", [1, 20, 50, 10_000])
def test_slabs_cover_the_first_axis_once(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", voxels)
    ranges = voxel_slabs((7, 4, 5))
    assert [z for low, high in ranges for z in range(low, high)] == list(range(7))
    assert max(high - low for low, high in ranges) <= max(1, voxels // 20)


# -- no folds within the bound -----------------------------------------------------------------------

bounded = st.floats(-INJECTIVITY_BOUND, INJECTIVITY_BOUND) | st.sampled_from([-INJECTIVITY_BOUND, INJECTIVITY_BOUND])
spacings = st.tuples(*[st.integers(1, 8)] * 3)


def everywhere(stage: Spline) -> Lattice:
    """Three samples per control spacing over the whole support."""
    grid = stage.control_grid
    z, y, x = (3 * (n - 1) + 1 for n in grid.shape)
    return Lattice((z, y, x), grid.start, tuple(s / 3 for s in grid.step))  # type: ignore[arg-type]


@given(fractions=hnp.arrays(float, (3, 2, 2, 2), elements=bounded), spacing=spacings)
def test_no_coefficients_within_the_bound_fold(fractions: Array, spacing: Size3) -> None:
    stage = make_stage(fractions, spacing)
    assert stage.on(everywhere(stage), "determinant")[1].min() > 0


@settings(max_examples=10)
@given(
    fine=hnp.arrays(float, (3, 4, 4, 4), elements=bounded),
    coarse=hnp.arrays(float, (3, 2, 2, 2), elements=bounded),
    coarsest=hnp.arrays(float, (3, 1, 2, 1), elements=bounded),
)
def test_no_chain_within_the_bound_folds(fine: Array, coarse: Array, coarsest: Array) -> None:
    stages = [
        make_stage(f, s) for f, s in zip((fine, coarse, coarsest), ((2, 2, 2), (4, 4, 4), (8, 8, 8)), strict=True)
    ]
    lattice = Lattice((20, 20, 20), (-7.0, -7.0, -7.0), (1.1, 1.1, 1.1))
    assert follow_with_determinant(stages[::-1], lattice)[1].min() > 0
    exact_chain = CompositeTransform(tuple(exact(s, ImageGrid((8, 8, 8))) for s in stages))
    assert exact_chain.determinant(lattice.points().reshape(-1, 3)[::17].numpy()).min() > 0


@pytest.mark.parametrize(("bound", "folds"), [(INJECTIVITY_BOUND, False), (0.5, True)])
def test_an_attack_folds_a_stage_beyond_the_bound_only(bound: float, folds: bool) -> None:
    """Follow the determinant downhill over the corners of the cube of coefficients, where its minimum lies."""
    smallest = np.inf
    for seed in range(3):
        fractions = bound * torch.randn(1, 3, 3, 3, 3, generator=torch.manual_seed(seed)).sign()
        for _ in range(6):
            fractions.requires_grad_(True)
            stage = Spline.of_cells(pad_coefficients(fractions), (1, 1, 1))
            lattice = Lattice((5, 5, 5), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
            lowest = stage.on(lattice, "determinant")[1].min()
            (gradient,) = torch.autograd.grad(lowest, fractions)
            fractions = torch.where(gradient == 0, fractions, -bound * gradient.sign()).detach()
            smallest = min(smallest, lowest.item())
    assert (smallest < 0) == folds
    assert smallest < 0.2
