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

from dlir.transforms.cells import ON_BORDER, Wanted, determinant, evaluate_cells

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


# -- at any points -----------------------------------------------------------------------------------


def evaluate_points(
    coefficients: Tensor, control: Tensor, to_control: Tensor | None = None, wanted: Wanted = "value"
) -> list[Tensor]:
    """The field at arbitrary points, exactly, and what is wanted of the derivative of x + d(x).

    coefficients: (B, 3, gz, gy, gx), at least 4 points per axis. control: (B, 3, N), points (x, y, z) in control-point
    units, `to_control` (3, 3) times x but for a shift. Returns d (B, 3, N) and, of I + dd/dx, the determinant (B, N) or
    the matrix (B, 3, 3, N), rows its components. Zero displacement outside the valid domain [1, g - 2], as ITK.

    Where something is learned from it, or on another device than the CPU, by look-ups; else cell by cell.
    """
    learning = torch.is_grad_enabled() and (coefficients.requires_grad or control.requires_grad)
    linear = torch.eye(3, dtype=control.dtype) if to_control is None else to_control.to(control)
    if control.device.type == "cpu" and not learning:
        found = [evaluate_cells(c, p, linear, wanted) for c, p in zip(coefficients.to(control), control, strict=True)]
        # One field, as in inference, without a copy of all that was found.
        return [several[0][None] if len(several) == 1 else torch.stack(several) for several in zip(*found, strict=True)]
    return _look_up(coefficients, control, linear, wanted)


def _look_up(coefficients: Tensor, control: Tensor, to_control: Tensor, wanted: Wanted) -> list[Tensor]:
    """As `evaluate_points`: two taps at a time are one linear look-up between them, so eight make all 64."""
    sizes = control.new_tensor(coefficients.shape[:1:-1])[:, None]
    inside = ((control >= 1 - ON_BORDER) & (control <= sizes - 2 + ON_BORDER)).all(1, keepdim=True)
    control = control.masked_fill(~inside, 1)  # 0 times what is looked up far away, or at no number, need not be 0
    cell = torch.minimum(control.detach().floor().clamp(min=1), sizes - 3)
    taps = [_pairs(control - cell, order) for order in (0, 1)]

    def summed(orders: tuple[int, int, int]) -> Tensor:
        places, shares = zip(*([part[:, axis] for part in taps[orders[axis]]] for axis in range(3)), strict=True)
        x, y, z = (cell[:, None, axis] + place for axis, place in enumerate(places))
        at = torch.stack(torch.broadcast_tensors(x[:, None, None], y[:, None, :, None], z[:, :, None, None]), -1)
        at = at.flatten(1, 4)[:, None, None] * 2 / (sizes[:, 0] - 1) - 1
        found = F.grid_sample(coefficients.to(control), at, padding_mode="border", align_corners=True)
        found = found.reshape(len(at), 3, 2, 2, 2, -1)
        for share, dim in zip(reversed(shares), (2, 2, 2), strict=True):
            wide = share[:, None].reshape(len(at), 1, 2, *[1] * (found.dim() - 4), -1)
            found = (found * wide).sum(dim)
        return found * inside

    value = summed((0, 0, 0))
    if wanted == "value":
        return [value]
    slopes = torch.stack([summed(orders) for orders in ((1, 0, 0), (0, 1, 0), (0, 0, 1))], -2)
    jacobian = torch.einsum("bcan,aj->bcjn", slopes, to_control) + torch.eye(3).to(slopes)[..., None]
    if wanted == "jacobian":
        return [value, jacobian]
    return [value, determinant([column.transpose(0, 1) for column in jacobian.unbind(2)])]


def _pairs(place: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Where between the taps -1 and 0, and 1 and 2, of a cell each pair is looked up, and the weight of each pair.

    place: (B, 3, N) in [0, 1]. order: of the derivative, 0 or 1. Returns (B, 3, 2, N) each.
    """
    t = place
    if order == 0:
        second, fourth = 2 / 3 - t**2 + t**3 / 2, t**3 / 6
        low = (1 - t) ** 3 / 6 + second
        high = 1 - low
    else:
        second, fourth = 1.5 * t**2 - 2 * t, t**2 / 2
        low = t**2 - t - 0.5
        high = -low
    return torch.stack([second / low - 1, 1 + fourth / high], -2), torch.stack([low, high], -2)
