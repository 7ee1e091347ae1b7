"""RAS and LPS, and where volume nodes lie in the world, against SimpleITK and Slicer's own transforms."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given

from chains import random_affine, random_chain
from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from grids import Array, grids, make_grid, random_grid, rotation

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.scene import frames
from transform_nodes import set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

FLIP = np.array([-1.0, -1.0, 1.0])


def turned(angles: tuple[float, float, float], offset: tuple[float, float, float], scale: Array | float = 1.0) -> Array:
    """(4, 4) of a table that turns, scales along the axes of what lies on it, and shifts; RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(angles) * scale
    matrix[:3, 3] = offset
    return matrix


def test_left_and_posterior_are_negative_in_ras() -> None:
    assert frames.points_ras([10, 20, 30]).tolist() == [-10, -20, 30]
    assert frames.points_lps([-10, -20, 30]).tolist() == [10, 20, 30]


@given(grids())
def test_voxels_lie_where_simpleitk_says(grid: ImageGrid) -> None:
    image = sitk.Image(grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    matrix = slicer.util.arrayFromVTKMatrix(frames.ijk_to_ras(grid))
    for index in ([0, 0, 0], [3, 1, 2]):
        expected = np.array(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])) * FLIP
        np.testing.assert_allclose((matrix @ [*index, 1])[:3], expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_matrix_means_the_same_in_either_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, point = random_affine(rng).matrix, rng.uniform(-100, 100, 3)
    in_ras = frames.matrix_ras(matrix) @ [*frames.points_ras(point), 1]
    np.testing.assert_allclose(frames.points_lps(in_ras[:3]), (matrix @ [*point, 1])[:3], atol=1e-9)
    np.testing.assert_allclose(frames.matrix_lps(frames.matrix_ras(matrix)), matrix, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_volume_lies_where_slicer_puts_it_under_two_tables(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng)
    node = scene.volume(np.zeros(grid.shape, np.int16), grid)
    # A scaling along the image's own axes keeps them perpendicular; so does anything that turns.
    along = FLIP[:, None] * grid.direction_matrix
    scaling = np.eye(4)
    scaling[:3, :3] = along @ np.diag([0.5, 2.0, 1.25]) @ along.T
    inner = scene.linear_transform(scaling, "inner")
    outer = scene.linear_transform(turned((0.3, -0.5, 0.8), (12, -34, 56), scale=1.5), "outer")
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())
    found = frames.grid_of_volume(node)
    index = rng.uniform(0, 10, (20, 3))
    local = frames.points_ras(grid.to_physical(index))
    world = np.zeros_like(local)
    for here, there in zip(local, world, strict=True):
        node.TransformPointToWorld(here, there)
    np.testing.assert_allclose(frames.points_ras(found.to_physical(index)), world, atol=1e-9)
    assert found.shape == grid.shape


def test_an_image_that_begins_at_another_index_lies_where_slicer_shows_it(scene: MRML) -> None:
    grid = make_grid((4, 5, 6), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (0.2, 0.3, 0.4))
    node = scene.volume(np.zeros(grid.shape, np.int16), grid)
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(node.GetImageData())
    image.SetExtent(7, 12, -3, 1, 2, 5)
    node.SetAndObserveImageData(image)
    found = frames.grid_of_volume(node)
    np.testing.assert_allclose(found.origin, grid.to_physical([7, -3, 2]), atol=1e-9)


def test_a_volume_that_no_grid_can_place_is_refused_by_name(scene: MRML) -> None:
    grid = make_grid((4, 5, 6))
    node = scene.volume(np.zeros(grid.shape, np.int16), grid, "bent scan")
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    node.SetAndObserveTransformNodeID(scene.linear_transform(sheared).GetID())
    with pytest.raises(GeometryError, match=r"'bent scan'.*perpendicular"):
        frames.grid_of_volume(node)
    bent = scene.add("Transform")
    set_native_transform(bent, random_chain(np.random.default_rng(0)))
    node.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(GeometryError, match=r"'bent scan'.*not linear"):
        frames.grid_of_volume(node)
    with pytest.raises(GeometryError, match="'empty' holds no image"):
        frames.grid_of_volume(scene.add("ScalarVolume", "empty"))


def test_nothing_heavy_is_imported() -> None:
    names = ("frames", "volumes", "masks", "sampling", "transforms", "segmentations", "markups")
    modules = "; ".join(f"import DLIRRegistrationLib.scene.{name}" for name in names)
    modules += "; import DLIRRegistrationLib.registration.initial_transform"
    heavy = {"torch", "SimpleITK", "safetensors", "typer", "rich", "qt", "ctk"}
    code = f"import sys; {modules}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
