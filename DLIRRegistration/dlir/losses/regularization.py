"""Bending energy of a B-spline displacement field, analytic and in millimetres (§2.4), and its change of volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dlir.transforms.bspline import basis_matrix, evaluate_lattice, expand

# (order along x, y, z) and weight of the six second-derivative terms.
_TERMS = (((2, 0, 0), 1), ((0, 2, 0), 1), ((0, 0, 2), 1), ((1, 1, 0), 2), ((1, 0, 1), 2), ((0, 1, 1), 2))
# Gauss points in each interval between control points: exact for the product of two cubic pieces, of degree 6.
_GAUSS_POINTS = 4


def bending_energy(coefficients: Tensor, ends: Sequence[tuple[float, float]], control_spacing: Tensor) -> Tensor:
    """Mean over the image domain of the squared second derivatives of the displacement, all six terms, exactly.

    coefficients: (B, 3, gz, gy, gx), displacements of the control points in mm.
    ends: where the domain begins and ends along (z, y, x), in control-point units.
    control_spacing: (B, 3) mm between control points along (x, y, z).
    Returns (B,) in 1/mm^2: the integral over the domain divided by its volume.
    """
    energy = coefficients.new_zeros(coefficients.shape[0])
    for order, weight in _TERMS:
        grams = [
            _gram(size, low, high, n).to(coefficients)
            for size, (low, high), n in zip(coefficients.shape[2:], ends, order[::-1], strict=True)
        ]
        scale = math.prod(control_spacing[:, axis] ** n for axis, n in enumerate(order))
        energy = energy + weight * (expand(coefficients, grams) * coefficients).sum((1, 2, 3, 4)) / scale**2
    return energy


def squared_divergence(coefficients: Tensor, positions: Sequence[Tensor]) -> Tensor:
    """Mean over a lattice of the squared divergence of the displacement, which small volumes change by.

    coefficients: (B, 3, gz, gy, gx), displacements of the control points, each axis in its own control spacings.
    positions: of the lattice along (z, y, x), each (n_a,), in control-point units. Returns (B,).
    """
    along = [
        evaluate_lattice(coefficients[:, axis : axis + 1], positions, [int(axis == 2 - own) for own in range(3)])
        for axis in range(3)
    ]
    return torch.stack(along).sum(0).square().mean((1, 2, 3, 4))


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _gram(size: int, low: float, high: float, order: int) -> Tensor:
    """(size, size): the mean over [low, high] of the products of the B-splines' derivatives, in control-point units."""
    knots = np.unique(np.clip(np.arange(math.floor(low), math.ceil(high) + 1), low, high))
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS_POINTS)
    half = np.diff(knots)[:, None] / 2
    places = torch.from_numpy((knots[:-1, None] + half * (1 + nodes)).ravel())
    shares = torch.from_numpy((half * weights).ravel()) / (high - low)
    values = basis_matrix(places, size, order)
    return values.T @ (shares[:, None] * values)
