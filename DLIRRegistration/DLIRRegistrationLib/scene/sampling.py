"""VTK transforms sampled on grids of displacements, as finely as it takes to stay close to them."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from dlir.geometry import ImageGrid
from DLIRRegistrationLib.scene.frames import Matrix, move_points, points_lps, points_ras

# How far a sampled transform may be from the exact one, in mm, at the points that are tried. What is promised is
# 0.05; the worst point of all is seldom among a few hundred.
_TOLERANCE = 0.015
_TRIED = 400
_ROUNDS = 5

# Fractions of the control point spacing, or of the whole image where nothing bends: the first spacing that is tried.
_FIRST = 0.35
_LINEAR_CELLS = 8

# Displacements that a node may hold: 400 MB. Beyond, a coarser grid has to do.
_MOST_POINTS = 1 << 24
_SLAB_POINTS = 1 << 14

# Layers beyond the image, so that interpolation in its last cell has all the neighbours it takes.
_MARGIN = 2


def displacements(transform: Any, points: Matrix) -> Matrix:
    """(N, 3) LPS mm by which a vtkAbstractTransform, which works in RAS, moves LPS points (N, 3)."""
    return points_lps(move_points(transform, points_ras(points))) - points


def vector_image(vectors: Matrix, grid: ImageGrid) -> Any:
    """vtkImageData of doubles with LPS vectors (z, y, x, 3) turned to RAS, in the place of `grid` but for its axes."""
    image = _empty_vectors(grid)
    _vectors(image)[...] = points_ras(vectors)
    return image


def padded(grid: ImageGrid, layers: int = _MARGIN) -> ImageGrid:
    """`grid` with more layers on every side."""
    return grid.lattice((-layers,) * 3, (1, 1, 1), tuple(n + 2 * layers for n in grid.size))


def sample_grid(transform: Any, grid: ImageGrid) -> Generator[None, None, Any]:
    """The displacements of `transform` at every point of `grid`, as a `vector_image`. Yields between slabs."""
    image = _empty_vectors(grid)
    vectors = _vectors(image)
    _, ny, nx = grid.shape
    thickness = max(1, _SLAB_POINTS // (nx * ny))
    for low in range(0, grid.shape[0], thickness):
        count = min(thickness, grid.shape[0] - low)
        points = grid.lattice((0, 0, low), (1, 1, 1), (nx, ny, count)).voxel_centers().reshape(-1, 3)
        vectors[low : low + count] = points_ras(displacements(transform, points)).reshape(count, ny, nx, 3)
        yield
    return image


def sampling_grid(
    transform: Any, reference: ImageGrid, controls: Sequence[ImageGrid]
) -> Generator[None, None, ImageGrid]:
    """A grid over `reference`, and a little more, fine enough for cubic interpolation between displacements.

    controls: the control grids of the B-splines in `transform`. Its spacing starts from theirs and shrinks until a
    few hundred random points agree. Yields between attempts.
    """
    spacing = _first_spacing(reference, controls)
    error = np.inf
    for _ in range(_ROUNDS):
        error = interpolation_error(transform, reference, spacing)
        yield
        if error <= _TOLERANCE:
            break
        # The error of this interpolation goes with the third power of the spacing.
        spacing = spacing * max(0.3, 0.9 * (_TOLERANCE / error) ** (1 / 3))
    points = math.prod(reference.with_spacing(spacing.tolist()).size)
    if points > _MOST_POINTS:
        spacing = spacing * (points / _MOST_POINTS) ** (1 / 3)
        logging.warning("DLIR: the displacement grid had to be made coarser than exact; the native transform is exact")
    return padded(reference.with_spacing(spacing.tolist()))


def interpolation_error(transform: Any, reference: ImageGrid, spacing: Matrix) -> float:
    """mm: the largest difference, at random points of `reference`, that interpolation on such a grid would make."""
    grid = reference.with_spacing(spacing.tolist())
    rng = np.random.default_rng(0)
    index = rng.uniform(0, np.maximum(np.array(grid.size) - 1, 0), (_TRIED, 3))
    base = np.floor(index).astype(int)
    taps = np.stack(np.meshgrid(*[np.arange(-1, 3)] * 3, indexing="ij"), -1)
    neighbours = base[:, None, None, None] + taps
    x, y, z = np.moveaxis(_cubic_weights(index - base), 1, 0)
    sampled = displacements(transform, grid.to_physical(neighbours).reshape(-1, 3)).reshape(*neighbours.shape)
    interpolated = np.einsum("ni,nj,nk,nijkc->nc", x, y, z, sampled, optimize=True)
    return float(np.linalg.norm(interpolated - displacements(transform, grid.to_physical(index)), axis=1).max())


def _cubic_weights(offset: Matrix) -> Matrix:
    """(..., 4) weights of the neighbours at -1, 0, 1, 2 in VTK's cubic interpolation at `offset` (...)."""
    f = offset
    return np.stack(
        [((2 - f) * f - 1) * f / 2, ((3 * f - 5) * f * f + 2) / 2, ((4 - 3 * f) * f + 1) * f / 2, (f - 1) * f * f / 2],
        -1,
    )


def _first_spacing(reference: ImageGrid, controls: Sequence[ImageGrid]) -> Matrix:
    """(3,) mm along the axes of `reference`, from what the finest of the control grids has in that direction."""
    spacing = np.array(reference.extent) / _LINEAR_CELLS
    for control in controls:
        per_mm = np.abs(control.physical_to_index[:3, :3] @ reference.direction_matrix).max(0)
        spacing = np.minimum(spacing, _FIRST / per_mm)
    return spacing


def _empty_vectors(grid: ImageGrid) -> Any:
    image = vtk.vtkImageData()
    image.SetDimensions(grid.size)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(points_ras(grid.origin))
    image.AllocateScalars(vtk.VTK_DOUBLE, 3)
    return image


def _vectors(image: Any) -> NDArray[np.float64]:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[::-1], 3)
