"""Segmentations in DICOM: SEG objects as label maps, by highdicom. RTSTRUCT, which holds contours, is refused.

A SEG of segments that do not overlap is one layer, the numbers of its segments the values. Of one with overlaps each
segment is a layer, as in a segmentation of Slicer, and has its number for a value there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, shown
from dlir.geometry import ImageGrid
from dlir.io.dicom.instances import import_for, is_dicom_object
from dlir.io.formats.segments import Segment
from dlir.io.memory import memory_limit
from dlir.io.source import Source

_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
# Where a file states its class, before all else.
_CLASS = re.compile(rb"DICM.{,64}\x02\x00\x02\x00UI..([0-9.]+)", re.S)
_BEGINNING = 512
# What highdicom raises for a file that is cut or holds something else than it says.
_UNREADABLE = (OSError, EOFError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """layers: (layer, z, y, x), whole numbers. segments: what the values in each layer are called."""

    layers: NDArray[Any]
    grid: ImageGrid
    segments: tuple[Segment, ...]


def is_segmentation(source: Source) -> bool:
    """Whether a source is a SEG object, by its first bytes. Raises ImageError for an RTSTRUCT."""
    kind = _class_of(source.path)
    if kind == _CONTOURS:
        raise ImageError(
            f"{source.name} is an RTSTRUCT, whose contours DLIR does not fill; make a label map of it, for example "
            "with SlicerRT or dcmrtstruct2nii"
        )
    return kind in _SEGMENTATIONS


def read_segmentation(source: Source) -> Segmentation:
    """All layers of a SEG object. Raises ImageError where highdicom is missing, and for one that is damaged, holds
    fractions, or does not lie on one grid.
    """
    state = source.path.stat()
    return _read(source.path, source.name, state.st_mtime_ns, state.st_size)


# A segmentation of many layers is asked for each.
@lru_cache(maxsize=1)
def _read(path: Path, name: str, changed: int, size: int) -> Segmentation:
    highdicom, pydicom = (import_for(package, name) for package in ("highdicom", "pydicom"))
    try:
        with pydicom.config.disable_value_validation():  # of identifiers, which are not used
            return _decoded(highdicom, path, name)
    except (
        OSError,
        EOFError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
        GeometryError,
    ) as error:
        reason = shown(" ".join(str(error).split()))
        raise ImageError(f"{name} cannot be read as a segmentation ({reason}); export it again") from error


def _decoded(highdicom: Any, path: Path, name: str) -> Segmentation:
    found = highdicom.seg.segread(path)
    if found.segmentation_type.value == "FRACTIONAL":
        raise ImageError(f"{name} holds fractions of voxels, no labels; write it as a binary segmentation")
    numbers = list(found.segment_numbers)
    names = (found.get_segment_description(number).segment_label for number in numbers)
    count = int(found.Rows) * int(found.Columns) * int(found.NumberOfFrames)
    if count * max(len(numbers), 1) > memory_limit():
        raise ImageError(f"{name} has {len(numbers)} segments of {count} voxels, more than the memory holds")
    layers, grid, one = _voxels(highdicom, path, numbers)
    layered = enumerate(zip(names, numbers, strict=True))
    segments = (Segment(" ".join(title.split()), 0 if one else layer, number) for layer, (title, number) in layered)
    return Segmentation(layers, grid, tuple(segments))


def _voxels(highdicom: Any, path: Path, numbers: list[int]) -> tuple[NDArray[Any], ImageGrid, bool]:
    """(layer, z, y, x), where it lies, and whether all segments are in one layer."""
    try:
        volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    except RuntimeError:  # they overlap; what was read is of no use after that
        volume = highdicom.seg.segread(path).get_volume(combine_segments=False)
    one = volume.array.ndim == 3
    layers = volume.array[None] if one else np.moveaxis(volume.array, -1, 0) * np.reshape(numbers, (-1, 1, 1, 1))
    columns = volume.affine[:3, 2::-1]  # index axes x, y, z, which are the last, second and first of the array
    spacing = np.linalg.norm(columns, axis=0)
    direction = columns / spacing
    grid = ImageGrid(volume.array.shape[:3], tuple(spacing), tuple(volume.affine[:3, 3]), tuple(direction.ravel()))
    kind = np.min_scalar_type(max(numbers, default=1))
    return layers.astype(kind), grid, one


def _class_of(path: Path) -> str:
    """The UID of what a DICOM file holds; empty for other files and for folders."""
    if path.is_dir() or not is_dicom_object(path):
        return ""
    with path.open("rb") as file:
        match = _CLASS.search(file.read(_BEGINNING))
    return match[1].decode() if match else ""
