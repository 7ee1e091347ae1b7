"""Labels carried from the fixed to the moving image, all layers at once: as by the exact inverse everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from chains import random_bspline, random_chain
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms import chain as module
from dlir.transforms import inverse
from dlir.transforms.inverse import TOLERANCE, InversePoints, InverseTransform
from dlir.transforms.resample import carry_to_moving, resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform, SpatialTransform
from grids import Array, make_grid


def scene(seed: int, **options: float) -> tuple[CompositeTransform, ImageGrid, ImageGrid]:
    """A chain with an affine part, a fixed grid in its domain, and a moving one about where that is mapped to."""
    chain = random_chain(np.random.default_rng(seed), **options)  # type: ignore[arg-type]
    fixed = chain.parts[0].grid.with_spacing((2.5, 3.0, 5.0))  # type: ignore[attr-defined]
    there = chain.apply(fixed.center[None])[0]
    moving = make_grid((15, 40, 44), (2.2, 1.9, 5.5), angles=(0.4, 0.2, -0.9), mirrored=bool(seed % 2))
    origin = tuple(there - (moving.center - np.array(moving.origin)))
    return chain, fixed, ImageGrid(moving.shape, moving.spacing, origin, moving.direction)


def labelled(array: Array, grid: ImageGrid) -> Volume:
    return Volume(array, grid, "labels")


def body(grid: ImageGrid, center: Array, radius: float) -> Array:
    """A ball of label 7 in a shell of label 3."""
    distance = np.linalg.norm(grid.voxel_centers() - center, axis=-1)
    return np.where(distance < radius / 2, 7, np.where(distance < radius, 3, 0)).astype(np.uint8)


def by_the_exact_inverse(layer: Volume, chain: CompositeTransform, onto: ImageGrid) -> Array:
    return resample(layer.array, layer.grid, InverseTransform(chain), onto, "nearest")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slab", [2000, 1 << 19])
def test_a_body_is_carried_as_by_the_exact_inverse(seed: int, slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", slab)
    chain, fixed, moving = scene(seed, fraction=0.3)
    layer = labelled(body(fixed, fixed.center + np.array([6, -4, 3]), 18), fixed)
    carried = carry_to_moving([layer], chain, moving)
    expected = by_the_exact_inverse(layer, chain, moving)
    assert set(np.unique(expected)) == {0, 3, 7}
    assert carried.arrays[0].dtype == np.uint8
    np.testing.assert_array_equal(carried.arrays[0], expected)
    assert carried.unsolved == 0
    assert 0 < carried.largest_residual <= TOLERANCE


def test_labels_without_any_two_alike_are_carried_too() -> None:
    chain, fixed, moving = scene(5, fraction=0.2)
    noise = np.random.default_rng(5).integers(0, 2000, fixed.shape).astype(np.int16)
    noise[body(fixed, fixed.center, 14) == 0] = 0
    layer = labelled(noise, fixed)
    found, expected = carry_to_moving([layer], chain, moving).arrays[0], by_the_exact_inverse(layer, chain, moving)
    assert found.dtype == np.int16
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


def test_layers_on_grids_of_their_own() -> None:
    chain, fixed, moving = scene(2, fraction=0.3)
    finer = make_grid((20, 22, 24), (1.1, 1.3, 1.7), angles=(-0.3, 0.5, 0.2))
    finer = ImageGrid(finer.shape, finer.spacing, tuple(fixed.center - finer.center), finer.direction)
    layers = [
        labelled(body(fixed, fixed.center, 12), fixed),
        labelled(np.zeros(fixed.shape, np.int32), fixed),
        labelled(np.full(finer.shape, 300, np.uint16), finer),  # up to its own border
    ]
    found = carry_to_moving(layers, chain, moving).arrays
    assert [array.dtype for array in found] == [np.uint8, np.int32, np.uint16]
    assert not found[1].any()
    for layer, array in zip(layers, found, strict=True):
        np.testing.assert_array_equal(array, by_the_exact_inverse(layer, chain, moving))


def test_the_identity_changes_nothing() -> None:
    grid = make_grid((9, 11, 13), (1.5, 2.0, 3.0), (40, -30, 20), (0.3, -0.5, 0.8))
    labels = np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8)
    carried = carry_to_moving([labelled(labels, grid)], CompositeTransform(()), grid)
    np.testing.assert_array_equal(carried.arrays[0], labels)
    assert (carried.largest_residual, carried.unsolved) == (pytest.approx(0, abs=1e-9), 0)


def test_a_shift_beyond_the_moving_image_leaves_nothing() -> None:
    grid = make_grid((9, 11, 13))
    away = CompositeTransform((AffineTransform.translation((500.0, 0.0, 0.0)),))
    carried = carry_to_moving([labelled(np.ones(grid.shape, np.uint8), grid)], away, grid)
    assert not carried.arrays[0].any()
    assert carried.unsolved == 0


def test_nothing_to_carry() -> None:
    grid = make_grid((4, 5, 6))
    carried = carry_to_moving([labelled(np.zeros(grid.shape, np.int64), grid)], CompositeTransform(()), grid)
    assert carried.arrays[0].dtype == np.int64
    assert not carried.arrays[0].any()
    assert carry_to_moving([], CompositeTransform(()), grid).arrays == []


def test_what_has_no_inverse_is_background_and_is_counted() -> None:
    """Everything is pressed onto a plane; only voxels in that plane come from somewhere."""
    grid = make_grid((5, 6, 7))
    flat = CompositeTransform((AffineTransform(np.diag([1.0, 1.0, 0.0, 1.0])),))
    carried = carry_to_moving([labelled(np.ones(grid.shape, np.uint8), grid)], flat, grid)
    assert carried.arrays[0][0].all()
    assert not carried.arrays[0][1:].any()
    assert carried.unsolved > 0


def test_a_folded_transform_says_so() -> None:
    rng = np.random.default_rng(3)
    control = make_grid((10, 10, 10), (8.0, 8.0, 8.0))
    folded = CompositeTransform((random_bspline(rng, control, fraction=2.5, zero_layers=3),))
    fixed = control.with_spacing((2.0, 2.0, 2.0))
    labels = body(fixed, fixed.center, 20)
    carried = carry_to_moving([labelled(labels, fixed)], folded, fixed)
    assert carried.unsolved > 0
    assert carried.largest_residual <= TOLERANCE
    assert set(np.unique(carried.arrays[0])) == {0, 3, 7}


def test_only_what_matters_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only voxels that a transform which moves this little can bring a label to go through the inverse."""
    chain, fixed, moving = scene(1, fraction=0.05)
    asked: list[int] = []
    exact = inverse.invert_points

    def counted(transform: SpatialTransform, targets: Array) -> InversePoints:
        asked.append(len(targets))
        return exact(transform, targets)

    monkeypatch.setattr(inverse, "invert_points", counted)
    carried = carry_to_moving([labelled(body(fixed, fixed.center, 8), fixed)], chain, moving)
    assert carried.arrays[0].any()
    assert sum(asked) < 0.25 * moving.shape[0] * moving.shape[1] * moving.shape[2]
