"""From an image array to the tensor that the networks see: intensities, axes and resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.model.spec import Preprocessing
from dlir.transforms.bspline import expand


def intensity_range(array: NDArray[Any], preprocessing: Preprocessing) -> tuple[float, float]:
    """The intensities that become 0 and 1."""
    if preprocessing.window is not None:
        return preprocessing.window
    low = float(array.min())
    rank = min(int(array.size * preprocessing.percentile / 100), array.size - 1)
    high = float(np.partition(array, rank, axis=None)[rank])
    # More than 99 % background leaves the percentile at the minimum: fall back on the whole range.
    return (low, high) if high > low else (low, float(array.max()))


def averaging_matrix(source: int, target: int, start: float, step: float) -> Tensor:
    """(target, source) weights that resample one axis at `start + step * i`.

    Linear interpolation where |step| <= 1; a triangle as wide as the step otherwise, so that every voxel
    counts. Voxels beyond the ends repeat the last one.
    """
    width = max(1.0, abs(step))
    positions = start + step * torch.arange(target, dtype=torch.float64)
    reach = int(np.ceil(width)) + 1
    taps = torch.floor(positions)[:, None] + torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = (1 - (taps - positions[:, None]).abs() / width).clamp(min=0)
    weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(target, source, dtype=torch.float64)
    matrix.scatter_add_(1, taps.clamp(0, source - 1).long(), weights)
    return matrix.float()


def resample_axes(array: Tensor, source: ImageGrid, target: ImageGrid) -> Tensor:
    """Resample (z, y, x) from `source` to `target`, whose axes are those of `source` permuted and flipped."""
    to_source = target.relative_to(source)
    axes = [int(np.argmax(np.abs(to_source[:3, a]))) for a in range(3)]
    array = array.permute(*(2 - axes[2 - d] for d in range(3)))
    matrices = [
        averaging_matrix(
            source.size[axes[a]], target.size[a], float(to_source[axes[a], 3]), float(to_source[axes[a], a])
        )
        for a in (2, 1, 0)
    ]
    return expand(array[None, None], [m.to(array) for m in matrices])[0, 0]


def prepare(array: NDArray[Any], grid: ImageGrid, preprocessing: Preprocessing) -> tuple[Tensor, ImageGrid]:
    """The image (z, y, x) as float32 in [0, 1] on its working grid, and that grid."""
    low, high = intensity_range(array, preprocessing)
    working = preprocessing.working_grid(grid)
    scaled = torch.from_numpy(np.subtract(array, low, dtype=np.float32)).div_(max(high - low, 1e-12))
    return resample_axes(scaled.clamp_(0, 1), grid, working), working
