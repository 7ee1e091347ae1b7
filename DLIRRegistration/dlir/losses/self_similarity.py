"""Self-similarity context (MIND-SSC, Heinrich et al. 2013): alike surroundings of each voxel, whatever the contrast.

A descriptor has twelve numbers: how unlike the patches about two of a voxel's six neighbours are, for each two that do
not lie opposite each other. Two such numbers of two voxels are one: the distance of the same two patches. So six
images of distances, one for each diagonal from patch to patch, hold all twelve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
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
    shape = _inner(image, reach)
    distances = image.new_empty(CHANNELS, *shape)
    for k, diagonal in enumerate(_diagonals(reach)):
        one, other = diagonal.ends(image, shape, reach)
        distance = _summed((one - other).square_(), reach)
        for channel, place in enumerate(diagonal.places, 2 * k):
            distances[channel] = _window(distance, place, shape)
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
    shape = _inner(image, reach)
    for k, diagonal in enumerate(_diagonals(reach)):
        spread = image.new_zeros([n + 4 * r + e for n, r, e in zip(shape, reach, diagonal.extent, strict=True)])
        for channel, place in enumerate(diagonal.places, 2 * k):
            at = (p + 2 * r for p, r in zip(place, reach, strict=True))
            _window(spread, at, shape).add_(by_distance[channel])
        one, other = diagonal.ends(image, shape, reach)
        change = _summed(spread, reach).mul_(one - other)
        for end, sign in zip(diagonal.ends(gradient, shape, reach), (2, -2), strict=True):
            end.add_(change, alpha=sign)


@dataclass(frozen=True)
class _Diagonal:
    """From the patch about one neighbour to that about another.

    extent: (z, y, x), voxels by which the image of their distances is larger than that of the descriptors. first,
    second: where the patches of this image begin in the padded one. places: where the two numbers that it holds of each
    descriptor begin in it.
    """

    extent: Reach
    first: Reach
    second: Reach
    places: tuple[Reach, Reach]

    def ends(self, image: Tensor, shape: Sequence[int], reach: Reach) -> tuple[Tensor, Tensor]:
        """What of a padded image lies in the first and in the second patch."""
        size = [n + 2 * r + e for n, r, e in zip(shape, reach, self.extent, strict=True)]
        return _window(image, self.first, size), _window(image, self.second, size)


@cache
def _diagonals(reach: Reach) -> tuple[_Diagonal, ...]:
    """From the neighbour at +1 along one axis to that at +1, and to that at -1, along another, for each two axes."""
    found, none = [], (0, 0, 0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        along_i, along_j = (_plus([r if axis == a else 0 for a, r in enumerate(reach)], none) for axis in (i, j))
        patch = reach
        extent, back = _plus(along_i, along_j), _plus(patch, along_j, -1)
        # Of the neighbours at +i and +j, seen from +i on, and of those at -j and -i, seen from -j on.
        found.append(_Diagonal(extent, back, _plus(patch, along_i, -1), (extent, none)))
        # Of those at +i and -j, and of those at +j and -i.
        found.append(_Diagonal(extent, patch, _plus(_plus(patch, along_i, -1), along_j, -1), (along_i, along_j)))
    return tuple(found)


def _plus(one: Sequence[int], other: Sequence[int], sign: int = 1) -> Reach:
    z, y, x = (a + sign * b for a, b in zip(one, other, strict=True))
    return z, y, x


def _inner(image: Tensor, reach: Reach) -> list[int]:
    """Shape of what is described of a padded image."""
    return [size - 4 * r for size, r in zip(image.shape, reach, strict=True)]


def _window(image: Tensor, first: Iterable[int], size: Sequence[int]) -> Tensor:
    z, y, x = (slice(start, start + length) for start, length in zip(first, size, strict=True))
    return image[z, y, x]


def _summed(image: Tensor, reach: Reach) -> Tensor:
    """Sums over the patches that lie within an image."""
    for axis, r in enumerate(reach):
        if r:
            size = image.shape[axis] - 2
            image = (image.narrow(axis, 0, size) + image.narrow(axis, 1, size)).add_(image.narrow(axis, 2, size))
    return image
