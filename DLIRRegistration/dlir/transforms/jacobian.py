"""The Jacobian determinant of a transform, computed at every voxel (§4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.transforms.chain import Chain, voxel_slabs
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.spatial import CompositeTransform


def jacobian_map(
    transform: CompositeTransform | InverseTransform,
    onto: ImageGrid,
    progress: Callable[[float], None] = lambda fraction: None,
) -> NDArray[np.float32]:
    """(z, y, x): the determinant of `transform` at every voxel centre of `onto`, computed in double precision.

    That of an inverse is 0 where there is none. progress: called with the fraction done.
    """
    result = np.empty(onto.shape, np.float32)
    if isinstance(transform, InverseTransform):
        for low, high in voxel_slabs(onto.shape):
            progress(low / onto.shape[0])
            points = onto.slab(low, high).voxel_centers()
            result[low:high] = transform.determinant(points.reshape(-1, 3)).reshape(points.shape[:3])
        return result
    for slab in Chain(transform).slabs(onto, onto, exact=True, determinants=True):
        progress(slab.low / onto.shape[0])
        assert slab.determinant is not None
        result[slab.low : slab.high] = slab.determinant.numpy().reshape(-1, *onto.shape[1:])
    return result
