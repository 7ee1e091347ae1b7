"""A chain of B-spline stages on a whole grid: the fast way, with a known bound on its error (§2.3).

The finest stage is evaluated exactly where its points lie, on a lattice. The points it moves fall between
lattices, so every coarser stage is sampled first and interpolated there. Along an axis whose control points
are many voxels apart it is sampled on a lattice of its own and interpolated linearly: the error is at most
h^2/8 times the second derivative, which second differences of the coefficients bound, so the lattice is
just fine enough. Along an axis whose control points are a few voxels apart (thick slices) the B-spline is
evaluated as it is: four taps are two linear look-ups between control points.

Everything is in voxels of a reference grid and its axes (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from dlir.geometry import Shape3
from dlir.transforms.bspline import PADDING, basis_matrix, control_positions, expand
from dlir.transforms.sampling import Lattice, displace, exact_dtype, lookup

Spacing3 = tuple[int, int, int]
# Lowest and highest position along x, y and z.
Region = tuple[tuple[float, float], ...]

# Error in mm that sampling a stage may add where a chain is followed, in registration and in training alike.
STAGE_TOLERANCE = 0.03
# Control spacing in voxels below which an axis is evaluated as a spline instead of being sampled.
_SAMPLED_FROM = 4
# Samples of the determinant per control spacing, along an axis that is sampled and along one that is not. It is shown
# and counted, nothing is displaced by it: an error of a hundredth is no harm, and its sign is always right.
_DETERMINANT_SAMPLES = (5, 3)
# Control spacings at both ends of a padded grid in which nothing moves.
_STILL = 1
_EVERYWHERE = (-math.inf, math.inf)
# Fine lattice points per point at which coarser stages are followed, where control points are far apart.
_THINNING = 2
# Followed points per control spacing of the finest stage that thinning must leave.
_LEAST_FOLLOWED = 3


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
        _, c, gz, gy, gx = self.coefficients.shape
        flat = self.coefficients.reshape(c, gz, gy * gx)
        # Axis by axis, sharing what the field and its three derivatives have in common.
        along_z = [torch.matmul(m, flat).reshape(-1, gy, gx) for m in (bz, dz)]
        along_y = [torch.matmul(m, field) for m, field in ((by, along_z[0]), (dy, along_z[0]), (by, along_z[1]))]
        value, ux, uy, uz = (
            torch.matmul(field, m.T).reshape(c, *lattice.shape)
            for field, m in ((along_y[0], bx), (along_y[0], dx), (along_y[1], bx), (along_y[2], bx))
        )
        ux[0] += 1
        uy[1] += 1
        uz[2] += 1
        return value[None], _determinant(ux, uy, uz)[None, None]

    def control_lattice(self, samples: Sequence[int], still: int = 0, region: Region | None = None) -> Lattice:
        """Lattice with `samples` points per control spacing along (x, y, z), but for `still` spacings at both ends.

        region: only whole spacings that it touches are covered.
        """
        first, last = [still] * 3, [n - 1 - still for n in self.coefficients.shape[:1:-1]]
        for axis, ends in enumerate(region or ()):
            spacing = self.spacing[axis]
            low, high = ((position - (spacing - 1) / 2) / spacing + PADDING for position in ends)
            first[axis] = math.floor(min(max(low, first[axis]), last[axis] - 1))
            last[axis] = math.ceil(max(min(high, last[axis]), first[axis] + 1))
        shape = [(b - a) * m + 1 for a, b, m in zip(first, last, samples, strict=True)]
        start = [(a - PADDING) * s + (s - 1) / 2 for a, s in zip(first, self.spacing, strict=True)]
        step = [s / m for s, m in zip(self.spacing, samples, strict=True)]
        return Lattice((shape[2], shape[1], shape[0]), (start[0], start[1], start[2]), (step[0], step[1], step[2]))


def _determinant(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """det of the 3x3 matrices whose columns are a, b and c, each (3, z, y, x)."""
    minors = [torch.addcmul(b[i] * c[j], b[j], c[i], value=-1) for i, j in ((1, 2), (2, 0), (0, 1))]
    return torch.addcmul(torch.addcmul(a[0] * minors[0], a[1], minors[1]), a[2], minors[2])


@dataclass(frozen=True)
class SampledStage:
    """A stage ready to be evaluated anywhere; its determinant is sampled when it is first asked for."""

    stage: StageField
    values: Tensor
    lattice: Lattice
    spline_axes: tuple[int, ...]
    region: Region | None = None

    @cached_property
    def _determinants(self) -> tuple[Tensor, Lattice]:
        many, few = _DETERMINANT_SAMPLES
        samples = [many if spacing >= _SAMPLED_FROM else few for spacing in self.stage.spacing]
        lattice = self.stage.control_lattice(samples, _STILL, self.region)
        return self.stage.displacement_and_determinant(lattice)[1], lattice

    def displacement(self, points: Tensor) -> Tensor:
        """(1, 3, ...) at points (1, ..., 3)."""
        taps = [self._taps(points[..., axis], axis) for axis in self.spline_axes]
        total: Tensor | None = None
        for choice in product(*taps):
            moved, weight = points.clone() if choice else points, None
            for axis, (position, share) in zip(self.spline_axes, choice, strict=True):
                moved[..., axis] = position
                weight = share if weight is None else weight * share
            found = lookup(self.values, self.lattice, moved)
            if weight is not None:
                total = found * weight[:, None] if total is None else torch.addcmul(total, found, weight[:, None])
            else:
                total = found
        assert total is not None
        return total

    def _taps(self, positions: Tensor, axis: int) -> list[tuple[Tensor, Tensor]]:
        """The four B-spline taps along an axis as two linear look-ups: positions and weights."""
        start, step = self.lattice.start[axis], self.lattice.step[axis]
        control = (positions - start) / step
        cell = torch.floor(control)
        t = control - cell
        w0, w1 = (1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2
        w3 = t**3 / 6
        low = w0 + w1
        high = 1 - low
        return [
            (start + step * (cell - 1 + w1 / low), low),
            (start + step * (cell + 1 + w3 / high), high),
        ]

    def determinant(self, points: Tensor) -> Tensor:
        """(1, 1, ...) at points (1, ..., 3)."""
        values, lattice = self._determinants
        return lookup(values, lattice, points)


def sample_stage(
    stage: StageField, voxel_size: Sequence[float], tolerance: float, region: Region | None = None
) -> SampledStage:
    """Sample `stage` for an interpolation error of at most `tolerance` mm. voxel_size: mm, (x, y, z).

    An axis that would need a lattice finer than the voxels is evaluated as a spline, like one of thick slices.
    region: where the stage will be asked for, if that is known; beyond it the outermost samples are repeated.
    """
    in_mm = stage.coefficients.detach() * stage.coefficients.new_tensor(voxel_size)[:, None, None, None]
    wide = [axis for axis in range(3) if stage.spacing[axis] >= _SAMPLED_FROM]
    samples, sampled = [1, 1, 1], []
    for axis in wide:
        difference = torch.diff(in_mm, n=2, dim=4 - axis).norm(dim=1).max().item()
        needed = max(1, math.ceil(math.sqrt(difference / (8 * tolerance / len(wide)))))
        if needed <= stage.spacing[axis]:
            samples[axis] = needed
            sampled.append(axis)
    spline_axes = tuple(a for a in range(3) if a not in sampled)
    # A spline needs its control points beyond the region too.
    trimmed = region and tuple(_EVERYWHERE if axis in spline_axes else region[axis] for axis in range(3))
    lattice = stage.control_lattice(samples, region=trimmed)
    sizes = stage.coefficients.shape[2:]
    matrices = [
        basis_matrix(control_positions(positions, stage.spacing[axis]), size)
        if axis in sampled
        else torch.eye(size, device=positions.device)
        for axis, positions, size in zip((2, 1, 0), lattice.positions(in_mm.device), sizes, strict=True)
    ]
    return SampledStage(stage, expand(stage.coefficients, matrices), lattice, spline_axes, region)


def slabs(shape: Shape3, voxels: int) -> list[tuple[int, int]]:
    """Split the first axis of `shape` into ranges of at most about `voxels` voxels each."""
    thickness = max(1, voxels // (shape[1] * shape[2]))
    return [(z, min(z + thickness, shape[0])) for z in range(0, shape[0], thickness)]


def trace(lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage]) -> Tensor:
    """Where the points of `lattice` go: (1, z, y, x, 3). coarser: the other stages, finest of them first.

    What coarser stages add varies slowly: it is followed for every second point along an axis where control
    points are far apart, and interpolated cubically between them.
    """
    displacement = finest.displacement(lattice)
    points = displace(lattice.points(displacement.device)[None], displacement)
    return points if not coarser else displace(points, _follow(lattice, finest, coarser)[0])


def trace_with_determinant(
    lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage]
) -> tuple[Tensor, Tensor]:
    """As `trace`, with the determinant of the chain, (1, 1, z, y, x).

    Points are in double precision where the device has it. The coarser stages' factor is interpolated linearly, so
    that it keeps its sign.
    """
    displacement, determinant = finest.displacement_and_determinant(lattice)
    if coarser:
        added, factor = _follow(lattice, finest, coarser, determinant=True)
        displacement, determinant = displacement.add_(added), determinant.mul_(factor)
    device = displacement.device
    return displace(lattice.points(device, exact_dtype(device))[None], displacement), determinant


def _follow(
    lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage], *, determinant: bool = False
) -> tuple[Tensor, Tensor]:
    """What the coarser stages add to the displacement, (1, 3, z, y, x), and their determinant if asked for."""
    strides = [_THINNING if _THINNING * lattice.step[a] * _LEAST_FOLLOWED <= finest.spacing[a] else 1 for a in range(3)]
    thin = _thinned(lattice, strides)
    start = reached = displace(thin.points(finest.coefficients.device)[None], finest.displacement(thin))
    factor = torch.ones_like(start[None, ..., 0])
    for stage in coarser:
        if determinant:
            factor = factor * stage.determinant(reached)
        reached = displace(reached, stage.displacement(reached))
    added = _thicken((reached - start).movedim(-1, 1), lattice.shape, strides, cubic=True)
    return added, _thicken(factor, lattice.shape, strides, cubic=False) if determinant else factor


def _thinned(lattice: Lattice, strides: Sequence[int]) -> Lattice:
    """Every strides[a]-th point along axis a (x, y, z), one more at the end."""
    z, y, x = ((n - 1 + s - 1) // s + 1 for n, s in zip(lattice.shape, reversed(strides), strict=True))
    sx, sy, sz = (own * s for own, s in zip(lattice.step, strides, strict=True))
    return Lattice((z, y, x), lattice.start, (sx, sy, sz))


def _thicken(values: Tensor, shape: Shape3, strides: Sequence[int], *, cubic: bool) -> Tensor:
    """Interpolate (1, C, z, y, x) on a thinned lattice back to `shape`."""
    for dim, stride in zip((4, 3, 2), strides, strict=True):
        if stride == _THINNING:
            values = _doubled(values, dim, cubic=cubic)
    z, y, x = shape
    return values[:, :, :z, :y, :x]


def _doubled(values: Tensor, dim: int, *, cubic: bool) -> Tensor:
    """One more sample between any two along `dim`: linear or Catmull-Rom interpolation, the ends repeated."""
    count = values.shape[dim]
    between = values.narrow(dim, 0, count - 1) + values.narrow(dim, 1, count - 1)
    if cubic:
        beyond = torch.cat([values.narrow(dim, 0, 1), values, values.narrow(dim, count - 1, 1)], dim)
        outer = beyond.narrow(dim, 0, count - 1) + beyond.narrow(dim, 3, count - 1)
        between = torch.sub(between * (9 / 16), outer, alpha=1 / 16)
    else:
        between = between / 2
    pairs = torch.stack([values.narrow(dim, 0, count - 1), between], dim + 1).flatten(dim, dim + 1)
    return torch.cat([pairs, values.narrow(dim, count - 1, 1)], dim)
