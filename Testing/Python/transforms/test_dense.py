"""The fast chain on a whole grid against the exact transforms of the same coefficients, and its freedom from folds."""

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
from dlir.transforms.bspline import PADDING, pad_coefficients
from dlir.transforms.dense import Region, StageField, sample_stage, slabs, trace, trace_with_determinant
from dlir.transforms.lattice import Lattice
from dlir.transforms.spatial import BSplineTransform, CompositeTransform
from grids import Array, central_differences, make_grid

Size3 = tuple[int, int, int]
# Spacing of the reference grid in mm, its shape, and control spacings in voxels from fine to coarse.
Chain = tuple[tuple[float, float, float], Size3, list[Size3]]
TOLERANCE = 0.02  # mm per coarser stage

CINE = ((1.5, 1.5, 10.0), (4, 48, 48), [(8, 8, 1), (16, 16, 1)])
CINE_3 = ((1.25, 1.25, 8.0), (6, 48, 48), [(8, 8, 1), (8, 8, 1), (16, 16, 2)])
VOLUME = ((1.0, 1.0, 1.0), (24, 24, 32), [(4, 4, 4), (8, 8, 8)])
VOLUME_3 = ((1.0, 1.0, 1.0), (32, 32, 32), [(4, 4, 4), (8, 8, 8), (16, 16, 16)])
UNEQUAL = ((1.0, 2.0, 3.0), (16, 32, 32), [(8, 4, 2), (16, 16, 4)])
CHAINS = {"cine": CINE, "cine, 3 stages": CINE_3, "volume": VOLUME, "volume, 3 stages": VOLUME_3, "unequal": UNEQUAL}
each_chain = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def make_stage(fractions: Array, spacing: Size3) -> StageField:
    """A stage whose network says `fractions` (3, cells) of the control spacing."""
    in_voxels = torch.from_numpy(fractions * np.array(spacing)[:, None, None, None])
    return StageField(pad_coefficients(in_voxels[None].float()), spacing)


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


def exact(stage: StageField, reference: ImageGrid) -> BSplineTransform:
    """The transform in mm: padded control point j lies at voxel (j - PADDING) s + (s - 1) / 2 of the reference grid."""
    coefficients = stage.coefficients[0].double().numpy()
    in_mm = np.einsum("ij,jzyx->izyx", reference.index_to_physical[:3, :3], coefficients)
    start = [-PADDING * s + (s - 1) / 2 for s in stage.spacing]
    return BSplineTransform(in_mm, reference.lattice(start, stage.spacing, coefficients.shape[:0:-1]))


def reference_grid(shape: Size3, spacing: tuple[float, float, float]) -> ImageGrid:
    return make_grid(shape, spacing, (-31.0, 12.5, 140.0), (0.4, -0.7, 1.1))


def points_of(lattice: Lattice, reference: ImageGrid) -> Array:
    return reference.to_physical(lattice.points().reshape(-1, 3).numpy())


def in_mm(points: Tensor, reference: ImageGrid) -> Array:
    return reference.to_physical(points[0].reshape(-1, 3).double().numpy())


# -- one stage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(4, 4, 4), (8, 8, 1), (3, 2, 5)])
@pytest.mark.parametrize(
    "lattice", [Lattice((9, 16, 17)), Lattice((5, 6, 7), (-3.5, 1.25, 0.5), (2.5, 3.0, 1.5))], ids=["voxels", "other"]
)
def test_one_stage_is_exact_on_any_lattice(spacing: Size3, lattice: Lattice) -> None:
    reference = reference_grid((9, 16, 17), (1.5, 2.0, 3.0))
    cells = cells_of(reference.shape, spacing)
    stage = make_stage(np.random.default_rng(0).uniform(-0.4, 0.4, (3, *cells)), spacing)
    transform, points = exact(stage, reference), points_of(lattice, reference)
    displacement, determinant = stage.displacement_and_determinant(lattice)
    torch.testing.assert_close(stage.displacement(lattice), displacement)
    found = displacement[0].flatten(1).T.double().numpy() @ reference.index_to_physical[:3, :3].T
    np.testing.assert_allclose(found, transform.displacement(points), rtol=0, atol=1e-4)
    expected = CompositeTransform((transform,)).determinant(points)
    np.testing.assert_allclose(determinant.flatten().numpy(), expected, rtol=0, atol=1e-4)


def test_the_determinant_matches_finite_differences() -> None:
    reference = reference_grid((9, 16, 17), (1.5, 2.0, 3.0))
    stage = make_stage(np.random.default_rng(1).uniform(-1, 1, (3, *cells_of(reference.shape, (4, 5, 3)))), (4, 5, 3))
    lattice = Lattice(reference.shape)
    numeric = np.linalg.det(central_differences(exact(stage, reference).apply, points_of(lattice, reference), 1e-3))
    found = stage.displacement_and_determinant(lattice)[1].flatten().double().numpy()
    assert np.abs(found - numeric).max() <= 1e-3 * np.abs(numeric).max()


