"""Where an affine registration may begin: positions of the scanner, centres, and shifts and turns that look alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.optimization.affine import Candidates, rotations
from dlir.optimization.levels import Level, Pyramid, spacing_for
from dlir.transforms.lattice import Lattice, inside, lookup
from dlir.transforms.spatial import CompositeTransform

# Samples of the fixed image that shifts are looked for with.
_SAMPLES = 8_000
# Samples of the moving image at most then: of a small part and a whole body they would be without number.
_MOST = 500_000
# Turns about each axis, in degrees, that are tried beside none; and half a turn, for an image that lies head down.
_TURNS, _HALF = (-15.0, 15.0), 180.0
# So much of the smaller image must overlap.
_OVERLAP = 0.3
# Shifts of each turn that go on, no two closer than so many samples.
_PEAKS, _CLOSE = 2, 3


def candidates(
    fixed: Pyramid,
    moving: Pyramid,
    given: CompositeTransform | None = None,
    proceed: Callable[[], bool] = lambda: True,
) -> Candidates:
    """All of them; where a start is given, that one. Raises TransformError for one that is not linear.

    proceed: asked before each turn that is tried, of which none is the first; False leaves out the rest.
    """
    if given is not None:
        return Candidates(torch.from_numpy(given.matrix)[None], ("given transform",))
    spacing = max(spacing_for(fixed.grid, _SAMPLES), (math.prod(moving.grid.extent) / _MOST) ** (1 / 3))
    still, turned = fixed.at(spacing), moving.at(spacing)
    shifts = {
        "scanner positions": np.zeros(3),
        "image centers": moving.grid.center - fixed.grid.center,
        "centers of mass": _center_of_mass(turned) - _center_of_mass(still),
    }
    starts = [(name, _moved(np.eye(3), np.zeros(3), shift)) for name, shift in shifts.items()]
    starts += _searched(still, turned, spacing, proceed)
    matrices = torch.from_numpy(np.stack([matrix for _, matrix in starts]))
    return Candidates(matrices, tuple(name for name, _ in starts))


def _moved(turn: NDArray[np.float64], center: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4): x -> turn (x - center) + center + shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = center + shift - turn @ center
    return matrix


def _center_of_mass(level: Level) -> NDArray[np.float64]:
    """(3,) mm: of what is brighter than the mean; the middle where nothing is."""
    weights = (level.image - level.image.mean()).clamp(min=0)[0, 0].double().cpu().numpy()
    if not weights.sum():
        return level.grid.center
    mean: NDArray[np.float64] = np.average(level.grid.voxel_centers().reshape(-1, 3), axis=0, weights=weights.ravel())
    return mean


# -- shifts and turns ---------------------------------------------------------------------------------


def _searched(
    fixed: Level, moving: Level, spacing: float, proceed: Callable[[], bool]
) -> list[tuple[str, NDArray[np.float64]]]:
    """The shifts of each turn by which the images, or their edges, correlate best."""
    grid = fixed.grid.with_spacing((spacing,) * 3)
    image = _sampled(fixed, grid, np.eye(4))
    still = {edges: _Still(*(_edges(*image) if edges else image)) for edges in (False, True)}
    middle, found = moving.grid.center, []
    for turn in _turns(fixed.grid.direction_matrix):
        if not proceed():
            break
        reach = _reach(moving.grid, turn, grid)
        # The moving image, turned the other way about its own centre, is shifted over the fixed one.
        other = _sampled(moving, reach, _moved(turn, middle, np.zeros(3)))
        for edges in (False, True):
            for shift in still[edges].peaks(*(_edges(*other) if edges else other)):
                offset = reach.to_physical(np.array(shift[::-1], float)) - grid.to_physical(np.zeros(3))
                # x + offset lies in the turned image where x lies in the fixed one.
                matrix = _moved(turn, middle, np.zeros(3)) @ _moved(np.eye(3), np.zeros(3), offset)
                found.append(("search", matrix))
    return found


def _turns(axes: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """None, some about each axis (columns of (3, 3)), and half ones."""
    return [np.eye(3), *(_turn(axis, angle) for axis in axes.T for angle in (*_TURNS, _HALF))]


def _turn(axis: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    turn: NDArray[np.float64] = rotations(torch.from_numpy(axis * math.radians(degrees))[None])[0].numpy()
    return turn


def _reach(grid: ImageGrid, turn: NDArray[np.float64], like: ImageGrid) -> ImageGrid:
    """Voxels as of `like` over a grid that is turned back about its centre."""
    axes = like.direction_matrix
    edges = np.abs(axes.T @ turn.T @ grid.direction_matrix) @ np.array(grid.extent)
    size = np.maximum(1, np.ceil(edges / np.array(like.spacing)).astype(int))
    corner = grid.center - axes @ ((size - 1) / 2 * np.array(like.spacing))
    return ImageGrid(tuple(size[::-1]), like.spacing, tuple(corner), like.direction)


def _sampled(level: Level, grid: ImageGrid, matrix: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """An image at the voxels of a grid, sent through a map in mm, and whether they lie in it: (z, y, x) each."""
    index = torch.from_numpy(level.grid.physical_to_index @ matrix @ grid.index_to_physical).float()
    points = (Lattice(grid.shape).points() @ index[:3, :3].T + index[:3, 3]).to(level.image.device)[None]
    within = inside(level.lattice, points)[0].float()
    if level.weight is not None:
        within = within * lookup(level.weight, level.lattice, points)[0, 0]
    return lookup(level.image, level.lattice, points)[0, 0] * within, within


def _edges(image: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """How steep an image is, where it and its neighbours lie in it; whatever the contrast."""
    along = [axis for axis, size in enumerate(image.shape) if size > 1]
    slopes = torch.stack(torch.gradient(image, dim=along)) if along else torch.zeros_like(image)[None]
    whole = -F.max_pool3d(-within[None, None], 3, 1, 1)[0, 0]
    return slopes.square().sum(0).sqrt() * whole, whole


class _Still:
    """The fixed image (z, y, x) and how far each voxel counts, under which others are shifted.

    By Fourier transforms (Padfield 2012); those of the fixed image are done once for each size.
    """

    def __init__(self, image: Tensor, counts: Tensor) -> None:
        self._image, self._counts = image, counts
        self._known: dict[tuple[int, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def peaks(self, image: Tensor, counts: Tensor) -> list[tuple[int, int, int]]:
        """Shifts (z, y, x) by which a moving image correlates best with the fixed one over what both show.

        Voxel i of the fixed image then lies at voxel i + shift of the moving one.
        """
        shape = tuple(_fast(n + m - 1) for n, m in zip(self._image.shape, image.shape, strict=True))

        def correlated(a: Tensor, b: Tensor) -> Tensor:
            found: Tensor = torch.fft.irfftn(a.conj() * b, shape)
            return found

        if shape not in self._known:
            self._known[shape] = _spectra(self._image, self._counts, shape)
        sf, sf2, smf = self._known[shape]
        sg, sg2, smg = _spectra(image, counts, shape)
        count = correlated(smf, smg).clamp(min=1e-3)
        sum_f, sum_g = correlated(sf, smg), correlated(smf, sg)
        covariance = correlated(sf, sg) - sum_f * sum_g / count
        variances = [
            (correlated(sf2, smg) - sum_f**2 / count).clamp(min=0),
            (correlated(smf, sg2) - sum_g**2 / count).clamp(min=0),
        ]
        enough = count > _OVERLAP * torch.minimum(self._counts.sum(), counts.sum())
        value = torch.where(enough, covariance / torch.sqrt(variances[0] * variances[1] + 1e-6), -1.0)
        return _highest(value, image.shape)


def _spectra(image: Tensor, counts: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of an image, its square, and of where it counts, enlarged by zeros."""
    counted = image * counts
    first, second, third = (torch.fft.rfftn(part, shape) for part in (counted, image * counted, counts))
    return first, second, third


def _fast(length: int) -> int:
    """The next length that Fourier transforms are fast for."""
    while True:
        left = length
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1:
            return length
        length += 1


def _highest(value: Tensor, size: Sequence[int]) -> list[tuple[int, int, int]]:
    """The highest peaks of a periodic map; indices beyond `size` stand for negative shifts."""
    value, found = value.clone(), []
    whole = value.shape
    for _ in range(_PEAKS):
        best = int(value.argmax())
        if float(value.flatten()[best]) <= 0:
            break
        place = np.unravel_index(best, whole)
        shift = [int(p) if p < n else int(p) - w for p, n, w in zip(place, size, whole, strict=True)]
        found.append((shift[0], shift[1], shift[2]))
        near = [torch.arange(-_CLOSE, _CLOSE + 1).add(int(p)).remainder(w) for p, w in zip(place, whole, strict=True)]
        value[near[0][:, None, None], near[1][:, None], near[2]] = -1.0
    return found
