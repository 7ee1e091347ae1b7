"""A chain of B-spline stages on a whole grid: the fast way, with a known bound on its error (§2.3).

The finest stage is evaluated exactly where its points lie, on a lattice. The points it moves fall between
lattices, so every coarser stage is sampled first and interpolated there. Along x, if control points are many
voxels apart, it is sampled on a lattice of its own and interpolated linearly: the error is at most h^2/16
times the second derivative, which second differences of the coefficients bound, so the lattice is just fine
enough. Along y and z the B-spline is evaluated as it is: four taps are two linear look-ups between control
points. Samples along all axes would need one look-up and more memory than a processor's cache, which takes
longer to fill and to read than four look-ups do.

Everything is in voxels of a reference grid and its axes (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from dlir.geometry import Shape3
from dlir.transforms.bspline import PADDING, along_last, basis_matrix, control_positions, expand
from dlir.transforms.lattice import Lattice, Samples, displace, exact_dtype

Spacing3 = tuple[int, int, int]
# Lowest and highest position along x, y and z.
Region = tuple[tuple[float, float], ...]

# Error in mm that sampling a stage may add where a chain is followed, in registration and in training alike.
STAGE_TOLERANCE = 0.03
# Control spacing in voxels below which x is evaluated as a spline, too, instead of being sampled.
_SAMPLED_FROM = 4
# Second differences of the coefficients in mm, over this number times the squared samples per control spacing, bound
# the error. 16 does for one stage; less, because the stages' errors add to each other.
_CURVE = 12
# Samples of the determinant per control spacing, along an axis that is sampled and along one that is not. It is shown
# and counted, nothing is displaced by it: an error of a hundredth is no harm, and its sign is always right.
_DETERMINANT_SAMPLES = (5, 3)
# Points of a lattice whose determinants are computed at once.
_PART = 1 << 17
# Control spacings at both ends of a padded grid in which nothing moves.
_STILL = 1
# Fine lattice points per point at which coarser stages are followed, where control points are far apart.
_THINNING = 3
# Followed points per control spacing of the finest stage that thinning must leave: between as many, cubic splines are
# off by hundredths of a millimetre on the motion of a heart.
_LEAST_FOLLOWED = 2
_LEAST_FOR_SPLINE = 4


# Slabs of a grid share the matrices of two axes, and pairs on like grids those of all three. What is kept may serve in
# training as well, which refuses tensors made in inference mode.
@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _axis_matrices(
    start: float, step: float, count: int, spacing: int, size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(count, size) each: the B-splines and their derivatives by position at `start + step * i`, in voxels."""
    control = control_positions(start + step * torch.arange(count, dtype=torch.float32, device=device), spacing)
    return basis_matrix(control, size), basis_matrix(control, size, 1) / spacing


