"""One B-spline stage on top of a transform: better than before, never folding, and what other tools read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blobs import CENTER, FIXED, MOVING, Blobs, about, noise, placed
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.losses.choices import Similarity
from dlir.optimization.deformable import LIMIT, Improved, Stage, _Landmarks, improve
from dlir.optimization.levels import Pyramid
from dlir.optimization.objective import Steering
from dlir.transforms.bspline import PADDING
from dlir.transforms.files import write_transform
from dlir.transforms.spatial import BSplineTransform, CompositeTransform
from grids import Array, make_grid

STILL = CompositeTransform(())
STAGE = Stage(3.0, 15.0, 15, 0.3)


def _bent(points: Array) -> Array:
    """Moves points within the scene by up to 4 mm."""
    x, y, z = ((points - CENTER) / 14).T
    return points + 2.5 * np.stack([np.sin(y) * np.cos(z), np.cos(x), np.sin(x + z)], 1)


def _pair(moving: ImageGrid = MOVING) -> tuple[Volume, Volume]:
    """The fixed image's points lie at `_bent` in the moving one."""
    blobs = Blobs()
    return blobs.seen(FIXED, _bent, name="fixed"), blobs.seen(moving, name="moving")


def _improved(
    pair: tuple[Volume, Volume],
    transform: CompositeTransform = STILL,
    stage: Stage = STAGE,
    masks: tuple[Volume | None, Volume | None] = (None, None),
) -> Improved:
    fixed, moving = (Pyramid(image, mask) for image, mask in zip(pair, masks, strict=True))
    return improve(fixed, moving, transform, stage, lambda step, value: True)


def _fractions(part: BSplineTransform) -> Array:
    """The largest coefficient along each axis of its control grid, in control spacings."""
    along = np.einsum("ji,jzyx->izyx", part.grid.direction_matrix, part.coefficients)
    return np.abs(along).max((1, 2, 3)) / np.array(part.grid.spacing)


def _points(grid: ImageGrid, seed: int = 0, count: int = 3000) -> Array:
    """In and about an image."""
    size = np.array(grid.size)
    return grid.to_physical(np.random.default_rng(seed).uniform(-0.3 * size, 1.3 * size, (count, 3)))


def test_a_stage_finds_a_deformation() -> None:
    found = _improved(_pair(), stage=replace(STAGE, steps=40))
    assert found.after > found.before + 0.03
    points = CENTER + np.random.default_rng(0).uniform(-20, 20, (500, 3))
    before, after = (
        np.linalg.norm(way(points) - _bent(points), axis=1).mean()
        for way in (lambda points: points, found.transform.apply)
    )
    assert after < 0.35 * before


def test_the_stage_comes_first_and_the_rest_stays() -> None:
    start = placed((1, 0, -1))
    found = _improved(_pair(), start)
    first, *rest = found.transform.parts
    assert isinstance(first, BSplineTransform)
    assert rest == list(start.parts)


def test_the_second_stage_is_on_top_of_the_first() -> None:
    pair = _pair()
    first = _improved(pair)
    second = _improved(pair, first.transform, Stage(2.5, 9.0, 10, 0.3))
    assert second.after > second.before
    assert second.transform.parts[1:] == first.transform.parts
    assert second.before > _improved(pair, STILL, Stage(2.5, 9.0, 0, 0.3)).before


# -- no folds, whatever the images --------------------------------------------------------------------


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([6.0, 9.0, 20.0]), st.floats(0, 0.3))
def test_hostile_images_do_not_make_it_fold(seed: int, control: float, stiffness: float) -> None:
    rng = np.random.default_rng(seed)
    grid = about(CENTER, make_grid((13, 16, 15), tuple(rng.uniform(2, 4, 3)), angles=tuple(rng.uniform(-1, 1, 3))))
    pair = noise(grid, seed), noise(grid, seed + 1)
    transform = placed((2, 1, -1))
    for _ in range(2):
        found = _improved(pair, transform, Stage(2.0, control, 12, stiffness))
        assert found.after >= found.before
        transform = found.transform
    bends = [part for part in transform.parts if isinstance(part, BSplineTransform)]
    assert bends
    for part in bends:
        assert (_fractions(part) <= LIMIT * (1 + 1e-5)).all()
    assert transform.determinant(_points(grid, seed)).min() > 0


