"""Transform nodes: the same map as SimpleITK's, native and as a grid, forth and back, on disk and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_affine, random_bspline, random_chain, sitk_apply, sitk_parts
from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform
from grids import Array, make_grid, random_grid
from sample_registration import register_sample

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk

from DLIRRegistrationLib.scene import sampling
from DLIRRegistrationLib.scene.frames import move_points, points_lps, points_ras
from DLIRRegistrationLib.scene.transforms import hangs_under, set_transform, vtk_transform
from transform_nodes import set_grid_transform, set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

PROMISED_MM = 0.05


def image_about(rng: np.random.Generator, chain: CompositeTransform) -> ImageGrid:
    """An oblique image grid that the chain's B-splines bend, lying otherwise than their control points."""
    control = chain.parts[0].grid
    grid = random_grid(rng, (16, 17, 18))
    return ImageGrid(
        grid.shape, grid.spacing, tuple(np.array(grid.origin) + control.center - grid.center), grid.direction
    )


def points_in(rng: np.random.Generator, grid: ImageGrid, count: int = 1000, beyond: float = 0.5) -> Array:
    """(count, 3) LPS points up to `beyond` voxels outside of the outermost voxel centres."""
    return grid.to_physical(rng.uniform(-beyond, np.array(grid.size) - 1 + beyond, (count, 3)))


def forth(node: Any, points: Array) -> Array:
    """LPS points through what leads from parent: from the fixed image to the moving one."""
    return points_lps(move_points(node.GetTransformFromParent(), points_ras(points)))


def back(node: Any, points: Array) -> Array:
    return points_lps(move_points(node.GetTransformToParent(), points_ras(points)))


def distance(ours: Array, theirs: Array) -> float:
    return float(np.linalg.norm(ours - theirs, axis=1).max())


def stored(node: Any, path: Path) -> Path:
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


def native(scene: MRML, chain: CompositeTransform) -> Any:
    node = scene.add("Transform", "native")
    set_native_transform(node, chain)
    return node


# -- native ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_native_transform_maps_as_simpleitk_does_inside_and_out(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    points = np.vstack([points_in(rng, part.grid, 400, beyond=3) for part in chain.parts[:2]])
    assert distance(forth(native(scene, chain), points), sitk_apply(sitk_parts(chain), points)) < 1e-9


