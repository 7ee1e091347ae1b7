"""Where an image counts, from a segment or a labelmap volume, in the voxels of that image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError
from DLIRRegistrationLib.frames import array_to_local, named, transform_between
from DLIRRegistrationLib.segmentations import labelmaps, segment_ids
from DLIRRegistrationLib.volumes import InputVolume, reslice, scalar_image


def mask_array(node: Any, segment_id: str | None, reference: InputVolume) -> NDArray[np.uint8]:
    """(z, y, x) in the voxels of `reference`: 1 where the mask marks them, else 0.

    node: a segmentation node, of which `segment_id` or, for None, every segment counts; or a volume node, of which
    all voxels that are not 0 count. Parent transforms of both are honoured; the nearest voxel of the mask decides.
    Raises ImageError for a node or segment that is missing or empty, or marks no voxel of the image.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        name, mask = _of_segments(node, segment_id, reference)
    else:
        name, mask = named(node), _resampled(node, scalar_image(node), reference) != 0
    if not mask.any():
        raise ImageError(f"{name} marks no voxel of volume '{reference.name}'; choose another mask or none")
    return mask.astype(np.uint8)


def _of_segments(node: Any, segment_id: str | None, reference: InputVolume) -> tuple[str, NDArray[np.bool_]]:
    if segment_id is not None and segment_id not in segment_ids(node):
        raise ImageError(f"{named(node)} has no segment '{segment_id}' any more; choose another mask or none")
    mask = np.zeros(reference.grid.shape, bool)
    for labelmap in labelmaps(node):
        wanted = [label for i, label in labelmap.segments.items() if segment_id in (None, i)]
        if wanted:
            mask |= np.isin(_resampled(node, labelmap.image, reference), wanted)
    name = "" if segment_id is None else f", segment '{node.GetSegmentation().GetSegment(segment_id).GetName()}'"
    return named(node) + name, mask


def _resampled(node: Any, image: Any, reference: InputVolume) -> NDArray[Any]:
    from_world = transform_between(None, node.GetParentTransformNode())
    return reslice(image, array_to_local(node, image), from_world, reference.grid, nearest=True)
