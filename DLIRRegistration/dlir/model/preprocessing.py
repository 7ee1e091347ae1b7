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

# Between these percentiles lies the bulk of an image's values.
_BULK = (1.0, 99.0)
# One value that so much of an image has, and that lies so many times the bulk's width below it, is padding; the rest
# must be so much of the image.
_PADDING_SHARE, _PADDING_APART, _LEAST_REST = 1e-3, 0.25, 0.05
# Values that tell where the bulk lies, and the part of an image by which each lies beyond the one before.
_ENOUGH, _GOLDEN = 1 << 14, (5**0.5 - 1) / 2
# So many times that width below it, whatever lies there is no part of the image.
_STRAY_APART = 1.0
# Slices are told apart in images of so many at least, by one voxel in so many along both axes; those that are so many
# times as bright as the median are left out, as long as they are no more than such a share.
_LEAST_SLICES, _EVERY, _BRIGHT, _BRIGHT_SHARE = 5, 3, 4.0, 0.1
# Of the range from dark to bright, above which an image shows something.
SOMETHING = 0.1
# Of a range of intensities: what is divided by it may be as small, but must not be nothing.
NARROWEST = float(np.finfo(np.float32).tiny)
# Rows of a resampling matrix that are applied together.
_ROWS_AT_ONCE = 36


def intensity_range(array: NDArray[Any], preprocessing: Preprocessing) -> tuple[float, float]:
    """The intensities that become 0 and 1: the model's window, or the image's minimum and `percentile` (§6.1).

    What a scanner did not see does not count, whatever value stands there: padding, single voxels far from all others,
    and a few slices that are many times as bright as the rest.
    """
    if preprocessing.window is not None:
        return preprocessing.window
    # As floats, which hold short integers exactly: numpy parts those three times as fast.
    image = _without_bright_slices(array.astype(np.result_type(array.dtype, np.float32)))
    values = _without_strays(image.ravel("K"))
    low = float(values.min())
    high = _ranked(values, preprocessing.percentile)
    # More than 99 % background leaves the percentile at the minimum: fall back on the whole range.
    return (low, high) if high > low else (low, float(values.max()))


def _ranked(values: NDArray[Any], percentile: float) -> float:
    """The value (N,) below which so many per cent lie. Reorders `values`."""
    rank = min(int(values.size * percentile / 100), values.size - 1)
    values.partition(rank)
    return float(values[rank])


def _without_strays(values: NDArray[Any]) -> NDArray[Any]:
    """Values (N,) without padding, below or above all others, and without single ones far below."""
    while True:
        kept = _without_padding(values, _PADDING_APART)
        kept = -_without_padding(-kept, _STRAY_APART)  # scanners cut bright values off: those are no padding
        start, width = _bulk(_some(kept))
        if start - float(kept.min()) > _STRAY_APART * width > 0:
            kept = kept[kept >= start - _STRAY_APART * width]
        if kept.size == values.size:
            return kept
        values = kept


def _without_padding(values: NDArray[Any], apart: float) -> NDArray[Any]:
    """Values (N,) without the lowest, if many have it and it lies `apart` from the others, in widths of their bulk."""
    low = values.min()
    share = np.count_nonzero(values == low) / values.size
    if not _PADDING_SHARE <= share <= 1 - _LEAST_REST:
        return values
    few = _some(values)
    start, width = _bulk(few[few > low])
    return values[values > low] if start - float(low) > apart * width > 0 else values


def _some(values: NDArray[Any]) -> NDArray[Any]:
    """Enough of values (N,) to tell where their bulk lies; always the same, and none of an image's rows alone."""
    if values.size <= _ENOUGH:
        return values
    # Multiples of the golden ratio fill an interval evenly; numpy's random numbers take memory to load.
    return values[(np.arange(_ENOUGH) * _GOLDEN % 1 * values.size).astype(np.intp)]


def _bulk(values: NDArray[Any]) -> tuple[float, float]:
    """Where the bulk of values (N,) begins, and how wide it is."""
    start, end = np.percentile(values, _BULK, method="lower") if values.size else (0.0, 0.0)
    return float(start), float(end - start)


def _without_bright_slices(array: NDArray[Any]) -> NDArray[Any]:
    """The image (z, y, x) without those few slices of its first axis that are many times as bright as the others."""
    if len(array) < _LEAST_SLICES:
        return array
    few = array[:, ::_EVERY, ::_EVERY].reshape(len(array), -1)
    brightness = np.percentile(few, _BULK[1], axis=1) - few.min()
    usual = np.percentile(brightness, 50)
    bright = brightness > _BRIGHT * usual
    few_enough = 0 < np.count_nonzero(bright) <= _BRIGHT_SHARE * len(array)
    return array[~bright] if few_enough and usual > 0 else array


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
    scaled = torch.from_numpy(np.subtract(array, low, dtype=np.float32)).div_(max(high - low, NARROWEST))
    return Prepared(scaled.clamp_(0, 1), grid, preprocessing.working_grid(grid))


def shows(image: Tensor, weight: Tensor | None = None) -> Tensor:
    """Where an image in [0, 1] shows something, and counts. weight: how far each voxel does, None for all of them."""
    bright = image > SOMETHING
    return bright if weight is None else bright & (weight > 0)


def prepare(array: NDArray[Any], grid: ImageGrid, preprocessing: Preprocessing) -> tuple[Tensor, ImageGrid]:
    """The image (z, y, x) as float32 in [0, 1] on its working grid, and that grid."""
    prepared = scale(array, grid, preprocessing)
    return prepared.seen(), prepared.working