def test_what_a_single_affine_or_nothing_does(scene: MRML) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-100, 100, (50, 3))
    affine = random_affine(rng)
    node = native(scene, CompositeTransform((affine,)))
    assert distance(forth(node, points), affine.apply(points)) < 1e-9
    assert node.IsLinear()
    set_native_transform(node, CompositeTransform(()))
    assert distance(forth(node, points), points) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_that_goes_on_after_its_affine_part(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_chain(rng), random_chain(rng)
    chain = CompositeTransform((*first.parts, random_affine(rng), *second.parts))
    points = np.vstack([points_in(rng, part.grid, 300) for part in (first.parts[0], second.parts[1])])
    assert distance(forth(native(scene, chain), points), sitk_apply(sitk_parts(chain), points)) < 1e-9


def test_parts_keep_their_order_and_affine_ones_in_a_row_are_one(scene: MRML) -> None:
    rng = np.random.default_rng(0)
    grids = [make_grid((10, 11, 12), (9.0, 8.0, 7.0), angles=(0.1, 0.2, k)) for k in (1, 2, 3)]
    bent = [random_bspline(rng, grid, fraction=0.2, zero_layers=3) for grid in grids]
    turned = [random_affine(rng) for _ in range(4)]
    still = AffineTransform(np.eye(4))
    parts = (bent[0], turned[0], turned[1], bent[1], still, bent[2], turned[2], bent[0], turned[3])
    node, points = native(scene, CompositeTransform(parts)), points_in(rng, grids[0], 500, beyond=3)
    expected = sitk_apply(sitk_parts(CompositeTransform(parts)), points)
    assert distance(forth(node, points), expected) < 1e-9
    components = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(components, node.GetTransformFromParent())
    kinds = [components.GetItemAsObject(i).GetClassName() for i in range(components.GetNumberOfItems())]
    spline, affine = "vtkOrientedBSplineTransform", "vtkTransform"
    assert kinds == [spline, affine, spline, spline, affine, spline, affine]


@pytest.mark.parametrize("seed", range(3))
def test_a_node_of_the_file_that_the_worker_writes_maps_as_simpleitk_does(
    scene: MRML, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_chain(rng), random_chain(rng)
    write_transform(tmp_path / "transform.h5", CompositeTransform((*first.parts, *second.parts)))
    node = native(scene, read_transform(tmp_path / "transform.h5"))
    points = np.vstack([points_in(rng, part.grid, 300, beyond=3) for part in (first.parts[0], second.parts[1])])
    by_sitk = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    assert distance(forth(node, points), sitk_apply([by_sitk], points)) < 1e-9


def test_a_displacement_field_has_no_components(scene: MRML) -> None:
    grid = make_grid((4, 5, 6))
    chain = CompositeTransform((DisplacementTransform(np.zeros((*grid.shape, 3), np.float32), grid),))
    node = scene.add("Transform")
    with pytest.raises(TransformError, match="displacement field cannot be a part"):
        set_transform(node, vtk_transform(chain))


@pytest.mark.parametrize("seed", range(5))
def test_the_inverse_leads_back(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    node = native(scene, chain)
    points = points_in(rng, chain.parts[0].grid, 2000, beyond=3)
    assert distance(back(node, forth(node, points)), points) < 1e-4
    assert distance(forth(node, back(node, points)), points) < 1e-4


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt"])
def test_what_slicer_writes_is_what_simpleitk_and_dlir_read(scene: MRML, tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(4)
    chain = random_chain(rng)
    points = points_in(rng, chain.parts[0].grid, beyond=3)
    expected = chain.apply(points)
    path = stored(native(scene, chain), tmp_path / f"native{suffix}")
    by_sitk = sitk.ReadTransform(str(path))
    assert distance(sitk_apply([by_sitk], points), expected) < 1e-4
    assert distance(read_transform(path).apply(points), expected) < 1e-4
    again = scene.add("Transform", "again")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(again)
    assert distance(forth(again, points), expected) < 1e-4
    assert distance(back(again, expected), points) < 1e-3


def test_a_warped_volume_is_simpleitks_through_the_saved_transform(scene: MRML, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    chain = CompositeTransform(random_chain(rng).parts[:2])
    fixed, moving = image_about(rng, chain), image_about(rng, chain)
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.uniform(0, 900, moving.shape)), 1.5)
    array = sitk.GetArrayFromImage(image)
    node = native(scene, chain)
    volume = scene.volume(array, moving)
    volume.SetAndObserveTransformNodeID(node.GetID())
    saved = sitk.ReadTransform(str(stored(node, tmp_path / "transform.h5")))
    reference = fixed.to_sitk(np.zeros(fixed.shape, np.uint8))
    expected = sitk.Resample(moving.to_sitk(array), reference, saved, sitk.sitkLinear, -1.0)
    # Slicer's own resampling of what hangs under a transform.
    reference_node = scene.volume(np.full(fixed.shape, -1, np.float32), fixed, "fixed")
    warped = slicer.vtkSlicerVolumesLogic.ResampleVolumeToReferenceVolume(volume, reference_node)
    found, ours = slicer.util.arrayFromVolume(warped), sitk.GetArrayFromImage(expected)
    inside = ours >= 0
    assert inside.mean() > 0.2
    np.testing.assert_allclose(found[inside], ours[inside], atol=1e-3)


# -- grids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_grid_transform_agrees_and_leads_back(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    reference = image_about(rng, chain)
    node = scene.add("Transform", "grid")
    set_grid_transform(node, chain, reference)
    points = points_in(rng, reference, 20_000)
    expected = chain.apply(points)
    assert distance(forth(node, points), expected) < PROMISED_MM
    assert distance(back(node, forth(node, points)), points) < 1e-3
    assert distance(back(node, expected), points) < PROMISED_MM


def test_a_grid_transform_of_a_bent_initial_transform(scene: MRML) -> None:
    rng = np.random.default_rng(8)
    chain = random_chain(rng, fraction=0.2)
    bent = random_bspline(rng, chain.parts[1].grid, fraction=0.2, zero_layers=3)
    chain = CompositeTransform((*chain.parts[:2], bent))
    reference = image_about(rng, chain)
    node = scene.add("Transform", "grid")
    set_grid_transform(node, chain, reference)
    points = points_in(rng, reference, 20_000)
    assert distance(forth(node, points), chain.apply(points)) < PROMISED_MM


def test_a_saved_grid_is_simpleitks_displacement_field(scene: MRML, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    chain = random_chain(rng)
    reference = image_about(rng, chain)
    node = scene.add("Transform", "grid")
    set_grid_transform(node, chain, reference)
    saved = sitk.DisplacementFieldTransform(sitk.ReadTransform(str(stored(node, tmp_path / "grid.h5"))))
    grid = ImageGrid.from_sitk(saved.GetDisplacementField())
    points = grid.voxel_centers().reshape(-1, 3)[:: 1 + grid.shape[0] * grid.shape[1] * grid.shape[2] // 500]
    inside = points[reference.contains(points)]
    assert len(inside) > 50
    assert distance(sitk_apply([saved], inside), chain.apply(inside)) < 1e-6
    again = scene.add("Transform", "again")
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(tmp_path / "grid.h5"))
    assert storage.ReadData(again)
    points = points_in(rng, reference)
    assert distance(forth(again, points), chain.apply(points)) < PROMISED_MM
    assert distance(back(again, chain.apply(points)), points) < PROMISED_MM


def test_an_affine_needs_no_fine_grid(scene: MRML) -> None:
    rng = np.random.default_rng(0)
    affine, reference = random_affine(rng), random_grid(rng, (40, 50, 60))
    node = scene.add("Transform")
    set_grid_transform(node, CompositeTransform((affine,)), reference)
    points = points_in(rng, reference)
    assert distance(forth(node, points), affine.apply(points)) < 1e-3
    assert node.GetTransformFromParent().GetDisplacementGrid().GetNumberOfPoints() < 20**3


def test_a_grid_that_would_be_enormous_is_made_coarser(
    scene: MRML, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(2)
    chain = random_chain(rng)
    monkeypatch.setattr(sampling, "_MOST_POINTS", 1000)
    node = scene.add("Transform")
    set_grid_transform(node, chain, image_about(rng, chain))
    assert node.GetTransformFromParent().GetDisplacementGrid().GetNumberOfPoints() < 6000  # with the margin
    assert "coarser" in caplog.text


# -- nodes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Transform", "LinearTransform", "GridTransform", "BSplineTransform"])
def test_a_node_is_overwritten_whatever_it_was(scene: MRML, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chain = random_chain(rng)
    node = scene.add(kind, "output")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 2.0, 3.0, 1.0])))
    node.SetAndObserveTransformNodeID(scene.linear_transform(np.diag([2.0, 1.0, 1.0, 1.0])).GetID())
    set_native_transform(node, chain)
    points = points_in(rng, chain.parts[0].grid)
    assert node.GetParentTransformNode() is None
    assert distance(forth(node, points), chain.apply(points)) < 1e-9
    scene.save(tmp_path / "scene.mrb")
    scene.load(tmp_path / "scene.mrb")
    assert distance(forth(scene.node("output"), points), chain.apply(points)) < 1e-4


def test_hanging_under_a_transform_is_seen_through_others(scene: MRML) -> None:
    volume = scene.volume(np.zeros((2, 2, 2), np.int16), make_grid((2, 2, 2)))
    table, transform, other = (scene.linear_transform(np.eye(4), name) for name in ("table", "transform", "other"))
    assert not hangs_under(volume, transform)
    volume.SetAndObserveTransformNodeID(table.GetID())
    assert not hangs_under(volume, transform)
    table.SetAndObserveTransformNodeID(transform.GetID())
    assert hangs_under(volume, transform)
    assert hangs_under(volume, table)
    assert not hangs_under(volume, other)


# -- the pair that ships -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_registration_native_grid_and_back(scene: MRML) -> None:
    sample = register_sample()
    chain, grid = sample.result.transform, sample.fixed.grid
    node, sampled = native(scene, chain), scene.add("Transform", "grid")
    set_grid_transform(sampled, chain, grid)
    points = points_in(np.random.default_rng(0), grid, 50_000)
    expected = chain.apply(points)
    assert distance(forth(node, points), expected) < 1e-9
    assert distance(back(node, expected), points) < 1e-4
    assert distance(forth(sampled, points), expected) < PROMISED_MM
    assert distance(back(sampled, expected), points) < PROMISED_MM
