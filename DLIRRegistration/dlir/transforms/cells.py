"""A cubic B-spline at any number of points on the CPU, exactly: cell by cell.

Between two neighbouring control points along each axis, a spline is one polynomial. Points are sorted by the cell that
they lie in, and a small matrix product evaluates the polynomial of a cell at all of its points: a few operations on
long rows, where the sum over 64 control points would be gathered for each point by itself. Coordinates lie in rows,
(3, N), which is what these operations are fast on.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Literal

import torch
from torch import Tensor

Wanted = Literal["value", "determinant", "jacobian"]

# Points that are sorted together, and of these evaluated at once: so few that what is computed of them stays in the
# processor's cache.
_SORTED = 1 << 17
_LEAST_SORTED = 1 << 14
_AT_ONCE = 1 << 14
# Columns by which the rows of a product are longer than needed: rows a power of two apart share lines of the cache.
_APART = 48
# How far outside of the valid domain, in control spacings, a point counts as on its border: rounding.
ON_BORDER = 1e-6
# Cells of a grid whose numbers fit 16 bits, which are sorted in a fraction of the time.
_MOST_SHORT = 1 << 15

# The B-splines of the control points at -1, 0, 1 and 2 at a place t in [0, 1]: row p, coefficients of t^p.
_POWERS = ((1 / 6, 4 / 6, 1 / 6, 0.0), (-0.5, 0.0, 0.5, 0.0), (0.5, -1.0, 0.5, 0.0), (-1 / 6, 0.5, -0.5, 1 / 6))


def evaluate_cells(coefficients: Tensor, control: Tensor, to_control: Tensor, wanted: Wanted) -> list[Tensor]:
    """A displacement field d at points, with what is wanted of the derivative of x + d(x).

    coefficients: (3, gz, gy, gx), at least 4 points along each axis. control: (3, N), points (x, y, z) in control-point
    units; that they are `to_control` (3, 3) times x, but for a shift, is used for derivatives alone. Returns d (3, N)
    and, of I + dd/dx, the determinant (N,) or the matrix itself (3, 3, N), rows its components; in the type of the
    points. Outside of the valid domain [1, g - 2], d is zero, as in ITK's B-spline transform. Computes no gradients.
    """
    size = min(_SORTED, max(_LEAST_SORTED, -(-control.shape[1] // torch.get_num_threads())))
    some = control.split(size, 1)
    if len(some) == 1:
        return _evaluate(coefficients, control, to_control, wanted)
    evaluate = partial(_evaluate, coefficients, to_control=to_control, wanted=wanted)
    return [
        torch.cat(several, -1) for several in zip(*_threads(torch.get_num_threads()).map(evaluate, some), strict=True)
    ]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads in which torch uses no others: all that is done to a few points is too little to be divided, and on a
    busy machine threads that meet after every operation wait for each other most of the time.
    """
    pool = ThreadPoolExecutor(count, "dlir-cells", partial(torch.set_num_threads, 1))
    started = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(count)  # what the last of them set is what threads begin with from then on
    return pool


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Points by the cell that they lie in: `place` (3, n) in [0, 1], of cells `first` (3, G) with `counts` points each.

    order: where in the list of all points each of them comes from. The last n_outside of these lie in no cell.
    """

    place: Tensor
    order: Tensor
    first: Tensor
    counts: list[int]


@torch.no_grad()  # each thread has a mode of its own
def _evaluate(coefficients: Tensor, control: Tensor, to_control: Tensor, wanted: Wanted) -> list[Tensor]:
    points = _sort(coefficients.shape, control)
    count, inside = control.shape[1], points.place.shape[1]
    rows = {"value": 3, "determinant": 4, "jacobian": 12}[wanted]
    found = control.new_empty(rows, count)
    if inside < count:
        found[:, inside:] = 0
        if wanted != "value":
            found[3::4, inside:] = 1
    polynomials = _polynomials(coefficients, points.first, derivatives=wanted != "value")
    straight = None if wanted == "value" else _diagonal(to_control)
    for start, stop, values, slopes in _blocks(points, polynomials):
        found[:3, start:stop] = values
        if slopes is None:
            continue
        jacobian = _jacobian(slopes, to_control, straight)
        if wanted == "determinant":
            determinant(jacobian, out=found[3, start:stop])
        else:
            found[3:, start:stop] = torch.stack(list(jacobian), 1).flatten(0, 1)
    back = torch.empty_like(points.order)
    back[points.order] = torch.arange(count)
    found = found.index_select(1, back)
    if wanted == "value":
        return [found]
    return [found[:3], found[3] if wanted == "determinant" else found[3:].unflatten(0, (3, 3))]


def _sort(shape: Sequence[int], control: Tensor) -> _Sorted:
    _, gz, gy, gx = shape
    cells = gx * gy * gz
    ends = control.new_tensor([gx, gy, gz])[:, None] - 2
    cell = control.floor().clamp_(torch.ones_like(ends), ends - 1)
    number = torch.add(cell[0], cell[1], alpha=gx).add_(cell[2], alpha=gx * gy)
    # A point that is no number lies nowhere, like one outside.
    if not all(low >= 1 and high <= end for low, high, end in zip(*_reach(control), ends[:, 0].tolist(), strict=True)):
        inside = ((control >= 1 - ON_BORDER) & (control <= ends + ON_BORDER)).all(0)
        number.masked_fill_(~inside, cells)
    key, order = number.to(torch.int16 if cells < _MOST_SHORT else torch.int32).sort(stable=True)
    present, counted = torch.unique_consecutive(key, return_counts=True)
    present, counts, inside_count = present.long(), counted.tolist(), len(order)
    if len(present) and int(present[-1]) == cells:
        present, inside_count = present[:-1], inside_count - counts.pop()
    place = torch.sub(control, cell, out=cell).index_select(1, order[:inside_count])
    return _Sorted(place, order, torch.stack([present % gx, present // gx % gy, present // (gx * gy)]) - 1, counts)


def _reach(control: Tensor) -> tuple[list[float], list[float]]:
    """Lowest and highest place of points (3, N) along each axis; not a number where one is none, or there are none."""
    if not control.shape[1]:
        return [math.nan] * 3, [math.nan] * 3
    return control.amin(1).tolist(), control.amax(1).tolist()


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _to_polynomials(derivatives: bool, dtype: torch.dtype) -> Tensor:
    """(64, 4 * K * 16): from the control points around a cell (z, y, x) to its polynomials.

    These are ordered by the power of x, then K: the field itself and its derivatives by y and by z; then by the powers
    of z and y.
    """
    powers = torch.tensor(_POWERS, dtype=torch.float64)
    slopes = torch.cat([torch.arange(1, 4)[:, None] * powers[1:], torch.zeros(1, 4)])
    kinds = [(powers, powers), (powers, slopes), (slopes, powers)][: 3 if derivatives else 1]
    products = [torch.einsum("pz,qy,rx->zyxrpq", along_z, along_y, powers) for along_z, along_y in kinds]
    return torch.stack([product.reshape(64, 4, 16) for product in products], 2).reshape(64, -1).to(dtype)


def _polynomials(coefficients: Tensor, first: Tensor, *, derivatives: bool) -> Tensor:
    """(G, 4 * K * 3, 16): the polynomials of cells whose first control points are `first` (3, G), see above."""
    x, y, z = first
    around = coefficients.unfold(1, 4, 1).unfold(2, 4, 1).unfold(3, 4, 1)[:, z, y, x].reshape(-1, 64)
    kinds = 3 if derivatives else 1
    all_rows = (around @ _to_polynomials(derivatives, coefficients.dtype)).view(3, -1, 4, kinds, 16)
    return all_rows.permute(1, 2, 3, 0, 4).reshape(-1, 12 * kinds, 16)


def _blocks(points: _Sorted, polynomials: Tensor) -> Iterator[tuple[int, int, Tensor, list[Tensor] | None]]:
    """First and last of some points, the field there (3, n), and its derivatives by control-point units x, y and z."""
    rows, place = polynomials.shape[1], points.place
    length = min(_AT_ONCE, max(1, place.shape[1]))
    powers = place.new_ones(2, 4, length)
    bases, sums = place.new_empty(16, length + _APART), place.new_empty(rows, length + _APART)
    cells, counts = polynomials.unbind(0), _cut(points.counts, length)
    for number, start in enumerate(range(0, place.shape[1], length)):
        x, *yz = place[:, start : start + length]
        some = powers[:, :, : len(x)]
        torch.stack(yz, out=some[:, 1])
        torch.mul(some[:, 1], some[:, 1], out=some[:, 2])
        torch.mul(some[:, 2], some[:, 1], out=some[:, 3])
        basis, total = bases[:, : len(x)], sums[:, : len(x)]
        torch.mul(some[1][:, None], some[0][None], out=basis.unflatten(0, (4, 4)))
        own = [count for _, count in counts[number]]
        for (cell, _), at, result in zip(counts[number], basis.split(own, 1), total.split(own, 1), strict=True):
            torch.mm(cells[cell], at, out=result)
        by_x = total.unflatten(0, (4, -1))
        values = torch.addcmul(by_x[2], by_x[3], x).mul_(x).add_(by_x[1]).mul_(x).add_(by_x[0])
        if rows == 12:
            yield start, start + len(x), values, None
            continue
        along_x = torch.addcmul(by_x[2, :3], by_x[3, :3], x, value=1.5).mul_(x).mul_(2).add_(by_x[1, :3])
        yield start, start + len(x), values[:3], [along_x, values[3:6], values[6:]]


def _cut(counts: Sequence[int], length: int) -> list[list[tuple[int, int]]]:
    """Numbers of cells and of their points, dealt out to blocks of `length` points."""
    blocks: list[list[tuple[int, int]]] = [[]]
    room = length
    for cell, count in enumerate(counts):
        while count:
            if not room:
                blocks.append([])
                room = length
            part = min(count, room)
            blocks[-1].append((cell, part))
            count, room = count - part, room - part
    return blocks


def _diagonal(matrix: Tensor) -> list[float] | None:
    """The diagonal of a (3, 3) matrix without anything beside it; None for others."""
    scale = matrix.diagonal()
    return scale.tolist() if torch.equal(matrix, scale.diag()) else None


def _jacobian(slopes: Sequence[Tensor], to_control: Tensor, straight: Sequence[float] | None) -> list[Tensor]:
    """Columns (3, n) of I + dd/dx. slopes: dd by control-point units. straight: `to_control` where it only scales."""
    if straight is not None:
        columns = [slope.mul_(scale) for slope, scale in zip(slopes, straight, strict=True)]
    else:
        columns = [
            sum((slope * to_control[row, axis] for row, slope in enumerate(slopes)), torch.zeros(()))
            for axis in range(3)
        ]
    for axis, column in enumerate(columns):
        column[axis] += 1
    return columns


def determinant(columns: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """(...,): det of the 3x3 matrices whose columns are three tensors (3, ...)."""
    a, b, c = columns
    minors = [torch.addcmul(b[i] * c[j], b[j], c[i], value=-1) for i, j in ((1, 2), (2, 0), (0, 1))]
    return torch.addcmul(torch.addcmul(a[0] * minors[0], a[1], minors[1]), a[2], minors[2], out=out)
