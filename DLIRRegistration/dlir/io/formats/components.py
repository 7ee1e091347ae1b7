"""Images with several values per voxel, such as colours and vectors, read component by component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from dlir.io.formats.files import is_sequence
from dlir.io.formats.integrity import is_damaged
from dlir.io.formats.nifti import read_nifti_header
from dlir.io.names import require_utf8
from dlir.io.placing import grid_of
from dlir.io.quiet import quiet
from dlir.io.source import Source

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True, eq=False)
class Components:
    """arrays: (z, y, x) of each component, in the file's own type, on `grid`. source: as the user typed it."""

    arrays: tuple[NDArray[Any], ...]
    grid: ImageGrid
    source: str


def has_components(source: Source) -> bool:
    """Whether a source is a file of a 3D image with several values per voxel; False too for what cannot be read.

    Raises ImageError for a name that is not UTF-8.
    """
    return _header(source) is not None


def read_components(source: Source) -> Components:
    """Raises ImageError where `has_components` says no, for a damaged file, and for voxels that are not finite;
    GeometryError for a header that places no voxels in space.
    """
    import SimpleITK as sitk

    reader = _header(source)
    if reader is None:
        raise ImageError(f"{source.name} has one value per voxel, or cannot be read as an image")
    nifti = read_nifti_header(source.path)
    if nifti is not None and nifti.misleads_itk:
        raise ImageError(
            f"{source.name} is NIfTI of a kind that is read for one value per voxel only; write it as NRRD"
        )
    if is_damaged(source.path):
        raise ImageError(f"{source.name} is damaged or incomplete; copy or export it again")
    grid = grid_of(source.name, source.path, reader, nifti)
    try:
        with quiet:
            array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise ImageError(f"{source.name} is damaged or incomplete; copy or export it again") from error
    if not np.isfinite(array).all():
        raise ImageError(f"{source.name} has voxels that are not finite numbers (NaN or infinite); replace them")
    if min(grid.shape) == 1:
        raise ImageError(f"{source.name} is 2D: it has a single slice; give a volume with several slices")
    parts = (np.ascontiguousarray(part) for part in np.moveaxis(array, -1, 0))
    return Components(tuple(parts), grid, source.typed)


def _header(source: Source) -> sitk.ImageFileReader | None:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(require_utf8(source.path, source.name, ImageError))
    try:
        with quiet:
            reader.ReadImageInformation()
    except RuntimeError:  # as whoever reads it will find out
        return None
    several = reader.GetDimension() == 3 and reader.GetNumberOfComponents() > 1 and not is_sequence(reader)
    return reader if several and "complex" not in sitk.GetPixelIDValueAsString(reader.GetPixelID()) else None
