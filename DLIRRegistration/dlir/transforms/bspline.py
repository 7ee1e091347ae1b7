"""Cubic B-spline displacement fields as separable transposed convolutions (§2.2).

A field is a tensor of coefficients `(B, C, gz, gy, gx)`, one vector per control point, channels in
(x, y, z) order. Positions are given in control-point index units. A transposed convolution whose fixed
kernel is the sampled B-spline is, along one axis, the product with a banded matrix; three such products
give the dense field and, with the derivative kernels, its analytic derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Layers added around the network's output: one repeats the edge, so that the image border moves with its
# neighbours; three zeros let displacement and its first two derivatives vanish where the grid ends, which
# is where ITK's B-spline transform stops too. The field is thereby C2 in all of space.
EDGE_LAYERS = 1
ZERO_LAYERS = 3
PADDING = EDGE_LAYERS + ZERO_LAYERS


def basis(offset: Tensor, derivative: int = 0) -> Tensor:
    """The cubic B-spline (derivative 0), its first or second derivative at `offset` control points from its centre."""
    a = offset.abs()
    inner, outer = a < 1, a < 2
    if derivative == 0:
        near, far = 2 / 3 - a**2 + a**3 / 2, (2 - a) ** 3 / 6
    elif derivative == 1:
        near, far = offset * (1.5 * a - 2), -torch.sign(offset) * (2 - a) ** 2 / 2
    else:
        near, far = 3 * a - 2, 2 - a
    return torch.where(inner, near, torch.where(outer, far, torch.zeros_like(a)))


def basis_matrix(positions: Tensor, size: int, derivative: int = 0) -> Tensor:
    """(P, size): weight of each control point at each of the (P,) positions, in control-point units."""
    offset = positions[:, None] - torch.arange(size, dtype=positions.dtype, device=positions.device)
    return basis(offset, derivative)


def expand(coefficients: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one matrix per axis (z, y, x), each (n_a, g_a), to (B, C, gz, gy, gx): gives (B, C, nz, ny, nx)."""
    b, c, gz, gy, gx = coefficients.shape
    mz, my, mx = matrices
    # The axis that grows least goes first, so that most of the work is one product along the last axis.
    field = torch.matmul(mz, coefficients.reshape(b * c, gz, gy * gx))
    field = torch.matmul(my, field.reshape(b * c * mz.shape[0], gy, gx))
    field = torch.matmul(field, mx.T)
    return field.reshape(b, c, mz.shape[0], my.shape[0], mx.shape[0])


def evaluate_lattice(
    coefficients: Tensor, positions: Sequence[Tensor], derivative: Sequence[int] = (0, 0, 0)
) -> Tensor:
    """The field or a partial derivative of it on a regular lattice.

    coefficients: (B, C, gz, gy, gx).
    positions: lattice positions along (z, y, x), each (n_a,), in control-point units.
    derivative: order along (z, y, x); derivatives are with respect to control-point units.
    Returns (B, C, nz, ny, nx).
    """
    matrices = [
        basis_matrix(p.to(coefficients), n, d)
        for p, n, d in zip(positions, coefficients.shape[2:], derivative, strict=True)
    ]
    return expand(coefficients, matrices)


def pad_coefficients(coefficients: Tensor) -> Tensor:
    """Extend the network's output (B, 3, n...) by PADDING layers on every side, see EDGE_LAYERS."""
    edge = F.pad(coefficients, (EDGE_LAYERS,) * 6, mode="replicate")
    return F.pad(edge, (ZERO_LAYERS,) * 6)


def control_positions(voxels: Tensor, spacing: int) -> Tensor:
    """Voxel positions (continuous index) along one axis in units of the padded control grid.

    Output cell i of the network covers voxels [i*s, (i+1)*s), so its control point sits at i*s + (s-1)/2.
    """
    return (voxels - (spacing - 1) / 2) / spacing + PADDING


def second_difference_bound(coefficients: Tensor) -> tuple[float, float, float]:
    """Largest second difference of the coefficients along (x, y, z).

    Along one axis the second derivative of a cubic B-spline is a convex combination of the second
    differences of its coefficients (zero beyond the grid), so this bounds it in control-point units.
    """
    padded = F.pad(coefficients, (2,) * 6)
    bounds = [float(padded.diff(n=2, dim=axis).abs().max()) for axis in (-1, -2, -3)]
    return bounds[0], bounds[1], bounds[2]


def _gather(coefficients: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Support of each point: coefficients (N, 4, 4, 4, C) in (z, y, x), offsets (N, 3, 4), and validity (N,)."""
    sizes = torch.tensor(coefficients.shape[:0:-1], device=points.device)
    base = torch.floor(points).long() - 1
    # ITK evaluates where all four taps exist; the last position has its fourth tap at weight zero.
    tolerance = 1e-9
    inside = ((points >= 1 - tolerance) & (points <= sizes - 2 + tolerance)).all(-1)
    base = torch.minimum(base.clamp(min=0), sizes - 4)
    taps = base[:, :, None] + torch.arange(4, device=points.device)
    offsets = points[:, :, None] - taps.to(points.dtype)
    z, y, x = taps[:, 2], taps[:, 1], taps[:, 0]
    _, gy, gx = coefficients.shape[1:]
    flat = (z[:, :, None, None] * gy + y[:, None, :, None]) * gx + x[:, None, None, :]
    support = coefficients.flatten(1).T[flat]
    return support, offsets, inside


def evaluate_points(coefficients: Tensor, points: Tensor) -> Tensor:
    """The field at arbitrary points, exactly.

    coefficients: (C, gz, gy, gx), at least 4 points per axis; points: (N, 3) as (x, y, z) in control-point
    units. Returns (N, C); zero outside the valid domain [1, g - 2], as ITK's B-spline transform.
    """
    support, offsets, inside = _gather(coefficients, points)
    w = basis(offsets)
    value = torch.einsum("nzyxc,nz,ny,nx->nc", support, w[:, 2], w[:, 1], w[:, 0])
    return value * inside[:, None]


def jacobian_points(coefficients: Tensor, points: Tensor) -> Tensor:
    """Derivatives of the field at arbitrary points: (N, C, 3), last axis (x, y, z) in control-point units."""
    support, offsets, inside = _gather(coefficients, points)
    w, dw = basis(offsets), basis(offsets, 1)
    columns = []
    for axis in range(3):
        wx, wy, wz = (dw[:, a] if a == axis else w[:, a] for a in range(3))
        columns.append(torch.einsum("nzyxc,nz,ny,nx->nc", support, wz, wy, wx))
    return torch.stack(columns, -1) * inside[:, None, None]
