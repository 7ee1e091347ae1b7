"""Labels by nearest neighbour through a transform that is mostly guessed: voxel by voxel as SimpleITK has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_affine, random_chain
from dlir.geometry import ImageGrid
from dlir.transforms import nearest as module
from dlir.transforms.files import to_sitk
from dlir.transforms.nearest import LabelReader, control_spacing, interpolation_error, resample_labels
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform, SpatialTransform
from grids import Array, make_grid


def scene(
    seed: int, spacing: tuple[float, float, float] = (1.3, 1.1, 4.0)
) -> tuple[CompositeTransform, ImageGrid, ImageGrid]:
    """A chain with control points far apart, a fine grid in its domain, and one about where that is mapped to."""
    chain = random_chain(np.random.default_rng(seed), fraction=0.35)
    control = chain.parts[0].grid  # type: ignore[attr-defined]
    fixed = make_grid((14, 48, 44), spacing, angles=(0.5, -0.3, 0.2), mirrored=bool(seed % 2))
    fixed = replace(fixed, origin=tuple(control.center - fixed.center))
    moving = make_grid((20, 31, 35), (2.1, 2.3, 3.7), angles=(0.4, 0.2, -0.9))
    return chain, fixed, replace(moving, origin=tuple(chain.apply(fixed.center[None])[0] - moving.center))


def blobs(grid: ImageGrid, seed: int, background: int = 0) -> Array:
    """Overlapping balls of several labels, some of them at the border of the grid."""
    rng = np.random.default_rng(seed)
    points = grid.voxel_centers()
    values = np.full(grid.shape, background, np.int16)
    for label in range(1, 7):
        center = grid.to_physical(rng.uniform(0, np.array(grid.size) - 1))
        values[np.linalg.norm(points - center, axis=-1) < rng.uniform(4, 14)] = 100 * label
    return values


def sitk_labels(array: Array, grid: ImageGrid, chain: CompositeTransform, onto: ImageGrid, default: float) -> Array:
    reference = onto.to_sitk(np.zeros(onto.shape, np.uint8))
    image = sitk.Resample(grid.to_sitk(array), reference, to_sitk(chain), sitk.sitkNearestNeighbor, default)
    found: Array = sitk.GetArrayFromImage(image)
    return found


def guessed(array: Array, grid: ImageGrid, chain: SpatialTransform, onto: ImageGrid, default: float = 0) -> Array:
    """The labels, after making sure that they come from here."""
    found = resample_labels(array, grid, chain, onto, default, lambda fraction: None)
    assert found is not None
    np.testing.assert_array_equal(found, resample(array, grid, chain, onto, "nearest", default))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slab", [3000, 1 << 19])
def test_equals_simpleitk(seed: int, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab)
    chain, fixed, moving = scene(seed)
    labels = blobs(moving, seed)
    found = guessed(labels, moving, chain, fixed)
    assert found.dtype == np.int16
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, sitk_labels(labels, moving, chain, fixed, 0))


@pytest.mark.parametrize("default", [-5, 100])
def test_a_background_of_another_value(default: int) -> None:
    chain, fixed, moving = scene(7)
    labels = blobs(moving, 7, background=default)
    np.testing.assert_array_equal(
        guessed(labels, moving, chain, fixed, default), sitk_labels(labels, moving, chain, fixed, default)
    )


@pytest.mark.parametrize("seed", range(2))
def test_noise_in_which_every_voxel_matters(seed: int) -> None:
    chain, fixed, moving = scene(seed)
    labels = np.random.default_rng(seed).integers(0, 200, moving.shape).astype(np.uint8)
    np.testing.assert_array_equal(guessed(labels, moving, chain, fixed), sitk_labels(labels, moving, chain, fixed, 0))


def test_a_mask_of_one_voxel_and_one_of_all() -> None:
    chain, fixed, moving = scene(3)
    mask = np.zeros(moving.shape, bool)
    mask[9, 15, 17] = True
    for values in (mask, np.ones(moving.shape, bool)):
        found = guessed(values, moving, chain, fixed)
        assert found.dtype == bool
        assert found.any()
        expected = sitk_labels(values.astype(np.uint8), moving, chain, fixed, 0)
        np.testing.assert_array_equal(found, expected.astype(bool))


def test_labels_out_of_reach_and_none_at_all() -> None:
    chain, fixed, moving = scene(4)
    far = replace(moving, origin=(5000.0, 0.0, 0.0))
    assert not guessed(np.ones(moving.shape, np.uint8), far, chain, fixed).any()
    assert not guessed(np.zeros(moving.shape, np.uint8), moving, chain, fixed).any()


def test_few_points_are_followed_exactly() -> None:
    chain, coarse, moving = scene(5)
    fixed = coarse.with_spacing((0.8, 0.8, 2.0))
    ball = np.linalg.norm(moving.voxel_centers() - moving.center, axis=-1) < 8
    counts: list[int] = []

    class Counted(CompositeTransform):
        def apply(self, points: Array) -> Array:
            counts.append(len(points))
            return super().apply(points)

    expected = sitk_labels(ball.astype(np.uint8), moving, chain, fixed, 0)
    np.testing.assert_array_equal(guessed(ball.astype(np.uint8), moving, chain, fixed), expected)
    resample_labels(ball, moving, Counted(chain.parts), fixed, 0, lambda fraction: None)
    assert expected.any()
    assert sum(counts) < 0.2 * np.prod(fixed.size)


def test_where_a_guess_is_not_worth_it() -> None:
    chain, _, moving = scene(6)
    coarse = moving.with_spacing((8.0, 8.0, 8.0))
    straight = CompositeTransform((random_affine(np.random.default_rng(0)),))
    labels = blobs(moving, 6)
    for transform, onto in ((chain, coarse), (straight, moving)):
        assert resample_labels(labels, moving, transform, onto, 0, lambda fraction: None) is None


def test_fewer_nodes_where_the_memory_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_NODES", 300)
    chain, fixed, moving = scene(2)
    labels = blobs(moving, 2)
    np.testing.assert_array_equal(guessed(labels, moving, chain, fixed), sitk_labels(labels, moving, chain, fixed, 0))


def test_progress_rises() -> None:
    chain, fixed, moving = scene(1)
    told: list[float] = []
    resample(blobs(moving, 1), moving, chain, fixed, "nearest", progress=told.append)
    assert told == [0.0]


# -- the pieces ---------------------------------------------------------------------------------------


def test_the_error_of_interpolation_is_bounded() -> None:
    """A parabola bends by the same everywhere, so its error is known: an eighth of the second difference."""
    x = np.arange(9.0)
    values = np.zeros((9, 9, 9, 1))
    values[..., 0] = 3 * x**2
    found = interpolation_error(values)
    np.testing.assert_allclose(found, module._SAFETY * 6 / 8)
    np.testing.assert_allclose(interpolation_error(values, [0, 1]), 0)


def test_control_spacing_along_other_axes() -> None:
    chain = random_chain(np.random.default_rng(0))
    own = chain.parts[0].grid  # type: ignore[attr-defined]
    assert control_spacing(chain, own) == pytest.approx(own.spacing)
    turned = ImageGrid(own.shape, direction=tuple(own.direction_matrix[:, [2, 0, 1]].ravel()))
    assert control_spacing(chain, turned) == pytest.approx([own.spacing[a] for a in (2, 0, 1)])
    assert control_spacing(CompositeTransform(()), own) is None


def test_a_reader_knows_what_may_differ() -> None:
    grid = make_grid((20, 20, 20), (1.0, 1.0, 2.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:15, 5:15, 5:15] = 1
    reader = LabelReader(labels, grid)
    index = np.array([[9.6, 10.0, 10.0], [5.0, 10.0, 10.0], [3.0, 10.0, 10.0], [-50.0, 0.0, 0.0]])
    assert reader.values(index).tolist() == [1, 1, 0, 0]
    assert reader.may_differ(index, np.full(4, 0.3)).tolist() == [False, True, False, False]
    assert reader.may_differ(index, np.full(4, 3.0)).tolist() == [True, True, True, False]
    assert LabelReader(0 * labels, grid).empty
