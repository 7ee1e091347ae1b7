"""Segmentations as layers and back: overlap, names, colours, tags, order, parents, surfaces, empty and hidden ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import SimpleITK as sitk

from chains import random_chain, sitk_bspline
from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform
from grids import Array, make_grid, random_grid, rotation
from segments import COLORS, TERMINOLOGY, ball, drawn, overlapping, segmentation

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk

from DLIRRegistrationLib.scene.frames import matrix_lps
from DLIRRegistrationLib.scene.segmentations import (
    copy_display,
    export_layers,
    import_images,
    propagate_segmentation,
    segment_ids,
    segment_volumes_ml,
)
from DLIRRegistrationLib.scene.volumes import image_of
from transform_nodes import set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((20, 22, 24), (1.3, 1.7, 2.9), (40.0, -70.0, 110.0), (0.4, -0.3, 0.9))
IN_PLACE = CompositeTransform(())


def mask_on(node: Any, segment_id: str, grid: ImageGrid) -> Array:
    """(z, y, x): a segment as its layer says it, in the voxels of `grid`."""
    layer = next(layer for layer in export_layers(node) if segment_id in layer.segments)
    return resample(layer.array, layer.grid, IN_PLACE, grid, "nearest") == layer.segments[segment_id]


def described(node: Any) -> list[tuple[str, str, tuple[float, ...], str]]:
    """ID, name, colour and terminology of each segment, in order."""
    found = []
    for segment_id in segment_ids(node):
        segment, tag = node.GetSegmentation().GetSegment(segment_id), vtk.reference("")
        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), tag)
        found.append((segment_id, segment.GetName(), segment.GetColor(), str(tag)))
    return found


def annotated(scene: MRML, grid: ImageGrid = GRID) -> Any:
    """Three overlapping segments with terminology, another order than they were drawn in, and one of them renamed."""
    node = segmentation(scene, overlapping(grid), grid)
    segments = node.GetSegmentation()
    segments.SetSegmentIndex("scar", 0)
    segments.GetSegment("scar").SetName("Narbe – «old»")
    segments.GetSegment("muscle").SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), TERMINOLOGY)
    return node


def anew(node: Any, target: Any, grid: ImageGrid = GRID) -> None:
    """`target` from `node`, each layer resampled onto `grid` in place, as the worker would for the identity."""
    layers = export_layers(node)
    arrays = [resample(layer.array, layer.grid, IN_PLACE, grid, "nearest") for layer in layers]
    import_images(target, node, layers, list(map(image_of, arrays)), grid)


# -- out ---------------------------------------------------------------------------------------------


def test_segments_share_a_layer_unless_they_overlap(scene: MRML) -> None:
    node = segmentation(scene, overlapping(GRID), GRID)
    layers = export_layers(node)
    assert [set(layer.segments) for layer in layers] == [{"ventricle", "muscle"}, {"scar"}]
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(mask_on(node, segment_id, GRID), mask)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_table_moves_the_layers(scene: MRML, scale: float) -> None:
    node = segmentation(scene, overlapping(GRID), GRID)
    table = np.eye(4)
    table[:3, :3], table[:3, 3] = scale * rotation((0.1, 0.6, -0.2)), (10, 20, -30)
    node.SetAndObserveTransformNodeID(scene.linear_transform(table).GetID())
    moved = matrix_lps(table) @ GRID.index_to_physical
    spacing = np.linalg.norm(moved[:3, :3], axis=0)
    there = ImageGrid(GRID.shape, tuple(spacing), tuple(moved[:3, 3]), tuple((moved[:3, :3] / spacing).ravel()))
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(mask_on(node, segment_id, there), mask)
    expected = {i: mask.sum() * np.prod(there.spacing) / 1000 for i, mask in overlapping(GRID).items()}
    assert segment_volumes_ml(node) == pytest.approx(expected)


def test_a_parent_that_bends_is_followed(scene: MRML) -> None:
    rng = np.random.default_rng(0)
    chain = CompositeTransform(random_chain(rng, fraction=0.2).parts[:1])
    control = chain.parts[0].grid
    grid = control.lattice((3, 3, 3), (0.25, 0.25, 0.25), (np.array(control.size) - 7) * 4)
    parent = scene.add("Transform")
    set_native_transform(parent, chain)
    node = segmentation(scene, {"ball": ball(grid, (0.5, 0.5, 0.5), 7)}, grid)
    node.SetAndObserveTransformNodeID(parent.GetID())
    (layer,) = export_layers(node)
    image = grid.to_sitk(ball(grid, (0.5, 0.5, 0.5), 7).astype(np.uint8))
    reference = layer.grid.to_sitk(np.zeros(layer.grid.shape, np.uint8))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(image, reference, sitk_bspline(chain.parts[0]), sitk.sitkNearestNeighbor, 0)
    )
    assert expected.sum() > 500
    # Voxels whose centre falls between two voxels may go either way.
    assert np.count_nonzero((layer.array > 0) != (expected > 0)) <= 2


def test_layers_stay_when_the_segmentation_goes(scene: MRML) -> None:
    node = segmentation(scene, overlapping(GRID), GRID)
    layers = export_layers(node)
    counts = [int((layer.array > 0).sum()) for layer in layers]
    node.GetSegmentation().RemoveAllSegments()
    assert [int((layer.array > 0).sum()) for layer in layers] == counts
    assert min(counts) > 0


def test_surfaces_become_labelmaps_without_changing_the_node(scene: MRML) -> None:
    masks = {"left": ball(GRID, (0.3, 0.5, 0.5), 5), "right": ball(GRID, (0.75, 0.5, 0.5), 4)}
    node = segmentation(scene, masks, GRID, "surfaces")
    volume = scene.volume(np.zeros(GRID.shape, np.uint8), GRID, "reference")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segments = node.GetSegmentation()
    assert segments.CreateRepresentation("Closed surface")
    segments.SetSourceRepresentationName("Closed surface")
    segments.RemoveRepresentation("Binary labelmap")
    segments.AddEmptySegment("nothing", "nothing")
    modified = segments.GetMTime()
    for segment_id, mask in masks.items():
        found = mask_on(node, segment_id, GRID)
        overlap = 2 * (found & mask).sum() / (found.sum() + mask.sum())
        assert overlap > 0.9  # Slicer smooths its surfaces
    assert segment_volumes_ml(node)["nothing"] == 0
    assert not segments.ContainsRepresentation("Binary labelmap")
    assert segments.GetMTime() == modified


def test_a_segmentation_without_segments_is_refused_by_name(scene: MRML) -> None:
    node = scene.add("Segmentation", "blank")
    for ask in (export_layers, segment_volumes_ml):
        with pytest.raises(ImageError, match="segmentation 'blank' has no segments"):
            ask(node)


# -- and back ----------------------------------------------------------------------------------------


def test_everything_that_makes_a_segment_comes_back(scene: MRML) -> None:
    source, target = annotated(scene), scene.add("Segmentation", "target")
    anew(source, target)
    assert described(target) == described(source)
    assert [name for _, name, _, _ in described(target)] == ["Narbe – «old»", "ventricle", "muscle"]
    assert described(target)[2][3] == TERMINOLOGY
    np.testing.assert_allclose(described(target)[0][2], COLORS["scar"])
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(drawn(scene, target, segment_id, GRID), mask)


def test_empty_and_hidden_segments_survive(scene: MRML) -> None:
    masks = overlapping(GRID) | {"later": np.zeros(GRID.shape, bool), "too": np.zeros(GRID.shape, bool)}
    source, target = segmentation(scene, masks, GRID), scene.add("Segmentation")
    source.GetDisplayNode().SetSegmentVisibility("muscle", False)
    anew(source, target)
    copy_display(target, source)
    assert segment_ids(target) == list(masks)
    for segment_id, mask in masks.items():
        np.testing.assert_array_equal(drawn(scene, target, segment_id, GRID), mask)
    assert not target.GetDisplayNode().GetSegmentVisibility("muscle")
    assert target.GetDisplayNode().GetSegmentVisibility("scar")


def test_only_empty_segments(scene: MRML) -> None:
    source, target = scene.add("Segmentation"), scene.add("Segmentation")
    source.GetSegmentation().AddEmptySegment("first", "first")
    source.GetSegmentation().AddEmptySegment("second", "second")
    anew(source, target)
    assert segment_ids(target) == ["first", "second"]
    assert segment_volumes_ml(target) == {"first": 0, "second": 0}


def test_a_target_that_held_something_holds_only_the_new_and_lies_in_the_world(scene: MRML) -> None:
    source = annotated(scene)
    target = segmentation(scene, {"old": ball(GRID, (0.5, 0.5, 0.5), 4)}, GRID, "target")
    target.SetAndObserveTransformNodeID(scene.linear_transform(np.diag([2.0, 2.0, 2.0, 1.0])).GetID())
    target.GetSegmentation().CreateRepresentation("Closed surface")
    anew(source, target)
    assert segment_ids(target) == segment_ids(source)
    assert target.GetParentTransformNode() is None
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(drawn(scene, target, segment_id, GRID), mask)


def test_a_segmentation_can_be_its_own_target(scene: MRML) -> None:
    node = annotated(scene)
    before = described(node)
    anew(node, node)
    assert described(node) == before
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(drawn(scene, node, segment_id, GRID), mask)


def test_a_segment_removed_meanwhile_is_left_out(scene: MRML) -> None:
    source, target = annotated(scene), scene.add("Segmentation")
    layers = export_layers(source)
    arrays = [resample(layer.array, layer.grid, IN_PLACE, GRID, "nearest") for layer in layers]
    source.GetSegmentation().RemoveSegment("muscle")
    import_images(target, source, layers, list(map(image_of, arrays)), GRID)
    assert segment_ids(target) == ["scar", "ventricle"]


def test_the_fixed_grid_becomes_the_reference_geometry(scene: MRML) -> None:
    source, target = annotated(scene), scene.add("Segmentation")
    onto = random_grid(np.random.default_rng(5), (14, 15, 16))
    anew(source, target, onto)
    image = slicer.vtkOrientedImageData()
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = target.GetSegmentation().GetConversionParameter(name)
    assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image)
    assert image.GetDimensions() == onto.size
    assert image.GetSpacing() == pytest.approx(onto.spacing)
    assert np.array(image.GetOrigin()) * [-1, -1, 1] == pytest.approx(np.array(onto.origin))


# -- in Slicer's own process ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_propagated_segmentation_is_simpleitks(scene: MRML, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chain = CompositeTransform(random_chain(rng, fraction=0.3).parts[:2])
    control = chain.parts[0].grid
    grid = control.lattice((3, 3, 3), (0.3, 0.3, 0.3), (np.array(control.size) - 7) * 3)
    fixed = make_grid((18, 19, 20), tuple(0.3 * np.array(control.spacing)), angles=(0.2, 0.1, seed))
    fixed = ImageGrid(fixed.shape, fixed.spacing, tuple(control.center - fixed.center), fixed.direction)
    source, target = segmentation(scene, overlapping(grid), grid), scene.add("Segmentation")
    reference, transform = scene.volume(np.zeros(fixed.shape, np.int16), fixed, "fixed"), scene.add("Transform")
    set_native_transform(transform, chain)
    propagate_segmentation(source, transform, reference, target)
    composite = sitk.CompositeTransform([sitk_bspline(part) for part in reversed(chain.parts)])
    for segment_id, mask in overlapping(grid).items():
        image, onto = grid.to_sitk(mask.astype(np.uint8)), fixed.to_sitk(np.zeros(fixed.shape, np.uint8))
        expected = sitk.GetArrayFromImage(sitk.Resample(image, onto, composite, sitk.sitkNearestNeighbor, 0)) > 0
        assert expected.any()
        assert np.count_nonzero(drawn(scene, target, segment_id, fixed) != expected) <= 2
    assert described(target) == described(source)
    assert target.GetNodeReference(target.GetReferenceImageGeometryReferenceRole()) is reference


def test_a_segmentation_that_hangs_under_the_transform_is_not_moved_twice(scene: MRML) -> None:
    shift = np.eye(4)
    shift[:3, 3] = 6, 0, 0
    transform = scene.linear_transform(shift, "transform")
    table = scene.linear_transform(np.diag([1.0, 1.0, 1.0, 1.0]), "table")
    reference = scene.volume(np.zeros(GRID.shape, np.int16), GRID, "fixed")
    free, hanging = (segmentation(scene, overlapping(GRID), GRID, name) for name in ("free", "hanging"))
    table.SetAndObserveTransformNodeID(transform.GetID())
    hanging.SetAndObserveTransformNodeID(table.GetID())
    targets = []
    for source in (free, hanging):
        targets.append(scene.add("Segmentation"))
        propagate_segmentation(source, transform, reference, targets[-1])
    for segment_id in overlapping(GRID):
        moved = drawn(scene, targets[0], segment_id, GRID)
        np.testing.assert_array_equal(drawn(scene, targets[1], segment_id, GRID), moved)
        assert (moved != overlapping(GRID)[segment_id]).any()


def test_a_propagated_segmentation_survives_in_a_file(scene: MRML, tmp_path: Path) -> None:
    source, target = annotated(scene), scene.add("Segmentation", "target")
    anew(source, target)
    before = described(target)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "target.seg.nrrd"))
    assert storage.WriteData(target)
    again, reader = scene.add("Segmentation", "again"), slicer.vtkMRMLSegmentationStorageNode()
    reader.SetFileName(str(tmp_path / "target.seg.nrrd"))
    assert reader.ReadData(again)
    for (_, name, color, tag), (_, other_name, other_color, other_tag) in zip(before, described(again), strict=True):
        assert (name, tag) == (other_name, other_tag)
        np.testing.assert_allclose(color, other_color, atol=1e-5)
    for segment_id, mask in overlapping(GRID).items():
        np.testing.assert_array_equal(drawn(scene, again, segment_id, GRID), mask)
