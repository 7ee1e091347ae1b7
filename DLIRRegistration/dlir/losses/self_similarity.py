"""Self-similarity context (MIND-SSC, Heinrich et al. 2013): alike surroundings of each voxel, whatever the contrast.

A descriptor has twelve numbers: how unlike the patches about two of a voxel's six neighbours are, for each two that do
not lie opposite each other. Two such numbers of two voxels are one: the distance of the same two patches. So six
images of distances, one for each diagonal from patch to patch, hold all twelve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHANNELS = 12
# Added to the mean square difference by which a descriptor is scaled. Where an image varies by less than about 0.001 of
# its intensity range there is rounding and little else, and it must not count like an edge.
_NOISE = 1e-6
# Neighbours, and the patches about them, reach so many voxels along each axis; none along an axis of fewer voxels than
# a descriptor is wide, so that a thin stack is taken slice by slice.
_REACH, _WIDTH = 1, 5
# Voxels computed at once: so few that what is computed of them stays in the processor's cache.
_AT_ONCE = 1 << 15

Reach = tuple[int, int, int]


def mind_ssc(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """One less the mean square difference of self-similarity descriptors, for each pair of a batch.

    fixed, warped: (B, 1, z, y, x), intensities of order one, as preprocessing gives them. mask: weights of the same
    shape. Computed in single precision at least. A descriptor sees two voxels in each direction, in what is repeated of
    the image beyond its border; along an axis of fewer than five voxels it sees nothing. Where it sees a voxel of
    weight 0, the voxel that it describes counts nothing either. Returns (B,) in [0, 1]; 0 where nothing counts. The
    gradient reaches both images, and no mask.
    """
    found = FixedDescriptors(fixed.detach())(warped, mask)
    if not fixed.requires_grad or not torch.is_grad_enabled():
        return found
    # The measure is the same with the roles exchanged, from where the fixed image has its gradient.
    turned = FixedDescriptors(warped.detach())(fixed, mask)
    return found + turned - turned.detach()


class FixedDescriptors:
    """A fixed image that any number of warped ones are compared with by their self-similarity."""

    def __init__(self, fixed: Tensor) -> None:
        """fixed: (B, 1, z, y, x), see `mind_ssc`. Its descriptors take twelve times its memory."""
        self._reach = _reach(fixed.shape[2:])
        padded = _padded(fixed, self._reach)
        self._descriptors = padded.new_empty(len(fixed), CHANNELS, *fixed.shape[2:])
        for pair, seen, described in _slabs(padded, self._reach):
            self._descriptors[pair, :, described] = _described(padded[pair, 0, seen], self._reach)[0]

    def __call__(self, warped: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B,): see `mind_ssc`."""
        padded = _padded(warped, self._reach)
        shape = (len(warped), *warped.shape[2:])
        weight = padded.new_ones(shape) if mask is None else _whole(mask[:, 0], self._reach).to(padded.dtype)
        difference = _SquareDifference.apply(padded, self._descriptors, weight, self._reach)  # type: ignore[no-untyped-call]
        total = weight.sum((1, 2, 3))
        found: Tensor = (total - difference) / total.clamp(min=1)
        return found


def _reach(shape: Sequence[int]) -> Reach:
    z, y, x = (_REACH if size >= _WIDTH else 0 for size in shape)
    return z, y, x


def _padded(image: Tensor, reach: Reach) -> Tensor:
    """The image with its border repeated as far as descriptors see, in single precision at least."""
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    return F.pad(image, [2 * r for r in reversed(reach) for _ in range(2)], mode="replicate")


def _whole(mask: Tensor, reach: Reach) -> Tensor:
    """(B, z, y, x): the weights, 0 where a descriptor sees a voxel of weight 0."""
    seen = F.pad(mask > 0, [2 * r for r in reversed(reach) for _ in range(2)], value=True)
    for axis, r in enumerate(reach, 1):
        size = mask.shape[axis]
        seen = reduce(torch.logical_and, [seen.narrow(axis, k, size) for k in range(4 * r + 1)])
    return mask * seen


