"""From an image array to the tensor that the networks see: intensities, axes and resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid, Shape3
from dlir.model.spec import Preprocessing
from dlir.transforms.bspline import along_last

# Rows of a resampling matrix that are applied together.
_ROWS_AT_ONCE = 36


def intensity_range(array: NDArray[Any], preprocessing: Preprocessing) -> tuple[float, float]:
    """The intensities that become 0 and 1."""
    if preprocessing.window is not None:
        return preprocessing.window
    low = float(array.min())
    rank = min(int(array.size * preprocessing.percentile / 100), array.size - 1)
    # As floats, which hold short integers exactly: numpy parts those three times as fast.
    values = array.astype(np.result_type(array.dtype, np.float32)).ravel("K")
    values.partition(rank)
    high = float(values[rank])
    # More than 99 % background leaves the percentile at the minimum: fall back on the whole range.
    return (low, high) if high > low else (low, float(array.max()))


@lru_cache(maxsize=64)  # images of one scanner share it
@torch.inference_mode(False)
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


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _windows(
    source: int, target: int, start: float, step: float, factor: int, size: int
) -> list[tuple[slice, Tensor]] | None:
    """Rows of the averaging matrix, extended by zeros to `size` rows, averaged over `factor` at a time.

    A few rows at a time, each with the columns that they need, because most of the whole matrix is zero. None where it
    changes nothing, as along slices that stay as they are.
    """
    matrix = averaging_matrix(source, target, start, step)
    windows = F.pad(matrix, (0, 0, 0, size - target)).unflatten(0, (-1, factor)).mean(1)
    if torch.equal(windows, torch.eye(source)):
        return None
    parts = []
    for rows in windows.split(_ROWS_AT_ONCE):
        needed = rows.any(0).nonzero()
        columns = slice(int(needed[0]), int(needed[-1]) + 1) if len(needed) else slice(0, 1)
        parts.append((columns, rows[:, columns].contiguous()))
    return parts


def resample_axes(
    array: Tensor,
    source: ImageGrid,
    target: ImageGrid,
    padded: Shape3 | None = None,
    factors: tuple[int, int, int] = (1, 1, 1),
) -> Tensor:
    """Resample (z, y, x) from `source` to `target`, whose axes are those of `source` permuted and flipped.

    padded: shape to which zeros then extend it at the far ends. factors: voxels (x, y, z) averaged after that.
    """
    to_source = target.relative_to(source)
    axes = [int(np.argmax(np.abs(to_source[:3, a]))) for a in range(3)]
    array = array.permute(*(2 - axes[2 - d] for d in range(3)))
    for axis, factor, size in zip((2, 1, 0), factors[::-1], padded or target.shape, strict=True):
        start, step = float(to_source[axes[axis], 3]), float(to_source[axes[axis], axis])
        parts = _windows(source.size[axes[axis]], target.size[axis], start, step, factor, size)
        if parts is not None:
            array = torch.cat([_along(array, 2 - axis, *part) for part in parts], 2 - axis)
    return array.contiguous()


def _along(array: Tensor, dim: int, columns: slice, matrix: Tensor) -> Tensor:
    """(z, y, x) times `matrix` along a dimension of which only `columns` count."""
    matrix = matrix.to(array)
    if dim == 2:
        return along_last(array[..., columns], matrix)
    result: Tensor = torch.matmul(matrix, array[:, columns]) if dim == 1 else torch.tensordot(matrix, array[columns], 1)
    return result


@dataclass(frozen=True)
class Prepared:
    """An image as the networks see it, at whatever resolution: `scaled` (z, y, x) in [0, 1] on `source`."""

    scaled: Tensor
    source: ImageGrid
    working: ImageGrid

    def seen(self, padded: Shape3 | None = None, factors: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
        """(z, y, x) on the working grid, padded and averaged as in `resample_axes`, in one step."""
        return resample_axes(self.scaled, self.source, self.working, padded, factors)


def scale(array: NDArray[Any], grid: ImageGrid, preprocessing: Preprocessing) -> Prepared:
    """The image (z, y, x) with its intensities in [0, 1], float32, not resampled yet."""
    low, high = intensity_range(array, preprocessing)
    scaled = torch.from_numpy(np.subtract(array, low, dtype=np.float32)).div_(max(high - low, 1e-12))
    return Prepared(scaled.clamp_(0, 1), grid, preprocessing.working_grid(grid))


def prepare(array: NDArray[Any], grid: ImageGrid, preprocessing: Preprocessing) -> tuple[Tensor, ImageGrid]:
    """The image (z, y, x) as float32 in [0, 1] on its working grid, and that grid."""
    prepared = scale(array, grid, preprocessing)
    return prepared.seen(), prepared.working
