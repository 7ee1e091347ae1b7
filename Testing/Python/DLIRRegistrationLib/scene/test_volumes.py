"""Volume nodes as arrays and arrays as volume nodes: every type, every parent, against SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_chain, sitk_bspline
from dlir.errors import DLIRError, GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, make_grid, random_grid, rotation

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk

from DLIRRegistrationLib.scene.frames import matrix_lps
from DLIRRegistrationLib.scene.volumes import placed_volume, set_volume
from transform_nodes import set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((7, 8, 9), (0.8, 1.7, 3.1), (30.0, -60.0, 90.0), (0.3, -0.7, 1.1), mirrored=True)
TYPES = ("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d")


def blurred(rng: np.random.Generator, grid: ImageGrid) -> Array:
    """A smooth image that is nowhere constant."""
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.uniform(0, 1000, grid.shape)), 1.0)
    return sitk.GetArrayFromImage(image)


def resampled(array: Array, grid: ImageGrid, transform: Any, onto: ImageGrid) -> tuple[Array, Array]:
    """SimpleITK's own linear resampling, and where it found the image to be."""
    reference = onto.to_sitk(np.zeros(onto.shape, np.uint8))
    values = sitk.Resample(grid.to_sitk(array), reference, transform, sitk.sitkLinear, float(array.min()))
    ones = sitk.Resample(grid.to_sitk(np.ones(grid.shape)), reference, transform, sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(values), sitk.GetArrayFromImage(ones) > 0


@pytest.mark.parametrize("code", TYPES)
def test_values_of_every_type_come_back(scene: MRML, code: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2 if code == "?" else 100, GRID.shape).astype(code)
    node = scene.add("ScalarVolume", "scan")
    set_volume(node, array, GRID)
    found = placed_volume(node)
    assert found.source == "scan"
    assert found.grid.same_as(GRID, 1e-9)
    assert found.array.dtype == {"?": np.uint8, "e": np.float32}.get(code, array.dtype)
    np.testing.assert_array_equal(found.array, array)


def test_byte_order_and_strides_do_not_matter(scene: MRML) -> None:
    array = np.random.default_rng(0).uniform(0, 1, GRID.shape[::-1]).astype(">f4").T
    node = scene.add("ScalarVolume")
    set_volume(node, array, GRID)
    np.testing.assert_array_equal(placed_volume(node).array, array)


def test_single_bits_are_read(scene: MRML) -> None:
    image = vtk.vtkImageData()
    image.SetDimensions(4, 3, 2)
    image.AllocateScalars(vtk.VTK_BIT, 1)
    for i in range(24):
        image.GetPointData().GetScalars().SetTuple1(i, i % 3 == 0)
    node = scene.add("ScalarVolume")
    node.SetAndObserveImageData(image)
    expected = (np.arange(24) % 3 == 0).reshape(2, 3, 4)
    np.testing.assert_array_equal(placed_volume(node).array, expected)
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    node.SetAndObserveTransformNodeID(scene.linear_transform(sheared).GetID())
    assert placed_volume(node).array.max() == 1


def _empty(scene: MRML) -> Any:
    return scene.add("ScalarVolume", "broken")


def _colour(scene: MRML) -> Any:
    node = scene.add("VectorVolume", "broken")
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 4, 5, 3), np.uint8))
    return node


def _of(array: Array) -> Any:
    return lambda scene: scene.volume(array, make_grid(array.shape), "broken")


