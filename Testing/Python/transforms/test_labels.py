"""Labels by nearest neighbour through a transform: voxel by voxel as SimpleITK has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from chains import random_affine, random_chain
from dlir.geometry import ImageGrid
from dlir.transforms import chain as module
from dlir.transforms.files import to_sitk
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, grids, make_grid


def scene(
    seed: int, spacing: tuple[float, float, float] = (1.3, 1.1, 4.0), fraction: float = 0.35
) -> tuple[CompositeTransform, ImageGrid, ImageGrid]:
    """A chain with control points far apart, a fine grid in its domain, and one about where that is mapped to."""
    chain = random_chain(np.random.default_rng(seed), fraction=fraction)
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


def carried(array: Array, grid: ImageGrid, chain: CompositeTransform, onto: ImageGrid, default: float = 0) -> Array:
    found: Array = resample(array, grid, chain, onto, "nearest", default)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slab", [3000, 1 << 19])
def test_equals_simpleitk(seed: int, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", slab)
    chain, fixed, moving = scene(seed)
    labels = blobs(moving, seed)
    found = carried(labels, moving, chain, fixed)
    assert found.dtype == np.int16
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, sitk_labels(labels, moving, chain, fixed, 0))


@pytest.mark.parametrize("default", [-5, 100])
def test_a_background_of_another_value(default: int) -> None:
    chain, fixed, moving = scene(7)
    labels = blobs(moving, 7, background=default)
    np.testing.assert_array_equal(
        carried(labels, moving, chain, fixed, default), sitk_labels(labels, moving, chain, fixed, default)
    )


@pytest.mark.parametrize("seed", range(2))
def test_noise_in_which_every_voxel_matters(seed: int) -> None:
    chain, fixed, moving = scene(seed)
    labels = np.random.default_rng(seed).integers(0, 200, moving.shape).astype(np.uint8)
    np.testing.assert_array_equal(carried(labels, moving, chain, fixed), sitk_labels(labels, moving, chain, fixed, 0))


def test_a_mask_of_one_voxel_and_one_of_all() -> None:
    chain, fixed, moving = scene(3)
    mask = np.zeros(moving.shape, bool)
    mask[9, 15, 17] = True
    for values in (mask, np.ones(moving.shape, bool)):
        found = carried(values, moving, chain, fixed)
        assert found.dtype == bool
        assert found.any()
        expected = sitk_labels(values.astype(np.uint8), moving, chain, fixed, 0)
        np.testing.assert_array_equal(found, expected.astype(bool))


def test_labels_out_of_reach_and_none_at_all() -> None:
    chain, fixed, moving = scene(4)
    far = replace(moving, origin=(5000.0, 0.0, 0.0))
    assert not carried(np.ones(moving.shape, np.uint8), far, chain, fixed).any()
    assert not carried(np.zeros(moving.shape, np.uint8), moving, chain, fixed).any()


def test_few_points_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a transform which moves this little can bring to the label."""
    chain, coarse, moving = scene(5, fraction=0.05)
    fixed = coarse.with_spacing((0.8, 0.8, 2.0))
    ball = (np.linalg.norm(moving.voxel_centers() - moving.center, axis=-1) < 8).astype(np.uint8)
    counts: list[int] = []
    slabs = module.Chain.slabs

    def counted(self: module.Chain, onto: ImageGrid, *arguments: object, **options: object) -> object:
        counts.append(int(np.prod(onto.size)))
        return slabs(self, onto, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Chain, "slabs", counted)
    expected = sitk_labels(ball, moving, chain, fixed, 0)
    np.testing.assert_array_equal(carried(ball, moving, chain, fixed), expected)
    assert expected.any()
    assert 0 < sum(counts) < 0.5 * np.prod(fixed.size)


def test_onto_coarse_grids_and_through_a_matrix() -> None:
    chain, _, moving = scene(6)
    coarse = moving.with_spacing((8.0, 8.0, 8.0))
    shift = AffineTransform.translation(tuple(moving.center - chain.apply(moving.center[None])[0]))
    turned = random_affine(np.random.default_rng(0))
    center = turned.apply(moving.center[None])[0]
    straight = CompositeTransform((turned, AffineTransform.translation(tuple(moving.center - center))))
    labels = blobs(moving, 6)
    for transform, onto in ((CompositeTransform((*chain.parts, shift)), coarse), (straight, moving)):
        expected = sitk_labels(labels, moving, transform, onto, 0)
        assert expected.any()
        np.testing.assert_array_equal(carried(labels, moving, transform, onto), expected)


def test_progress_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3000)
    chain, fixed, moving = scene(1)
    told: list[float] = []
    resample(blobs(moving, 1), moving, chain, fixed, "nearest", progress=told.append)
    assert told[0] == 0.0
    assert len(told) > 1
    assert (np.diff(told) > 0).all()
    assert told[-1] < 1


@given(grid=grids(), seed=st.integers(0, 1000))
def test_single_voxels_match_sitk(grid: ImageGrid, seed: int) -> None:
    """Labels on any grid, read off the exact halves between two voxels, where rounding decides."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 256, grid.shape).astype(np.uint8)
    index = rng.integers(0, grid.size, (15, 3)) + rng.uniform(-0.499, 0.499, (15, 3))
    image = grid.to_sitk(labels)
    for point in grid.to_physical(index):
        expected = image.EvaluateAtPhysicalPoint(point.tolist(), sitk.sitkNearestNeighbor)
        onto = ImageGrid((1, 1, 1), grid.spacing, tuple(point), grid.direction)
        assert carried(labels, grid, CompositeTransform(()), onto).item() == expected
