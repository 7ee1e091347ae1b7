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
from functools import cache, lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Wanted = Literal["value", "determinant", "jacobian"]

# Points that are sorted together: the more, the more of them are found in each cell. And of these evaluated at once: so
# few that what is computed of them stays in the processor's cache.
_SORTED = 1 << 18
_AT_ONCE = 1 << 14
# Cells whose polynomials are kept together, of 2 kB each; beyond, so many points are taken at a time.
_MOST_CELLS, _FEW = 1 << 15, 1 << 13
# Points that are worth a thread.
_LEAST = 1 << 14
# Columns by which the rows of a product are longer than needed: rows a power of two apart share lines of the cache.
_APART = 48
# How far outside of the valid domain, in control spacings, a point counts as on its border: rounding.
ON_BORDER = 1e-6
# Cells whose numbers fit 16 bits, which are sorted in a fraction of the time.
_MOST_SHORT = 1 << 15
# Numbers of cells, with some to spare, that single precision tells apart.
_MOST_SINGLE = 1 << 23

# The B-splines of the control points at -1, 0, 1 and 2 at a place t in [0, 1]: row p, coefficients of t^p.
_POWERS = ((1 / 6, 4 / 6, 1 / 6, 0.0), (-0.5, 0.0, 0.5, 0.0), (0.5, -1.0, 0.5, 0.0), (-1 / 6, 0.5, -0.5, 1 / 6))


