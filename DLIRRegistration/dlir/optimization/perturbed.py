"""Known small displacements of an image: what finds back from them is certain, and what does not is not.

After Tian et al. 2025 (test-time equivariance): the spread of what is found says where a registration errs.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from dlir.geometry import ImageGrid
from dlir.optimization.affine import rotations
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Part

# How many there are, by turns a turn with a shift, and a smooth field.
COUNT = 4
# What each of these displaces by at the image's rim, a field at most, in samples; distance of a field's control points.
_MOVED, _BENT, _KNOTS = 1.5, 3.0, 12.0
# Layers of control points beyond the image, so that a field does not end within it.
_LAYERS = 4
_SEED = 2025


def perturbations(grid: ImageGrid, sample: float) -> list[CompositeTransform]:
    """Maps of LPS points in mm, the same ones for the same image each time.

    grid: of the image. sample: spacing in mm of what sees them, which the displacements are measured by.
    """
    rng = np.random.default_rng(_SEED)
    return [
        CompositeTransform((_turned(grid, sample, rng) if number % 2 == 0 else _bent(grid, sample, rng),))
        for number in range(COUNT)
    ]


def _turned(grid: ImageGrid, sample: float, rng: np.random.Generator) -> Part:
    radius = float(np.linalg.norm(grid.extent)) / math.sqrt(12)
    axis, shift = rng.normal(size=3), rng.normal(size=3)
    turn = rotations(torch.from_numpy(axis / np.linalg.norm(axis) * _MOVED * sample / radius)[None])[0].numpy()
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = grid.center - turn @ grid.center + shift / np.linalg.norm(shift) * _MOVED * sample
    return AffineTransform(matrix)


def _bent(grid: ImageGrid, sample: float, rng: np.random.Generator) -> Part:
    coarse = grid.with_spacing((_KNOTS * sample,) * 3)
    control = coarse.lattice((-_LAYERS,) * 3, (1, 1, 1), [n + 2 * _LAYERS for n in coarse.size])
    coefficients = rng.uniform(-1, 1, size=(3, *control.shape))
    # A spline displaces by no more than its largest coefficient.
    return BSplineTransform(coefficients * _BENT * sample / np.linalg.norm(coefficients, axis=0).max(), control)
