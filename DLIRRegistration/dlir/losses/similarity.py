"""Normalised cross-correlation (§2.4), global and local. Higher is more alike; the training loss is its negative."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
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
    or the image, what is left of it counts. Returns (B,) in [-1, 1]; flat regions contribute 0.
    """
    return FixedWindows(fixed, window)(warped, mask)


class FixedWindows:
    """A fixed image that any number of warped ones are compared with by local NCC."""

    def __init__(self, fixed: Tensor, window: int = WINDOW) -> None:
        """fixed: (B, 1, z, y, x). window: see `local_ncc`."""
        self._fixed = fixed.to(torch.promote_types(fixed.dtype, torch.float32))
        self._window = window

    def __call__(self, warped: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B,): see `local_ncc`."""
        f, w = self._fixed, warped.to(self._fixed.dtype)
        if mask is None:
            weight, (share, mean_f, variance_f) = torch.ones_like(f), self._whole
        else:
            weight = mask.to(f.dtype)
            share, mean_f, variance_f = self._moments(weight)
        weighted = weight * w
        mean_w = self._mean(weighted, share)
        variance_w = (self._mean(weighted * w, share) - mean_w**2).clamp(min=0)
        covariance = self._mean(weighted * f, share) - mean_f * mean_w
        local = covariance / torch.sqrt(variance_f * variance_w + _LOCAL_NOISE)
        axes = tuple(range(1, f.dim()))
        mean: Tensor = (weight * local).sum(axes) / weight.sum(axes).clamp(min=1)
        return mean

    @cached_property
    def _whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """`_moments` where every voxel counts."""
        return self._moments(torch.ones_like(self._fixed))

    def _moments(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The share of each window that counts, and mean and variance of the fixed image therein."""
        share = _box(weight, self._window).clamp(min=1e-6)
        weighted = weight * self._fixed
        mean = self._mean(weighted, share)
        return share, mean, (self._mean(weighted * self._fixed, share) - mean**2).clamp(min=0)

    def _mean(self, weighted: Tensor, share: Tensor) -> Tensor:
        return _box(weighted, self._window) / share


def _box(image: Tensor, window: int) -> Tensor:
    """Mean over a cubic window with zeros beyond the border."""
    found: Tensor = _Box.apply(image, window)  # type: ignore[no-untyped-call]
    return found


class _Box(torch.autograd.Function):
    """Its own adjoint, so that the gradient takes what the value takes."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, window: int) -> Tensor:
        ctx.window = window
        mean = torch.empty_like(image, memory_format=torch.contiguous_format)
        reach, (depth, height, width) = window // 2, image.shape[2:]
        images, size = mean.shape[0] * mean.shape[1], depth
        if image.device.type == "cpu":
            images, size = max(1, _AT_ONCE // (depth * height * width)), max(1, _AT_ONCE // (height * width))
        for some, into in zip(image.flatten(0, 1).split(images), mean.flatten(0, 1).split(images), strict=True):
            for first, found in zip(range(0, depth, size), into.split(size, 1), strict=True):
                lowest = max(0, first - reach)
                part = some[:, lowest : first + found.shape[1] + reach]
                # In flat order, where neighbours along an axis are so many steps apart: a processor computes fastest on
                # long rows without gaps. The zeros beyond one row, slice or image are those before the next.
                row, rows, slices = width + reach, height + reach, part.shape[1] + reach
                steps = (slices * rows * row, rows * row, row, 1)
                margin = reach * sum(steps[1:])
                flat = part.new_zeros(len(part) * steps[0] + 2 * margin)
                flat.as_strided(part.shape, steps, margin).copy_(part)
                for step in steps[1:]:
                    flat = _sums(flat, step, window)
                sums = flat.as_strided(found.shape, steps, (first - lowest) * steps[1])
                torch.mul(sums, window**-3, out=found)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _box(gradients[0], ctx.window), None


def _sums(flat: Tensor, step: int, count: int) -> Tensor:
    """Sums of so many numbers that lie `step` apart, each from sums of half as many."""
    if count == 1:
        return flat
    half = _sums(flat, step, count // 2)
    size = len(half) - step * (count // 2)
    found = half[:size] + half[-size:]
    return found[: size - step].add_(flat[step * (count - 1) :]) if count % 2 else found
