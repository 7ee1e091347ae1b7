"""Resampling of whole volumes: SimpleITK is the reference, and slabs, boxes and threads must not show."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_chain
from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.transforms import chain as chains_module
from dlir.transforms import resample as module
from dlir.transforms.files import to_sitk
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.jacobian import jacobian_map
from dlir.transforms.resample import displacement_field, resample, resample_all
from dlir.transforms.spatial import AffineTransform, CompositeTransform, SpatialTransform
from grids import make_grid

IDENTITY = CompositeTransform(())


def scene(seed: int) -> tuple[CompositeTransform, ImageGrid, ImageGrid]:
    """A chain, a grid in its domain, and a grid about where that is mapped to; unequal, oblique, anisotropic."""
    rng = np.random.default_rng(seed)
    chain = random_chain(rng, fraction=0.3)
    control = chain.parts[0].grid  # type: ignore[attr-defined]
    fixed = control.with_spacing((4.0, 5.0, 6.0))
    there = chain.apply(fixed.center[None])[0]
    moving = make_grid((17, 15, 21), (3.1, 4.3, 3.7), angles=(0.4, 0.2, -0.9), mirrored=bool(seed % 2))
    origin = tuple(there - (moving.center - np.array(moving.origin)))
    return chain, fixed, ImageGrid(moving.shape, moving.spacing, origin, moving.direction)


def sitk_resample(
    array: np.ndarray, grid: ImageGrid, chain: CompositeTransform, onto: ImageGrid, mode: int, default: float
) -> np.ndarray:
    reference = onto.to_sitk(np.zeros(onto.shape, np.uint8))
    return sitk.GetArrayFromImage(sitk.Resample(grid.to_sitk(array), reference, to_sitk(chain), mode, default))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slab", [1, 4000, 1 << 19])
def test_equals_simpleitk(seed: int, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains_module, "_AT_ONCE", slab)
    chain, fixed, moving = scene(seed)
    image = np.random.default_rng(seed).normal(100, 30, moving.shape).astype(np.float32)
    labels = np.random.default_rng(seed).integers(0, 5, moving.shape).astype(np.int16)
    found = resample(image, moving, chain, fixed, "linear", -7.0)
    assert found.dtype == np.float32
    assert 0.1 < (found != -7).mean() < 1
    np.testing.assert_allclose(found, sitk_resample(image, moving, chain, fixed, sitk.sitkLinear, -7.0), atol=1e-3)
    nearest = resample(labels, moving, chain, fixed, "nearest")
    assert nearest.dtype == np.int16
    np.testing.assert_array_equal(nearest, sitk_resample(labels, moving, chain, fixed, sitk.sitkNearestNeighbor, 0))


@pytest.mark.parametrize("slab", [4000, 1 << 19])
def test_splines_and_gaussians_equal_simpleitk(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way there and, by the inverse, back; where voxels lie on voxels as well."""
    monkeypatch.setattr(chains_module, "_AT_ONCE", slab)
    chain, fixed, moving = scene(1)
    rng = np.random.default_rng(1)
    image = rng.normal(100, 30, moving.shape).astype(np.float32)
    labels = rng.integers(0, 3, moving.shape).astype(np.uint8)
    labels[:4] = 0
    for way, onto in ((chain, fixed), (IDENTITY, moving)):
        found = resample(image, moving, way, onto, "bspline", -7.0)
        assert found.dtype == np.float32
        expected = sitk_resample(image.astype(float), moving, way, onto, sitk.sitkBSpline3, -7.0)
        np.testing.assert_array_equal(found == -7, expected == -7)
        np.testing.assert_allclose(found, expected, atol=1e-3)
        weighed = resample(labels, moving, way, onto, "gaussian-label")
        assert weighed.dtype == np.uint8
        same = weighed == sitk_resample(labels, moving, way, onto, sitk.sitkLabelGaussian, 0)
        assert same.mean() > 0.999  # two labels may weigh the same, but for rounding
        assert weighed.any()
    assert not np.array_equal(weighed, labels)  # smoothed even where they stay
    inverse = InverseTransform(CompositeTransform((AffineTransform.translation([1.0, -2.0, 0.5]),)))
    there = CompositeTransform((AffineTransform.translation([-1.0, 2.0, -0.5]),))
    np.testing.assert_allclose(
        resample(image, moving, inverse, moving, "bspline"),
        resample(image, moving, there, moving, "bspline"),
        atol=1e-3,
    )