BROKEN = {
    "empty": (_empty, "holds no image"),
    "colour": (_colour, "colour or vector"),
    "slice": (_of(np.arange(20.0).reshape(1, 4, 5)), "2D"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_registered_is_refused_by_name(scene: MRML, kind: str) -> None:
    make, reason = BROKEN[kind]
    with pytest.raises(ImageError, match=rf"volume 'broken'.*{reason}.*[;,]"):
        placed_volume(make(scene))


def test_under_a_table_nothing_is_copied(scene: MRML) -> None:
    node = scene.volume(np.arange(GRID.shape[0] * 72.0).reshape(GRID.shape), GRID)
    table = np.eye(4)
    table[:3, :3], table[:3, 3] = rotation((0.1, 0.2, 0.3)), (5, 6, 7)
    node.SetAndObserveTransformNodeID(scene.linear_transform(table).GetID())
    found = placed_volume(node)
    assert np.shares_memory(found.array, slicer.util.arrayFromVolume(node))
    expected = matrix_lps(table) @ GRID.index_to_physical
    np.testing.assert_allclose(found.grid.index_to_physical, expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_under_a_shear_it_is_resampled_as_simpleitk_does(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(rng, (9, 10, 11))
    array = blurred(rng, grid)
    sheared = np.eye(4)
    sheared[:3, :3] = rotation((0.2, 0.1, -0.4)) @ (np.eye(3) + np.triu(rng.uniform(-0.4, 0.4, (3, 3)), 1))
    sheared[:3, 3] = rng.uniform(-40, 40, 3)
    node = scene.volume(array, grid)
    node.SetAndObserveTransformNodeID(scene.linear_transform(sheared).GetID())
    found = placed_volume(node)
    to_local = np.linalg.inv(matrix_lps(sheared))
    affine = sitk.AffineTransform(to_local[:3, :3].ravel().tolist(), to_local[:3, 3].tolist())
    expected, within = resampled(array, grid, affine, found.grid)
    np.testing.assert_allclose(found.array, expected, atol=1e-5 * array.max())
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(grid.size) - 1)
    world = AffineTransform(matrix_lps(sheared)).apply(grid.to_physical(corners))
    assert found.grid.contains(world).all()
    assert within.any()


@pytest.mark.parametrize("seed", range(3))
def test_under_a_deformation_it_is_resampled_as_simpleitk_does(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = CompositeTransform(random_chain(rng, fraction=0.3).parts[:2])
    control = chain.parts[0].grid
    grid = random_grid(rng, (12, 13, 14))
    grid = ImageGrid(
        grid.shape, grid.spacing, tuple(np.array(grid.origin) + control.center - grid.center), grid.direction
    )
    array = blurred(rng, grid)
    parent = scene.add("Transform")
    set_native_transform(parent, chain)
    node = scene.volume(array, grid)
    node.SetAndObserveTransformNodeID(parent.GetID())
    found = placed_volume(node)
    composite = sitk.CompositeTransform([sitk_bspline(part) for part in reversed(chain.parts)])
    expected, within = resampled(array, grid, composite, found.grid)
    np.testing.assert_allclose(found.array, expected, atol=1e-5 * array.max())
    assert within.mean() > 0.2
    assert found.array.min() == array.min()


def test_a_parent_that_leads_astray_is_refused(scene: MRML) -> None:
    node = scene.volume(np.arange(60.0).reshape(3, 4, 5), make_grid((3, 4, 5)), "astray")
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    node.SetAndObserveTransformNodeID(scene.linear_transform(flat).GetID())
    with pytest.raises(GeometryError, match="'astray'"):
        placed_volume(node)
    flat[0, 0] = np.nan
    node.SetAndObserveTransformNodeID(scene.linear_transform(flat).GetID())
    with pytest.raises(DLIRError, match="'astray'"):
        placed_volume(node)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", ["ScalarVolume", "LabelMapVolume"])
def test_a_volume_that_is_set_is_what_slicer_saves(scene: MRML, tmp_path: Path, mirrored: bool, kind: str) -> None:
    grid = make_grid((4, 5, 6), (0.7, 1.9, 3.3), (-20.0, 40.0, 60.0), (0.5, 0.2, -0.9), mirrored=mirrored)
    array = np.random.default_rng(0).integers(0, 99, grid.shape).astype(np.int16)
    node = scene.volume(np.ones((2, 2, 2), np.float32), make_grid((2, 2, 2)), "warped", kind)
    node.SetAndObserveTransformNodeID(scene.linear_transform(np.eye(4)).GetID())
    before = node.GetImageData()
    set_volume(node, array, grid)
    assert node.GetParentTransformNode() is None
    assert before.GetDimensions() == (2, 2, 2)  # it may belong to another node as well
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / "warped.nrrd"))
    assert storage.WriteData(node)
    saved = sitk.ReadImage(str(tmp_path / "warped.nrrd"))
    assert ImageGrid.from_sitk(saved).same_as(grid, 1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(saved), array)


def test_an_array_that_does_not_fit_changes_nothing(scene: MRML) -> None:
    node = scene.volume(np.ones((2, 2, 2), np.float32), make_grid((2, 2, 2)))
    with pytest.raises(GeometryError, match="does not fit"):
        set_volume(node, np.ones((2, 2, 3)), make_grid((2, 2, 2)))
    assert node.GetImageData().GetDimensions() == (2, 2, 2)
