"""Bending energy of a B-spline displacement field, analytic and in millimetres (§2.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlir.transforms.bspline import evaluate_lattice

# (order along x, y, z) and weight of the six second-derivative terms.
_TERMS = (((2, 0, 0), 1), ((0, 2, 0), 1), ((0, 0, 2), 1), ((1, 1, 0), 2), ((1, 0, 1), 2), ((0, 1, 1), 2))


def bending_energy(coefficients: Tensor, positions: Sequence[Tensor], control_spacing: Tensor) -> Tensor:
    """Mean over a lattice of the squared second derivatives of the displacement, all six terms.

    coefficients: (B, 3, gz, gy, gx), displacements of the control points in mm.
    positions: lattice along (z, y, x) in control-point units; it stands for the image domain.
    control_spacing: (B, 3) mm between control points along (x, y, z).
    Returns (B,) in 1/mm^2: the integral over the domain divided by its volume.
    """
    energy = coefficients.new_zeros(coefficients.shape[0])
    for order, weight in _TERMS:
        derivative = evaluate_lattice(coefficients, positions, order[::-1])
        scale = torch.ones_like(energy)
        for axis, n in enumerate(order):
            scale = scale * control_spacing[:, axis] ** n
        energy = energy + weight * (derivative.square().sum(1).mean((1, 2, 3)) / scale**2)
    return energy
