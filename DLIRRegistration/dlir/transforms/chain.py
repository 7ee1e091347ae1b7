"""A chain of transforms, evaluated: points, images, labels and Jacobians all go through what is here (§2.3, §4).

`Spline` and `follow` work on tensors, for networks and their training; `Chain` is a whole transform, such as one that
was read from a file. Every B-spline is evaluated as what it is, wherever the ones before it have moved the points: on
the regular points of a lattice axis by axis (§2.2), elsewhere cell by cell. Nothing is interpolated between points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid, Shape3
from dlir.transforms.bspline import PADDING, along_last, basis_matrix, evaluate_points, expand
from dlir.transforms.cells import ON_BORDER, Wanted, determinant
from dlir.transforms.lattice import Lattice, Samples, exact_dtype, inside
from dlir.transforms.spatial import (
    AffineTransform,
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    Part,
    Points,
)

# Points and voxels at once, which bounds the memory of whatever is computed of them; half as many take a tenth longer,
# because fewer lie in each cell.
_AT_ONCE = 1 << 18
# Parts of a cell by which axes of two grids may be off and still be the same: rounding of directions in a header.
_ALONG = 1e-9
# A determinant this close to 0, for a field that bends little, is computed anew in double precision: its sign counts.
# Rounding of positions and sums is a hundredth of that.
_NEAR_FOLDING = 1e-3


# Slabs of a grid share the matrices of two axes, and pairs on like grids those of all three. What is kept may serve in
# training as well, which refuses tensors made in inference mode.
@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _axis_matrices(
    first: float, step: float, count: int, size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(count, size) each: the B-splines and their derivatives at `first + step * i`, in control-point units; nothing
    outside of the valid domain.
    """
    control = first + step * torch.arange(count, dtype=torch.float64)
    inside = ((control >= 1 - ON_BORDER) & (control <= size - 2 + ON_BORDER))[:, None]
    values, slopes = (basis_matrix(control, size, order) * inside for order in (0, 1))
    return values.to(device, dtype), slopes.to(device, dtype)


