"""A model's stages: cells, lattices, and predictions in voxels of the working grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlir.geometry import ImageGrid
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.transforms.affine import transform_points
from dlir.transforms.bspline import EDGE_LAYERS, PADDING, ZERO_LAYERS
from dlir.transforms.chain import Spline
from dlir.transforms.lattice import Lattice
from dlir.transforms.spatial import BSplineTransform
from grids import make_grid

SPEC = ModelSpec(
    Preprocessing((1.5, 1.5, 8.0)),
    (
        StageSpec("affine", (3.0, 3.0, 8.0), (4, 4)),
        StageSpec("bspline", (3.0, 3.0, 8.0), (4, 4, 4), (12.0, 12.0, 8.0)),
        StageSpec("bspline", (1.5, 1.5, 8.0), (4, 4), (3.0, 3.0, 8.0)),
    ),
)
AFFINE, COARSE, FINE = range(3)
SHAPE = (5, 13, 18)  # of the working grid
PADDED = (5, 16, 24)  # whole cells of the deformable stages; the affine one takes any size


@pytest.fixture
def model() -> MultiStageModel:
    torch.manual_seed(0)
    return MultiStageModel(SPEC).requires_grad_(False)


def random_image(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    return torch.rand(1, 1, *shape, generator=torch.manual_seed(seed))


class Fixed(nn.Module):
    """In place of a network: always the same output."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Tensor) -> Tensor:
        return self.output


# -- cells and lattices ------------------------------------------------------------------------------


def test_padding_adds_zeros_at_the_far_ends(model: MultiStageModel) -> None:
    image = random_image()
    padded = model.pad(image)
    assert padded.shape[2:] == PADDED
    assert torch.equal(padded[:, :, :5, :13, :18], image)
    assert padded.sum().item() == pytest.approx(image.sum().item())
    assert torch.equal(model.pad(padded), padded)


def test_pooling_averages_what_the_lattice_says(model: MultiStageModel) -> None:
    """The position of a pooled voxel is the mean of those it averages."""
    for stage in (AFFINE, COARSE, FINE):
        positions = Lattice(PADDED).points().movedim(-1, 0)[None]
        lattice = model.lattice(PADDED, stage)
        pooled = model.pool(positions, stage)
        assert tuple(pooled.shape[2:]) == lattice.shape
        torch.testing.assert_close(pooled[0].movedim(0, -1), lattice.points())


