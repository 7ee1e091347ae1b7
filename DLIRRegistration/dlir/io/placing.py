"""Where the voxels of a file lie: what its header states, in mm, and what to do where it states two things or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, note
from dlir.geometry import ImageGrid, Shape3, Vector3
from dlir.io.formats.lengths import unit_of
from dlir.io.formats.nifti import NiftiHeader

if TYPE_CHECKING:
    import SimpleITK as sitk

# Lengths closer than this, relatively, differ by rounding.
_ROUNDING = 0.01
# Placements closer than this, in voxels, are the same.
_SAME_PLACE = 0.5


def grid_of(name: str, path: Path, reader: sitk.ImageFileReader, nifti: NiftiHeader | None) -> ImageGrid:
    """The 3D grid in a header, whose image messages call `name`; a note tells what had to be decided.

    Taken from the header and not from the image read, because ITK's extraction of a volume from a 4D file
    may put the identity in place of directions that it finds unfit. Raises GeometryError.
    """
    try:
        return _from_itk(name, path, reader) if nifti is None else _from_nifti(name, reader, nifti)
    except GeometryError as error:
        raise GeometryError(f"{name}: {error}") from error


def _from_itk(name: str, path: Path, reader: sitk.ImageFileReader) -> ImageGrid:
    try:
        found = unit_of(path)
    except ValueError as unknown:
        raise GeometryError(f"its lengths are in '{unknown}'; state them in mm") from None
    if found is None:
        raise GeometryError("the header states no voxel size; write it there, in mm")
    unit, factor = found
    grid = _itk_grid(reader, [factor * s for s in reader.GetSpacing()], [factor * o for o in reader.GetOrigin()])
    tell_unit(name, unit, grid)
    return grid


def _from_nifti(name: str, reader: sitk.ImageFileReader, nifti: NiftiHeader) -> ImageGrid:
    """ITK's grid, of the two voxel sizes that a header may state the one that is meant. ITK takes that in pixdim."""
    stated, sform = nifti.spacing, nifti.sform
    if sform is not None and _by_sform(name, sform, stated, nifti.unit[1]):
        grid = _placed(_itk_shape(reader), np.linalg.norm(sform[:, :3], axis=0), sform)
        tell_unit(name, nifti.unit[0], grid)
        return grid
    if stated is None:
        raise GeometryError("the header states no voxel size; write it there, in mm")
    grid = _itk_grid(reader, stated, reader.GetOrigin())
    tell_unit(name, nifti.unit[0], grid)
    _tell_placement(name, grid, nifti)
    return grid


def nifti_grid(
    name: str, shape: Shape3, matrix: NDArray[np.float64], stated: Vector3 | None, unit: tuple[str, float]
) -> ImageGrid:
    """The grid of a NIfTI image in memory, of the two voxel sizes that it may state the one that is meant.

    matrix: (3, 4), from index to LPS mm. stated: by its pixdim, in mm. unit: of its header, and what it is in mm.
    Raises GeometryError.
    """
    lengths = np.linalg.norm(matrix[:, :3], axis=0)
    if not lengths.all():
        raise GeometryError("its affine sends an axis nowhere; correct it")
    by_sform = stated is None or _by_sform(name, matrix, stated, unit[1])
    grid = _placed(shape, lengths if by_sform or stated is None else stated, matrix)
    tell_unit(name, unit[0], grid)
    return grid


def _by_sform(name: str, sform: NDArray[np.float64], stated: Vector3 | None, unit: float) -> bool:
    """Whether the voxel size is that of the sform and not that in pixdim, `stated`. unit: of the header, in mm.

    Where the columns of the sform have other lengths, one of the two was never filled in if it is all ones; else nobody
    can tell which is right, which raises GeometryError.
    """
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    if stated is not None and np.allclose(lengths, stated, rtol=_ROUNDING, atol=0):
        return False
    if stated is None or np.allclose(stated, unit):
        instead = "states none" if stated is None else f"says {_mm(stated)}"
        note(f"{name} has voxels of {_mm(lengths)} by its sform, which is taken; its pixdim {instead}")
        return True
    if not np.allclose(lengths, unit):
        raise GeometryError(
            f"the header states two voxel sizes, {_mm(lengths)} by its sform and {_mm(stated)} by its pixdim; "
            "correct the one that is wrong"
        )
    return False


def tell_unit(name: str, unit: str, grid: ImageGrid) -> None:
    if unit != "mm":
        note(f"{name} states its lengths in {unit}; its voxels measure {_mm(grid.spacing)}")


def _tell_placement(name: str, grid: ImageGrid, nifti: NiftiHeader) -> None:
    """A note where a header places the voxels nowhere, or in two places: in one of them by what ITK prefers."""
    qform, sform = nifti.qform, nifti.sform
    if max(nifti.codes) <= 0:
        note(f"{name} does not state how it lies in space; its axes are taken to run to the left, back and head")
    if qform is None or sform is None:
        return
    corners = np.stack(np.meshgrid(*([0, n - 1] for n in grid.size), indexing="ij"), -1).reshape(-1, 3)
    taken = grid.to_physical(corners)
    away = {
        form: float(np.abs(_placed(grid.shape, grid.spacing, matrix).to_physical(corners) - taken).max())
        for form, matrix in (("qform", qform), ("sform", sform))
    }
    other = max(away, key=lambda form: away[form])
    if away[other] > _SAME_PLACE * min(grid.spacing):
        one = min(away, key=lambda form: away[form])
        note(f"{name} is placed by its {one}; its {other} says otherwise, by up to {away[other]:.1f} mm")


def _itk_shape(reader: sitk.ImageFileReader) -> Shape3:
    x, y, z = reader.GetSize()[:3]
    return z, y, x


def _itk_grid(reader: sitk.ImageFileReader, spacing: Sequence[float], origin: Sequence[float]) -> ImageGrid:
    direction = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
    return ImageGrid(_itk_shape(reader), spacing[:3], origin[:3], tuple(direction.ravel()))  # type: ignore[arg-type]


def _placed(shape: Shape3, spacing: Sequence[float], matrix: NDArray[np.float64]) -> ImageGrid:
    """The grid of that spacing which lies as `matrix` (3, 4), from index to LPS mm, says."""
    direction = matrix[:, :3] / np.linalg.norm(matrix[:, :3], axis=0)
    return ImageGrid(shape, tuple(spacing), tuple(matrix[:, 3]), tuple(direction.ravel()))  # type: ignore[arg-type]


def _mm(lengths: Sequence[float] | Vector3 | NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths) + " mm"
