"""Images that are one file: NIfTI, NRRD, MetaImage and whatever else SimpleITK reads and states a voxel size."""

from __future__ import annotations

import locale
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.formats.integrity import is_damaged
from dlir.io.formats.lengths import sequence_times
from dlir.io.formats.nifti import NiftiHeader, has_mixed_ending, read_nifti_header
from dlir.io.formats.packed import beginning, is_gzip
from dlir.io.memory import memory_limit
from dlir.io.names import require_utf8
from dlir.io.placing import grid_of
from dlir.io.quiet import quiet
from dlir.io.source import Source, ending_of

if TYPE_CHECKING:
    import SimpleITK as sitk

# Formats whose headers place the voxels in space. In others ITK takes 1 mm for what is not said.
_PLACING = ("Nifti", "Nrrd", "Meta", "Gipl", "VTK", "HDF5", "MINC")
# Formats that SimpleITK knows by a file's name: where and how its content begins, and what the name ends in.
_FORMATS = {
    "NRRD": (0, b"NRRD0", (".nrrd", ".nhdr")),
    "MetaImage": (0, b"ObjectType", (".mha", ".mhd")),
    "NIfTI": (344, b"n+1\0", (".nii", ".nii.gz")),
}
# Of a voxel in memory, at least.
_BYTES = 4
# Readers of ITK that know the files of their format by endings in small letters alone.
_BY_ENDING = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".gipl": "GiplImageIO", ".gipl.gz": "GiplImageIO"}


@dataclass(frozen=True)
class _Opened:
    """A file whose header SimpleITK has read. nifti: what it does not tell, None for other formats."""

    source: Source
    reader: sitk.ImageFileReader
    nifti: NiftiHeader | None


def count_file_phases(source: Source) -> int:
    """Number of time points in a file, from its header; 1 for a 3D file. Raises as `read_file`."""
    with _open(source) as opened:
        return _phases(opened.reader)


def read_metadata(source: Source) -> dict[str, str]:
    """What a file's header says beside its geometry, by its keys. Raises as `read_file`."""
    with _open(source) as opened:
        return {key: opened.reader.GetMetaData(key) for key in opened.reader.GetMetaDataKeys()}


def read_file(source: Source) -> tuple[NDArray[Any], ImageGrid]:
    """Voxels (z, y, x) in the file's own type and grid of a 3D file or of one time point of a 4D file.

    Raises ImageError or GeometryError.
    """
    with _open(source) as opened:
        phase = source.choose_phase(_phases(opened.reader))
        _check_memory(source, opened.reader.GetSize()[:3])
        wild = _wild_voxels(opened, phase)
        _check_format(opened)
        grid = grid_of(source.name, source.path, opened.reader, opened.nifti)
        return _voxels(opened, phase, wild), grid


@dataclass(frozen=True, eq=False)
class Vectors:
    """A vector in every voxel. array: (z, y, x, component), as the file has them. nifti: the header of a NIfTI file,
    which says what they mean.
    """

    array: NDArray[np.float32]
    grid: ImageGrid
    nifti: NiftiHeader | None


def read_vectors(source: Source) -> Vectors:
    """A 3D file with several values per voxel. NaN stays. Raises ImageError, also for a file of another kind, and
    GeometryError.
    """
    with _open(source, _require_vectors) as opened:
        size = opened.reader.GetSize() if opened.nifti is None else opened.nifti.size
        count = opened.reader.GetNumberOfComponents() if opened.nifti is None else size[4]
        _check_memory(source, (*size[:3], 2 * count))
        _check_format(opened)
        grid = grid_of(source.name, source.path, opened.reader, opened.nifti)
        if opened.nifti is None:
            return Vectors(_voxels(opened, None, _wild_voxels(opened, 0)).astype(np.float32), grid, None)
        try:
            return Vectors(opened.nifti.vectors(), grid, opened.nifti)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(source) from error


@dataclass(frozen=True, eq=False)
class FilePhases:
    """All time points of a file. array: (t, z, y, x) in the file's own type. seconds: of each from the first; None
    where the file does not say.
    """

    array: NDArray[Any]
    grid: ImageGrid
    seconds: tuple[float, ...] | None


