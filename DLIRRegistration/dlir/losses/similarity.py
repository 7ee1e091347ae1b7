"""Normalised cross-correlation (§2.4). Higher is more alike; the training loss is its negative."""

from __future__ import annotations

import torch
from torch import Tensor


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