@dataclass(frozen=True, eq=False)
class Spline:
    """One B-spline of a chain: x -> x + d(x), in whatever coordinates the chain has.

    coefficients: (B, 3, gz, gy, gx), displacements of the control points in these coordinates, (x, y, z).
    matrix, offset: (3, 3) and (3,), from coordinates to control-point units.
    """

    coefficients: Tensor
    matrix: Tensor
    offset: Tensor

    @classmethod
    def of_cells(cls, coefficients: Tensor, spacing: tuple[int, int, int]) -> Spline:
        """What a network predicts, padded, with one control point in the middle of each cell of `spacing` voxels
        (x, y, z); the coordinates are voxels.
        """
        steps = torch.tensor(spacing, dtype=torch.float64)
        return cls(coefficients, torch.diag(1 / steps), PADDING - (steps - 1) / 2 / steps)

    @property
    def control_grid(self) -> Lattice:
        """Where the control points lie, for a matrix that only scales."""
        step = 1 / self.matrix.diagonal()
        first = (-self.offset * step).tolist()
        z, y, x = self.coefficients.shape[2:]
        return Lattice((z, y, x), (first[0], first[1], first[2]), tuple(step.tolist()))

    @cached_property
    def scale(self) -> list[float] | None:
        """What the matrix multiplies each axis by; None where it does more than that."""
        diagonal = self.matrix.diagonal()
        return diagonal.tolist() if torch.equal(self.matrix, diagonal.diag()) else None

    @cached_property
    def near_folding(self) -> float:
        """How close to 0 a determinant is doubtful in single precision: a part of the largest that it is a sum of."""
        change = [torch.diff(self.coefficients.detach(), dim=axis).abs().amax((0, 2, 3, 4)) for axis in (4, 3, 2)]
        slopes = (torch.stack(change, 1).double().cpu() @ self.matrix.abs() + torch.eye(3)).tolist()
        terms = (slopes[0][i] * slopes[1][j] * slopes[2][k] for i, j, k in permutations(range(3)))
        return _NEAR_FOLDING * float(sum(terms))

    def at(self, points: Tensor, wanted: Wanted = "value") -> list[Tensor]:
        """d at points (B, 3, N), and the determinant (B, N) or the matrix (B, 3, 3, N) of I + dd/dx, see
        `evaluate_points`.
        """
        offset = self.offset.to(points)[:, None]
        if self.scale is not None:
            control = torch.addcmul(offset, points, points.new_tensor(self.scale)[:, None])
        else:
            control = self.matrix.to(points) @ points + offset
        return evaluate_points(self.coefficients, control, self.matrix, wanted)

    def at_displaced(self, lattice: Lattice, moved: Tensor, wanted: Wanted = "value") -> list[Tensor]:
        """As `at`, at the points of a lattice + `moved` (B, 3, z, y, x); in one pass where the matrix only scales."""
        if self.scale is None or torch.is_grad_enabled():
            return self.at(lattice.displaced(moved).flatten(2), wanted)
        control = torch.empty_like(moved, memory_format=torch.contiguous_format)
        for axis, positions in zip((2, 1, 0), lattice.positions(moved.device, moved.dtype), strict=True):
            along = (positions * self.scale[axis] + self.offset[axis].to(moved)).reshape(
                [-1 if a == axis else 1 for a in (2, 1, 0)]
            )
            torch.add(along, moved[:, axis], alpha=self.scale[axis], out=control[:, axis])
        return evaluate_points(self.coefficients, control.flatten(2), self.matrix, wanted)

    def on(self, lattice: Lattice, wanted: Wanted = "value") -> list[Tensor]:
        """As `at`, at the points of a lattice, (B, 3, z, y, x) and so on; axis by axis where the axes are alike."""
        if self.scale is None or wanted == "jacobian":
            points = lattice.rows(self.coefficients)[None].expand(len(self.coefficients), -1, -1)
            return [found.unflatten(-1, lattice.shape) for found in self.at(points, wanted)]
        along_z, along_y, along_x = (self._matrices(lattice, axis, self.scale[axis]) for axis in (2, 1, 0))
        if wanted == "value":
            return [expand(self.coefficients, [along_z[0], along_y[0], along_x[0]])]
        batch, _, gz, gy, gx = self.coefficients.shape
        shape = (batch, 3, *lattice.shape)
        flat = self.coefficients.reshape(batch * 3, gz, gy * gx)
        # Axis by axis, sharing what the field and its three derivatives have in common.
        by_z = [torch.matmul(m, flat).reshape(-1, gy, gx) for m in along_z]
        by_y = [torch.matmul(m, field) for m, field in zip((*along_y, along_y[0]), (by_z[0], *by_z), strict=True)]
        slopes = [along_last(field, along_x[k]).reshape(shape) for field, k in zip(by_y, (1, 0, 0), strict=True)]
        for axis, slope in enumerate(slopes):
            slope[:, axis].add_(1)
        value = along_last(by_y[0], along_x[0]).reshape(shape)
        return [value, determinant([slope.transpose(0, 1) for slope in slopes])]

    def _matrices(self, lattice: Lattice, axis: int, scale: float) -> tuple[Tensor, Tensor]:
        """Values and derivatives, by the coordinates, of the B-splines along an axis (x, y, z) of a lattice."""
        first = scale * lattice.start[axis] + float(self.offset[axis])
        count, size = lattice.shape[2 - axis], self.coefficients.shape[4 - axis]
        value, slope = _axis_matrices(
            first, scale * lattice.step[axis], count, size, self.coefficients.dtype, self.coefficients.device
        )
        return value, slope * scale


def to_millimetres(spline: Spline, grid: ImageGrid) -> BSplineTransform:
    """A B-spline (of a batch of one) in voxels of a grid as what it is in LPS mm."""
    control = spline.control_grid
    coefficients = spline.coefficients[0].cpu().double().numpy()
    in_mm = np.einsum("ij,jzyx->izyx", grid.index_to_physical[:3, :3], coefficients)
    return BSplineTransform(in_mm, grid.lattice(control.start, control.step, control.shape[::-1]))


@dataclass(frozen=True, eq=False)
class _Linear:
    """x -> matrix @ x + offset; (3, 3) and (3,), in the coordinates of a chain."""

    matrix: Tensor
    offset: Tensor

    near_folding = 0.0

    def at(self, points: Tensor, wanted: Wanted = "value") -> list[Tensor]:
        """As `Spline.at`: d(x) is what x is moved by."""
        matrix = self.matrix.to(points)
        value = matrix @ points + self.offset.to(points)[:, None] - points
        if wanted == "value":
            return [value]
        if wanted == "determinant":
            return [value, torch.linalg.det(self.matrix).to(points).expand(len(points), points.shape[-1])]
        return [value, matrix[None, ..., None].expand(len(points), 3, 3, points.shape[-1])]


