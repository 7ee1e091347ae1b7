"""Segmentation nodes as layers of labels in the world, and back, with everything that makes them segments.

Segments that share a labelmap in Slicer travel as one layer; segments that overlap lie in different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from DLIRRegistrationLib.scene.frames import array_to_local, grid_of_volume, ijk_to_ras, named
from DLIRRegistrationLib.scene.transforms import to_moving
from DLIRRegistrationLib.scene.volumes import image_of, in_world, reslice

_LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


@dataclass(frozen=True, eq=False)
class SegmentLayer:
    """Segments that do not overlap.

    array: (z, y, x) labels, 0 where there is none. grid: where they lie in the world, LPS mm. segments: the label of
    each segment, by its ID in the segmentation.
    """

    array: NDArray[Any]
    grid: ImageGrid
    segments: dict[str, int]


@dataclass(frozen=True, eq=False)
class Labelmap:
    """A layer as Slicer keeps it. image: vtkOrientedImageData in the segmentation node's own RAS; segments as above."""

    image: Any
    segments: dict[str, int]


def labelmaps(node: Any) -> list[Labelmap]:
    """The binary labelmaps of a segmentation node, which stays as it is; segments of nothing but a surface get one.

    Segments in which nothing is drawn share one of a single empty voxel. Raises ImageError for a segmentation
    without segments, and for one that cannot be turned into labelmaps.
    """
    segmentation = node.GetSegmentation()
    if segmentation is None or not segmentation.GetNumberOfSegments():
        raise ImageError(f"{named(node)} has no segments; draw one or choose another")
    if segmentation.ContainsRepresentation(_LABELMAP):
        return _layers(segmentation)
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if not copy.CreateRepresentation(_LABELMAP):
        raise ImageError(f"{named(node)} cannot be turned into labelmaps; export it to a labelmap volume and back")
    # The copy ends here, and wipes its segments out of the labelmaps that they share.
    return [Labelmap(_copied(each.image), each.segments) for each in _layers(copy)]


def _layers(segmentation: Any) -> list[Labelmap]:
    found: list[Labelmap] = []
    empty: list[str] = []
    for layer in range(segmentation.GetNumberOfLayers(_LABELMAP)):
        image = segmentation.GetLayerDataObject(layer, _LABELMAP)
        ids = segmentation.GetSegmentIDsForLayer(layer, _LABELMAP)
        if image.IsEmpty():
            empty += ids
        else:
            found.append(Labelmap(image, {i: segmentation.GetSegment(i).GetLabelValue() for i in ids}))
    if empty:
        nothing = _oriented(image_of(np.zeros((1, 1, 1), np.uint8)), ImageGrid((1, 1, 1)))
        found.append(Labelmap(nothing, {i: label for label, i in enumerate(empty, 1)}))
    return found


def export_layers(node: Any) -> list[SegmentLayer]:
    """All segments of a segmentation node as layers in the world, parent transforms honoured, hidden ones included.

    Copies, because Slicer wipes a segment that is removed out of the labelmap that it shares. Raises ImageError as
    `labelmaps` does; GeometryError where the parent transforms place it nowhere.
    """
    layers = []
    for each in labelmaps(node):
        array, grid = in_world(node, each.image, nearest=True)
        layers.append(SegmentLayer(array.copy(), grid, each.segments))
    return layers