def test_a_linear_field_has_one_determinant() -> None:
    """u = M x, in voxels: det(1 + M), away from the edge where the padding lets it fall off."""
    spacing, cells = (4, 2, 3), (6, 7, 8)
    matrix = np.array([[0.2, 0.1, 0.0], [-0.1, 0.3, 0.05], [0.0, 0.2, -0.2]])
    positions = [np.arange(n) * s for n, s in zip(cells, spacing[::-1], strict=True)]
    z, y, x = np.meshgrid(*positions, indexing="ij")
    fractions = np.einsum("ij,jzyx->izyx", matrix, np.stack([x, y, z])) / np.array(spacing)[:, None, None, None]
    lattice = Lattice((6, 6, 6), (8.0, 4.0, 6.0), (2.0, 1.0, 1.0))
    determinant = make_stage(fractions, spacing).displacement_and_determinant(lattice)[1]
    torch.testing.assert_close(
        determinant, torch.full_like(determinant, np.linalg.det(np.eye(3) + matrix)), rtol=1e-4, atol=0
    )


def test_a_control_lattice_meets_every_control_point() -> None:
    stage = make_stage(np.zeros((3, 2, 3, 4)), (8, 4, 1))
    lattice = stage.control_lattice((4, 2, 3))
    points = lattice.points()[::3, ::2, ::4]
    assert points.shape == (2 + 2 * PADDING, 3 + 2 * PADDING, 4 + 2 * PADDING, 3)
    np.testing.assert_allclose(points[PADDING, PADDING, PADDING], [3.5, 1.5, 0.0])
    np.testing.assert_allclose(points[-1, -1, -1] - points[0, 0, 0], [8 * 11, 4 * 10, 9])


@pytest.mark.parametrize("still", [0, 1])
def test_a_region_keeps_the_spacings_that_it_touches(still: int) -> None:
    stage = make_stage(np.zeros((3, 2, 6, 8)), (8, 4, 1))
    whole = stage.control_lattice((4, 2, 1), still)
    part = stage.control_lattice((4, 2, 1), still, ((10.0, 20.0), (1.6, 5.4), (-1e9, 1e9)))
    assert part.step == whole.step
    z, y, x = part.positions()
    assert (x[0], x[-1]) == (3.5, 27.5)
    assert (y[0], y[-1]) == (1.5, 5.5)
    torch.testing.assert_close(z, whole.positions()[0])


@pytest.mark.parametrize("region", [((-500.0, -400.0),) * 3, ((400.0, 500.0),) * 3, ((7.0, 7.0),) * 3])
def test_a_region_leaves_at_least_one_spacing(region: Region) -> None:
    stage = make_stage(np.zeros((3, 2, 6, 8)), (8, 4, 1))
    assert stage.control_lattice((1, 1, 1), region=region).shape == (2, 2, 2)


def test_what_inference_keeps_serves_in_training_too() -> None:
    lattice = Lattice((3, 40, 50), (0.25, 0.5, 0.75), (1.5, 1.5, 1.0))
    fine, coarse = (make_stage(smooth(cells, 1), s) for cells, s in (([3, 8, 10], (9, 9, 1)), ([3, 4, 5], (18, 18, 1))))
    with torch.inference_mode():
        expected = trace(lattice, fine, [sample_stage(coarse, (1.0, 1.0, 8.0), TOLERANCE)])
    learned = StageField(fine.coefficients.clone().requires_grad_(True), fine.spacing)
    points = trace(lattice, learned, [sample_stage(coarse, (1.0, 1.0, 8.0), TOLERANCE)])
    torch.testing.assert_close(points.detach(), expected.clone(), rtol=0, atol=1e-4)
    points.sum().backward()
    assert learned.coefficients.grad is not None
    assert learned.coefficients.grad.abs().max() > 0


# -- a sampled stage ---------------------------------------------------------------------------------


def scattered(stage: StageField, count: int = 4000) -> Tensor:
    """(1, count, 3): voxels in and around the support of a stage."""
    lattice = stage.control_lattice((1, 1, 1))
    low, size = torch.tensor(lattice.start), torch.tensor(lattice.step) * torch.tensor(lattice.shape[::-1])
    return low - size / 10 + 1.2 * size * torch.rand(1, count, 3, generator=torch.manual_seed(0))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 3, 1)])
