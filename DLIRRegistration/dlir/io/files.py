"""Images that are one file: NIfTI, NRRD, MetaImage and whatever else SimpleITK reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.integrity import is_damaged
from dlir.io.quiet import quiet
from dlir.io.source import Source

if TYPE_CHECKING:
    import SimpleITK as sitk


def count_file_phases(source: Source) -> int:
    """Number of time points in a file, from its header; 1 for a 3D file. Raises as `read_file`."""
    return _phases(_read_header(source))


def read_metadata(source: Source) -> dict[str, str]:
    """What a file's header says beside its geometry, by its keys. Raises as `read_file`."""
    reader = _read_header(source)
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def read_file(source: Source) -> tuple[NDArray[Any], ImageGrid]:
    """Voxels (z, y, x) in the file's own type and grid of a 3D file or of one time point of a 4D file.

    Raises ImageError or GeometryError.
    """
    import SimpleITK as sitk

    reader = _read_header(source)
    size = reader.GetSize()
    phase = source.choose_phase(_phases(reader))
    grid = _grid(source, reader)
    if len(size) == 4:
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, phase])
    damaged = ImageError(f"{source.name} is damaged or incomplete; copy or export it again")
    try:
        with quiet:
            if is_damaged(source.path):
                raise damaged
            image = reader.Execute()
            if _is_sequence(reader):
                image = sitk.VectorIndexSelectionCast(image, phase)
            array = sitk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise damaged from error
    return array, grid


def _read_header(source: Source) -> sitk.ImageFileReader:
    """A SimpleITK reader that knows the header of a scalar image of 3 or 4 dimensions."""
    import SimpleITK as sitk

    try:
        with source.path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageError(f"{source.name} cannot be opened ({error.strerror}); check its permissions") from error
    if empty:
        raise ImageError(f"{source.name} is an empty file (0 bytes); copy or export it again")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(source.path))
    try:
        with quiet:
            is_dicom = reader.GetImageIOFromFileName(str(source.path)) == "GDCMImageIO"
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _header_error(source, error) from error
    if is_dicom:
        raise ImageError(f"{source.name} is a single DICOM file; give the folder that holds its series")
    _check_kind(source, reader)
    return reader


def _header_error(source: Source, error: RuntimeError) -> ImageError | GeometryError:
    if "orthonormal" in str(error):
        return GeometryError(
            f"{source.name}: direction matrix is singular or its columns are not perpendicular; "
            "correct the image header or resample the image onto a straight grid"
        )
    return ImageError(f"{source.name} cannot be read as an image; give an undamaged NIfTI, NRRD, MHA or DICOM image")


def _check_kind(source: Source, reader: sitk.ImageFileReader) -> None:
    import SimpleITK as sitk

    components, dimension = reader.GetNumberOfComponents(), reader.GetDimension()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise ImageError(f"{source.name} has complex voxels; give its magnitude image")
    if components != 1 and not _is_sequence(reader):
        raise ImageError(f"{source.name} has {components} values per voxel (colour or vector); give an image with one")
    if dimension not in (3, 4):
        raise ImageError(f"{source.name} is a {dimension}D image; give a 3D volume or one time point of a 4D file")


def _is_sequence(reader: sitk.ImageFileReader) -> bool:
    """Whether what ITK takes for values per voxel are time points, as in a sequence that Slicer saved as NRRD."""
    kinds = [reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.startswith("NRRD_kinds[")]
    return reader.GetDimension() == 3 and "list" in kinds


def _phases(reader: sitk.ImageFileReader) -> int:
    size = reader.GetSize()
    if len(size) == 4:
        return int(size[3])
    return int(reader.GetNumberOfComponents()) if _is_sequence(reader) else 1


def _grid(source: Source, reader: sitk.ImageFileReader) -> ImageGrid:
    """The 3D grid in the header.

    Taken from the header and not from the image read, because ITK's extraction of a volume from a 4D file
    may put the identity in place of directions that it finds unfit.
    """
    size, dimension = reader.GetSize(), reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    x, y, z = size[:3]
    try:
        return ImageGrid((z, y, x), reader.GetSpacing()[:3], reader.GetOrigin()[:3], tuple(direction.ravel()))
    except GeometryError as error:
        raise GeometryError(f"{source.name}: {error}") from error
