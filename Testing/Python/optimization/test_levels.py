"""Both images of a pair at any resolution: how fine, what of them counts, and the moving one brought over."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st

from blobs import CENTER, FIXED, MOVING, Blobs, about
from chains import random_bspline
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.optimization.levels import Level, Pyramid, spacing_for, warped
from dlir.transforms.files import to_sitk
from dlir.transforms.spatial import CompositeTransform
from grids import grids, make_grid, random_grid

# -- spacing ------------------------------------------------------------------------------------------


@given(grids(8, 40), st.floats(64, 20_000))
def test_the_spacing_makes_about_so_many_samples(grid: ImageGrid, samples: float) -> None:
    spacing = spacing_for(grid, samples)
    voxels = np.maximum(spacing, grid.spacing)
    count = float((np.array(grid.extent) / voxels).prod())
    assert count == pytest.approx(min(samples, math.prod(grid.size)), rel=1e-6)


@given(grids(1, 40), st.floats(1, 1e6))
def test_it_is_a_length_and_coarser_for_fewer_samples(grid: ImageGrid, samples: float) -> None:
    fine, coarse = spacing_for(grid, samples), spacing_for(grid, samples / 3)
    assert 0 < fine <= coarse * (1 + 1e-9)
    assert fine >= min(grid.spacing) * (1 - 1e-9)


def test_thick_slices_stay_as_they_are() -> None:
    grid = make_grid((12, 100, 120), (1.0, 1.0, 10.0))
    spacing = spacing_for(grid, 12 * 30 * 40)
    assert spacing == pytest.approx(math.sqrt(100 * 120 / (30 * 40)))
    level = Pyramid(Volume(np.zeros(grid.shape, np.float32) + np.arange(120), grid, "thick")).at(spacing)
    assert level.grid.spacing[2] == 10.0
    assert level.grid.shape[0] == 12


def test_a_level_is_never_finer_than_its_image_and_made_once() -> None:
    pyramid = Pyramid(Blobs().seen(FIXED))
    own = pyramid.at(0.1)
    assert own.grid.same_as(FIXED)
    assert pyramid.at(2.5) is own
    assert pyramid.at(6.0).grid.size < own.grid.size
    assert pyramid.at(6.0) is pyramid.at(6.0)


def test_levels_show_the_same_scene() -> None:
    pyramid = Pyramid(Blobs().seen(FIXED))
    fine, coarse = pyramid.at(1.0), pyramid.at(5.0)
    assert float(fine.image.min()) >= 0
    assert float(fine.image.max()) <= 1
    assert float(coarse.image.mean()) == pytest.approx(float(fine.image.mean()), abs=0.02)
    there, _ = warped(fine, CompositeTransform(()), coarse.grid)
    assert np.corrcoef(there.flatten(), coarse.image.flatten())[0, 1] > 0.98


# -- masks --------------------------------------------------------------------------------------------


def test_a_mask_becomes_a_weight() -> None:
    image = Blobs().seen(FIXED)
    mask = np.zeros(FIXED.shape, np.uint8)
    mask[:, :, :14] = 7
    pyramid = Pyramid(image, Volume(mask, FIXED, "mask"))
    fine, coarse = pyramid.at(1.0), pyramid.at(5.0)
    assert fine.weight is not None
    np.testing.assert_allclose(fine.weight[0, 0], mask > 0, atol=1e-6)
    assert coarse.weight is not None
    assert float(coarse.weight.mean()) == pytest.approx(0.5, abs=0.05)
    assert Pyramid(image).at(1.0).weight is None


# -- the moving image brought over --------------------------------------------------------------------


def _level(grid: ImageGrid, weight: torch.Tensor | None = None) -> Level:
    return Level(torch.from_numpy(Blobs().seen(grid).array / 200)[None, None], grid, weight)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_simpleitk_resamples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    control = make_grid((7, 8, 7), (14.0, 15.0, 16.0), angles=tuple(rng.uniform(-1, 1, 3)))
    bend = random_bspline(rng, about(CENTER, control), fraction=0.2, zero_layers=1)
    transform = CompositeTransform((bend,))
    onto = about(CENTER + rng.uniform(-5, 5, 3), random_grid(rng, (9, 11, 10)))
    level = _level(MOVING)
    image, weight = warped(level, transform, onto)
    moving, place = MOVING.to_sitk(level.image[0, 0].numpy()), onto.to_sitk(np.zeros(onto.shape, np.float32))
    there = sitk.GetArrayFromImage(sitk.Resample(moving, place, to_sitk(transform), sitk.sitkLinear, -1.0))
    inside = np.ones(onto.shape) if weight is None else weight[0, 0].numpy()
    assert image.shape == (1, 1, *onto.shape)
    assert np.mean((there >= 0) == (inside == 1)) > 0.995  # but for what lies on the very border
    both = (there >= 0) & (inside == 1)
    assert both.any()
    np.testing.assert_allclose(image[0, 0].numpy()[both], there[both], atol=1e-4)


def test_what_lies_outside_does_not_count() -> None:
    beyond = FIXED.lattice((-5, 0, 0), (1, 1, 1), (FIXED.size[0] + 5, *FIXED.size[1:]))
    image, weight = warped(_level(FIXED), CompositeTransform(()), beyond)
    assert weight is not None
    assert not weight[..., :5].any()
    assert (weight[..., 5:] == 1).all()
    assert torch.isfinite(image).all()
    assert warped(_level(FIXED), CompositeTransform(()), FIXED)[1] is None


def test_the_moving_mask_goes_along() -> None:
    mask = torch.ones(1, 1, *FIXED.shape)
    mask[:, :, :7] = 0
    _, weight = warped(_level(FIXED, mask), CompositeTransform(()), FIXED)
    assert weight is not None
    torch.testing.assert_close(weight, mask)