def test_far_too_many_steps_do_not_make_it_fold() -> None:
    grid = about(CENTER, make_grid((12, 12, 12), (3.0, 3.0, 3.0)))
    found = _improved((noise(grid, 0), noise(grid, 1)), stage=Stage(3.0, 6.0, 150, 0.0))
    (part,) = found.transform.parts
    assert isinstance(part, BSplineTransform)
    assert 0.8 * LIMIT < _fractions(part).max() <= LIMIT * (1 + 1e-5)
    assert part.determinant(_points(grid, count=20_000)).min() > 0


# -- never worse --------------------------------------------------------------------------------------


def test_it_is_never_worse_than_before() -> None:
    """Steps that are far too bold, on images that have nothing in common."""
    pair = noise(FIXED, 0), Blobs().seen(MOVING)
    for steps in (0, 1, 10):
        found = _improved(pair, stage=replace(STAGE, steps=steps, stiffness=20.0))
        assert found.after >= found.before
        if found.after == found.before:
            assert found.transform is STILL


def test_no_steps_and_no_gain_leave_the_transform_as_it_is() -> None:
    image = Blobs().seen(FIXED)
    blank = replace(image, array=np.zeros_like(image.array))
    for pair, steps in (((image, image), 0), ((blank, blank), 5), ((image, blank), 5)):
        found = _improved(pair, stage=replace(STAGE, steps=steps))
        assert found.transform is STILL
        assert np.isfinite([found.before, found.after]).all()


def test_it_ends_with_the_best_so_far() -> None:
    fixed, moving = map(Pyramid, _pair())
    values: list[float] = []

    def proceed(step: int, value: float) -> bool:
        assert step == len(values)
        values.append(value)
        return step < 6

    found = improve(fixed, moving, STILL, STAGE, proceed)
    assert len(values) == 7
    assert found.before == values[0]
    assert found.after == max(values)


def test_what_does_not_overlap_is_no_reason_to_fail() -> None:
    found = _improved(_pair(), placed((900, 0, 0)))
    assert np.isfinite([found.before, found.after]).all()
    assert found.transform.determinant(_points(FIXED)).min() > 0


# -- masks and shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1])
def test_what_a_mask_takes_out_has_no_influence(side: int) -> None:
    """One half counts; what stands in the other, within the range of brightness, changes nothing of the result."""
    pair = list(_pair(FIXED))
    mask = np.zeros(FIXED.shape, np.uint8)
    mask[:, :13] = 1
    masks: list[Volume | None] = [None, None]
    masks[side] = Volume(mask, FIXED, "mask")
    results = []
    for other in (None, 7):
        if other is not None:
            shuffled = np.random.default_rng(other).permuted(pair[side].array, axis=1)
            pair[side] = replace(pair[side], array=np.where(mask > 0, pair[side].array, shuffled))
            assert np.percentile(pair[side].array, 99) > 0
        results.append(_improved((pair[0], pair[1]), masks=(masks[0], masks[1])))
    points = _points(FIXED)
    assert np.linalg.norm(results[0].transform.apply(points) - points, axis=1).max() > 1
    np.testing.assert_allclose(results[0].transform.apply(points), results[1].transform.apply(points), atol=0.3)


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("axis", [0, 2])
def test_thin_stacks(slices: int, axis: int, tmp_path: Path) -> None:
    shape, spacing = [24, 26, 28], [2.5, 2.4, 2.3]
    shape[axis], spacing[axis] = slices, 8.0
    thin = about(CENTER, make_grid((shape[0], shape[1], shape[2]), tuple(spacing[::-1]), angles=(0.2, 0.1, -0.3)))
    blobs = Blobs()
    found = _improved((blobs.seen(thin, _bent), blobs.seen(thin)), stage=Stage(2.5, 12.0, 12, 0.3))
    assert found.after > found.before
    assert found.transform.determinant(_points(thin)).min() > 0
    write_transform(tmp_path / "thin.h5", found.transform)


