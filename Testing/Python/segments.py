"""Segmentations for tests, drawn without help from the code under test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid

if TYPE_CHECKING:
    from mrml import MRML

TERMINOLOGY = "Segmentation category and type~SCT^85756007^Tissue~SCT^87878005^Left ventricle~^^~Anatomic codes~^^~^^"
COLORS = {"ventricle": (0.9, 0.2, 0.1), "muscle": (0.2, 0.8, 0.3), "scar": (0.1, 0.3, 0.9)}


def ball(grid: ImageGrid, center: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    """(z, y, x): voxels within `radius` voxels of a place in the grid, given by fractions (x, y, z) of its size."""
    middle = np.array(center) * (np.array(grid.size) - 1)
    z, y, x = np.indices(grid.shape)
    return np.asarray(np.linalg.norm(np.stack([x, y, z], -1) - middle, axis=-1) <= radius)


def overlapping(grid: ImageGrid) -> dict[str, NDArray[np.bool_]]:
    """Two structures side by side, which can share a labelmap, and one that lies over both."""
    ventricle = ball(grid, (0.35, 0.5, 0.5), 0.2 * min(grid.shape))
    muscle = ball(grid, (0.35, 0.5, 0.5), 0.3 * min(grid.shape)) & ~ventricle
    return {"ventricle": ventricle, "muscle": muscle, "scar": ball(grid, (0.45, 0.5, 0.5), 0.2 * min(grid.shape))}


def segmentation(mrml: MRML, masks: Mapping[str, NDArray[np.bool_]], grid: ImageGrid, name: str = "drawn") -> Any:
    """A segmentation node with a segment, of that ID and name, for each mask (z, y, x), as Slicer's editor leaves it:
    those that do not overlap share a labelmap, cropped to what is drawn."""
    import slicer

    node = mrml.add("Segmentation", name)
    node.CreateDefaultDisplayNodes()
    for segment_id, mask in masks.items():
        labelmap = mrml.volume(mask.astype(np.uint8), grid, "label", "LabelMapVolume")
        node.GetSegmentation().AddEmptySegment(segment_id, segment_id, COLORS.get(segment_id, (0.5, 0.5, 0.5)))
        image = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(labelmap)
        image.UnRegister(None)
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, segment_id)
        mrml.scene.RemoveNode(labelmap)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    return node


def drawn(mrml: MRML, node: Any, segment_id: str, grid: ImageGrid) -> NDArray[np.bool_]:
    """(z, y, x): what Slicer itself shows of a segment in the voxels of an image without parent."""
    import slicer

    volume = mrml.volume(np.zeros(grid.shape, np.uint8), grid, "reference")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume)
    mrml.scene.RemoveNode(volume)
    return array > 0