def test_a_spline_needs_some_voxels() -> None:
    grid, half = make_grid((3, 6, 7)), CompositeTransform((AffineTransform.translation([0.5, 0.0, 0.0]),))
    with pytest.raises(GeometryError, match="7×6×3 voxels has too few for B-splines, which need 4"):
        resample(np.zeros(grid.shape, np.float32), grid, half, grid, "bspline")


@pytest.mark.parametrize("together", [1, 12000, 1 << 27])
def test_arrays_that_lie_together_go_together(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at once as there is room for: here one, two, and all."""
    monkeypatch.setattr(module, "_TOGETHER", together)
    chain, fixed, moving = scene(2)
    arrays = [np.random.default_rng(k).normal(size=moving.shape).astype(np.float32) for k in range(3)]
    done: list[float] = []
    for found, array in zip(resample_all(arrays, moving, chain, fixed, progress=done.append), arrays, strict=True):
        np.testing.assert_array_equal(found, resample(array, moving, chain, fixed))
    assert done == sorted(done)
    assert len(done) == (3 if together == 1 else 2 if together == 12000 else 1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["linear", "nearest", "gaussian-label"])
def test_what_is_left_out_makes_no_difference(seed: int, mode: str) -> None:
    """A label is small, so most voxels are never evaluated; with another default all of them are."""
    chain, fixed, moving = scene(seed)
    label = np.zeros(moving.shape, np.int16 if mode == "gaussian-label" else np.float32)
    label[5:9, 6:11, 9:12] = 3
    quick = resample(label, moving, chain, fixed, mode)  # type: ignore[arg-type]
    whole = resample(label, moving, chain, fixed, mode, default=-1)  # type: ignore[arg-type]
    assert quick.any()
    np.testing.assert_array_equal(quick, np.where(whole == -1, 0, whole))


def test_identity_returns_the_volume() -> None:
    grid = make_grid((6, 7, 8), (1.1, 2.2, 3.3), (10, 20, 30), (0.1, 0.2, 0.3))
    image = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    labels = np.random.default_rng(0).integers(-3, 3, grid.shape).astype(np.int8)
    np.testing.assert_allclose(resample(image, grid, IDENTITY, grid), image, atol=1e-6)
    np.testing.assert_array_equal(resample(labels, grid, IDENTITY, grid, "nearest"), labels)
    np.testing.assert_array_equal(resample(labels > 0, grid, IDENTITY, grid, "nearest"), labels > 0)


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -1, 3), (-3, 2, 0), (0, 0, 5), (0, 40, 0), (-40, 0, 0)])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_voxels_that_come_to_lie_on_voxels_are_copied(
    shift: tuple[int, int, int], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when they are interpolated; one grid reaches beyond the other at some sides, and not at others."""
    onto = make_grid((6, 7, 8), (1.1, 2.2, 3.3), (10, 20, 30), (0.1, 0.2, 0.3))
    away = AffineTransform.translation((5.0, -7.0, 9.0))
    inner = onto.lattice(shift, (1, 1, 1), (9, 4, 6))
    grid = ImageGrid(inner.shape, inner.spacing, tuple(away.apply(np.array([inner.origin]))[0]), inner.direction)
    image = np.random.default_rng(0).integers(1, 9, grid.shape).astype(np.float32)
    chain = CompositeTransform((away,))
    copied = resample(image, grid, chain, onto, mode, default=-7)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_WHOLE", -1.0)
    np.testing.assert_allclose(copied, resample(image, grid, chain, onto, mode, default=-7), atol=1e-5)  # type: ignore[arg-type]
    assert (copied != -7).any() == (max(map(abs, shift)) < 40)


def test_a_fraction_of_a_voxel_is_not_rounded_away() -> None:
    grid = ImageGrid((1, 1, 4))
    almost = CompositeTransform((AffineTransform.translation((1e-3, 0, 0)),))
    found = resample(np.array([[[0.0, 1000.0, 0.0, 0.0]]]), grid, almost, grid)
    np.testing.assert_allclose(found.ravel(), [1, 999, 0, 0], atol=1e-3)


def test_voxel_borders_count_as_inside() -> None:
    """ITK's rule: the outer half of a border voxel has that voxel's value, and what lies beyond has the default."""
    grid = ImageGrid((1, 1, 3))
    fine = ImageGrid((1, 1, 10), (0.5, 1, 1), (-0.75, 0, 0))
    found = resample(np.array([[[1.0, 2.0, 4.0]]]), grid, IDENTITY, fine, default=-1)
    np.testing.assert_allclose(found.ravel(), [-1, 1, 1.25, 1.75, 2.5, 3.5, 4, -1, -1, -1])


def test_an_image_of_nothing_but_the_default() -> None:
    grid = ImageGrid((3, 3, 3))
    assert not resample(np.zeros(grid.shape, np.uint8), grid, IDENTITY, grid, "nearest").any()


def test_any_transform_of_points_will_do() -> None:
    class Mirror:
        def apply(self, points: np.ndarray) -> np.ndarray:
            return points * (-1, 1, 1)

        def jacobian(self, points: np.ndarray) -> np.ndarray:
            raise NotImplementedError

    grid = ImageGrid((2, 2, 3), origin=(-1, 0, 0))
    array = np.arange(12.0).reshape(grid.shape)
    mirror: SpatialTransform = Mirror()
    np.testing.assert_allclose(resample(array, grid, mirror, grid), array[:, :, ::-1], atol=1e-12)


def test_there_and_back() -> None:
    chain, fixed, _ = scene(0)
    points = fixed.to_physical(np.random.default_rng(0).uniform(3, np.array(fixed.size) - 4, (200, 3)))
    inverse = InverseTransform(chain)
    np.testing.assert_allclose(inverse.apply(chain.apply(points)), points, atol=1e-4)
    assert inverse.unsolved == 0
    assert 0 < inverse.largest_residual < 1e-4
    product = inverse.jacobian(chain.apply(points)) @ chain.jacobian(points)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-3)