def _slabs(padded: Tensor, reach: Reach) -> Iterator[tuple[int, slice, slice]]:
    """Pairs of a batch, and slices (z) to be seen and described at once: off the CPU all of a pair's."""
    depth = padded.shape[2] - 4 * reach[0]
    size = max(1, _AT_ONCE // padded[0, 0, 0].numel()) if padded.device.type == "cpu" else depth
    for pair in range(len(padded)):
        for first in range(0, depth, size):
            last = min(first + size, depth)
            yield pair, slice(first, last + 4 * reach[0]), slice(first, last)


class _SquareDifference(torch.autograd.Function):
    """(B,): weighted sum over the voxels of the mean square difference of an image's descriptors from given ones.

    The gradient is computed along with it, while what it needs is in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, descriptors: Tensor, weight: Tensor, reach: Reach) -> Tensor:
        learns = ctx.needs_input_grad[0]
        total = padded.new_zeros(len(padded))
        gradient = torch.zeros_like(padded) if learns else padded.new_empty(0)
        for pair, seen, part in _slabs(padded, reach):
            image = padded[pair, 0, seen]
            found, unlike, scale = _described(image, reach)
            difference = found - descriptors[pair, :, part]
            weighted = difference * (weight[pair, part] / CHANNELS)
            total[pair] += torch.dot(weighted.flatten(), difference.flatten())
            if learns:
                slope = weighted.mul_(found).mul_(-2)  # the derivative of exp(-exponent) is what was found
                _add_gradient(gradient[pair, 0, seen], image, _unscaled(slope, unlike, scale), reach)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None, None, None, None], None, None, None


def _described(image: Tensor, reach: Reach) -> tuple[Tensor, Tensor, Tensor]:
    """The descriptors (12, z, y, x) of a padded image, their exponents, and by what these were divided (z, y, x)."""
    steps, flat = _Steps.of(image, reach), image.flatten()
    distances = image.new_empty(CHANNELS, *steps.shape)
    for k, diagonal in enumerate(steps.diagonals):
        one, other = diagonal.ends(flat)
        distance = steps.summed((one - other).square_())
        for channel, place in enumerate(diagonal.places, 2 * k):
            distances[channel] = steps.block(distance, place)
    unlike = distances.sub_(distances.amin(0))
    # Of sums over a patch, not means, so that the noise is multiplied instead.
    scale = unlike.mean(0).add_(_NOISE * math.prod(2 * r + 1 for r in reach))
    unlike /= scale
    return torch.exp(-unlike), unlike, scale


def _unscaled(slope: Tensor, unlike: Tensor, scale: Tensor) -> Tensor:
    """From the gradient by the exponents that by the distances, in place."""
    total = slope.sum(0)
    shared = (slope * unlike).sum(0)
    slope.sub_(shared / CHANNELS).div_(scale)
    # The least distance, which was taken from all; along thin axes, distances come in equal pairs.
    least = (unlike == 0).to(slope.dtype)
    return slope.addcmul_(least, (shared - total) / (scale * least.sum(0)))


def _add_gradient(gradient: Tensor, image: Tensor, by_distance: Tensor, reach: Reach) -> None:
    """Add to the gradient by a padded image what that by the distances (12, z, y, x) makes of it."""
    steps, flat, into = _Steps.of(image, reach), image.flatten(), gradient.view(-1)
    for k, diagonal in enumerate(steps.diagonals):
        one, other = diagonal.ends(flat)
        spread = image.new_zeros(len(one) + 2 * steps.patch)
        for channel, place in enumerate(diagonal.places, 2 * k):
            steps.block(spread, place + 2 * steps.patch).add_(by_distance[channel])
        change = steps.summed(spread).mul_(one - other)
        for end, sign in zip(diagonal.ends(into), (2, -2), strict=True):
            end.add_(change, alpha=sign)


@dataclass(frozen=True)
class _Diagonal:
    """From the patch about one neighbour to that about another, in steps through the flat order of a padded image.

    first, second: where the two begin, of so many voxels each, `size`. places: where the two numbers of a descriptor
    that are distances along it begin among all these distances.
    """

    first: int
    second: int
    size: int
    places: tuple[int, int]

    def ends(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """What of a padded image lies in the first and in the second patch."""
        return flat[self.first : self.first + self.size], flat[self.second : self.second + self.size]


@dataclass(frozen=True)
class _Steps:
    """Of a padded image, in its flat order, where neighbours are a number of steps apart whatever the axis.

    On long rows without gaps a processor computes fastest. What is computed across the end of a row is not looked at.
    shape: (z, y, x) of what is described. strides: steps to the next voxel along (z, y, x). axes: the same of the axes
    along which there are neighbours. patch: steps from a patch's first voxel to its middle.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    axes: tuple[int, ...]
    patch: int
    diagonals: tuple[_Diagonal, ...]

    @classmethod
    def of(cls, image: Tensor, reach: Reach) -> _Steps:
        return _steps(tuple(image.shape), reach)

    def summed(self, flat: Tensor) -> Tensor:
        """Sums over the patches."""
        for step in self.axes:
            size = len(flat) - 2 * step
            flat = (flat[:size] + flat[step : step + size]).add_(flat[2 * step :])
        return flat

    def block(self, flat: Tensor, first: int) -> Tensor:
        """(z, y, x): what is described, where its first voxel is given."""
        return flat.as_strided(self.shape, self.strides, flat.storage_offset() + first)


@lru_cache(maxsize=16)
def _steps(padded: tuple[int, ...], reach: Reach) -> _Steps:
    shape = tuple(size - 4 * r for size, r in zip(padded, reach, strict=True))
    strides = (padded[1] * padded[2], padded[2], 1)
    next_to = [stride * r for stride, r in zip(strides, reach, strict=True)]
    patch = sum(next_to)
    described = sum(stride * (size - 1) for stride, size in zip(strides, shape, strict=True)) + 1
    diagonals = []
    for i, j in ((next_to[0], next_to[1]), (next_to[0], next_to[2]), (next_to[1], next_to[2])):
        size = described + 2 * patch + i + j
        # From the neighbour at +i to that at +j, which is also from that at -j to that at -i.
        diagonals.append(_Diagonal(patch - j, patch - i, size, (i + j, 0)))
        # From the neighbour at +i to that at -j, which is also from that at +j to that at -i.
        diagonals.append(_Diagonal(patch, patch - i - j, size, (i, j)))
    return _Steps(shape, strides, tuple(step for step in next_to if step), patch, tuple(diagonals))