def read_file_phases(source: Source) -> FilePhases:
    """All time points of a 4D file, or the one of a 3D file, read at once. Raises as `read_file`."""
    with _open(source) as opened:
        count = _phases(opened.reader)
        _check_memory(source, (*opened.reader.GetSize()[:3], count))
        wild = _wild_voxels(opened, 0, count)
        _check_format(opened)
        grid = grid_of(source.name, source.path, opened.reader, opened.nifti)
        array = _voxels(opened, None, wild).reshape(count, *grid.shape)
        return FilePhases(array, grid, _seconds(opened, count))


def _seconds(opened: _Opened, count: int) -> tuple[float, ...] | None:
    if opened.nifti is None:
        stated = sequence_times(opened.source.path)
        return stated if stated is not None and len(stated) == count else None
    step = opened.nifti.seconds
    return None if step is None else tuple(step * k for k in range(count))


def _wild_voxels(opened: _Opened, phase: int, phases: int = 1) -> NDArray[np.int64]:
    """Which voxels, in the order of the array, ITK reads as 0 although the file says otherwise.

    Raises ImageError for a file that does not hold all voxels.
    """
    source = opened.source
    try:
        if opened.nifti is not None:
            return opened.nifti.wild_voxels(phase, phases)
        if is_damaged(source.path):
            raise _damaged(source)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(source) from error
    return np.empty(0, np.int64)


def _voxels(opened: _Opened, phase: int | None, wild: NDArray[np.int64]) -> NDArray[Any]:
    """Of one time point (z, y, x), or with None of all (t, z, y, x)."""
    import SimpleITK as sitk

    reader, size = opened.reader, opened.reader.GetSize()
    if len(size) == 4 and phase is not None:
        reader.SetExtractSize([*size[:3], 0])
        reader.SetExtractIndex([0, 0, 0, phase])
    try:
        with quiet:
            image = reader.Execute()
            if is_sequence(reader) and phase is not None:
                image = sitk.VectorIndexSelectionCast(image, phase)
            array = sitk.GetArrayFromImage(image)
            if is_sequence(reader) and phase is None:
                array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    except RuntimeError as error:
        raise _damaged(opened.source) from error
    if len(wild):  # of floating point, then
        array.reshape(-1)[wild] = np.nan
    return array


def _damaged(source: Source) -> ImageError:
    return ImageError(f"{source.name} is damaged or incomplete; copy or export it again")


# -- opening ------------------------------------------------------------------------------------------


_Check = Callable[[Source, "sitk.ImageFileReader", NiftiHeader | None], None]


@contextmanager
def _open(source: Source, check: _Check | None = None) -> Iterator[_Opened]:
    """As `_readable`, and the locale of the process stays what it is: ITK's VTK reader leaves that of C behind."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        with _readable(source, check or _require_scalars) as opened:
            yield opened
    finally:
        if locale.setlocale(locale.LC_ALL) != before:
            locale.setlocale(locale.LC_ALL, before)


@contextmanager
def _readable(source: Source, check: _Check) -> Iterator[_Opened]:
    """The file as SimpleITK can read it: itself, or the same image in a temporary file. check: refuses other kinds."""
    require_utf8(source.path, source.name, ImageError)
    try:
        with source.path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise ImageError(f"{source.name} cannot be opened ({error.strerror}); check its permissions") from error
    if empty:
        raise ImageError(f"{source.name} is an empty file (0 bytes); copy or export it again")
    try:
        nifti = read_nifti_header(source.path)
        misleads = nifti is not None and (nifti.misleads_itk or has_mixed_ending(source.path))
    except (OSError, EOFError, zlib.error):  # as SimpleITK will find out
        nifti, misleads = None, False
    if nifti is None or not misleads:
        yield _Opened(source, _read_header(source, source.path, nifti, check), nifti)
        return
    _check_memory(source, nifti.size[:3])
    with tempfile.TemporaryDirectory(prefix="dlir-") as folder:
        plain = Path(folder) / "image.nii"
        try:
            nifti.rewritten(plain)
        except OSError as error:
            raise ImageError(
                f"{source.name} cannot be unpacked into the temporary folder ({error.strerror}); free some space there"
            ) from error
        except struct.error as error:
            raise ImageError(f"{source.name} has more than 32767 voxels along an axis; crop the image") from error
        except (EOFError, zlib.error) as error:
            raise _damaged(source) from error
        yield _Opened(source, _read_header(source, plain, nifti, check), nifti)


def _read_header(source: Source, path: Path, nifti: NiftiHeader | None, check: _Check) -> sitk.ImageFileReader:
    """A SimpleITK reader that knows the header of an image that `check` lets pass."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with quiet:
            kind = reader.GetImageIOFromFileName(str(path))
            reader.SetImageIO("" if kind else _BY_ENDING.get(ending_of(path.name, tuple(_BY_ENDING)).lower(), ""))
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise _header_error(source, error) from error
    if kind == "GDCMImageIO":
        raise ImageError(f"{source.name} is a single DICOM file; give the folder that holds its series")
    check(source, reader, nifti)
    return reader


