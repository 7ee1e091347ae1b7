"""Whether a deformation folds, and how much it stretches (§4): figures of its Jacobian determinant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError

# Values in double precision at once.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class JacobianStatistics:
    """Topology of a deformation: folding is a Jacobian determinant of 0 or less."""

    folding_fraction: float
    folding_count: int
    mean: float
    sd: float
    min: float
    max: float


def jacobian_statistics(determinant: ArrayLike, mask: ArrayLike | None = None) -> JacobianStatistics:
    """Folding and spread of the Jacobian determinant over all voxels, or those of `mask` (same shape).

    A determinant that is not finite counts as folding and is left out of the other figures, so that a
    transform that broke down cannot pass for a smooth one. Everything is `nan` where there are no voxels.
    Memory stays bounded however large the volume. Raises GeometryError if the shapes differ.
    """
    values, chosen = _fitting(determinant, mask)
    total = finite = folded = 0
    sum_, low, high = 0.0, math.inf, -math.inf
    for block in _blocks(values, chosen):
        good = block[np.isfinite(block)]
        total, finite = total + block.size, finite + good.size
        folded += int(np.count_nonzero(good <= 0)) + block.size - good.size
        sum_ += float(good.sum())
        low, high = min(low, float(good.min(initial=math.inf))), max(high, float(good.max(initial=-math.inf)))
    fraction = folded / total if total else math.nan
    if not finite:
        return JacobianStatistics(fraction, folded, *[math.nan] * 4)
    mean = sum_ / finite
    squares = sum(float(((block[np.isfinite(block)] - mean) ** 2).sum()) for block in _blocks(values, chosen))
    return JacobianStatistics(fraction, folded, mean, math.sqrt(squares / finite), low, high)


def log_jacobian_sd(determinant: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Population SD of the natural logarithm of the Jacobian determinant, in which halving and doubling weigh alike.

    determinant: any shape; mask: the same, or None for all of it. Folded voxels have no logarithm and are left out:
    the folding fraction counts them. `nan` where nothing is left. Raises GeometryError if the shapes differ.
    """
    logarithms = [np.log(block[np.isfinite(block) & (block > 0)]) for block in _blocks(*_fitting(determinant, mask))]
    together = np.concatenate([np.empty(0), *logarithms])
    return float(together.std()) if together.size else math.nan


def describe(statistics: JacobianStatistics) -> dict[str, float | int | None]:
    """The statistics for a report: folding in per cent, and None for a figure that is not defined."""
    figures = {name: getattr(statistics, name) for name in ("mean", "sd", "min", "max")}
    defined = {"folding_percent": 100 * statistics.folding_fraction, **figures}
    return {
        "folding_count": statistics.folding_count,
        **{name: value if math.isfinite(value) else None for name, value in defined.items()},
    }


def _fitting(determinant: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    values, chosen = np.asarray(determinant), None if mask is None else np.asarray(mask, bool)
    if chosen is not None and chosen.shape != values.shape:
        raise GeometryError(f"mask of shape {chosen.shape} does not fit determinants of shape {values.shape}")
    return values, chosen


def _blocks(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> Iterator[NDArray[np.float64]]:
    flat, chosen = values.reshape(-1), None if mask is None else mask.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        yield (block if chosen is None else block[chosen[start : start + _BLOCK]]).astype(float)
