"""Normalised cross-correlation (§2.4), global and local. Higher is more alike; the training loss is its negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.losses.choices import WINDOW

# Added to the product of two local variances: where both images vary by less than about 0.03 of their intensity range,
# there is noise and little else, and it must not count like an edge.
_LOCAL_NOISE = 1e-6
# Voxels computed at once: so few that what is computed of them stays in the processor's cache.
_AT_ONCE = 1 << 17


def ncc(fixed: Tensor, warped: Tensor, mask: Tensor | None = None) -> Tensor:
    """Global normalised cross-correlation of each pair of a batch.

    fixed, warped: (B, 1, z, y, x), intensities of order one, as preprocessing gives them. mask: weights of the
    same shape, such as 1 where the voxel maps inside the moving image. Computed in single precision at least.
    Returns (B,) in [-1, 1]; 0 where an image is constant.
    """
    dtype = torch.promote_types(fixed.dtype, torch.float32)
    fixed, warped = fixed.to(dtype), warped.to(dtype)
    weight = torch.ones_like(fixed) if mask is None else mask.to(dtype)
    axes = tuple(range(1, fixed.dim()))
    total = weight.sum(axes, keepdim=True).clamp(min=1)
    f = fixed - (weight * fixed).sum(axes, keepdim=True) / total
    w = warped - (weight * warped).sum(axes, keepdim=True) / total
    covariance = (weight * f * w).sum(axes) / total.flatten()
    variance_f = (weight * f * f).sum(axes) / total.flatten()
    variance_w = (weight * w * w).sum(axes) / total.flatten()
    return covariance / torch.sqrt(variance_f * variance_w + 1e-10)


def local_ncc(fixed: Tensor, warped: Tensor, mask: Tensor | None = None, window: int = WINDOW) -> Tensor:
    """Mean of the normalised cross-correlation in a window about each voxel, for each pair of a batch.

    fixed, warped, mask: as for `ncc`. window: edge of the cubic window in voxels, odd; where it reaches past the mask
    or the image, what is left of it counts. Returns (B,) in [-1, 1]; flat regions contribute 0. The gradient reaches
    both images, and no mask.
    """
    dtype = torch.promote_types(fixed.dtype, torch.float32)
    fixed, warped = fixed.to(dtype), warped.to(dtype)
    weight = torch.ones_like(fixed) if mask is None else mask.to(dtype)
    total = _Correlations.apply(warped, fixed.detach(), weight, window)  # type: ignore[no-untyped-call]
    if fixed.requires_grad and torch.is_grad_enabled():
        # The measure is the same with the roles exchanged, from where the fixed image has its gradient.
        turned = _Correlations.apply(fixed, warped.detach(), weight, window)  # type: ignore[no-untyped-call]
        total = total + turned - turned.detach()
    mean: Tensor = total / weight.sum((1, 2, 3, 4)).clamp(min=1)
    return mean


class _Correlations(torch.autograd.Function):
    """(B,): weighted sum over the voxels of the correlation in the window about each.

    The gradient is computed along with it, while what it needs is in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, weight: Tensor, window: int) -> Tensor:
        learns = ctx.needs_input_grad[0]
        depth, height, width = warped.shape[2:]
        size = max(1, _AT_ONCE // (height * width)) if warped.device.type == "cpu" else depth
        total = warped.new_zeros(len(warped))
        gradient = torch.zeros_like(warped) if learns else warped.new_empty(0)
        for pair in range(len(warped)):
            for first in range(0, depth, size):
                rows = _Rows((depth, height, width), first, min(first + size, depth), window)
                images = [rows.of(image[pair, 0]) for image in (fixed, warped, weight)]
                value, slope = _correlated(rows, images, learns)
                total[pair] += value
                if learns:
                    rows.add(slope, gradient[pair, 0])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None, None, None, None], None, None, None