def test_an_axis_with_few_voxels_per_control_point_is_evaluated_exactly(spacing: Size3) -> None:
    reference = reference_grid((8, 8, 8), (1.0, 1.5, 2.0))
    stage = make_stage(alternating((5, 6, 7), "xyz"), spacing)
    sampled, points = sample_stage(stage, reference.spacing, TOLERANCE), scattered(stage)
    assert sampled.spline_axes == (0, 1, 2)
    found = sampled.displacement(points)[0].T.double().numpy() @ reference.index_to_physical[:3, :3].T
    expected = exact(stage, reference).displacement(in_mm(points, reference))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("spacing", [(16, 16, 16), (16, 8, 1), (1, 2, 32)])
def test_trimming_to_a_region_changes_nothing_in_it(spacing: Size3) -> None:
    cells = [6, 7, 8]
    stage = make_stage(smooth(cells, 3), spacing)
    low, high = (np.array(spacing) * part for part in (2.3, 4.6))
    region = tuple(zip(low.tolist(), high.tolist(), strict=True))
    whole, trimmed = (sample_stage(stage, (1.0, 1.0, 1.0), TOLERANCE, within) for within in (None, region))
    assert trimmed.samples.values.numel() < whole.samples.values.numel()
    points = torch.from_numpy(np.random.default_rng(0).uniform(low, high, (1, 500, 3))).float()
    torch.testing.assert_close(trimmed.displacement(points), whole.displacement(points), rtol=0, atol=1e-4)
    torch.testing.assert_close(trimmed.determinant(points), whole.determinant(points), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.25])
@pytest.mark.parametrize("spacing", [(16, 16, 16), (16, 8, 1), (32, 32, 2)])
def test_a_smooth_stage_is_sampled_within_the_tolerance(spacing: Size3, tolerance: float) -> None:
    reference = reference_grid((8, 8, 8), (1.0, 1.5, 2.0))
    stage = make_stage(smooth((5, 6, 7), 0), spacing)
    sampled, points = sample_stage(stage, reference.spacing, tolerance), scattered(stage)
    found = sampled.displacement(points)[0].T.double().numpy() @ reference.index_to_physical[:3, :3].T
    expected = exact(stage, reference).displacement(in_mm(points, reference))
    error = np.linalg.norm(found - expected, axis=1).max()
    # Samples are as few as the bound allows, so the tolerance is not missed by far.
    assert 0.02 * tolerance < error <= tolerance
    assert sampled.samples.values.shape[2:] == sampled.samples.lattice.shape


def test_every_stage_of_a_batch_is_sampled_for_itself() -> None:
    """Training follows several pairs at once."""
    alone = [make_stage(smooth((5, 6, 7), seed), (16, 8, 1)) for seed in (0, 1)]
    together = StageField(torch.cat([stage.coefficients for stage in alone]), alone[0].spacing)
    points = scattered(alone[0]).expand(2, -1, -1)
    found = sample_stage(together, (1.0, 1.5, 2.0), TOLERANCE).displacement(points)
    for number, stage in enumerate(alone):
        expected = sample_stage(stage, (1.0, 1.5, 2.0), TOLERANCE / 4).displacement(points[number : number + 1])
        assert (found[number] - expected[0]).abs().max() <= 1.25 * TOLERANCE


# -- chains ------------------------------------------------------------------------------------------


def chain_error(chain: Chain, fractions: list[Array]) -> tuple[Array, Array, Array]:
    """Distance in mm of each traced point from its exact place, and both determinants."""
    voxel, shape, spacings = chain
    reference = reference_grid(shape, voxel)
    stages = [make_stage(f, s) for f, s in zip(fractions, spacings, strict=True)]
    coarser = [sample_stage(s, voxel, TOLERANCE) for s in stages[1:]]
    lattice = Lattice(shape)
    points, determinant = trace_with_determinant(lattice, stages[0], coarser)
    torch.testing.assert_close(trace(lattice, stages[0], coarser).double(), points, rtol=0, atol=2e-5)
    assert determinant.shape == (1, 1, *lattice.shape)
    truth = CompositeTransform(tuple(exact(s, reference) for s in stages))
    start = points_of(lattice, reference)
    error = np.linalg.norm(in_mm(points, reference) - truth.apply(start), axis=1)
    return error, determinant.flatten().double().numpy(), truth.determinant(start)


def smooth_chain(chain: Chain, seed: int) -> tuple[Array, Array, Array]:
    return chain_error(chain, [smooth(cells_of(chain[1], s), seed + k) for k, s in enumerate(chain[2])])


@each_chain
@pytest.mark.parametrize("seed", range(2))
def test_smooth_chains_keep_the_tolerance(chain: Chain, seed: int) -> None:
    error, determinant, expected = smooth_chain(chain, seed)
    assert error.max() <= TOLERANCE * (len(chain[2]) - 1)
    assert determinant.min() > 0
    assert np.abs(determinant / expected - 1).max() <= 0.05