def import_images(
    target: Any, source: Any, layers: Sequence[SegmentLayer], images: Sequence[Any], grid: ImageGrid
) -> None:
    """Replaces the content of segmentation node `target` by the segments of `source`, drawn anew; at once.

    layers: what `export_layers` gave for `source`. images: for each of them a vtkImageData with its labels on `grid`,
    whose memory is taken over. Order, IDs, names, colours and tags are those of `source`, which may be `target` itself;
    a segment that it has lost meanwhile is left out. `grid` becomes the reference geometry. `target` is taken from its
    parent transform.
    """
    drawn: dict[str, tuple[Any, int]] = {}
    for layer, plain in zip(layers, images, strict=True):
        image = _oriented(plain, grid)
        drawn |= {segment_id: (image, label) for segment_id, label in layer.segments.items()}
    segments = [(i, _segment(source, i, *drawn[i])) for i in segment_ids(source) if i in drawn]
    was = target.StartModify()
    try:
        target.SetAndObserveTransformNodeID(None)
        segmentation = target.GetSegmentation()
        segmentation.RemoveAllSegments()
        segmentation.SetSourceRepresentationName(_LABELMAP)
        segmentation.SetConversionParameter(
            slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
            slicer.vtkSegmentationConverter.SerializeImageGeometry(ijk_to_ras(grid), _extent(grid)),
        )
        for segment_id, segment in segments:
            segmentation.AddSegment(segment, segment_id)
    finally:
        target.EndModify(was)


def copy_display(target: Any, source: Any) -> None:
    """Shows the segments of `target` as those of `source` are shown. Both nodes are in a scene."""
    if source.GetDisplayNode() is not None:
        target.CreateDefaultDisplayNodes()
        target.GetDisplayNode().CopyContent(source.GetDisplayNode())


def propagate_segmentation(source: Any, transform_node: Any, reference_volume: Any, target: Any) -> None:
    """Draws the segments of `source` as they come through a transform, in the voxels of a volume node, into `target`.

    transform_node: as a registration makes it: what lies on the moving image is put under it. Each voxel gets the
    nearest label. `target` takes over names, colours, tags and display; what it held is lost.
    Raises ImageError for a segmentation without segments or a volume that is empty; GeometryError for one without a
    place in the world.
    """
    grid, transform = grid_of_volume(reference_volume), to_moving(source, transform_node)
    maps = labelmaps(source)
    arrays = [reslice(m.image, array_to_local(source, m.image), transform, grid, nearest=True) for m in maps]
    layers = [SegmentLayer(array, grid, m.segments) for m, array in zip(maps, arrays, strict=True)]
    import_images(target, source, layers, list(map(image_of, arrays)), grid)
    target.SetReferenceImageGeometryParameterFromVolumeNode(reference_volume)
    if target is not source:
        copy_display(target, source)


def segment_volumes_ml(node: Any) -> dict[str, float]:
    """Volume of each segment in the world, by its ID. Raises as `export_layers` does."""
    volumes: dict[str, float] = {}
    for layer in export_layers(node):
        voxel_ml = float(np.prod(layer.grid.spacing)) / 1000
        for segment_id, label in layer.segments.items():
            volumes[segment_id] = int(np.count_nonzero(layer.array == label)) * voxel_ml
    return {segment_id: volumes[segment_id] for segment_id in segment_ids(node)}


def segment_ids(node: Any) -> list[str]:
    """IDs of all segments, in the order of the segmentation."""
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]


def _segment(source: Any, segment_id: str, image: Any, label: int) -> Any:
    """A new vtkSegment called and coloured like one of `source`, with another labelmap."""
    segment = slicer.vtkSegment()
    segment.DeepCopyMetadata(source.GetSegmentation().GetSegment(segment_id))
    segment.SetLabelValue(label)
    segment.AddRepresentation(_LABELMAP, image)
    return segment


def _oriented(plain: Any, grid: ImageGrid) -> Any:
    """vtkOrientedImageData with the memory of a vtkImageData, lying on `grid`."""
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(plain)
    image.SetImageToWorldMatrix(ijk_to_ras(grid))
    return image


def _copied(image: Any) -> Any:
    copy = slicer.vtkOrientedImageData()
    copy.DeepCopy(image)
    return copy


def _extent(grid: ImageGrid) -> Any:
    """vtkImageData that has nothing but the size of a grid."""
    image = vtk.vtkImageData()
    image.SetDimensions(grid.size)
    return image
