"""A whole result, saved with the scene as one file and read back, is what it was and what SimpleITK makes of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_chain, sitk_apply, sitk_parts
from dlir.geometry import ImageGrid
from dlir.transforms.spatial import CompositeTransform
from grids import Array, make_grid
from sample_registration import register_sample
from segments import drawn, overlapping, segmentation

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.registration.result_nodes import finish_transform
from DLIRRegistrationLib.scene.frames import move_points, points_lps, points_ras
from DLIRRegistrationLib.scene.markups import positions, propagate_markups
from DLIRRegistrationLib.scene.segmentations import propagate_segmentation
from DLIRRegistrationLib.scene.volumes import placed_volume, set_volume
from transform_nodes import set_grid_transform, set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

PROMISED_MM = 0.05


def through(transform: Any, points: Array) -> Array:
    return points_lps(move_points(transform, points_ras(points)))


def distance(ours: Array, theirs: Array) -> float:
    """mm, the largest of all points."""
    return float(np.linalg.norm(ours - theirs, axis=1).max())


class Result:
    """An oblique, anisotropic, unequal pair under tables, and everything that a registration of it leaves."""

    def __init__(self, scene: MRML) -> None:
        rng = np.random.default_rng(7)
        self.chain = random_chain(rng, fraction=0.3)
        control = self.chain.parts[0].grid
        fixed = make_grid((18, 19, 20), (2.1, 2.7, 4.1), angles=(0.2, -0.4, 0.9))
        self.fixed = ImageGrid(fixed.shape, fixed.spacing, tuple(control.center - fixed.center), fixed.direction)
        there = self.chain.apply(control.center[None])[0]
        moving = make_grid((21, 22, 23), (2.6, 2.2, 3.8), angles=(-0.5, 0.3, 0.1), mirrored=True)
        self.moving = ImageGrid(moving.shape, moving.spacing, tuple(there - moving.center), moving.direction)
        self.points = self.fixed.to_physical(rng.uniform(0, np.array(self.fixed.size) - 1, (1000, 3)))
        smooth = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.uniform(0, 900, self.moving.shape)), 1.5)
        self.image = sitk.GetArrayFromImage(smooth)
        self.shift = np.array([7.0, -8.0, 9.0])
        self._fill(scene)

    def _fill(self, scene: MRML) -> None:
        matrix = np.eye(4)
        matrix[:3, 3] = self.shift
        table = scene.linear_transform(matrix, "table")
        before = self.moving.lattice((0, 0, 0), (1, 1, 1), self.moving.size)
        origin = np.array(before.origin) - points_lps(self.shift)
        unmoved = ImageGrid(before.shape, before.spacing, tuple(origin), before.direction)
        fixed = scene.volume(np.zeros(self.fixed.shape, np.int16), self.fixed, "fixed")
        moving = scene.volume(self.image, unmoved, "moving")
        moving.SetAndObserveTransformNodeID(table.GetID())
        native, grid = scene.add("Transform", "native"), scene.add("Transform", "grid")
        set_native_transform(native, self.chain)
        set_grid_transform(grid, self.chain, self.fixed)
        finish_transform(native, fixed, moving)
        warped = scene.add("ScalarVolume", "warped")
        set_volume(warped, self.resampled(self.image, sitk.sitkLinear), self.fixed)
        contour = segmentation(scene, overlapping(unmoved), unmoved, "contour")
        contour.SetAndObserveTransformNodeID(table.GetID())
        propagate_segmentation(contour, native, fixed, scene.add("Segmentation", "propagated"))
        landmarks = scene.add("MarkupsFiducial", "landmarks")
        for point in points_ras(self.chain.apply(self.points[:20])):
            landmarks.AddControlPoint(point)
        propagate_markups(landmarks, native, scene.add("MarkupsFiducial", "propagated landmarks"))

    def resampled(self, array: Array, interpolator: int) -> Array:
        """What SimpleITK makes of an array on the moving grid, through the chain it was given the numbers of."""
        composite = sitk.CompositeTransform(list(reversed(sitk_parts(self.chain))))
        reference = self.fixed.to_sitk(np.zeros(self.fixed.shape, np.uint8))
        return sitk.GetArrayFromImage(sitk.Resample(self.moving.to_sitk(array), reference, composite, interpolator, 0))


@pytest.fixture
def result(scene: MRML) -> Result:
    return Result(scene)


@pytest.fixture
def read(scene: MRML, result: Result, tmp_path: Path) -> MRML:
    """The scene after it has been saved and read again."""
    scene.save(tmp_path / "result.mrb")
    scene.load(tmp_path / "result.mrb")
    return scene


def test_transforms_survive(read: MRML, result: Result) -> None:
    expected = sitk_apply(sitk_parts(result.chain), result.points)
    for name, tolerance in (("native", 1e-3), ("grid", PROMISED_MM)):
        node = read.node(name)
        assert (
            np.linalg.norm(through(node.GetTransformFromParent(), result.points) - expected, axis=1).max() < tolerance
        )
        assert (
            np.linalg.norm(through(node.GetTransformToParent(), expected) - result.points, axis=1).max() < PROMISED_MM
        )
    assert read.node("native").GetNodeReference("spatialRegistrationFixed") is read.node("fixed")
    assert read.node("native").GetNodeReference("spatialRegistrationMoving") is read.node("moving")


def test_the_native_transform_keeps_its_exact_components(read: MRML) -> None:
    import vtk

    components = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(components, read.node("native").GetTransformFromParent())
    kinds = [components.GetItemAsObject(i).GetClassName() for i in range(components.GetNumberOfItems())]
    assert kinds == ["vtkOrientedBSplineTransform", "vtkOrientedBSplineTransform", "vtkTransform"]


def test_the_transform_in_the_file_is_readable_by_itself(scene: MRML, result: Result, tmp_path: Path) -> None:
    scene.save(tmp_path / "result.mrb")
    with zipfile.ZipFile(tmp_path / "result.mrb") as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("native.h5")]
        archive.extract(name, tmp_path)
    saved = sitk.ReadTransform(str(tmp_path / name))
    expected = sitk_apply(sitk_parts(result.chain), result.points)
    assert distance(sitk_apply([saved], result.points), expected) < 1e-3


def test_volumes_survive_with_their_parents(read: MRML, result: Result) -> None:
    moving, warped = placed_volume(read.node("moving")), placed_volume(read.node("warped"))
    # Slicer turns the slices of a left-handed image round when it reads one; each voxel stays where it was.
    assert moving.grid.same_as(result.moving.permuted((0, 1, 2), (False, False, True)), 1e-5)
    np.testing.assert_allclose(moving.array, result.image[::-1], rtol=1e-6)
    assert warped.grid.same_as(result.fixed, 1e-5)
    np.testing.assert_allclose(warped.array, result.resampled(result.image, sitk.sitkLinear), rtol=1e-6)


def test_overlapping_segments_survive(read: MRML, result: Result) -> None:
    source, target = read.node("contour").GetSegmentation(), read.node("propagated").GetSegmentation()
    names = list(overlapping(result.moving))
    assert [target.GetNthSegment(i).GetName() for i in range(target.GetNumberOfSegments())] == names
    shown = {}
    for i, (name, mask) in enumerate(overlapping(result.moving).items()):
        assert target.GetNthSegment(i).GetColor() == pytest.approx(source.GetNthSegment(i).GetColor(), abs=1e-5)
        expected = result.resampled(mask.astype(np.uint8), sitk.sitkNearestNeighbor) > 0
        shown[name] = drawn(read, read.node("propagated"), target.GetNthSegmentID(i), result.fixed)
        assert np.count_nonzero(shown[name] != expected) <= 2
    assert min((shown["scar"] & shown[name]).sum() for name in names) > 20


def test_landmarks_survive_where_they_belong(read: MRML, result: Result) -> None:
    found = points_lps(positions(read.node("propagated landmarks")))
    assert distance(found, result.points[:20]) < PROMISED_MM


@pytest.mark.slow
def test_the_pair_that_ships(scene: MRML, tmp_path: Path) -> None:
    """The warped volume is what SimpleITK resamples through the transform that the scene was saved with."""
    sample = register_sample()
    chain = CompositeTransform(sample.result.transform.parts)
    node, warped = scene.add("Transform", "native"), scene.add("ScalarVolume", "warped")
    set_native_transform(node, chain)
    set_volume(warped, sample.result.warped, sample.fixed.grid)
    scene.save(tmp_path / "sample.mrb")
    with zipfile.ZipFile(tmp_path / "sample.mrb") as archive:
        archive.extractall(tmp_path)
    (transform,), (volume,) = tmp_path.rglob("native.h5"), tmp_path.rglob("warped.nrrd")
    ours = sitk.ReadImage(str(volume))
    moving, read_back = sample.moving.grid.to_sitk(sample.moving.array), sitk.ReadTransform(str(transform))
    expected = sitk.Resample(moving, ours, read_back, sitk.sitkLinear, float(sample.moving.array.min()))
    there = sitk.Resample(moving * 0 + 1, ours, read_back, sitk.sitkLinear, 0.0)
    assert ImageGrid.from_sitk(ours).same_as(sample.fixed.grid, 1e-5)
    # Of a voxel that maps onto the very border of the moving image, the two may not agree that it is inside.
    same = sample.result.inside == (sitk.GetArrayFromImage(there) > 0)
    assert np.count_nonzero(~same) <= 3
    difference = np.abs(sitk.GetArrayFromImage(ours) - sitk.GetArrayFromImage(expected))[same]
    slope = np.abs(np.array(np.gradient(sample.moving.array))).max() / min(sample.moving.grid.spacing)
    assert difference.max() < 0.01 * slope  # a hundredth of a millimetre at the sharpest edge
    assert np.quantile(difference, 0.99) < 0.5  # intensities are whole numbers
