"""Reading images and fields at arbitrary points on the device, with one convention for half voxels.

A `Lattice` says where the samples of a tensor lie in the continuous index space of a reference grid:
sample i of axis a sits at `start[a] + step[a] * i` (axes (x, y, z)). Points are (B, z, y, x, 3), the last
axis (x, y, z) in that same index space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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

    def displaced(self, displacement: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, z, y, x, 3): the points of the lattice + displacement (B, 3, z, y, x)."""
        z, y, x = self.positions(displacement.device, dtype)
        parts = displacement.unbind(1)
        return torch.stack([parts[0] + x, parts[1] + y[:, None], parts[2] + z[:, None, None]], -1)


def lookup(values: Tensor, lattice: Lattice, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Interpolate `values` (B, C, z, y, x), lying on `lattice`, at `points` (B, ..., 3): (B, C, ...).

    Beyond the outermost samples the nearest one is repeated. mode: "bilinear" (trilinear) or "nearest".
    """
    # align_corners=False maps -1..1 to the outer borders of the samples, which also holds for one sample.
    scales = [2 / (step * n) for step, n in zip(lattice.step, lattice.shape[::-1], strict=True)]
    offsets = [
        1 / n - 1 - start * scale for n, start, scale in zip(lattice.shape[::-1], lattice.start, scales, strict=True)
    ]
    grid = torch.addcmul(points.new_tensor(offsets), points, points.new_tensor(scales))
    batch, channels, shape = grid.shape[0], values.shape[1], grid.shape[1:-1]
    # On the CPU torch samples the elements of a batch in parallel, but not the points of one: deal them out.
    alone = batch == 1 and values.device.type == "cpu"
    parts = math.gcd(math.prod(shape), torch.get_num_threads()) if alone else 1
    grid = grid.reshape(batch * parts, -1, 1, 1, 3)
    values = values.expand(batch * parts, -1, -1, -1, -1)
    sampled = F.grid_sample(values, grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled.reshape(batch, parts, channels, -1).transpose(1, 2).reshape(batch, channels, *shape)


def inside(lattice: Lattice, points: Tensor) -> Tensor:
    """Whether points (B, ..., 3) lie in the volume of the lattice's samples, outer borders included: (B, ...)."""
    within = torch.ones_like(points[..., 0], dtype=torch.bool)
    for axis in range(3):
        low = lattice.start[axis] - lattice.step[axis] / 2
        high = low + lattice.step[axis] * lattice.shape[2 - axis]
        within &= (points[..., axis] >= low) & (points[..., axis] <= high)
    return within


def displace(points: Tensor, displacement: Tensor) -> Tensor:
    """points (B, ..., 3) + displacement (B, 3, ...) -> (B, ..., 3)."""
    return points + displacement.movedim(1, -1)