def _header_error(source: Source, error: RuntimeError) -> ImageError | GeometryError:
    if "orthonormal" in str(error):
        return GeometryError(
            f"{source.name}: direction matrix is singular or its columns are not perpendicular; "
            "correct the image header or resample the image onto a straight grid"
        )
    return ImageError(f"{source.name} cannot be read as an image{_advice(source.path)}")


def _advice(path: Path) -> str:
    """What makes a file readable: another name where its content is of another format, or no compression."""
    try:
        content, packed = beginning(path, 348), is_gzip(path)
    except (OSError, EOFError, zlib.error):
        content, packed = b"", False
    for kind, (at, start, endings) in _FORMATS.items():
        if content[at:].startswith(start):
            if packed and kind != "NIfTI":
                return f": it is {kind} compressed by gzip; unpack it and let its name end in {endings[0]}"
            if not path.name.lower().endswith(endings):
                return f": it is {kind} under another name; let that end in {endings[packed]}"
    return "; give an undamaged NIfTI, NRRD, MHA or DICOM image"


def _require_scalars(source: Source, reader: sitk.ImageFileReader, nifti: NiftiHeader | None) -> None:
    """Raises ImageError for anything but a scalar image of 3 or 4 dimensions."""
    import SimpleITK as sitk

    components, dimension = reader.GetNumberOfComponents(), reader.GetDimension()
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise ImageError(f"{source.name} has complex voxels; give its magnitude image")
    if components != 1 and not is_sequence(reader):
        raise ImageError(f"{source.name} has {components} values per voxel (colour or vector); give an image with one")
    if dimension not in (3, 4):
        raise ImageError(f"{source.name} is a {dimension}D image; give a 3D volume or one time point of a 4D file")


def _require_vectors(source: Source, reader: sitk.ImageFileReader, nifti: NiftiHeader | None) -> None:
    """Raises ImageError for anything but a 3D image of vectors of real numbers."""
    import SimpleITK as sitk

    if nifti is None:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        found = reader.GetDimension() == 3 and "vector of" in kind and not is_sequence(reader)
        real = "float" in kind
    else:
        found = len(nifti.size) == 5 and nifti.size[3] == 1 < nifti.size[4]
        real = nifti.is_real
    if not found:
        size = " x ".join(map(str, reader.GetSize() if nifti is None else nifti.size))
        raise ImageError(f"{source.name} is no 3D image with a vector in each voxel ({size} values); give one")
    if not real:
        raise ImageError(f"{source.name} holds whole numbers; give vectors of real numbers")


def _check_memory(source: Source, size: Sequence[int]) -> None:
    """Before anything of the size (x, y, z), and with t for all time points, that the header states is allocated."""
    if _BYTES * math.prod(size) > memory_limit():
        raise ImageError(
            f"{source.name} has {' x '.join(map(str, size))} voxels by its header, more than the memory holds; "
            "correct the header, or crop the image"
        )


def _check_format(opened: _Opened) -> None:
    with quiet:
        stated = opened.reader.GetImageIO() or opened.reader.GetImageIOFromFileName(opened.reader.GetFileName())
    kind = stated.removesuffix("ImageIO")
    if kind not in _PLACING:
        raise ImageError(
            f"{opened.source.name} is a {kind} file, a format that states no voxel size in mm; convert it to NIfTI, "
            "NRRD or MHA and state it there"
        )


def is_sequence(reader: sitk.ImageFileReader) -> bool:
    """Whether what ITK takes for values per voxel are time points, as in a sequence that Slicer saved as NRRD."""
    kinds = [reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.startswith("NRRD_kinds[")]
    return reader.GetDimension() == 3 and "list" in kinds


def _phases(reader: sitk.ImageFileReader) -> int:
    size = reader.GetSize()
    if len(size) == 4:
        return int(size[3])
    return int(reader.GetNumberOfComponents()) if is_sequence(reader) else 1