def evaluate_cells(coefficients: Tensor, control: Tensor, to_control: Tensor, wanted: Wanted) -> list[Tensor]:
    """A displacement field d at points, with what is wanted of the derivative of x + d(x).

    coefficients: (3, gz, gy, gx), at least 4 points along each axis. control: (3, N), points (x, y, z) in control-point
    units; that they are `to_control` (3, 3) times x, but for a shift, is used for derivatives alone. Returns d (3, N)
    and, of I + dd/dx, the determinant (N,) or the matrix itself (3, 3, N), rows its components; in the type of the
    points. Outside of the valid domain [1, g - 2], d is zero, as in ITK's B-spline transform. Computes no gradients.
    """
    box = _Box.around(coefficients, control)
    if control.shape[1] > _FEW and box.cells > _MOST_CELLS:
        # Where control points lie as close as voxels, there is a polynomial for every few of them: a part at a time.
        some = (evaluate_cells(coefficients, few, to_control, wanted) for few in control.split(_FEW, 1))
        return [torch.cat(several, -1) for several in zip(*some, strict=True)]
    cells = _Cells.of(coefficients, control, box, to_control, derivatives=wanted != "value")
    found = control.new_empty({"value": 3, "determinant": 4, "jacobian": 12}[wanted], control.shape[1])
    count = torch.get_num_threads()
    size = max(_LEAST, -(-control.shape[1] // count))
    parts = list(zip(control.split(size, 1), found.split(size, 1), strict=True))

    def write(part: tuple[Tensor, Tensor]) -> None:
        # Each thread has a mode of its own.
        with torch.no_grad(), torch.inference_mode(found.is_inference()):
            _evaluate(cells, part[0], wanted, part[1])

    list(map(write, parts) if len(parts) == 1 else _threads(count).map(write, parts))
    if wanted == "value":
        return [found]
    return [found[:3], found[3] if wanted == "determinant" else found[3:].unflatten(0, (3, 3))]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads in which torch uses no others: all that is done to a few points is too little to be divided, and on a
    busy machine threads that meet after every operation wait for each other most of the time.
    """
    pool = ThreadPoolExecutor(count, "dlir-cells", lambda: torch.set_num_threads(1))
    started = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(count)  # what the last of them set is what threads begin with from then on
    return pool


@dataclass(frozen=True, eq=False)
class _Box:
    """The cells that some points reach: low, high: (3, 1), the first and the last along x, y and z, each by the control
    point below it. bounds: (3, 1) each, of the valid domain; None if no point is outside.
    """

    low: Tensor
    high: Tensor
    bounds: tuple[Tensor, Tensor] | None

    @classmethod
    @torch.no_grad()
    def around(cls, coefficients: Tensor, control: Tensor) -> _Box:
        ends = control.new_tensor(coefficients.shape[:0:-1])[:, None] - 2
        least, most = _reach(control)
        low = least.floor().clamp_(ends.new_tensor(1), ends - 1)
        high = torch.maximum(low, most.floor().clamp_(ends.new_tensor(1), ends - 1))
        # A point that is no number lies nowhere, like one outside; one on the far border begins no cell.
        outside = not bool(((least >= 1) & (most < ends)).all())
        return cls(low, high, (1 - ON_BORDER + 0 * ends, ends + ON_BORDER) if outside else None)

    @property
    def shape(self) -> list[int]:
        """Cells along x, y and z."""
        shape: list[int] = (self.high - self.low + 1)[:, 0].long().tolist()
        return shape

    @property
    def cells(self) -> int:
        """How many there are."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class _Cells:
    """What is known of the cells of a box, or of fewer where the points are few.

    strides: (1, 3), which number the cells of the box, from `first`. chosen: sorted numbers of the cells that there are
    polynomials of, None for the whole box. polynomials: (12 * K, 16) of each, see `_polynomials`. to_control, straight:
    as given, and its diagonal if it only scales.
    """

    box: _Box
    strides: Tensor
    first: float
    chosen: Tensor | None
    polynomials: Sequence[Tensor]
    to_control: Tensor
    straight: list[float] | None

    @classmethod
    @torch.no_grad()
    def of(cls, coefficients: Tensor, control: Tensor, box: _Box, to_control: Tensor, *, derivatives: bool) -> _Cells:
        nx, ny, _ = box.shape
        exact = float(box.high[2] + 1) * nx * ny < _MOST_SINGLE
        strides = torch.tensor([[1, nx, nx * ny]], dtype=control.dtype if exact else torch.float64)
        chosen = None
        if box.cells > control.shape[1]:
            cell = torch.minimum(torch.maximum(control.nan_to_num(0).floor_(), box.low), box.high).sub_(box.low)
            chosen = torch.unique((strides @ cell.to(strides.dtype))[0].long())
        low, high = ((end[:, 0].long() - 1).tolist() for end in (box.low, box.high))
        first: list[Tensor | slice] = [slice(start, end + 1) for start, end in zip(low, high, strict=True)]
        if chosen is not None:
            places = (chosen % nx, chosen // nx % ny, chosen // (nx * ny))
            first = [place + start for place, start in zip(places, low, strict=True)]
        straight = _diagonal(to_control)
        polynomials = _polynomials(coefficients, first, straight, derivatives=derivatives)
        start = float(strides @ box.low.to(strides.dtype))
        return cls(box, strides, start, chosen, polynomials.unbind(0), to_control, straight)


def _reach(control: Tensor) -> tuple[Tensor, Tensor]:
    """(3, 1) each: lowest and highest place of points (3, N) along each axis; the whole line if one is no number."""
    if not control.shape[1]:
        return control.new_ones(3, 1), control.new_ones(3, 1)
    return control.amin(1, True).nan_to_num(-math.inf), control.amax(1, True).nan_to_num(math.inf)


def _evaluate(cells: _Cells, control: Tensor, wanted: Wanted, found: Tensor) -> None:
    """Writes d and what is wanted of the derivative at points (3, N) to the rows of `found`."""
    count = min(_SORTED, control.shape[1])
    rooms = [control.new_empty(rows, count) for rows in (3, 3, len(found))]
    scratch = _Scratch(cells, min(count, _AT_ONCE), control)
    for start in range(0, control.shape[1], _SORTED):
        some = control[:, start : start + _SORTED]
        cell, place, result = (room.flatten()[: len(room) * some.shape[1]].view(len(room), -1) for room in rooms)
        order, counts = _sort(cells, some, cell, place)
        inside = int(counts.sum())
        for low, high, present, own in _cut(counts):
            scratch.evaluate(place[:, low:high], present, own, wanted, result[:, low:high])
        if inside < len(order):
            result[:, inside:] = 0
            if wanted != "value":
                result[3::4, inside:] = 1
        found[:, start : start + _SORTED].scatter_(1, order.expand(len(found), -1), result)


def _sort(cells: _Cells, control: Tensor, cell: Tensor, place: Tensor) -> tuple[Tensor, NDArray[np.intp]]:
    """Puts the places in [0, 1] of points (3, n) within their cells into `place`, sorted by these.

    Returns where in the list of points each of them comes from; and how many points lie in each cell, by the numbers of
    polynomials. Those that lie in none come last. cell: (3, n), overwritten.
    """
    torch.floor(control, out=cell)
    if cells.box.bounds is not None:
        torch.minimum(torch.maximum(cell.nan_to_num_(0), cells.box.low, out=cell), cells.box.high, out=cell)
    number = (cells.strides @ cell.to(cells.strides.dtype))[0].sub_(cells.first)
    total = len(cells.polynomials)
    if cells.chosen is not None:
        number = torch.searchsorted(cells.chosen.to(number), number)
    if cells.box.bounds is not None:
        number.masked_fill_(~((control >= cells.box.bounds[0]) & (control <= cells.box.bounds[1])).all(0), total)
    key = number.to(torch.int16 if total < _MOST_SHORT else torch.int32)
    # numpy sorts short integers by their digits, however few there are.
    order = torch.from_numpy(np.argsort(key.numpy(), kind="stable"))
    counts = torch.bincount(key, minlength=total + 1)[:total].numpy()
    torch.sub(control, cell, out=cell)
    torch.index_select(cell, 1, order, out=place)
    return order, counts


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _to_polynomials(derivatives: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """From four control points along x to the powers of x, (4, 4); and from control points (z, y) around a cell to the
    powers of z and y, (16, K, 16), of the field itself and of its derivatives by y and by z.
    """
    powers = torch.tensor(_POWERS, dtype=torch.float64)
    slopes = torch.cat([torch.arange(1, 4)[:, None] * powers[1:], torch.zeros(1, 4)])
    kinds = [(powers, powers), (powers, slopes), (slopes, powers)][: 3 if derivatives else 1]
    products = [torch.einsum("pz,qy->zypq", along_z, along_y).reshape(16, 16) for along_z, along_y in kinds]
    return powers.T.to(dtype), torch.stack(products, 1).to(dtype)


def _polynomials(
    coefficients: Tensor, first: Sequence[Tensor | slice], straight: Sequence[float] | None, *, derivatives: bool
) -> Tensor:
    """(G, 3 * 4 * K, 16): the polynomials of cells whose first control points are `first` (x, y, z): a range along each
    axis, x running fastest, or the places (G,) of each cell. K: the field itself and its derivatives by y and by z.

    straight: factors of x, y and z to control-point units; derivatives are then those of x + d(x) by x. For None, they
    are those of d by control-point units.
    """
    along_x, matrix = _to_polynomials(derivatives, coefficients.dtype)
    if derivatives and straight is not None:
        matrix = matrix * matrix.new_tensor([1, *straight[1:]])[:, None]
    # Cells above and beside each other share what becomes of a row of control points.
    rows = torch.matmul(coefficients.unfold(3, 4, 1), along_x)
    around = rows.unfold(1, 4, 1).unfold(2, 4, 1).permute(1, 2, 3, 0, 4, 5, 6)[first[2], first[1], first[0]]
    found = (around.reshape(-1, 16) @ matrix.flatten(1)).view(-1, 3, 4, *matrix.shape[1:])
    if derivatives and straight is not None:
        found[:, 1, 0, 1, 0] += 1
        found[:, 2, 0, 2, 0] += 1
    return found.flatten(1, 3)


def _cut(counts: NDArray[np.intp]) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Deals sorted points out to blocks: first, last, and cells with how many points of each, out of such `counts`."""
    ends = counts.cumsum()
    inside = int(ends[-1]) if len(ends) else 0
    edges = np.arange(0, inside + _AT_ONCE, _AT_ONCE).clip(max=inside)
    stops = np.union1d(ends, edges)
    present, own = np.searchsorted(ends, stops[:-1], side="right").tolist(), np.diff(stops).tolist()
    borders = np.searchsorted(stops, edges).tolist()
    for (low, high), (a, b) in zip(pairwise(edges.tolist()), pairwise(borders), strict=True):
        yield low, high, present[a:b], own[a:b]


class _Room:
    """Where what belongs to `length` points is computed: its parts, which take longer to name than some sums."""

    def __init__(self, bases: Tensor, sums: Tensor, found: Tensor) -> None:
        kinds = len(sums) // 12
        self.basis, self.sums = bases, sums
        self.powers = bases[1:5:3], bases[2:9:6], bases[3:13:9]  # of y and z
        self.factors, self.products = (bases[4::4, None], bases[None, 1:4]), bases.unflatten(0, (4, 4))[1:, 1:]
        self.by_power = sums.unflatten(0, (3, 4, -1)).unbind(1)
        self.values = found[: 3 * kinds].unflatten(0, (3, kinds))
        self.slopes = self.values.unbind(1)[1:]
        self.once, self.twice, self.thrice = (power[:, 0] for power in self.by_power[1:])
        self.along_x, self.minors = found[9:12], found[12:]


class _Scratch:
    """Room for what is computed on the way to the values at up to `length` points, used over and over."""

    def __init__(self, cells: _Cells, length: int, like: Tensor) -> None:
        rows = cells.polynomials[0].shape[0] if cells.polynomials else 12
        self._cells = cells
        own = (like.new_ones(16, length + _APART), *(like.new_empty(n, length + _APART) for n in (rows, rows // 4 + 6)))
        # Most blocks are of one length, all but the last.
        self._room = lru_cache(maxsize=2)(lambda count: _Room(*(part[:, :count] for part in own)))

    def evaluate(
        self, place: Tensor, present: Sequence[int], own: Sequence[int], wanted: Wanted, result: Tensor
    ) -> None:
        """What is wanted at sorted points whose `place` (3, n) is given, as rows of `result`; see `_cut`."""
        room, x = self._room(place.shape[1]), place[0]
        self._sum(room, place, present, own)
        constant, once, twice, thrice = room.by_power
        torch.addcmul(twice, thrice, x, out=room.values)
        torch.addcmul(once, room.values, x, out=room.values)
        torch.addcmul(constant[:, 0], room.values[:, 0], x, out=result[:3])
        if wanted == "value":
            return
        torch.addcmul(constant[:, 1:], room.values[:, 1:], x, out=room.values[:, 1:])
        torch.addcmul(room.twice, room.thrice, x, value=1.5, out=room.along_x)
        torch.addcmul(room.once, room.along_x, x, value=2, out=room.along_x)
        columns = self._jacobian([room.along_x, *room.slopes])
        if wanted == "determinant":
            determinant(columns, out=result[3], minors=room.minors)
        else:
            torch.stack(columns, 1, out=result[3:].unflatten(0, (3, 3)))

    def _sum(self, room: _Room, place: Tensor, present: Sequence[int], own: Sequence[int]) -> None:
        """Computes the factors of the powers of x, (3, K, n) each."""
        once, twice, thrice = room.powers
        once.copy_(place[1:])
        torch.mul(once, once, out=twice)
        torch.mul(twice, once, out=thrice)
        torch.mul(*room.factors, out=room.products)
        polynomials = self._cells.polynomials
        for cell, at, result in zip(present, room.basis.split(own, 1), room.sums.split(own, 1), strict=True):
            torch.mm(polynomials[cell], at, out=result)

    def _jacobian(self, slopes: list[Tensor]) -> list[Tensor]:
        """Columns (3, n) of I + dd/dx, from derivatives by x, y and z as `_polynomials` has them."""
        straight, matrix = self._cells.straight, self._cells.to_control
        if straight is not None:
            slopes[0].mul_(straight[0])[0].add_(1)
            return slopes
        columns = [sum((s * matrix[row, axis] for row, s in enumerate(slopes)), torch.zeros(())) for axis in range(3)]
        for axis, column in enumerate(columns):
            column[axis] += 1
        return columns


def _diagonal(matrix: Tensor) -> list[float] | None:
    """The diagonal of a (3, 3) matrix without anything beside it; None for others."""
    scale = matrix.diagonal()
    return scale.tolist() if torch.equal(matrix, scale.diag()) else None


def determinant(columns: Sequence[Tensor], out: Tensor | None = None, minors: Tensor | None = None) -> Tensor:
    """(...,): det of the 3x3 matrices whose columns are three tensors (3, ...). minors: room for these."""
    a, b, c = (column.unbind(0) for column in columns)
    rooms = [None] * 3 if minors is None else minors.unbind(0)
    first, second, third = (
        torch.addcmul(torch.mul(b[i], c[j], out=room), b[j], c[i], value=-1, out=room)
        for room, (i, j) in zip(rooms, ((1, 2), (2, 0), (0, 1)), strict=True)
    )
    return torch.addcmul(torch.addcmul(a[0] * first, a[1], second), a[2], third, out=out)