@dataclass(frozen=True, eq=False)
class _Field:
    """A displacement in every voxel of a grid, as a part of a chain. to_mm: (4, 4), from the chain's coordinates."""

    transform: DisplacementTransform
    to_mm: NDArray[np.float64]

    near_folding = 0.0

    @cached_property
    def _content(self) -> Tensor:
        """(1, 12, z, y, x): displacements, and their derivatives by the index axes, component by component."""
        field = self.transform.field
        along = [np.gradient(field, axis=axis) if field.shape[axis] > 1 else 0 * field for axis in (2, 1, 0)]
        slopes = np.stack(along, -1).reshape(*field.shape[:3], 9).astype(np.float32)
        return torch.from_numpy(np.concatenate([field, slopes], -1)).movedim(-1, 0)[None]

    def at(self, points: Tensor, wanted: Wanted = "value") -> list[Tensor]:
        """As `Spline.at`."""
        to_index = torch.from_numpy(self.transform.grid.physical_to_index @ self.to_mm).to(points)
        index = (to_index[:3, :3] @ points + to_index[:3, 3:]).movedim(1, -1)
        lattice = Lattice(self.transform.grid.shape)
        found = Samples(self._content, lattice).at(index) * inside(lattice, index)[:, None]
        from_mm = torch.from_numpy(np.linalg.inv(self.to_mm[:3, :3])).to(points)
        value = from_mm @ found[:, :3]
        if wanted == "value":
            return [value]
        by_index = found[:, 3:].unflatten(1, (3, 3))
        jacobian = torch.einsum("ic,bcan,aj->bijn", from_mm, by_index, to_index[:3, :3])
        jacobian = jacobian + torch.eye(3).to(points)[..., None]
        if wanted == "jacobian":
            return [value, jacobian]
        return [value, determinant([column.transpose(0, 1) for column in jacobian.unbind(2)])]


_Ready = Spline | _Linear | _Field


def follow(splines: Sequence[Spline], lattice: Lattice) -> Tensor:
    """Where stages, coarse to fine, move the points of a lattice: displacements (B, 3, z, y, x), the finest first."""
    return follow_with_determinant(splines, lattice, determinants=False)[0]


def follow_with_determinant(
    splines: Sequence[Spline], lattice: Lattice, *, determinants: bool = True
) -> tuple[Tensor, Tensor]:
    """As `follow`, with the determinant of the whole, (B, z, y, x); without `determinants`, an empty one."""
    wanted: Wanted = "determinant" if determinants else "value"
    moved, *product = splines[-1].on(lattice, wanted)
    for spline in splines[-2::-1]:
        found, *factor = spline.at_displaced(lattice, moved, wanted)
        moved = moved + found.reshape(moved.shape)
        product = [total * more.reshape(total.shape) for total, more in zip(product, factor, strict=True)]
    return moved, product[0] if product else moved.new_empty(0)


# -- whole transforms ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Slab:
    """Some slices of a grid, `low` to `high`, and where their voxels go.

    index: (3, N), rows x, y, z, continuous indices of the grid that is looked up, in double precision where the device
    has it. determinant: (N,) where it is wanted.
    """

    low: int
    high: int
    index: Tensor
    determinant: Tensor | None


