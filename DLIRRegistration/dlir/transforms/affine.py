"""The 12-parameter affine transform of §2.1: translation, rotation, scale and shear about a centre."""

from __future__ import annotations

import torch
from torch import Tensor

# Off the centre, or turned at the border, by less than so many voxels counts as not at all.
_AS_GOOD_AS_NOTHING = 0.1


def _rotation(angles: Tensor) -> Tensor:
    """(B, 3) angles about x, y and z in radians -> (B, 3, 3), applied in the order x, y, z."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    one, zero = torch.ones_like(cx), torch.zeros_like(cx)
    rx = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).reshape(-1, 3, 3)
    ry = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).reshape(-1, 3, 3)
    rz = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).reshape(-1, 3, 3)
    return rz @ ry @ rx


def linear_part(parameters: Tensor) -> Tensor:
    """(B, 12) parameters -> (B, 3, 3): rotation @ shear @ scale.

    Parameters are translation (3), rotation about x, y, z in radians (3), scale (3), shear xy, xz, yz (3).
    A shear is an angle; its tangent would be unbounded, so the angle itself enters the matrix.
    """
    _, rotation, scale, shear = parameters.split(3, 1)
    xy, xz, yz = shear.unbind(1)
    one, zero = torch.ones_like(xy), torch.zeros_like(xy)
    upper = torch.stack([one, xy, xz, zero, one, yz, zero, zero, one], 1).reshape(-1, 3, 3)
    return _rotation(rotation) @ upper @ torch.diag_embed(scale)


def affine_matrix(parameters: Tensor, center: Tensor) -> Tensor:
    """(B, 12) parameters and (B, 3) centre in mm -> (B, 4, 4): x -> L (x - centre) + centre + translation."""
    linear = linear_part(parameters)
    offset = parameters[:, :3] + center - (linear @ center[:, :, None]).squeeze(2)
    matrix = torch.eye(4, dtype=parameters.dtype, device=parameters.device).repeat(len(parameters), 1, 1)
    matrix[:, :3, :3] = linear
    matrix[:, :3, 3] = offset
    return matrix


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """(B, 4, 4) applied to points (B, ..., 3)."""
    flat = points.reshape(points.shape[0], -1, 3)
    return (flat @ matrix[:, :3, :3].transpose(1, 2) + matrix[:, None, :3, 3]).reshape(points.shape)


def joins_centers(matrix: Tensor, sizes: Tensor, moving_sizes: Tensor) -> Tensor:
    """(B,): whether a map (B, 4, 4) from index to index brings two grids' centres together and turns nothing.

    sizes, moving_sizes: (B, 3), (x, y, z), of the grids. What the map scales is left to its spacings.
    """
    sizes, moving_sizes = sizes.to(matrix), moving_sizes.to(matrix)
    center = transform_points(matrix, (sizes[:, None] - 1) / 2)[:, 0]
    off_center = (center - (moving_sizes - 1) / 2).abs().amax(1)
    linear = matrix[:, :3, :3]
    turned = (linear - torch.diag_embed(linear.diagonal(dim1=1, dim2=2))) * sizes[:, None] / 2
    return torch.maximum(off_center, turned.abs().amax((1, 2))) < _AS_GOOD_AS_NOTHING
