"""Normalised cross-correlation (§2.4), global and local. Higher is more alike; the training loss is its negative."""

from __future__ import annotations

import torch
from torch import Tensor

from dlir.transforms.bspline import expand

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


def local_ncc(fixed: Tensor, warped: Tensor, mask: Tensor | None = None, window: int = 7) -> Tensor:
    """Mean of the normalised cross-correlation in a window about each voxel, for each pair of a batch.

    fixed, warped, mask: as for `ncc`. window: edge of the cubic window in voxels, odd; where it reaches past the mask
    or the image, what is left of it counts. Returns (B,) in [-1, 1]; flat regions contribute 0.
    """
    dtype = torch.promote_types(fixed.dtype, torch.float32)
    f, w = fixed.to(dtype), warped.to(dtype)
    weight = torch.ones_like(f) if mask is None else mask.to(dtype)
    share, mean_f, square_f = _box(torch.cat([weight, weight * f, weight * f * f], 1), window).split(1, 1)
    share = share.clamp(min=1e-6)
    mean_f, square_f = mean_f / share, square_f / share
    sums = _box(torch.cat([weight * w, weight * w * w, weight * f * w], 1), window)
    mean_w, square_w, product = (sums / share).split(1, 1)
    variances = (square_f - mean_f**2).clamp(min=0) * (square_w - mean_w**2).clamp(min=0)
    local = (product - mean_f * mean_w) / torch.sqrt(variances + _LOCAL_NOISE)
    axes = tuple(range(1, fixed.dim()))
    mean: Tensor = (weight * local).sum(axes) / weight.sum(axes).clamp(min=1)
    return mean


def _box(image: Tensor, window: int) -> Tensor:
    """Mean over a cubic window with zeros beyond the border, as a product with a banded matrix along each axis."""
    matrices = []
    for size in image.shape[2:]:
        place = torch.arange(size, device=image.device)
        near = (place[:, None] - place).abs() <= window // 2
        matrices.append(near.to(image.dtype) / window)
    return expand(image, matrices)
