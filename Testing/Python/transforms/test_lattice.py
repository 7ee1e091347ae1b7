"""Looking up images and fields: the identity warp first, then SimpleITK's resampling."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.transforms.lattice import Lattice, inside, lookup
from grids import Array, grids, index_points, random_grid

SHAPES = [(5, 6, 7), (1, 8, 9), (8, 1, 9), (8, 9, 1), (1, 1, 1), (2, 1, 3), (3, 64, 200)]


def random_image(shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(100, 30, (1, 1, *shape)).astype(np.float32))


# -- the identity warp -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_identity_warp_returns_the_image(shape: tuple[int, int, int]) -> None:
    image, lattice = random_image(shape).double(), Lattice(shape)
    warped = lookup(image, lattice, lattice.points()[None].double())
    assert warped.shape == image.shape
    assert (warped - image).abs().max() <= 1e-12 * image.abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_in_single_precision_the_identity_warp_errs_by_rounding_of_positions(shape: tuple[int, int, int]) -> None:
    """A position along n voxels is known to n times 6e-8: that part of the step to the next voxel is lost."""
    image, lattice = random_image(shape), Lattice(shape)
    warped = lookup(image, lattice, lattice.points()[None])
    assert (warped - image).abs().max() <= 2e-7 * max(shape) * image.abs().max()


def test_identity_warp_on_a_pooled_lattice() -> None:
    image, lattice = random_image((3, 4, 5)), Lattice.pooled((3, 4, 5), (4, 2, 1))
    torch.testing.assert_close(lookup(image, lattice, lattice.points()[None]), image)


# -- against SimpleITK -------------------------------------------------------------------------------


def sitk_values(image: sitk.Image, points: Array, interpolator: int) -> Array:
    return np.array([image.EvaluateAtPhysicalPoint(p.tolist(), interpolator) for p in points])


@given(grid=grids(), seed=st.integers(0, 1000))
def test_linear_lookup_matches_sitk(grid: ImageGrid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = random_image(grid.shape, seed)
    # Up to the outer borders of the voxels: beyond the outermost centres both repeat the last value.
    index = rng.uniform(-0.499, np.array(grid.size) - 0.501, (40, 3))
    expected = sitk_values(grid.to_sitk(image[0, 0].numpy()), grid.to_physical(index), sitk.sitkLinear)
    found = lookup(image, Lattice(grid.shape), torch.from_numpy(index).float()[None])[0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_resampling_onto_another_grid_matches_sitk() -> None:
    rng = np.random.default_rng(2)
    source, target = random_grid(rng, (9, 10, 11)), random_grid(rng, (7, 6, 8))
    # Bring the target over the source, so that both much of the inside and the outside are seen.
    offset = source.center - target.center
    target = ImageGrid(target.shape, target.spacing, np.array(target.origin) + offset, target.direction)  # type: ignore[arg-type]
    image = random_image(source.shape)
    reference = target.to_sitk(np.zeros(target.shape))
    moving = source.to_sitk(image[0, 0].double().numpy())
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, reference, sitk.Transform(), sitk.sitkLinear, -1.0))
    points = torch.from_numpy(source.to_index(target.voxel_centers()))[None]
    within = inside(Lattice(source.shape), points)[0].numpy()
    assert 0.2 < within.mean() < 0.95
    np.testing.assert_array_equal(within, expected != -1.0)
    found = lookup(image, Lattice(source.shape), points.float())[0, 0].numpy()
    np.testing.assert_allclose(found[within], expected[within], rtol=0, atol=1e-3)


# -- conventions -------------------------------------------------------------------------------------


def test_beyond_the_outermost_samples_the_nearest_is_repeated() -> None:
    image, lattice = random_image((3, 4, 5)), Lattice((3, 4, 5))
    points = torch.tensor([[[-7.0, 1.0, 2.0], [4.2, 9.0, 0.0], [2.0, 3.0, -0.4]]])
    expected = torch.stack([image[0, 0, 2, 1, 0], image[0, 0, 0, 3, 4], image[0, 0, 0, 3, 2]])
    torch.testing.assert_close(lookup(image, lattice, points)[0, 0], expected)


def test_a_linear_field_is_looked_up_exactly_between_samples() -> None:
    lattice = Lattice((4, 5, 6), (1.5, -2.0, 0.5), (4.0, 0.5, 2.0))
    slope = torch.tensor([0.3, -0.7, 1.1])
    values = (lattice.points() @ slope)[None, None]
    low = torch.tensor(lattice.start)
    points = low + torch.rand(50, 3, generator=torch.manual_seed(0)) * torch.tensor(lattice.step) * torch.tensor(
        [5, 4, 3]
    )
    torch.testing.assert_close(lookup(values, lattice, points[None])[0, 0], points @ slope, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 3, 4, 3), (2, 3, 4, 5, 3)])
def test_points_of_any_shape_and_every_channel(shape: tuple[int, ...]) -> None:
    values = torch.randn(2, 3, 4, 5, 6, generator=torch.manual_seed(0))
    points = 3 * torch.rand(shape, generator=torch.manual_seed(1))
    found = lookup(values, Lattice((4, 5, 6)), points)
    assert found.shape == (2, 3, *shape[1:-1])
    for b in range(2):
        for c in range(3):
            alone = lookup(values[b : b + 1, c : c + 1], Lattice((4, 5, 6)), points[b].reshape(1, -1, 3))
            torch.testing.assert_close(found[b, c].flatten(), alone.flatten())


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_looked_up_is_the_same_whether_it_is_learned_from_or_not(shape: tuple[int, int, int]) -> None:
    """Without gradients the CPU looks between slices, with them in the whole volume."""
    lattice = Lattice(shape, (1.5, -2.0, 0.5), (4.0, 0.5, 2.0))
    values = torch.randn(2, 3, *shape, generator=torch.manual_seed(0), dtype=torch.float64)
    size = torch.tensor(lattice.step) * torch.tensor(shape[::-1])
    points = torch.tensor(lattice.start) + size * (1.4 * torch.rand(2, 50, 3, generator=torch.manual_seed(1)) - 0.3)
    learned = lookup(values.requires_grad_(True), lattice, points.double())
    assert learned.requires_grad
    with torch.no_grad():
        found = lookup(values, lattice, points.double())
    torch.testing.assert_close(found, learned.detach(), rtol=0, atol=1e-10)


def test_what_is_looked_up_has_the_type_of_the_points() -> None:
    image, lattice = random_image((3, 4, 5)), Lattice((3, 4, 5))
    for dtype in (torch.float32, torch.float64):
        assert lookup(image, lattice, lattice.points(dtype=dtype)[None]).dtype == dtype


def test_lattice_positions_and_points_agree() -> None:
    lattice = Lattice((2, 3, 4), (0.5, 1.0, -2.0), (2.0, 1.0, 0.25))
    points = lattice.points()
    assert points.shape == (2, 3, 4, 3)
    assert points[1, 2, 3].tolist() == [6.5, 3.0, -1.75]
    for axis, positions in enumerate(lattice.positions()):
        torch.testing.assert_close(points.movedim(axis, 0)[:, 0, 0, 2 - axis], positions)


def test_pooled_samples_lie_in_the_middle_of_their_blocks() -> None:
    pooled = Lattice.pooled((2, 2, 2), (4, 2, 1)).points()
    voxels = Lattice((2, 4, 8)).points().movedim(-1, 0)[None]
    torch.testing.assert_close(torch.nn.functional.avg_pool3d(voxels, (1, 2, 4))[0].movedim(0, -1), pooled)


@given(grid=grids(), seed=st.integers(0, 1000))
def test_inside_matches_the_grid(grid: ImageGrid, seed: int) -> None:
    """ImageGrid.contains is compared with SimpleITK in test_geometry."""
    index = index_points(np.random.default_rng(seed), np.full(3, -0.5), np.array(grid.size) - 0.5, 60)
    found = inside(Lattice(grid.shape), torch.from_numpy(index)[None])[0]
    assert found.tolist() == grid.contains(grid.to_physical(index)).tolist()


def test_inside_counts_the_outer_border_of_pooled_samples_in() -> None:
    lattice = Lattice.pooled((3, 2, 1), (4, 2, 1))
    corners = torch.tensor([[[-0.5, -0.5, -0.5], [3.5, 3.5, 2.5]]])
    assert inside(lattice, corners).all()
    assert not inside(lattice, corners + torch.tensor([[[-0.01, 0, 0], [0, 0, 0.01]]])).any()


@pytest.mark.parametrize("learning", [False, True])
def test_displacements_are_added_to_the_points(learning: bool) -> None:
    lattice = Lattice((2, 3, 4), (0.5, 1.0, -2.0), (2.0, 1.0, 0.25))
    displacement = torch.arange(144.0).reshape(2, 3, 2, 3, 4).requires_grad_(learning)
    with torch.set_grad_enabled(learning):
        for dtype in (None, torch.float64):
            moved = lattice.displaced(displacement, dtype)
            assert moved.dtype == (dtype or torch.float32)
            assert moved.requires_grad == learning
            expected = lattice.points().movedim(-1, 0) + displacement
            torch.testing.assert_close(moved.detach(), expected.detach().to(moved.dtype), rtol=0, atol=0)


def test_rows_are_the_points_in_the_order_of_the_samples() -> None:
    lattice = Lattice((2, 3, 4), (0.5, 1.0, -2.0), (2.0, 1.0, 0.25))
    rows = lattice.rows(torch.empty(0, dtype=torch.float64))
    assert torch.equal(rows, lattice.points(dtype=torch.float64).reshape(-1, 3).T)
