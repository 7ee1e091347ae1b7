"""Reading images and fields at arbitrary points on the device, with one convention for half voxels.

A `Lattice` says where the samples of a tensor lie in the continuous index space of a reference grid:
sample i of axis a sits at `start[a] + step[a] * i` (axes (x, y, z)). Points are (B, z, y, x, 3), the last
axis (x, y, z) in that same index space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import Shape3, Vector3


def exact_dtype(device: torch.device) -> torch.dtype:
    """What positions need that an image is finally read at: in single precision the identity changes intensities.

    Double, where the device has it.
    """
    return torch.float32 if device.type == "mps" else torch.float64


@dataclass(frozen=True)
class Lattice:
    """Positions of the samples of a (B, C, z, y, x) tensor in the index space of a reference grid."""

    shape: Shape3
    start: Vector3 = (0.0, 0.0, 0.0)
    step: Vector3 = (1.0, 1.0, 1.0)

    @classmethod
    def pooled(cls, shape: Shape3, factors: tuple[int, int, int]) -> Lattice:
        """Centres of blocks of `factors` (x, y, z) voxels; `shape` counts blocks."""
        fx, fy, fz = factors
        return cls(shape, ((fx - 1) / 2, (fy - 1) / 2, (fz - 1) / 2), (float(fx), float(fy), float(fz)))

    def positions(
        self, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Positions along (z, y, x), in array order."""
        z, y, x = (
            self.start[a] + self.step[a] * torch.arange(self.shape[2 - a], dtype=dtype, device=device)
            for a in (2, 1, 0)
        )
        return z, y, x

    def points(self, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """(z, y, x, 3): position of every sample."""
        points = torch.empty(*self.shape, 3, dtype=dtype, device=device)
        for axis, positions in zip((2, 1, 0), self.positions(device, dtype), strict=True):
            points[..., axis] = positions.reshape([-1 if a == axis else 1 for a in (2, 1, 0)])
        return points

    def rows(self, like: Tensor) -> Tensor:
        """(3, N): position of every sample, rows x, y and z, in the type and on the device of a tensor."""
        return self.points(like.device, like.dtype).reshape(-1, 3).T

    def displaced(self, displacement: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(B, 3, z, y, x): the points of the lattice + displacement (B, 3, z, y, x), in its own type or another."""
        dtype = dtype or displacement.dtype
        points = torch.empty_like(displacement, dtype=dtype, memory_format=torch.contiguous_format)
        for axis, positions in zip((2, 1, 0), self.positions(displacement.device, dtype), strict=True):
            along = positions.reshape([-1 if a == axis else 1 for a in (2, 1, 0)])
            if torch.is_grad_enabled():
                points[:, axis] = along + displacement[:, axis]
            else:
                torch.add(along, displacement[:, axis], out=points[:, axis])
        return points


@dataclass(frozen=True)
class Samples:
    """`values` (B, C, z, y, x) that lie on `lattice`, to be looked up at any points, any number of times."""

    values: Tensor
    lattice: Lattice

    def at(self, points: Tensor) -> Tensor:
        """Interpolate trilinearly at `points` (B, ..., 3): (B, C, ...), in the type of the points.

        Beyond the outermost samples the nearest one is repeated.
        """
        learning = torch.is_grad_enabled() and (self.values.requires_grad or points.requires_grad)
        if self.values.device.type == "cpu" and not learning:
            found = self._between_slices(points)
        else:
            found = _grid_sample(self.values.to(points.dtype), self._fractions(points))
        return found.reshape(*found.shape[:2], *points.shape[1:-1])

    def _fractions(self, points: Tensor) -> Tensor:
        """Points (B, ..., 3) -> (B, 1, 1, N, 3), -1 and 1 at the outer borders of the samples."""
        sizes = self.lattice.shape[::-1]
        scales = [2 / (step * n) for step, n in zip(self.lattice.step, sizes, strict=True)]
        offsets = [1 / n - 1 - start * scale for n, start, scale in zip(sizes, self.lattice.start, scales, strict=True)]
        grid = torch.addcmul(points.new_tensor(offsets), points, points.new_tensor(scales))
        return grid.reshape(len(grid), 1, 1, -1, 3)

    def _between_slices(self, points: Tensor) -> Tensor:
        """(B, C, N): bilinear look-ups in the slices below and above each point, and what lies between them.

        torch's 2D sampling on the CPU is vectorized and its 3D sampling is not: this takes a quarter of the time. All
        slices lie one below the other in one tall image, whose rows only double precision tells apart.
        """
        batch, channels, depth, height, width = self.values.shape
        taps = min(2, depth)
        x, y, z = (points[..., axis].double().reshape(len(points), -1) for axis in range(3))
        (x0, y0, z0), (dx, dy, dz) = self.lattice.start, self.lattice.step
        z = _counted(z, z0, dz).clamp(0, depth - 1)
        lowest = z.floor().clamp_(max=depth - taps)
        rows = ((depth - taps) * channels + 1) * height
        grid = x.new_empty(2, *x.shape)
        torch.sub(x, x0 + dx * (width - 1) / 2, out=grid[0]).mul_(2 / (dx * width))
        row = torch.clamp(_counted(y, y0, dy), 0, height - 1, out=grid[1])
        row.add_(lowest, alpha=channels * height)
        row.mul_(2 / rows).add_(1 / rows - 1)
        # The channels of a slice follow each other, so that those of the next slice are just more channels.
        image = self._slices.as_strided(
            (batch, taps * channels, rows, width),
            (channels * depth * height * width, height * width, width, 1),
        )
        found = _grid_sample(image, grid.movedim(0, -1)[:, None]).unflatten(1, (taps, -1))
        between: Tensor = torch.lerp(found[:, 0], found[:, taps - 1], z.sub_(lowest)[:, None])
        return between.to(points.dtype)

    @cached_property
    def _slices(self) -> Tensor:
        """(B, z, C, y, x)"""
        return self.values.detach().transpose(1, 2).double().contiguous()


def _counted(positions: Tensor, start: float, step: float) -> Tensor:
    """Positions along an axis, counted in samples; themselves where these lie on the voxels, as mostly."""
    return positions if start == 0 and step == 1 else (positions - start) / step


def _grid_sample(values: Tensor, grid: Tensor) -> Tensor:
    """`values` (B, C, (z,) y, x) at `grid` (B, 1, (1,) N, 2 or 3), beyond the border the nearest: (B, C, N)."""
    # On the CPU torch samples the elements of a batch in parallel, but not the points of one: deal them out.
    batch, axes = len(grid), grid.shape[-1]
    alone = batch == 1 and values.device.type == "cpu"
    parts = math.gcd(grid.shape[-2], torch.get_num_threads()) if alone else 1
    grid = grid.reshape(batch * parts, *[1] * (axes - 1), -1, axes)
    values = values.expand(batch * parts, *values.shape[1:])
    sampled = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
    found: Tensor = sampled.reshape(batch, parts, values.shape[1], -1).transpose(1, 2).flatten(2)
    return found


def lookup(values: Tensor, lattice: Lattice, points: Tensor) -> Tensor:
    """As `Samples.at`, for values (B, C, z, y, x) that are looked up once."""
    return Samples(values, lattice).at(points)


def inside(lattice: Lattice, points: Tensor) -> Tensor:
    """Whether points (B, ..., 3) lie in the volume of the lattice's samples, outer borders included: (B, ...)."""
    # numpy compares in a fifth of the time that torch takes on the CPU; what is written here means the same for both.
    compared: Any = points.detach().numpy() if points.device.type == "cpu" else points
    within: Any = True
    for axis in range(3):
        low = lattice.start[axis] - lattice.step[axis] / 2
        high = low + lattice.step[axis] * lattice.shape[2 - axis]
        within = within & (compared[..., axis] >= low) & (compared[..., axis] <= high)
    return torch.as_tensor(within)