@dataclass(frozen=True)
class StageField:
    """One B-spline stage in reference-grid voxels: coefficients (1, 3, gz, gy, gx), padded, and control spacing."""

    coefficients: Tensor
    spacing: Spacing3

    def _matrices(self, lattice: Lattice) -> list[tuple[Tensor, Tensor]]:
        """For each axis (z, y, x): values and derivatives of the B-splines at the lattice's positions."""
        return [
            _axis_matrices(
                lattice.start[axis],
                lattice.step[axis],
                lattice.shape[2 - axis],
                self.spacing[axis],
                self.coefficients.shape[4 - axis],
                self.coefficients.device,
            )
            for axis in (2, 1, 0)
        ]

    def displacement(self, lattice: Lattice) -> Tensor:
        """(1, 3, z, y, x), exact."""
        return expand(self.coefficients, [value for value, _ in self._matrices(lattice)])

    def displacement_and_determinant(self, lattice: Lattice) -> tuple[Tensor, Tensor]:
        """Displacement (1, 3, z, y, x) and Jacobian determinant (1, 1, z, y, x) of x + d(x), both exact."""
        along_y, (bx, dx) = self._without_x(lattice)
        value = along_last(along_y[0], bx).reshape(1, 3, *lattice.shape)
        return value, self._determinant_of(along_y, bx, dx, lattice.shape)

    def determinant(self, lattice: Lattice) -> Tensor:
        """(1, 1, z, y, x): the determinant alone."""
        along_y, (bx, dx) = self._without_x(lattice)
        fields = [field.reshape(3, *lattice.shape[:2], -1) for field in along_y]
        # Part by part: the nine derivatives of a whole lattice would take more memory than all else.
        parts = [
            self._determinant_of(
                [field[:, low:high].flatten(0, 1) for field in fields], bx, dx, (high - low, *lattice.shape[1:])
            )
            for low, high in slabs(lattice.shape, _PART)
        ]
        return torch.cat(parts, 2)

    def _without_x(self, lattice: Lattice) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        """The field and its derivatives by y and by z, expanded along z and y; matrices that expand them along x."""
        (bz, dz), (by, dy), along_x = self._matrices(lattice)
        _, c, gz, gy, gx = self.coefficients.shape
        flat = self.coefficients.reshape(c, gz, gy * gx)
        # Axis by axis, sharing what the field and its three derivatives have in common.
        along_z = [torch.matmul(m, flat).reshape(-1, gy, gx) for m in (bz, dz)]
        return [torch.matmul(m, field) for m, field in ((by, along_z[0]), (dy, along_z[0]), (by, along_z[1]))], along_x

    def _determinant_of(self, along_y: Sequence[Tensor], bx: Tensor, dx: Tensor, shape: Shape3) -> Tensor:
        ux, uy, uz = (
            along_last(field, m).reshape(3, *shape)
            for field, m in ((along_y[0], dx), (along_y[1], bx), (along_y[2], bx))
        )
        ux[0] += 1
        uy[1] += 1
        uz[2] += 1
        return _determinant(ux, uy, uz)[None, None]

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
    samples: Samples
    spline_axes: tuple[int, ...]
    region: Region | None = None

    @cached_property
    def _determinants(self) -> Samples:
        many, few = _DETERMINANT_SAMPLES
        samples = [many if spacing >= _SAMPLED_FROM else few for spacing in self.stage.spacing]
        lattice = self.stage.control_lattice(samples, _STILL, self.region)
        return Samples(self.stage.determinant(lattice), lattice, rough=True)

    def displacement(self, points: Tensor) -> Tensor:
        """(1, 3, ...) at points (1, ..., 3)."""
        axes = self.spline_axes
        slicewise = 2 in axes and self.samples.reads_slices(points)
        look_up: Callable[[Tensor], Tensor] = self.samples.spline_along_z if slicewise else self.samples.at
        if slicewise:
            axes = tuple(axis for axis in axes if axis != 2)
        # Each of these axes has its two taps along a dimension of its own, so that one look-up serves all combinations.
        coordinates, shares, rest = list(points.unbind(-1)), [], points.shape[1:-1]
        for place, axis in enumerate(axes):
            low, high, share = self._taps(coordinates[axis], axis)
            coordinates[axis] = torch.stack([low, high], 1)
            shares.append(share.reshape(-1, *[1] * (len(axes) - place), *rest))
        taps = [
            coordinate.reshape(-1, *[2 if axis == a else 1 for a in axes], *rest)
            for axis, coordinate in enumerate(coordinates)
        ]
        found = look_up(torch.stack(torch.broadcast_tensors(*taps)).movedim(0, -1))
        for share in shares:
            found = torch.lerp(found[:, :, 0], found[:, :, 1], share)
        return found

    def _taps(self, positions: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """The four B-spline taps along an axis as two linear look-ups: their positions and the share of the second."""
        start, step = self.samples.lattice.start[axis], self.samples.lattice.step[axis]
        control = (positions - start) / step
        cell = torch.floor(control)
        t = control - cell
        w1, w3 = 2 / 3 - t**2 + t**3 / 2, t**3 / 6
        low = (1 - t) ** 3 / 6 + w1
        high = 1 - low
        return start + step * (cell - 1 + w1 / low), start + step * (cell + 1 + w3 / high), high

    def determinant(self, points: Tensor) -> Tensor:
        """(1, 1, ...) at points (1, ..., 3)."""
        return self._determinants.at(points)


def sample_stage(
    stage: StageField, voxel_size: Sequence[float], tolerance: float, region: Region | None = None
) -> SampledStage:
    """Sample `stage` for an interpolation error of at most `tolerance` mm. voxel_size: mm, (x, y, z).

    Where that would need a lattice finer than the voxels, x is evaluated as a spline, like y and z.
    region: where the stage will be asked for, if that is known; beyond it the outermost samples are repeated.
    """
    in_mm = stage.coefficients.detach() * stage.coefficients.new_tensor(voxel_size)[:, None, None, None]
    difference = torch.diff(in_mm, n=2, dim=4).norm(dim=1).max().item()
    needed = max(2, math.ceil(math.sqrt(difference / (_CURVE * tolerance))))
    sampled = max(needed, _SAMPLED_FROM) <= stage.spacing[0]
    samples = needed if sampled else 1
    spline_axes = (1, 2) if sampled else (0, 1, 2)
    # A spline needs one control point more on either side.
    more = [stage.spacing[axis] if axis in spline_axes else 0 for axis in range(3)]
    trimmed = region and tuple((low - m, high + m) for (low, high), m in zip(region, more, strict=True))
    lattice = stage.control_lattice((samples, 1, 1), region=trimmed)
    first = [
        round((start - (spacing - 1) / 2) / spacing) + PADDING
        for start, spacing in zip(lattice.start, stage.spacing, strict=True)
    ]
    _, y, z = (slice(low, low + n) for low, n in zip(first, lattice.shape[::-1], strict=True))
    along_x = control_positions(lattice.positions(in_mm.device)[2], stage.spacing[0])
    # Slice by slice, as look-ups read it.
    control = stage.coefficients[:, :, z, y].transpose(1, 2)
    values = along_last(control.flatten(0, 2), _sampling_matrix(along_x, in_mm.shape[4], samples, sampled))
    along_lines = Samples(values.reshape(*control.shape[:4], -1).transpose(1, 2), lattice, rough=True)
    return SampledStage(stage, along_lines, spline_axes, region)


def _sampling_matrix(control: Tensor, size: int, samples: int, sampled: bool) -> Tensor:
    """(P, size): from coefficients to what stands at positions `control` (P,) of a sampled axis, or of one that is not.

    Lines between true values run beside a curve, by up to h^2/8 times its second derivative. Values that lie half as
    far on the other side leave half the error: a spline's second derivative is itself a line between control points.
    """
    if not sampled:
        return torch.eye(size, device=control.device)[control.round().long()]
    return basis_matrix(control, size) - basis_matrix(control, size, 2) / (16 * samples**2)


def slabs(shape: Shape3, voxels: int) -> list[tuple[int, int]]:
    """Split the first axis of `shape` into like ranges of at most about `voxels` voxels each."""
    thickness = max(1, voxels // (shape[1] * shape[2]))
    thickness = math.ceil(shape[0] / math.ceil(shape[0] / thickness))
    return [(z, min(z + thickness, shape[0])) for z in range(0, shape[0], thickness)]


def trace(lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage]) -> Tensor:
    """Where the points of `lattice` go: (1, z, y, x, 3). coarser: the other stages, finest of them first.

    What coarser stages add varies slowly: it is followed for every third point along an axis where control
    points are far apart, and interpolated by splines between them.
    """
    displacement = finest.displacement(lattice)
    if coarser:
        displacement = displacement + _follow(lattice, finest, coarser)[0]
    return lattice.displaced(displacement)


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
    return lattice.displaced(displacement, exact_dtype(displacement.device)), determinant


def _follow(
    lattice: Lattice, finest: StageField, coarser: Sequence[SampledStage], *, determinant: bool = False
) -> tuple[Tensor, Tensor]:
    """What the coarser stages add to the displacement, (1, 3, z, y, x), and their determinant if asked for."""
    strides = [_THINNING if _THINNING * lattice.step[a] * _LEAST_FOLLOWED <= finest.spacing[a] else 1 for a in range(3)]
    thin = _thinned(lattice, strides)
    start = reached = thin.displaced(finest.displacement(thin))
    factor = torch.ones_like(start[None, ..., 0])
    for stage in coarser:
        if determinant:
            factor = factor * stage.determinant(reached)
        reached = displace(reached, stage.displacement(reached))
    added = _interpolated((reached - start).movedim(-1, 1), lattice.shape, strides, _spline_matrix)
    return added, _interpolated(factor, lattice.shape, strides, _linear_matrix) if determinant else factor


def _thinned(lattice: Lattice, strides: Sequence[int]) -> Lattice:
    """Every strides[a]-th point along axis a (x, y, z), one more at the end."""
    z, y, x = ((n - 1 + s - 1) // s + 1 for n, s in zip(lattice.shape, reversed(strides), strict=True))
    sx, sy, sz = (own * s for own, s in zip(lattice.step, strides, strict=True))
    return Lattice((z, y, x), lattice.start, (sx, sy, sz))


def _interpolated(
    values: Tensor, shape: Shape3, strides: Sequence[int], matrix: Callable[[int, int, int], Tensor]
) -> Tensor:
    """Interpolate (1, C, z, y, x) on a thinned lattice back to `shape`, by a `matrix` for each axis."""
    matrices = [
        matrix(n, size, stride).to(values)
        for n, size, stride in zip(shape, values.shape[2:], reversed(strides), strict=True)
    ]
    return expand(values, matrices)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _spline_matrix(target: int, source: int, stride: int) -> Tensor:
    """(target, source): the cubic spline through `source` values at i / stride; linear through fewer than four.

    At both ends the outer two pieces are one polynomial, so that nothing is assumed of what lies beyond.
    """
    if stride == 1 or source < _LEAST_FOR_SPLINE:
        return _linear_matrix(target, source, stride)
    positions = torch.arange(target, dtype=torch.float64) / stride
    knots = torch.arange(source, dtype=torch.float64) + 1
    conditions = torch.zeros(source + 2, source + 2, dtype=torch.float64)
    conditions[1:-1] = basis_matrix(knots, source + 2)
    conditions[0, :5] = conditions[-1, -5:] = torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0], dtype=torch.float64)
    coefficients = torch.linalg.inv(conditions)[:, 1:-1]
    matrix: Tensor = (basis_matrix(positions + 1, source + 2) @ coefficients).float()
    return matrix


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _linear_matrix(target: int, source: int, stride: int) -> Tensor:
    """(target, source): linear interpolation of `source` values at i / stride."""
    positions = torch.arange(target, dtype=torch.float64) / stride
    return (1 - (positions[:, None] - torch.arange(source)).abs()).clamp(min=0).float()
