"""Sequences written time point by time point, one in memory at a time: NIfTI, or NRRD as Slicer saves it."""

from __future__ import annotations

import errno
import gzip
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import OutputError
from dlir.geometry import ImageGrid
from dlir.io.formats.integrity import is_damaged
from dlir.io.writing import replacing, write_image

NIFTI_SUFFIX, SLICER_SUFFIX = ".nii.gz", ".seq.nrrd"

# Smooth images hardly become smaller with more of it.
_COMPRESSION = 4
_NRRD_TYPES = {"f4": "float", "f8": "double"}
# Where NIfTI keeps the sizes, the voxel size and time step, and their units.
_DIM, _PIXDIM, _UNITS, _HEADER = 40, 76, 123, 352
_MM, _SECONDS = 2, 8

# Takes the next time point (z, y, x).
Add = Callable[[NDArray[Any]], None]


@contextmanager
def sequence_writer(
    path: Path, count: int, grid: ImageGrid, dtype: Any, seconds: tuple[float, ...] | None
) -> Iterator[Add]:
    """Within, the time points of a file are handed over, the first one first; at the end it appears, whole.

    path: ends in NIFTI_SUFFIX or SLICER_SUFFIX. count: how many come. dtype: of all voxels. seconds: when each was
    acquired, from the first one; NIfTI keeps their mean distance. None where it is not known.
    Raises OutputError where it cannot be written, ValueError for more or fewer time points or another shape.
    """
    dtype, written, is_nifti = np.dtype(dtype).newbyteorder("<"), 0, path.name.endswith(NIFTI_SUFFIX)
    with replacing(path) as temporary:
        header = (_nifti_header if is_nifti else _nrrd_header)(count, grid, dtype, seconds)
        with temporary.open("wb") as plain:
            if not is_nifti:  # whose header is plain text
                plain.write(header)
            with gzip.GzipFile("", "wb", _COMPRESSION, plain, mtime=0) as packed:
                if is_nifti:
                    packed.write(header)

                def add(array: NDArray[Any]) -> None:
                    nonlocal written
                    if array.shape != grid.shape:
                        raise ValueError(f"a time point of shape {array.shape} does not fit {grid.shape}")
                    packed.write(np.ascontiguousarray(array, dtype).data)
                    written += 1

                yield add
        if written != count:
            raise ValueError(f"{written} of {count} time points were written")
        if is_damaged(temporary):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _nrrd_header(count: int, grid: ImageGrid, dtype: np.dtype[Any], seconds: tuple[float, ...] | None) -> bytes:
    columns = (grid.direction_matrix * np.array(grid.spacing)).T
    times = range(count) if seconds is None else seconds
    lines = [
        "NRRD0004",
        f"type: {_NRRD_TYPES.get(dtype.str[1:], dtype.name)}",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, (*grid.size, count)))}",
        f"space directions: {' '.join(_vector(column) for column in columns)} none",
        "kinds: domain domain domain list",
        f'labels: "" "" "" "{"frame" if seconds is None else "time"}"',
        *([] if seconds is None else ['units: "" "" "" "s"']),
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(grid.origin)}",
        "DataNodeClassName:=vtkMRMLScalarVolumeNode",
        "axis 3 index type:=numeric",
        f"axis 3 index values:={' '.join(f'{time:.10g}' for time in times)}",
    ]
    return "\n".join(lines).encode() + b"\n\n"


def _vector(values: Any) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _nifti_header(count: int, grid: ImageGrid, dtype: np.dtype[Any], seconds: tuple[float, ...] | None) -> bytes:
    """That which SimpleITK writes for one time point, with their number and distance.

    Raises OutputError for too many time points, and where the temporary folder is full.
    """
    if count > np.iinfo(np.int16).max:
        raise OutputError(f"a NIfTI file cannot hold {count} time points; give the sequence as NRRD")
    with tempfile.TemporaryDirectory(prefix="dlir-") as folder:
        file = Path(folder) / "one.nii"
        write_image(file, np.zeros(grid.shape, dtype.newbyteorder("=")), grid)
        with file.open("rb") as opened:
            header = bytearray(opened.read(_HEADER))
    step = 1.0 if seconds is None else (seconds[-1] - seconds[0]) / (count - 1)
    struct.pack_into("<h", header, _DIM, 4)
    struct.pack_into("<h", header, _DIM + 2 * 4, count)
    struct.pack_into("<f", header, _PIXDIM + 4 * 4, step)
    header[_UNITS] = _MM if seconds is None else _MM | _SECONDS
    return bytes(header)