# -- B-spline stages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [COARSE, FINE])
def test_coefficients_are_one_per_cell_in_voxels_within_the_bound(model: MultiStageModel, stage: int) -> None:
    model.networks[stage].output.weight.mul_(1e4)  # type: ignore[operator, union-attr]
    images = [model.pool(model.pad(random_image(seed=s)), stage) for s in (1, 2)]
    coefficients = model.predict_coefficients(stage, images[0], images[1])
    spacing = SPEC.control_spacing(stage)
    cells = [n // s + 2 * PADDING for n, s in zip(PADDED, spacing[::-1], strict=True)]
    assert coefficients.shape == (1, 3, *cells)
    largest = coefficients.abs().amax((0, 2, 3, 4)) / torch.tensor(spacing)
    assert (largest > 0.3).all()
    assert (largest <= 0.4 + 1e-6).all()
    inner = coefficients[..., ZERO_LAYERS:-ZERO_LAYERS, ZERO_LAYERS:-ZERO_LAYERS, ZERO_LAYERS:-ZERO_LAYERS]
    assert coefficients.count_nonzero() == inner.count_nonzero()
    assert torch.equal(inner[..., 0], inner[..., EDGE_LAYERS])


@pytest.mark.parametrize("stage", [COARSE, FINE])
def test_an_untrained_stage_moves_by_a_fraction_of_a_voxel(model: MultiStageModel, stage: int) -> None:
    images = [model.pool(model.pad(random_image(seed=s)), stage) for s in (1, 2)]
    coefficients = model.predict_coefficients(stage, images[0], images[1])
    displacement = Spline.of_cells(coefficients, model.spec.control_spacing(stage)).on(Lattice(PADDED))[0]
    assert 0 < displacement.abs().max() < 0.25


@pytest.mark.parametrize("stage", [COARSE, FINE])
@pytest.mark.parametrize("on", [AFFINE, FINE])
def test_dense_displacement_is_that_of_the_exact_transform(model: MultiStageModel, stage: int, on: int) -> None:
    """In millimetres, on an oblique grid, at the voxels of the same or another stage."""
    spacing = SPEC.control_spacing(stage)
    cells = [n // s for n, s in zip(PADDED, spacing[::-1], strict=True)]
    model.networks[stage] = Fixed(torch.empty(1, 3, *cells).uniform_(-0.4, 0.4, generator=torch.manual_seed(3)))
    coefficients = model.predict_coefficients(stage, random_image(), random_image())
    lattice = model.lattice(PADDED, on)
    found = Spline.of_cells(coefficients, model.spec.control_spacing(stage)).on(lattice)[0][0]

    grid = make_grid(PADDED, SPEC.preprocessing.resolution, (30.0, -20.0, 10.0), (0.3, 0.5, -0.4))
    to_mm = grid.index_to_physical[:3, :3]
    first = [-PADDING * s + (s - 1) / 2 for s in spacing]
    control: ImageGrid = grid.lattice(first, spacing, coefficients.shape[:1:-1])
    exact = BSplineTransform(np.einsum("ij,jzyx->izyx", to_mm, coefficients[0].numpy()), control)
    points = grid.to_physical(lattice.points().reshape(-1, 3).numpy())
    expected = exact.apply(points) - points
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found.flatten(1).T.numpy() @ to_mm.T, expected, rtol=0, atol=1e-4)


# -- the affine stage --------------------------------------------------------------------------------

SPACING, SIZE = torch.tensor([[1.5, 1.5, 8.0]]), torch.tensor([[18.0, 13.0, 5.0]])
SHAPES = (torch.tensor([SHAPE]), torch.tensor([SHAPE]))


def affine(model: MultiStageModel, **values: tuple[float, float, float]) -> Tensor:
    """(1, 4, 4) of an affine stage whose network says `values` and the identity for the rest."""
    row = torch.tensor([[0.0] * 6 + [1.0] * 3 + [0.0] * 3])
    for i, name in enumerate(("translation", "rotation", "scale", "shear")):
        if name in values:
            row[0, 3 * i : 3 * i + 3] = torch.tensor(values[name])
    model.networks[AFFINE] = Fixed(row)
    return model.predict_affine(AFFINE, random_image(), random_image(), SPACING, SHAPES)


def test_a_translation_in_mm_moves_voxels(model: MultiStageModel) -> None:
    matrix = affine(model, translation=(3.0, -6.0, 4.0))[0]
    torch.testing.assert_close(matrix[:3, 3], torch.tensor([2.0, -4.0, 0.5]))
    torch.testing.assert_close(matrix[:3, :3], torch.eye(3))


def test_a_rotation_keeps_the_center_and_distances_in_mm(model: MultiStageModel) -> None:
    matrix = affine(model, rotation=(0.3, -0.5, 0.7))
    center = (SIZE - 1) / 2
    torch.testing.assert_close(transform_points(matrix, center[:, None])[:, 0], center)
    points = 20 * torch.rand(1, 30, 3, generator=torch.manual_seed(0))
    moved = transform_points(matrix, points)
    before, after = ((p - p.roll(1, 1)) * SPACING for p in (points, moved))
    torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1), rtol=0, atol=1e-3)
    assert (moved - points).abs().max() > 1


def test_scales_are_those_of_the_grids_axes(model: MultiStageModel) -> None:
    matrix = affine(model, scale=(0.5, 1.25, 1.5))[0]
    torch.testing.assert_close(matrix[:3, :3], torch.diag(torch.tensor([0.5, 1.25, 1.5])))


def test_an_untrained_affine_stage_moves_by_a_fraction_of_a_voxel(model: MultiStageModel) -> None:
    shape = (9, 30, 12)  # of another size
    shapes = (SHAPES[0], torch.tensor([shape]))
    images = [model.pool(model.pad(image), AFFINE) for image in (random_image(), random_image(shape, seed=2))]
    matrix = model.predict_affine(AFFINE, images[0], images[1], SPACING, shapes)
    corners = torch.from_numpy(np.array(list(np.ndindex(2, 2, 2)))).float()[None] * SIZE
    assert 0 < (transform_points(matrix, corners) - corners).abs().max() < 0.5


# -- precision ---------------------------------------------------------------------------------------


def test_half_precision_touches_convolutions_only(model: MultiStageModel) -> None:
    images = [model.pool(model.pad(random_image(seed=s)), COARSE) for s in (1, 2)]
    single = [
        model.predict_coefficients(COARSE, images[0], images[1]),
        model.predict_affine(AFFINE, images[0], images[1], SPACING, SHAPES),
    ]
    model.precision = torch.bfloat16
    half = [
        model.predict_coefficients(COARSE, images[0], images[1]),
        model.predict_affine(AFFINE, images[0], images[1], SPACING, SHAPES),
    ]
    for exact, rounded in zip(single, half, strict=True):
        assert rounded.dtype == torch.float32
        assert not torch.equal(rounded, exact)
        torch.testing.assert_close(rounded, exact, rtol=0, atol=0.01)