def _correlated(rows: _Rows, images: Sequence[Tensor], learns: bool) -> tuple[Tensor, Tensor]:
    """Of some slices, the weighted sum of the correlations, and its gradient by the warped image if asked for."""
    f, w, weight = images
    volume = rows.window**3
    weighted_f, weighted_w = weight * f, weight * w
    # From a sum over a window to the mean over what of it counts.
    to_mean = (rows.sums(weight) / volume).clamp_(min=1e-6).mul_(volume).reciprocal_()
    mean_f, mean_w = rows.sums(weighted_f) * to_mean, rows.sums(weighted_w) * to_mean
    variance_f = (rows.sums(weighted_f * f) * to_mean).addcmul_(mean_f, mean_f, value=-1).clamp_(min=0)
    variance_w = (rows.sums(weighted_w * w) * to_mean).addcmul_(mean_w, mean_w, value=-1).clamp_(min=0)
    covariance = (rows.sums(weighted_w * f) * to_mean).addcmul_(mean_f, mean_w, value=-1)
    scale = (variance_f * variance_w).add_(_LOCAL_NOISE).rsqrt_()
    local, here = covariance * scale, rows.middle(weight)
    value = torch.dot(here, local)
    if not learns:
        return value, weight
    by_covariance = scale * here
    by_variance = (by_covariance * local).mul_(scale).mul_(variance_f).mul_(-0.5)
    by_mean = (by_covariance * mean_f).addcmul_(by_variance, mean_w, value=2).neg_()
    slope = rows.spread(by_covariance.mul_(to_mean)).mul_(f)
    slope.addcmul_(rows.spread(by_variance.mul_(to_mean)), w, value=2)
    return value, slope.add_(rows.spread(by_mean.mul_(to_mean))).mul_(weight)


class _Rows:
    """Some slices of an image with those that their windows reach, in flat order with zeros beyond each row and slice.

    There, neighbours along an axis are the same number of steps apart everywhere, and a processor computes fastest on
    long rows without gaps. The zeros beyond one row or slice are those before the next. Nothing counts at a zero.
    """

    def __init__(self, shape: Sequence[int], first: int, last: int, window: int) -> None:
        """shape: (z, y, x) of the image. first, last: the slices."""
        depth, height, width = shape
        reach = window // 2
        self.window = window
        self._seen = slice(max(0, first - reach), min(depth, last + reach))
        self._shape = (self._seen.stop - self._seen.start, height, width)
        self._steps = ((height + reach) * (width + reach), width + reach, 1)
        self._size = (last - first) * self._steps[0]
        # From the first number to the first that lies amid a window, and to the first voxel.
        self._margin = reach * sum(self._steps)
        self._start = self._margin + (self._seen.start - first) * self._steps[0]

    def of(self, image: Tensor) -> Tensor:
        """(N,): an image (z, y, x) in this order."""
        flat = image.new_zeros(self._size + 2 * self._margin)
        self._block(flat).copy_(image[self._seen])
        return flat

    def add(self, flat: Tensor, image: Tensor) -> None:
        """Add numbers in this order (N,) to an image (z, y, x)."""
        image[self._seen] += self._block(flat)

    def middle(self, flat: Tensor) -> Tensor:
        """(M,): those amid windows."""
        return flat[self._margin : self._margin + self._size]

    def sums(self, flat: Tensor) -> Tensor:
        """(M,): sums over the window about each of the middle of (N,)."""
        for step in self._steps:
            flat = _sums(flat, step, self.window)
        return flat

    def spread(self, middle: Tensor) -> Tensor:
        """(N,): of each, the sum over the windows (M,) that reach it."""
        return self.sums(F.pad(middle, (2 * self._margin, 2 * self._margin)))

    def _block(self, flat: Tensor) -> Tensor:
        return flat.as_strided(self._shape, self._steps, self._start)


def _sums(flat: Tensor, step: int, count: int) -> Tensor:
    """Sums of so many numbers that lie `step` apart, each from sums of half as many."""
    if count == 1:
        return flat
    half = _sums(flat, step, count // 2)
    size = len(half) - step * (count // 2)
    found = half[:size] + half[-size:]
    return found[: size - step].add_(flat[step * (count - 1) :]) if count % 2 else found
