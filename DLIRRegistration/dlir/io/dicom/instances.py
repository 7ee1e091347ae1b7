"""DICOM objects as pydicom reads them: the headers of a series, and single objects that are no images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dlir.errors import ImageError, how_to_install, shown
from dlir.geometry import ImageGrid
from dlir.io.dicom.series import is_dicom_source, series_files
from dlir.io.source import Source, parse_source

# Beside what begins so, a file is none; where the two bytes of its first tag and a length stand instead, it may be one.
_MAGIC, _PREAMBLE = b"DICM", 128


@dataclass(frozen=True, eq=False)
class Series:
    """The images of one volume, from the first slice to the last. headers: pydicom datasets without pixels."""

    name: str
    grid: ImageGrid
    headers: Sequence[Any]

    def one(self, keyword: str) -> str:
        """What all images state alike, by its keyword. Raises ImageError where they differ or one states nothing."""
        found = {str(header.get(keyword, "")) for header in self.headers}
        if len(found) > 1 or found == {""}:
            what = "nothing" if found == {""} else f"{len(found)} different values"
            raise ImageError(f"{self.name} states {what} as {keyword}; export the original series")
        return found.pop()


def read_series(spec: str, role: str) -> Series:
    """The headers of a DICOM folder or .zip, of one time point where it holds several, see `read_dicom`.

    Raises ImageError and GeometryError as that, and ImageError where the source is no DICOM series or pydicom is
    missing.
    """
    source = parse_source(spec, role)
    if not is_dicom_source(source):
        raise ImageError(f"{source.name} is no DICOM series; give the folder or .zip that holds one")
    pydicom = import_for("pydicom", source.name)
    with series_files(source) as (files, grid):
        headers = [_read(pydicom, file, source, stop_before_pixels=True) for file in files]
    return Series(source.name, grid, headers)


def is_dicom_object(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def read_object(path: Path, role: str) -> Any:
    """The pydicom dataset of a file. Raises ImageError where it cannot be read, or pydicom is missing."""
    source = parse_source(path, role)
    return _read(import_for("pydicom", source.name), path, source)


def import_for(package: str, name: str) -> Any:
    """A package of the extra `dicom`. Raises ImageError, calling the input `name`, where it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise ImageError(
            f"{name} is DICOM that needs {package.partition('.')[0]}; install it with: {how_to_install('dicom')}"
        ) from None


def _read(pydicom: Any, path: Path, source: Source, **options: Any) -> Any:
    try:
        return pydicom.dcmread(path, **options)
    except (OSError, EOFError, ValueError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        reason = shown(" ".join(str(error).split()))
        raise ImageError(f"{source.name} cannot be read as DICOM ({reason}); export it again") from None