def test_points_without_an_inverse_are_counted() -> None:
    flat = AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0]))
    inverse = InverseTransform(flat)
    inverse.apply(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 5.0]]))
    inverse.apply(np.array([[1.0, 2.0, 3.0]]))
    assert inverse.unsolved == 2
    assert inverse.largest_residual == pytest.approx(5)


@pytest.mark.parametrize("seed", range(3))
def test_maps_equal_the_points_they_stand_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains_module, "_AT_ONCE", 4000)
    chain, fixed, _ = scene(seed)
    points = fixed.voxel_centers()
    flat = points.reshape(-1, 3)
    np.testing.assert_allclose(jacobian_map(chain, fixed).ravel(), chain.determinant(flat), rtol=1e-6)
    expected = (chain.apply(flat) - flat).reshape(points.shape)
    np.testing.assert_allclose(displacement_field(chain, fixed), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_the_bound_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    matrix, largest = chain.bound()
    points = chain.parts[0].grid.to_physical(rng.uniform(-5, 20, (2000, 3)))  # type: ignore[attr-defined]
    away = np.abs(chain.apply(points) - AffineTransform(matrix).apply(points)).max(0)
    assert (away <= largest + 1e-9).all()


def test_progress_rises_to_the_last_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains_module, "_AT_ONCE", 1)
    told: list[float] = []
    grid = ImageGrid((5, 4, 4))
    between = CompositeTransform((AffineTransform.translation((0.5, 0, 0)),))
    resample(np.ones(grid.shape), grid, between, grid, progress=told.append)
    assert told == [0, 0.2, 0.4, 0.6, 0.8]


def test_memory_does_not_grow_with_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the result itself, of 4 bytes a voxel, and the search for what differs from the default, of 1."""
    monkeypatch.setattr(chains_module, "_AT_ONCE", 1 << 14)
    chain = scene(0)[0]
    array = np.ones((8, 8, 8), np.float32)
    peaks = []
    for slices in (16, 256):
        onto = ImageGrid((slices, 64, 64))
        tracemalloc.start()
        resample(array, ImageGrid(array.shape), chain, onto, default=math.nan)
        peaks.append(tracemalloc.get_traced_memory()[1] - 4 * slices * 64 * 64)
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
