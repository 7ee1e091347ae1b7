"""What a registration gives: nodes made ready outside of the scene, and what they need once they are in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk

from dlir.geometry import common_voxels
from dlir.registration.results.rows import report_rows
from DLIRRegistrationLib.registration.outputs import in_scene
from DLIRRegistrationLib.registration.report import fill_table
from DLIRRegistrationLib.registration.task import WORKING, Steps
from DLIRRegistrationLib.registration.transfer import read_image
from DLIRRegistrationLib.scene.error_colors import apply_error_colors
from DLIRRegistrationLib.scene.frames import ijk_to_ras
from DLIRRegistrationLib.scene.jacobian_colors import apply_jacobian_colors
from DLIRRegistrationLib.scene.segmentations import SegmentLayer, copy_display, import_images
from DLIRRegistrationLib.scene.transforms import grid_transform_steps, set_transform, vtk_transform
from DLIRRegistrationLib.scene.volumes import image_of, reslice, set_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid
    from dlir.transforms.spatial import CompositeTransform

# Voxels counted at once: some 5 ms for each segment.
_BLOCK = 1 << 22
# Parts of a voxel by which two positions may differ and be the same.
_SAME_VOXEL = 1e-3


# -- nodes outside of the scene -----------------------------------------------------------------------


def volume_node(path: Path, grid: ImageGrid) -> Steps[Any]:
    """A scalar volume node of an array that the worker wrote, lying on `grid`."""
    image = yield from read_image(path)
    node = slicer.vtkMRMLScalarVolumeNode()
    set_image(node, image, grid)
    return node


def transform_node(chain: CompositeTransform, kind: str, grid: ImageGrid) -> Steps[Any]:
    """A transform node: "native" with the exact parts, or "grid" with a displacement grid over `grid`."""
    if kind == "grid":
        transform = yield from grid_transform_steps(chain, grid)
    else:
        transform = vtk_transform(chain)
    node = slicer.vtkMRMLTransformNode()
    set_transform(node, transform)
    return node


def label_images(paths: Sequence[Path]) -> Steps[list[Any]]:
    """Layers of labels that the worker wrote, each a vtkImageData."""
    images = []
    for path in paths:
        image = yield from read_image(path)
        images.append(image)
    return images


def resampled_layers(layers: Sequence[SegmentLayer], grid: ImageGrid) -> list[Any]:
    """Layers of labels by nearest neighbour on another grid, where they lie, each a vtkImageData."""
    return [image_of(_resampled(layer, grid)) for layer in layers]


def _resampled(layer: SegmentLayer, grid: ImageGrid) -> NDArray[Any]:
    common = common_voxels(grid.shape, layer.grid.shape, grid.relative_to(layer.grid), _SAME_VOXEL)
    if common is None:
        from_index = slicer.util.arrayFromVTKMatrix(ijk_to_ras(layer.grid))
        return reslice(image_of(layer.array), from_index, vtk.vtkTransform(), grid, nearest=True)
    # Voxels lie on voxels, as those of a segmentation do on its image: no interpolation, which takes long.
    result = np.zeros(grid.shape, layer.array.dtype)
    result[common[0]] = layer.array[common[1]]
    return result


def segmentation_node(source: Any, layers: Sequence[SegmentLayer], images: Sequence[Any], grid: ImageGrid) -> Any:
    """A segmentation node with the segments of `source`, whose `layers` became `images` on `grid`."""
    node = slicer.vtkMRMLSegmentationNode()
    import_images(node, source, layers, images, grid)
    return node


def segment_volumes(array: NDArray[Any], grid: ImageGrid, segments: dict[str, int]) -> Steps[dict[str, float]]:
    """The volume in ml of each segment, by ID, from labels (z, y, x) on `grid`."""
    counts = dict.fromkeys(segments, 0)
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        for segment, value in segments.items():
            counts[segment] += int(np.count_nonzero(block == value))
            yield WORKING
    voxel_ml = float(np.prod(grid.spacing)) / 1000
    return {segment: count * voxel_ml for segment, count in counts.items()}


def report_node(report: dict[str, Any]) -> Any:
    """A table node of the figures of a registration."""
    node = slicer.vtkMRMLTableNode()
    fill_table(node, report_rows(report))
    return node


# -- nodes in the scene -------------------------------------------------------------------------------


def finish_warped(node: Any, moving: Any) -> None:
    """Shows a warped volume that was never shown with the window and the colours of the moving one."""
    if node.GetDisplayNode() is None:
        look_like(_new_display(node), moving)


def look_like(display: Any, volume: Any) -> None:
    """Gives a volume's display node the window and the colours of another volume, or lets it find some."""
    shown = volume.GetDisplayNode()
    display.SetAutoWindowLevel(shown is None)
    if shown is not None:
        display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
        display.SetAndObserveColorNodeID(shown.GetColorNodeID())


def finish_jacobian(node: Any) -> None:
    """Shows a Jacobian volume in its colours."""
    if node.GetDisplayNode() is None:
        _new_display(node)
    apply_jacobian_colors(node)


def finish_error_map(node: Any) -> None:
    """Shows an error map in its colours."""
    if node.GetDisplayNode() is None:
        _new_display(node)
    apply_error_colors(node)


def finish_transform(node: Any, fixed: Any, moving: Any) -> None:
    """Notes on a transform node which volumes it belongs to, as far as they are still there."""
    for role, volume in (
        (slicer.vtkMRMLTransformNode.GetFixedNodeReferenceRole(), fixed),
        (slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole(), moving),
    ):
        node.SetNodeReferenceID(role, volume.GetID() if in_scene(node.GetScene(), volume) else None)


def finish_segmentation(node: Any, source: Any, fixed: Any) -> None:
    """Shows propagated segments as those of `source` are shown, to be edited in the voxels of the fixed volume."""
    node.CreateDefaultDisplayNodes()
    copy_display(node, source)
    if in_scene(node.GetScene(), fixed):
        node.SetReferenceImageGeometryParameterFromVolumeNode(fixed)


def _new_display(node: Any) -> Any:
    """A display node for a volume that does not look for a window of its own, which takes long."""
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(0)
    display.SetDefaultColorMap()
    node.GetScene().AddNode(display)
    node.SetAndObserveDisplayNodeID(display.GetID())
    return display