@each_chain
@pytest.mark.parametrize("axes", ["x", "z", "xyz"])
def test_the_worst_chains_stay_close_and_do_not_fold(chain: Chain, axes: str) -> None:
    """The finest stage then changes too fast for what is followed at every second point: a coarse limit holds."""
    voxel, shape, spacings = chain
    error, determinant, expected = chain_error(chain, [alternating(cells_of(shape, s), axes) for s in spacings])
    assert error.max() <= 0.15 * max(voxel)
    assert determinant.min() > 0
    assert expected.min() > 0


@each_chain
def test_slabs_of_a_chain_fit_together(chain: Chain) -> None:
    """A volume is resampled slab by slab; no seam may show."""
    voxel, shape, spacings = chain
    stages = [make_stage(smooth(cells_of(shape, s), k), s) for k, s in enumerate(spacings)]
    coarser = [sample_stage(s, voxel, TOLERANCE) for s in stages[1:]]
    whole = trace_with_determinant(Lattice(shape), stages[0], coarser)
    parts = [
        trace_with_determinant(Lattice((high - low, *shape[1:]), (0.0, 0.0, float(low))), stages[0], coarser)
        for low, high in slabs(shape, 5 * shape[1] * shape[2])
    ]
    points, determinants = (torch.cat(p, d) for p, d in zip(zip(*parts, strict=True), (1, 2), strict=True))
    assert ((points - whole[0]) * torch.tensor(voxel)).norm(dim=-1).max() <= TOLERANCE
    assert (determinants / whole[1] - 1).abs().max() <= 0.01


def test_a_chain_of_one_stage_is_exact() -> None:
    voxel, shape, spacings = VOLUME
    error, determinant, expected = chain_error(
        (voxel, shape, spacings[:1]), [alternating(cells_of(shape, spacings[0]), "xyz")]
    )
    assert error.max() < 1e-4
    np.testing.assert_allclose(determinant, expected, rtol=1e-3)


def test_points_beyond_every_stage_stay() -> None:
    stages = [make_stage(alternating((4, 4, 4), "xyz"), s) for s in ((4, 4, 4), (8, 8, 8))]
    lattice = Lattice((2, 2, 2), (-200.0, -200.0, -200.0), (600.0, 600.0, 600.0))
    points, determinant = trace_with_determinant(lattice, stages[0], [sample_stage(stages[1], (1, 1, 1), TOLERANCE)])
    torch.testing.assert_close(points[0], lattice.points().double())
    torch.testing.assert_close(determinant, torch.ones_like(determinant))


@pytest.mark.parametrize("voxels", [1, 20, 50, 10_000])
def test_slabs_cover_the_first_axis_once(voxels: int) -> None:
    ranges = slabs((7, 4, 5), voxels)
    assert [z for low, high in ranges for z in range(low, high)] == list(range(7))
    assert max(high - low for low, high in ranges) <= max(1, voxels // 20)


# -- no folds within the bound -----------------------------------------------------------------------

bounded = st.floats(-INJECTIVITY_BOUND, INJECTIVITY_BOUND) | st.sampled_from([-INJECTIVITY_BOUND, INJECTIVITY_BOUND])
spacings = st.tuples(*[st.integers(1, 8)] * 3)


def everywhere(stage: StageField) -> Lattice:
    """Three samples per control spacing over the whole support."""
    return stage.control_lattice((3, 3, 3))


@given(fractions=hnp.arrays(float, (3, 2, 2, 2), elements=bounded), spacing=spacings)
def test_no_coefficients_within_the_bound_fold(fractions: Array, spacing: Size3) -> None:
    stage = make_stage(fractions, spacing)
    assert stage.displacement_and_determinant(everywhere(stage))[1].min() > 0


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
    coarser = [sample_stage(s, (1.0, 1.0, 1.0), TOLERANCE) for s in stages[1:]]
    lattice = Lattice((20, 20, 20), (-7.0, -7.0, -7.0), (1.1, 1.1, 1.1))
    assert trace_with_determinant(lattice, stages[0], coarser)[1].min() > 0
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
            stage = StageField(pad_coefficients(fractions), (1, 1, 1))
            lattice = Lattice((5, 5, 5), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
            lowest = stage.displacement_and_determinant(lattice)[1].min()
            (gradient,) = torch.autograd.grad(lowest, fractions)
            fractions = torch.where(gradient == 0, fractions, -bound * gradient.sign()).detach()
            smallest = min(smallest, lowest.item())
    assert (smallest < 0) == folds
    assert smallest < 0.2
