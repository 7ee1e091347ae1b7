"""Mutual information of two images by Parzen windows (Thévenaz and Unser 2000). Higher is more alike.

A kernel is a polynomial of where a voxel lies between two bins. So of all voxels of a cell, which is what lies between
two bins of either image, the joint histogram needs the sums of a few powers alone: eight sums of one number a voxel,
where every voxel would else be added to eight bins of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlir.transforms.lattice import exact_dtype

BINS = 32
# Linear kernels in the fixed image need no bin beyond [0, 1], cubic ones in the warped image need one on each side.
_FIXED_CELLS, _WARPED_CELLS = BINS - 1, BINS - 3
_CELLS = _FIXED_CELLS * _WARPED_CELLS
# Weights of the two or four bins about a place t between bins: row the bin, column the power of t.
_LINEAR = ((1.0, -1.0), (0.0, 1.0))
_CUBIC = (
    (1 / 6, -1 / 2, 1 / 2, -1 / 6),
    (4 / 6, 0.0, -1.0, 1 / 2),
    (1 / 6, 1 / 2, 1 / 2, -1 / 2),
    (0.0, 0.0, 0.0, 1 / 6),
)
# Voxels computed at once: so few that what is computed of them stays in the processor's cache.
_AT_ONCE = 1 << 15
# Smaller probabilities count as this one in a logarithm: rounding, of bins where nothing is.
_SMALLEST = 1e-12


def mutual_information(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mutual information of each pair of a batch, in nats.

    fixed, warped: (B, 1, z, y, x), intensities in [0, 1] as preprocessing gives them; what lies beyond counts as 0 or
    1. mask: weights of the same shape. Computed in single precision at least. 32 bins of either image, linear kernels
    for the fixed image's, cubic ones for the warped image's. Returns (B,), at least 0; 0 where an image is constant or
    the mask empty. The gradient reaches both images, and no mask.
    """
    return FixedIntensities(fixed)(warped, mask)


class FixedIntensities:
    """A fixed image that any number of warped ones are compared with by mutual information."""

    def __init__(self, fixed: Tensor) -> None:
        """fixed: (B, 1, z, y, x), see `mutual_information`."""
        self._place = _place(fixed, _FIXED_CELLS)
        self._cell, self._between = _divided(self._place.detach(), _FIXED_CELLS)
        self._cell *= _WARPED_CELLS

    def __call__(self, warped: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B,): see `mutual_information`."""
        place = _place(warped, _WARPED_CELLS)
        weight = torch.ones_like(place) if mask is None else mask.flatten(1).to(place.dtype)
        moments = _Moments.apply(self._place, place, self._cell, self._between, weight)  # type: ignore[no-untyped-call]
        return _information(moments, weight).to(place.dtype)


def _place(image: Tensor, cells: int) -> Tensor:
    """(B, N): where the voxels lie, in bins."""
    return image.flatten(1).to(torch.promote_types(image.dtype, torch.float32)).clamp(0, 1) * cells


def _divided(place: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The cell of each voxel, and where it lies in it, from 0 to 1. What is no number lies in some cell."""
    lowest = torch.fmin(place.floor(), place.new_tensor(cells - 1.0))
    return lowest.to(torch.int32), place - lowest


class _Moments(torch.autograd.Function):
    """(B, 2, 4, fixed cells, warped cells): sums over the voxels of a cell of weight · s^a · t^b, a < 2 and b < 4.

    s and t are the places of a voxel between the bins of the fixed and of the warped image.
    """

    @staticmethod
    def forward(ctx: Any, _: Tensor, warped: Tensor, cell: Tensor, s: Tensor, weight: Tensor) -> Tensor:
        exact = exact_dtype(warped.device)
        moments = torch.zeros(len(warped), 2, 4, _CELLS, dtype=exact, device=warped.device)
        ctx.save_for_backward(warped, cell, s, weight)
        for pair, part in _parts(warped):
            both, t = _divided(warped[pair, part], _WARPED_CELLS)
            both += cell[pair, part]
            powers = weight[pair, part].to(exact)
            t, last = t.to(exact), s[pair, part].to(exact)
            for b in range(4):
                moments[pair, 0, b] += torch.bincount(both, powers, _CELLS)
                moments[pair, 1, b] += torch.bincount(both, powers * last, _CELLS)
                powers = powers * t
        return moments.reshape(-1, 2, 4, _FIXED_CELLS, _WARPED_CELLS)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        warped, cell, s, weight = ctx.saved_tensors
        of = gradients[0].flatten(3).to(warped.dtype)
        found = [torch.empty_like(warped) if needed else None for needed in ctx.needs_input_grad[:2]]
        for pair, part in _parts(warped):
            both, t = _divided(warped[pair, part], _WARPED_CELLS)
            both += cell[pair, part]
            here = s[pair, part]

            def looked_up(a: int, b: int, pair: int = pair, both: Tensor = both) -> Tensor:
                return of[pair, a, b].index_select(0, both)

            if found[0] is not None:
                slope = looked_up(1, 0) + t * (looked_up(1, 1) + t * (looked_up(1, 2) + t * looked_up(1, 3)))
                found[0][pair, part] = slope * weight[pair, part]
            if found[1] is not None:
                first, second, third = (looked_up(0, b).addcmul_(here, looked_up(1, b)) for b in (1, 2, 3))
                slope = third.mul_(3).mul_(t).add_(second, alpha=2).mul_(t).add_(first)
                found[1][pair, part] = slope * weight[pair, part]
        return *found, None, None, None


def _parts(warped: Tensor) -> Iterator[tuple[int, slice]]:
    """Pairs of a batch (B, N) and voxels that are computed at once: on other devices than the CPU all of a pair's."""
    size = _AT_ONCE if warped.device.type == "cpu" else max(1, warped.shape[1])
    for pair in range(len(warped)):
        yield from ((pair, slice(first, first + size)) for first in range(0, warped.shape[1], size))


def _information(moments: Tensor, weight: Tensor) -> Tensor:
    """(B,): the mutual information of the joint histogram that moments make, in their precision."""
    linear, cubic = moments.new_tensor(_LINEAR), moments.new_tensor(_CUBIC)
    taps = torch.einsum("pa,qb,nabfw->npqfw", linear, cubic, moments)
    joint = moments.new_zeros(len(moments), BINS, BINS)
    for p in range(2):
        for q in range(4):
            joint[:, p : p + _FIXED_CELLS, q : q + _WARPED_CELLS] += taps[:, p, q]
    joint = joint / weight.sum(1, dtype=moments.dtype).clamp(min=_SMALLEST)[:, None, None]
    entropies = [_entropy(part) for part in (joint.sum(2), joint.sum(1), joint.flatten(1))]
    return entropies[0] + entropies[1] - entropies[2]


def _entropy(probability: Tensor) -> Tensor:
    return -(probability * probability.clamp(min=_SMALLEST).log()).sum(1)
