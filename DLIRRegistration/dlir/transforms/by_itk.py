"""Values between voxels as ITK finds them, at any points: cubic B-splines, and labels weighed by Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError
from dlir.transforms.spatial import Points

# Takes points (3, N), continuous indices (x, y, z) within the voxels of an array, and gives the N values there.
Values = Callable[[Points], NDArray[Any]]

# ITK takes fewer voxels along an axis for no image that a cubic B-spline could go through.
_FEWEST = 4


def bspline_values(array: NDArray[Any]) -> Values:
    """Of the cubic B-spline through the voxels of an array (z, y, x), mirrored at its borders; float32.

    It may overshoot the voxels' values beside an edge. Raises GeometryError for fewer than 4 voxels along an axis.
    """
    import SimpleITK as sitk

    if min(array.shape) < _FEWEST:
        raise GeometryError(
            f"an image of {'×'.join(map(str, array.shape[::-1]))} voxels has too few for B-splines, which need "
            f"{_FEWEST} along each axis; interpolate linearly"
        )
    coefficients = sitk.BSplineDecomposition(sitk.GetImageFromArray(array.astype(np.float64)), 3)
    return _looked_up(coefficients, sitk.sitkBSplineResamplerOrder3, np.dtype(np.float32))


def gaussian_label_values(array: NDArray[Any]) -> Values:
    """Of labels (z, y, x), each the one that weighs most about a point, in their own type.

    Weights are those of ITK's LabelImageGaussianInterpolateImageFunction as SimpleITK sets it.
    """
    import SimpleITK as sitk

    return _looked_up(sitk.GetImageFromArray(array), sitk.sitkLabelGaussian, array.dtype)


def _looked_up(image: Any, interpolator: int, dtype: np.dtype[Any]) -> Values:
    """In index space: the points are made the places that a row of voxels is displaced to."""
    import SimpleITK as sitk

    def values(index: Points) -> NDArray[Any]:
        count = index.shape[1]
        if not count:
            return np.empty(0, dtype)
        away = np.array(index.T, order="C").reshape(1, 1, count, 3)  # a copy, whatever the order of the points
        away[..., 0] -= np.arange(count)
        way = sitk.DisplacementFieldTransform(sitk.GetImageFromArray(away, isVector=True))
        row = sitk.Resample(image, (count, 1, 1), way, interpolator)
        found: NDArray[Any] = sitk.GetArrayFromImage(row).reshape(-1).astype(dtype, copy=False)
        return found

    return values
