"""Where an image counts, from a segment or a labelmap volume, in the voxels of that image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume, marked_by
from DLIRRegistrationLib.scene.frames import array_to_local, is_straight, matrix_to_world, named
from DLIRRegistrationLib.scene.segmentations import labelmaps, segment_ids
from DLIRRegistrationLib.scene.volumes import in_world, onto_grid, scalar_image


def placed_mask(node: Any, segment_id: str | None) -> tuple[NDArray[np.uint8], ImageGrid] | None:
    """The mask on voxels of its own, (z, y, x), and where they lie in the world; at once, however large.

    node, segment_id: as for `mask_array`, which raises the same ImageErrors and notes the same. None where the mask has
    to be resampled: under transforms that bend or shear, and where segments that lie in several labelmaps count.
    """
    parts = _parts(node, segment_id)
    if len(parts) != 1:
        return None
    image, wanted = parts[0]
    to_world = matrix_to_world(node)
    if to_world is None or not is_straight(to_world @ array_to_local(node, image)):
        return None
    array, grid = in_world(node, image, nearest=True)
    marked = array == wanted[0] if len(wanted) == 1 else array != 0 if wanted else marked_by(array, *_called(node))
    return marked.view(np.uint8), grid


def mask_array(node: Any, segment_id: str | None, reference: Volume) -> NDArray[np.uint8]:
    """(z, y, x) in the voxels of `reference`: 1 where the mask marks them, else 0.

    node: a segmentation node, of which `segment_id` or, for None, every segment counts; or a volume node, of which
    all voxels that are not 0 count. Parent transforms of both are honoured; the nearest voxel of the mask decides.
    Raises ImageError for a node or segment that is missing or empty, or marks no voxel of the image, and for a volume
    that is a grey image. A note tells of a volume of several values that all of them count.
    """
    mask = np.zeros(reference.grid.shape, bool)
    for image, wanted in _parts(node, segment_id):
        values = onto_grid(node, image, reference.grid, nearest=True)
        mask |= np.isin(values, wanted) if wanted else marked_by(values, *_called(node))
    if not mask.any():
        name = named(node)
        if node.IsA("vtkMRMLSegmentationNode") and segment_id is not None:
            name += f", segment '{node.GetSegmentation().GetSegment(segment_id).GetName()}'"
        raise ImageError(f"{name} marks no voxel of volume '{reference.source}'; choose another mask or none")
    return mask.astype(np.uint8)


def _called(node: Any) -> tuple[str, str]:
    """A volume node, as messages call it, in full and for short."""
    return named(node), f"mask '{node.GetName()}'"


def _parts(node: Any, segment_id: str | None) -> list[tuple[Any, list[int]]]:
    """Images of a mask in the node's own RAS, and which of their values mark it; none named for all but 0."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        return [(scalar_image(node), [])]
    if segment_id is not None and segment_id not in segment_ids(node):
        raise ImageError(f"{named(node)} has no segment '{segment_id}' any more; choose another mask or none")
    found = [
        (each.image, [label for i, label in each.segments.items() if segment_id in (None, i)])
        for each in labelmaps(node)
    ]
    return [(image, wanted) for image, wanted in found if wanted]