class Chain:
    """A transform made ready to be evaluated, at points in LPS mm or on a whole grid.

    transform: a composite or one of its parts. device: of whole grids; points are always evaluated on the CPU.
    """

    def __init__(self, transform: CompositeTransform | Part, device: torch.device | None = None) -> None:
        self._transforms = transform.parts if isinstance(transform, CompositeTransform) else (transform,)
        self._device = device or torch.device("cpu")

    # -- points ----------------------------------------------------------------------------------

    def apply(self, points: Points) -> Points:
        """(N, 3) mm: where points (N, 3) in mm go, in double precision."""
        return self._at(points, "value")[0]

    def jacobian(self, points: Points) -> Points:
        """(N, 3, 3): the derivative at points (N, 3) in mm, rows the output components."""
        return self._at(points, "jacobian")[1]

    def determinant(self, points: Points) -> NDArray[np.float64]:
        """(N,): the determinant at points (N, 3) in mm, the product along the chain (§4)."""
        return self._at(points, "determinant")[1]

    def apply_with_jacobian(self, points: Points) -> tuple[Points, Points]:
        """Both at once."""
        moved, jacobian = self._at(points, "jacobian")
        return moved, jacobian

    @torch.no_grad()
    def _at(self, points: Points, wanted: Wanted) -> list[NDArray[np.float64]]:
        given = torch.from_numpy(np.ascontiguousarray(np.asarray(points, float).reshape(-1, 3).T))
        found = [_through(self._in_mm, some[None], wanted) for some in given.split(_AT_ONCE, 1)]
        moved, *derivative = (torch.cat(several, -1)[0] for several in zip(*found, strict=True))
        return [moved.T.numpy(), *(d.movedim(-1, 0).numpy() for d in derivative)]

    @cached_property
    def _in_mm(self) -> list[_Ready]:
        """All parts in double precision, in LPS mm."""
        return [_part(part, np.eye(4)) for part in self._transforms]

    # -- grids -----------------------------------------------------------------------------------

    @torch.no_grad()
    def slabs(
        self, onto: ImageGrid, reads: ImageGrid, *, exact: bool = False, determinants: bool = False
    ) -> Iterator[Slab]:
        """The voxels of `onto`, some slices at a time, as indices of the grid `reads` that they are looked up in.

        exact: displacements in double precision throughout, as labels need them, which change at once between two
        voxels. Otherwise they are good to a hundred thousandth of a voxel, and only determinants near 0 are computed
        in double precision, so that none has a wrong sign.
        """
        bends, last = self._on(onto)
        device, dtype = (torch.device("cpu"), torch.float64) if exact else (self._device, torch.float32)
        splines = [_in_type(bend, device, dtype) for bend in bends]
        doubtful = [spline.near_folding for spline in splines]
        to_index = torch.from_numpy(_straightened(reads.physical_to_index @ onto.index_to_physical @ last, onto.size))
        linear = float(np.linalg.det(last[:3, :3]))
        wanted: Wanted = "determinant" if determinants else "value"
        for low, high in voxel_slabs(onto.shape):
            lattice = Lattice((high - low, *onto.shape[1:]), (0.0, 0.0, float(low)))
            moved, factors = _over(splines, lattice, wanted, device, dtype)
            product = None
            if determinants:
                product = math.prod(factors[1:], start=factors[0] if factors else moved.new_ones(moved[0, 0].numel()))
                if not exact:
                    self._settle(product, factors, doubtful, lattice, bends)
                product = product * linear
            yield Slab(low, high, _mapped(to_index, lattice, moved), product)

    def _settle(
        self,
        product: Tensor,
        factors: Sequence[Tensor],
        doubtful: Sequence[float],
        lattice: Lattice,
        bends: Sequence[_Ready],
    ) -> None:
        """Computes the determinants of which one factor is `doubtful` anew, in double precision."""
        near = [(f.abs() < d).nonzero()[:, 0] for f, d in zip(factors, doubtful, strict=True) if f.amin() < d]
        if near:
            chosen = torch.cat(near).unique()
            points = lattice.rows(torch.empty(0, dtype=torch.float64))[:, chosen.cpu()]
            product[chosen] = _through(bends, points[None], "determinant")[1][0].to(product)

    def _on(self, onto: ImageGrid) -> tuple[list[_Ready], NDArray[np.float64]]:
        """The parts in double precision, in continuous indices of `onto`: up to the last that is not linear; and what
        comes after that, (4, 4).
        """
        count = len(self._transforms)
        while count and isinstance(self._transforms[count - 1], AffineTransform):
            count -= 1
        to_mm = onto.index_to_physical
        matrix = CompositeTransform(self._transforms[count:]).matrix
        return [_part(part, to_mm) for part in self._transforms[:count]], np.linalg.inv(to_mm) @ matrix @ to_mm


def _part(part: Part, to_mm: NDArray[np.float64]) -> _Ready:
    """A part of a transform in coordinates that `to_mm` (4, 4) takes to LPS mm."""
    if isinstance(part, AffineTransform):
        matrix = torch.from_numpy(np.linalg.inv(to_mm) @ part.matrix @ to_mm)
        return _Linear(matrix[:3, :3], matrix[:3, 3])
    if isinstance(part, BSplineTransform):
        return _spline(part, to_mm)
    return _Field(part, to_mm)


