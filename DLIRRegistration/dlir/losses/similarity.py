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
        for axis in range(2, image.dim()):
            reach, size = window // 2, image.shape[axis]
            padded = image.new_zeros(*image.shape[:axis], size + 2 * reach, *image.shape[axis + 1 :])
            padded.narrow(axis, reach, size).copy_(image)
            image = _sums(padded, axis, window)
        mean: Tensor = image / window ** (image.dim() - 2)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _box(gradients[0], ctx.window), None


def _sums(image: Tensor, axis: int, count: int) -> Tensor:
    """Sums of so many neighbours along an axis, each from sums of half as many."""
    if count == 1:
        return image
    half = _sums(image, axis, count // 2)
    size = half.shape[axis] - count // 2
    found = half.narrow(axis, 0, size) + half.narrow(axis, count // 2, size)
    return found.narrow(axis, 0, size - 1) + image.narrow(axis, count - 1, size - 1) if count % 2 else found
