"""A chain of B-spline stages on a whole grid: the fast way, with a known bound on its error (§2.3).

The finest stage is evaluated exactly where its points lie, on a lattice. The points it moves fall between
lattices, so every coarser stage is first sampled on a lattice of its own and then interpolated linearly.
How fine that lattice must be follows from the stage's own coefficients: along an axis the error of linear
interpolation is at most h^2/8 times the second derivative, which second differences of coefficients bound.

Everything is in voxels of a reference grid and its axes (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlir.geometry import Shape3
from dlir.transforms.bspline import PADDING, basis_matrix, control_positions, expand, second_difference_bound
from dlir.transforms.sampling import Lattice, displace, lookup

Spacing3 = tuple[int, int, int]

# Samples per control spacing beyond which a finer lattice would cost more than it gives.
_MAX_SAMPLES = 16


@dataclass(frozen=True)
class StageField:
    """One B-spline stage in reference-grid voxels: coefficients (1, 3, gz, gy, gx), padded, and control spacing."""

    coefficients: Tensor
    spacing: Spacing3

    def _matrices(self, lattice: Lattice) -> list[tuple[Tensor, Tensor]]:
        pairs = []
        for positions, spacing, size in zip(
            lattice.positions(self.coefficients.device), self.spacing[::-1], self.coefficients.shape[2:], strict=True
        ):
            control = control_positions(positions, spacing)
            pairs.append((basis_matrix(control, size), basis_matrix(control, size, 1) / spacing))
        return pairs

    def displacement(self, lattice: Lattice) -> Tensor:
        """(1, 3, z, y, x), exact."""
        return expand(self.coefficients, [value for value, _ in self._matrices(lattice)])

    def displacement_and_determinant(self, lattice: Lattice) -> tuple[Tensor, Tensor]:
        """Displacement (1, 3, z, y, x) and Jacobian determinant (1, 1, z, y, x) of x + d(x), both exact."""
        (bz, dz), (by, dy), (bx, dx) = self._matrices(lattice)
        # Axis by axis, sharing what the four fields have in common.
        _, c, gz, gy, gx = self.coefficients.shape
        flat = self.coefficients.reshape(c, gz, gy * gx)
        along_z = [torch.matmul(m, flat).reshape(-1, gy, gx) for m in (bz, dz)]
        along_y = [torch.matmul(m, field) for m, field in ((by, along_z[0]), (dy, along_z[0]), (by, along_z[1]))]
        shape = (c, *lattice.shape)
        value, ux, uy, uz = (
            torch.matmul(field, m.T).reshape(shape)
            for field, m in ((along_y[0], bx), (along_y[0], dx), (along_y[1], bx), (along_y[2], bx))
        )
        ux[0] += 1
        uy[1] += 1
        uz[2] += 1
        determinant = torch.linalg.vecdot(torch.linalg.cross(ux, uy, dim=0), uz, dim=0)
        return value[None], determinant[None, None]

    def sampling(self, voxel_size: Sequence[float], tolerance: float) -> Lattice:
        """The coarsest lattice over the whole support whose linear interpolation errs by `tolerance` mm at most."""
        bounds = second_difference_bound(self.coefficients)
        worst = max(voxel_size)
        shape, step = [], []
        for bound, spacing, size in zip(bounds, self.spacing, self.coefficients.shape[:1:-1], strict=True):
            samples = math.ceil(math.sqrt(math.sqrt(3) * bound * worst / (8 * tolerance / 3)))
            samples = min(max(samples, 1), _MAX_SAMPLES)
            step.append(spacing / samples)
            shape.append((size - 3) * samples + 1)
        # The support ends at control points 1 and size - 2.
        start = [(1 - PADDING) * s + (s - 1) / 2 for s in self.spacing]
        z, y, x = shape[::-1]
        return Lattice((z, y, x), (start[0], start[1], start[2]), (step[0], step[1], step[2]))


@dataclass(frozen=True)
class SampledStage:
    """A stage's displacement and determinant, (1, 4, z, y, x), ready to be looked up anywhere."""

    values: Tensor
    lattice: Lattice


def sample_stage(stage: StageField, voxel_size: Sequence[float], tolerance: float) -> SampledStage:
    """Sample `stage` finely enough for an interpolation error of `tolerance` mm. voxel_size: mm, (x, y, z)."""
    lattice = stage.sampling(voxel_size, tolerance)
    return SampledStage(torch.cat(stage.displacement_and_determinant(lattice), 1), lattice)


def slabs(shape: Shape3, voxels: int) -> list[tuple[int, int]]:
    """Split the first axis of `shape` into ranges of at most about `voxels` voxels each."""
    thickness = max(1, voxels // (shape[1] * shape[2]))
    return [(z, min(z + thickness, shape[0])) for z in range(0, shape[0], thickness)]


def trace(lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage]) -> tuple[Tensor, Tensor]:
    """Where the points of `lattice` go, and the determinant of the chain there.

    coarser: the other stages, finest of them first. Returns points (1, z, y, x, 3) and (1, 1, z, y, x).
    """
    displacement, determinant = finest.displacement_and_determinant(lattice)
    points = displace(lattice.points(displacement.device)[None], displacement)
    for stage in coarser:
        found = lookup(stage.values, stage.lattice, points)
        points = displace(points, found[:, :3])
        determinant = determinant * found[:, 3:]
    return points, determinant
