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
    field = along_last(field, mx)
    return field.reshape(b, c, mz.shape[0], my.shape[0], mx.shape[0])


def along_last(field: Tensor, matrix: Tensor) -> Tensor:
    """Apply `matrix` (n, g) along the last axis of (N, m, g): (N, m, n).

    Slice by slice: as one product of all rows it takes up to twice the time on the CPU.
    """
    return torch.bmm(field, matrix.T.expand(len(field), -1, -1))


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


def _support(coefficients: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First control point (N, 3) of each point's support; weights (N, 3, 4) of its taps, and their derivatives.

    All are zero outside the valid domain, where ITK's transform stops: all four taps must exist, and at the
    last position the fourth one has weight zero.
    """
    sizes = torch.tensor(coefficients.shape[:0:-1], device=points.device)
    tolerance = 1e-9
    inside = ((points >= 1 - tolerance) & (points <= sizes - 2 + tolerance)).all(-1)
    base = torch.minimum((torch.floor(points).long() - 1).clamp(min=0), sizes - 4)
    taps = base[:, :, None] + torch.arange(4, device=points.device)
    offsets = points[:, :, None] - taps.to(points.dtype)
    inside = inside[:, None, None]
    return base, basis(offsets) * inside, basis(offsets, 1) * inside


def _contract(coefficients: Tensor, base: Tensor, weights: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Sums over the supports along z and y, one for each pair of weights (N, 4) along (z, y): each (N, 4, C).

    Row by row, because the four control points of a row lie together: many times faster than all 64 at once.
    """
    channels, _, gy, gx = coefficients.shape
    rows = coefficients.flatten(1).T.reshape(-1).unfold(0, 4 * channels, channels)
    first = (base[:, 2] * gy + base[:, 1]) * gx + base[:, 0]
    sums = [coefficients.new_zeros(len(base), 4 * channels) for _ in weights]
    for k in range(4):
        for j in range(4):
            row = rows.index_select(0, first + (k * gy + j) * gx)
            for total, (along_z, along_y) in zip(sums, weights, strict=True):
                total.addcmul_(row, (along_z[:, k] * along_y[:, j])[:, None])
    return [total.reshape(-1, 4, channels) for total in sums]


def evaluate_points(coefficients: Tensor, points: Tensor) -> Tensor:
    """The field at arbitrary points, exactly.

    coefficients: (C, gz, gy, gx), at least 4 points per axis; points: (N, 3) as (x, y, z) in control-point
    units. Returns (N, C); zero outside the valid domain [1, g - 2], as ITK's B-spline transform.
    """
    base, w, _ = _support(coefficients, points)
    (along_x,) = _contract(coefficients, base, [(w[:, 2], w[:, 1])])
    return torch.bmm(w[:, :1], along_x)[:, 0]


def jacobian_points(coefficients: Tensor, points: Tensor) -> Tensor:
    """Derivatives of the field at arbitrary points: (N, C, 3), last axis (x, y, z) in control-point units."""
    base, w, dw = _support(coefficients, points)
    pairs = [(w[:, 2], w[:, 1]), (w[:, 2], dw[:, 1]), (dw[:, 2], w[:, 1])]
    sums = _contract(coefficients, base, pairs)
    along_x = (dw[:, :1], w[:, :1], w[:, :1])
    return torch.stack([torch.bmm(x, total)[:, 0] for x, total in zip(along_x, sums, strict=True)], -1)