def test_it_is_written_as_other_tools_read_it(tmp_path: Path) -> None:
    pair = _pair()
    found = _improved(pair, placed((2, 2, -2)))
    found = _improved(pair, found.transform, Stage(2.5, 8.0, 10, 0.3))
    assert len(found.transform.parts) == 3
    write_transform(tmp_path / "found.h5", found.transform)
    read = sitk.ReadTransform(str(tmp_path / "found.h5"))
    points = _points(FIXED, count=500)
    there = np.array([read.TransformPoint(point) for point in points.tolist()])
    np.testing.assert_allclose(found.transform.apply(points), there, atol=1e-3)


# -- landmarks ----------------------------------------------------------------------------------------


def _landmarks(moved: Array, transform: CompositeTransform) -> tuple[_Landmarks, Array]:
    """Of a stage in front of a transform whose points lie at `moved` voxels of the stage from there, and the points."""
    points = CENTER + np.random.default_rng(0).uniform(-15, 15, (5, 3))
    there = transform.apply(points + moved * FIXED.spacing @ FIXED.direction_matrix.T)
    like = torch.zeros(1, dtype=torch.float64)
    return _Landmarks(Steering(points, there, 2.0), transform, FIXED, (4, 5, 6), like), points


def _coefficients(fill: Array) -> torch.Tensor:
    """(1, 3, z, y, x), all alike, as many as cover the fixed image."""
    cells = [-(-n // s) + 2 * PADDING for n, s in zip(FIXED.size, (4, 5, 6), strict=True)]
    return torch.from_numpy(fill).reshape(1, 3, 1, 1, 1).expand(1, 3, *cells[::-1]).clone()


def test_what_moves_landmarks_to_each_other_costs_nothing() -> None:
    """Whatever the transform that follows the stage."""
    moved = np.array([1.2, -1.0, 0.6])
    for transform in (STILL, placed((5, -4, 3), (0.1, -0.2, 0.3), (1.1, 0.9, 1.0))):
        landmarks, _ = _landmarks(moved, transform)
        assert float(landmarks.cost(_coefficients(moved / (4, 5, 6)))) == pytest.approx(0, abs=1e-9)
        apart = float(((moved * FIXED.spacing) ** 2).sum())  # mm^2
        assert float(landmarks.cost(_coefficients(np.zeros(3)))) == pytest.approx(2.0 * apart / 100)


def test_the_gradient_of_landmarks_is_that_of_differences() -> None:
    landmarks, _ = _landmarks(np.array([1.2, -1.0, 0.6]), placed((5, -4, 3), (0.1, -0.2, 0.3)))
    raw = 0.2 * torch.randn(1, 3, 5, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def cost(some: torch.Tensor) -> torch.Tensor:
        whole = _coefficients(np.zeros(3))
        whole[:, :, 1:6, 1:6, 1:7] = some
        return landmarks.cost(whole)

    assert float(cost(raw)) > 0
    assert torch.autograd.gradcheck(cost, raw.requires_grad_())


def test_a_stage_brings_landmarks_together() -> None:
    """Where the images say nothing of them."""
    blank = [Pyramid(Volume(np.zeros(FIXED.shape, np.float32), FIXED, "blank"))] * 2
    points = CENTER + np.random.default_rng(0).uniform(-20, 20, (8, 3))
    steering = Steering(points, _bent(points), 1.0)
    stage = replace(STAGE, steps=40, stiffness=0.01)
    found = improve(*blank, STILL, stage, lambda step, value: True, steering=steering)
    before, after = (np.linalg.norm(way - steering.moving, axis=1) for way in (points, found.transform.apply(points)))
    assert after.mean() < 0.3 * before.mean()
    assert found.transform.determinant(_points(FIXED)).min() > 0


def test_another_similarity_sees_another_contrast() -> None:
    fixed, moving = _pair()
    folded = replace(moving, array=np.abs(moving.array - 60))
    pyramids = Pyramid(fixed), Pyramid(folded)
    points = CENTER + np.random.default_rng(0).uniform(-20, 20, (500, 3))
    stage = replace(STAGE, steps=25)
    found = improve(*pyramids, STILL, stage, lambda step, value: True, Similarity.mutual_information)
    assert found.after > found.before
    before, after = (
        np.linalg.norm(way - _bent(points), axis=1).mean() for way in (points, found.transform.apply(points))
    )
    assert after < 0.8 * before
