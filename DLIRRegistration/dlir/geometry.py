"""Where an image lies in space: the one type that owns shape, spacing, origin and direction.

Arrays are stored (z, y, x); physical vectors, spacings and continuous indices are written (x, y, z).
This module is the one place that converts between the two. All lengths are millimetres in LPS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlir.errors import GeometryError

if TYPE_CHECKING:
    import SimpleITK as sitk

Vector3 = tuple[float, float, float]
Shape3 = tuple[int, int, int]

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def transform_points(matrix: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float64]:
    """A (4, 4) matrix applied to points (..., 3).

    Not by `@`: the library under it splits three columns among threads, which on a busy machine costs tens of
    times more than the product.
    """
    linear: NDArray[np.float64] = np.einsum("...j,ij->...i", np.asarray(points, float), matrix[:3, :3])
    return linear + matrix[:3, 3]


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest part of an array, one slice per axis, that has all of a mask; None where that is empty."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(tuple(k for k in range(mask.ndim) if k != axis)))
        if not hit.size:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def common_voxels(
    target: Shape3, source: Shape3, matrix: NDArray[np.float64], tolerance: float
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """The part (z, y, x) of an array of shape `target` that one of shape `source` has too, and where in that it lies.

    matrix: (4, 4), index (x, y, z) of the target to index of the source. None where any voxel of the target is off a
    voxel of the source, or of what lies beyond its borders, by more than `tolerance` voxels.
    """
    size, shift = np.array(target[::-1]), np.rint(matrix[:3, 3]).astype(int)
    error = np.abs(matrix[:3, :3] - np.eye(3)) @ size + np.abs(matrix[:3, 3] - shift)
    if (error > tolerance).any():
        return None
    low = np.maximum(0, -shift)
    high = np.maximum(low, np.minimum(size, np.array(source[::-1]) - shift))
    there, here = (
        tuple(slice(*ends) for ends in zip(first[::-1], last[::-1], strict=True))
        for first, last in ((low, high), (low + shift, high + shift))
    )
    return there, here


@dataclass(frozen=True)
class ImageGrid:
    """A regular grid of voxel centres in LPS millimetres.

    shape: number of voxels, in array order (z, y, x).
    spacing: distance between voxel centres in mm, (x, y, z), positive.
    origin: physical position in mm of the centre of voxel (0, 0, 0), (x, y, z).
    direction: 3x3 matrix, row by row; its columns are the unit vectors of the x, y and z index axes.

    Raises GeometryError for a size below 1, a spacing that is not positive and finite, or a direction
    that is singular or whose columns are not perpendicular unit vectors (to 1e-3).
    """

    shape: Shape3
    spacing: Vector3 = (1.0, 1.0, 1.0)
    origin: Vector3 = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = _IDENTITY

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for name in ("spacing", "origin", "direction"):
            object.__setattr__(self, name, tuple(float(v) for v in np.ravel(getattr(self, name))))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"image shape {self.shape} is not three positive sizes; give a 3D volume")
        if len(self.spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise GeometryError(f"voxel spacing {self.spacing} is not positive; correct the image header")
        if len(self.origin) != 3 or not all(map(math.isfinite, self.origin)):
            raise GeometryError(f"image origin {self.origin} is not finite; correct the image header")
        matrix = np.array(self.direction)
        if matrix.size != 9 or not np.isfinite(matrix).all():
            raise GeometryError(f"direction {self.direction} is not a 3x3 matrix; correct the image header")
        matrix = matrix.reshape(3, 3)
        if abs(np.linalg.det(matrix)) < 1e-6:
            raise GeometryError("direction matrix is singular; correct the image header")
        if not np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-3):
            raise GeometryError(
                "direction columns are not perpendicular unit vectors; resample the image onto a straight grid"
            )

    # -- conversion ------------------------------------------------------------------------------

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> ImageGrid:
        """The grid of a 3D SimpleITK image."""
        return cls(image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def to_sitk(self, array: NDArray[Any], *, is_vector: bool = False) -> sitk.Image:
        """A SimpleITK image of `array` (z, y, x[, component]) lying on this grid."""
        import SimpleITK as sitk

        if tuple(array.shape[:3]) != self.shape:
            raise GeometryError(f"array of shape {array.shape[:3]} does not fit a grid of shape {self.shape}")
        image = sitk.GetImageFromArray(array, isVector=is_vector)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def to_dict(self) -> dict[str, list[float] | list[int]]:
        """Plain lists, for JSON."""
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    # -- derived quantities ----------------------------------------------------------------------

    @property
    def size(self) -> Shape3:
        """Number of voxels as (x, y, z)."""
        z, y, x = self.shape
        return x, y, z

    @property
    def direction_matrix(self) -> NDArray[np.float64]:
        """(3, 3): columns are the index axes in LPS."""
        return np.array(self.direction).reshape(3, 3)

    @property
    def index_to_physical(self) -> NDArray[np.float64]:
        """(4, 4): continuous index (x, y, z) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction_matrix * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def physical_to_index(self) -> NDArray[np.float64]:
        """(4, 4): LPS mm to continuous index (x, y, z)."""
        return np.asarray(np.linalg.inv(self.index_to_physical), float)

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,): physical position in mm of the middle of the grid."""
        return self.to_physical((np.array(self.size) - 1) / 2)

    @property
    def extent(self) -> Vector3:
        """Edge lengths in mm, voxel borders included, along the index axes (x, y, z)."""
        x, y, z = (n * s for n, s in zip(self.size, self.spacing, strict=True))
        return x, y, z

    def to_physical(self, index: ArrayLike) -> NDArray[np.float64]:
        """Continuous indices (..., 3) in (x, y, z) to LPS mm (..., 3)."""
        return transform_points(self.index_to_physical, index)

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """LPS points in mm (..., 3) to continuous indices (..., 3) in (x, y, z)."""
        return transform_points(self.physical_to_index, points)

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether LPS points (..., 3) lie in the volume, voxel borders included (ITK's rule)."""
        index = self.to_index(points)
        return np.asarray(((index >= -0.5) & (index <= np.array(self.size) - 0.5)).all(-1), bool)

    def voxel_centers(self) -> NDArray[np.float64]:
        """(z, y, x, 3): LPS position in mm of every voxel centre."""
        z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in self.shape), indexing="ij")
        return self.to_physical(np.stack([x, y, z], -1))

    def relative_to(self, other: ImageGrid) -> NDArray[np.float64]:
        """(4, 4): continuous index (x, y, z) of this grid to continuous index of `other`."""
        return other.physical_to_index @ self.index_to_physical

    # -- other grids -----------------------------------------------------------------------------

    def same_as(self, other: ImageGrid, tolerance: float = 1e-3) -> bool:
        """Same voxels in the same places: corners agree to `tolerance` of a voxel."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        gap = np.abs(self.to_physical(corners) - other.to_physical(corners)).max()
        return bool(gap <= tolerance * min(self.spacing)) and np.allclose(self.direction, other.direction, atol=1e-3)

    def voxels_in(self, other: ImageGrid, tolerance: float = 1e-3) -> NDArray[np.int64] | None:
        """(3, 4): index (x, y, z) of a voxel of this grid, and 1, to that of the voxel of `other` in the same place.

        None where voxels of both do not coincide, to `tolerance` of a voxel. Extents and order of axes may differ.
        """
        matrix = self.relative_to(other)[:3]
        whole = np.rint(matrix)
        steps = np.abs(whole[:, :3])
        if not (steps.sum(0) == 1).all() or not (steps.sum(1) == 1).all():
            return None
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.size) - 1)
        gap = (
            np.abs((matrix - whole) @ np.vstack([corners.T, np.ones(len(corners))])) * np.array(other.spacing)[:, None]
        )
        return whole.astype(np.int64) if gap.max() <= tolerance * min(other.spacing) else None

    def lattice(self, start: Sequence[float], step: Sequence[float], size: Sequence[int]) -> ImageGrid:
        """The grid of `size` points at continuous index `start + step * i` of this one (all (x, y, z))."""
        spacing = np.array(self.spacing) * np.array(step)
        shape = (int(size[2]), int(size[1]), int(size[0]))
        return ImageGrid(shape, tuple(spacing), tuple(self.to_physical(start)), self.direction)

    def part(self, where: Sequence[slice]) -> ImageGrid:
        """The grid of a part (z, y, x) of this one, whose slices say where they begin and end."""
        return self.lattice([part.start for part in where[::-1]], (1, 1, 1), [p.stop - p.start for p in where[::-1]])

    def slab(self, low: int, high: int) -> ImageGrid:
        """The grid of the slices from `low` to before `high`."""
        return self.lattice((0, 0, low), (1, 1, 1), (*self.size[:2], high - low))

    def with_spacing(self, spacing: Sequence[float]) -> ImageGrid:
        """The grid of another spacing (mm, (x, y, z)) that covers the same volume, border to border.

        Its size is rounded up, so it may reach past this grid by less than one of its voxels, shared
        equally between both sides.
        """
        extent = np.array(self.extent)
        size = np.maximum(np.ceil(extent / np.array(spacing) - 1e-4), 1).astype(int)
        step = np.array(spacing) / np.array(self.spacing)
        start = (np.array(self.size) - 1) / 2 - step * (size - 1) / 2
        return self.lattice(tuple(start), tuple(step), tuple(size))

    def permuted(self, axes: Sequence[int], flips: Sequence[bool] = (False, False, False)) -> ImageGrid:
        """The same voxels with index axis i taken from axis `axes[i]`, run backwards where `flips[i]`."""
        size, matrix = np.array(self.size)[list(axes)], self.direction_matrix[:, list(axes)].copy()
        corner = np.zeros(3)
        for new, old in enumerate(axes):
            if flips[new]:
                matrix[:, new] *= -1
                corner[old] = self.size[old] - 1
        spacing = tuple(self.spacing[a] for a in axes)
        return ImageGrid(tuple(size[::-1]), spacing, tuple(self.to_physical(corner)), tuple(matrix.ravel()))  # type: ignore[arg-type]

    def canonical(self) -> ImageGrid:
        """The same voxels with axes permuted and flipped to lie closest to L, P and S."""
        matrix = self.direction_matrix
        orders = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if len({a, b, c}) == 3]
        best = max(orders, key=lambda order: sum(abs(matrix[row, column]) for row, column in enumerate(order)))
        return self.permuted(best, [matrix[row, column] < 0 for row, column in enumerate(best)])


def upright(grid: ImageGrid, normal: int | None = None) -> ImageGrid:
    """`grid` with its axis `normal` (x, y, z), the thickest one by default, last and the others as on a light box."""
    left, back, up = grid.direction_matrix
    if normal is None:
        normal = max(range(3), key=lambda a: (grid.spacing[a], a))
    rest = [a for a in range(3) if a != normal]
    # The axis along the body runs down the page; in an axial slice, the one from front to back.
    down = max(rest, key=lambda a: 2 * abs(up[a]) + abs(back[a]))
    across = rest[0] if rest[1] == down else rest[1]
    flips = (bool(left[across] + back[across] < 0), bool(back[down] - up[down] < 0), False)
    return grid.permuted((across, down, normal), flips)