def _spline(part: BSplineTransform, to_mm: NDArray[np.float64]) -> Spline:
    """Where control axes run along coordinate axes, the control points are put in their order."""
    to_control = part.grid.physical_to_index @ to_mm
    coefficients = np.einsum("ij,jzyx->izyx", np.linalg.inv(to_mm[:3, :3]), part.coefficients)
    linear, offset = to_control[:3, :3], to_control[:3, 3]
    axes = [int(np.argmax(np.abs(column))) for column in linear.T]
    if sorted(axes) == [0, 1, 2]:
        turned = _straightened(linear[axes], part.grid.size)
        if (turned == np.diag(turned.diagonal())).all():
            coefficients = coefficients.transpose(0, *(3 - axes[axis] for axis in (2, 1, 0)))
            linear, offset = turned, offset[axes]
    return Spline(torch.from_numpy(np.ascontiguousarray(coefficients))[None], *map(torch.from_numpy, (linear, offset)))


def _straightened(matrix: NDArray[np.float64], size: Sequence[int]) -> NDArray[np.float64]:
    """A matrix (3, 3) or (4, 4) without what lies beside the diagonal of its linear part, if that is only rounding for
    indices of a grid of `size` (x, y, z).
    """
    diagonal = matrix[:3, :3].diagonal()
    beside = np.abs(matrix[:3, :3] - np.diag(diagonal)) @ np.array(size)
    straight = matrix.copy()
    if (beside < _ALONG * np.abs(diagonal)).all():
        straight[:3, :3] = np.diag(diagonal)
    return straight


def _in_type(part: _Ready, device: torch.device, dtype: torch.dtype) -> _Ready:
    return Spline(part.coefficients.to(device, dtype), part.matrix, part.offset) if isinstance(part, Spline) else part


def _through(parts: Sequence[_Ready], points: Tensor, wanted: Wanted) -> list[Tensor]:
    """Where points (B, 3, N) go, and the determinant (B, N) or matrix (B, 3, 3, N) of the way."""
    total: list[Tensor] = []
    if wanted != "value":
        one = points.new_ones(len(points), points.shape[-1])
        total = [one if wanted == "determinant" else torch.einsum("ij,bn->bijn", torch.eye(3).to(points), one)]
    for part in parts:
        moved, *derivative = part.at(points, wanted)
        points = points + moved
        if wanted == "determinant":
            total = [total[0] * derivative[0]]
        elif wanted == "jacobian":
            total = [torch.einsum("bijn,bjkn->bikn", derivative[0], total[0])]
    return [points, *total]


def _over(
    parts: Sequence[_Ready], lattice: Lattice, wanted: Wanted, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Displacement (1, 3, z, y, x) over a lattice, and the determinant (N,) of each part."""
    moved, factors = torch.zeros(1, 3, *lattice.shape, dtype=dtype, device=device), []
    for number, part in enumerate(parts):
        if number == 0 and isinstance(part, Spline):
            found = part.on(lattice, wanted)
            moved = found[0]
        else:
            if isinstance(part, Spline):
                found = part.at_displaced(lattice, moved, wanted)
            else:
                found = part.at(lattice.displaced(moved, dtype).flatten(2), wanted)
            moved += found[0].reshape(moved.shape)
        factors += [factor.flatten() for factor in found[1:]]
    return moved, factors


def _mapped(matrix: Tensor, lattice: Lattice, moved: Tensor) -> Tensor:
    """(3, N): the points of a lattice, displaced by `moved` (1, 3, z, y, x), through `matrix` (4, 4)."""
    dtype = exact_dtype(moved.device)
    scale = matrix[:3, :3].diagonal().tolist()
    if not torch.equal(matrix[:3, :3], matrix[:3, :3].diagonal().diag()):
        points = lattice.displaced(moved, dtype).flatten(2)[0]
        return matrix[:3, :3].to(points) @ points + matrix[:3, 3:].to(points)
    index = moved[0].to(dtype, copy=True)  # cheaper, and mostly so; as a sum of two types it is not
    for axis, positions in zip((2, 1, 0), lattice.positions(moved.device, dtype), strict=True):
        along = (positions * scale[axis] + float(matrix[axis, 3])).reshape([-1 if a == axis else 1 for a in (2, 1, 0)])
        torch.add(along, index[axis], alpha=scale[axis], out=index[axis])
    return index.flatten(1)


def voxel_slabs(shape: Shape3) -> list[tuple[int, int]]:
    """Like ranges of the first axis of `shape`, each of no more voxels than memory and cache have room for."""
    thickness = max(1, _AT_ONCE // (shape[1] * shape[2]))
    thickness = math.ceil(shape[0] / math.ceil(shape[0] / thickness))
    return [(z, min(z + thickness, shape[0])) for z in range(0, shape[0], thickness)]
