"""Volumes that the worker wrote, as images for the scene, slab by slab, so that windows can be drawn in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import get_vtk_array_type

from DLIRRegistrationLib.registration.task import WORKING, RunError, Steps
from DLIRRegistrationLib.scene.volumes import image_array

# Bytes read between two yields: a few milliseconds, on a slow disk a few times ten.
_SLAB_BYTES = 1 << 23


def read_image(path: Path) -> Steps[Any]:
    """The array (z, y, x) of an .npy file as a vtkImageData, at the origin with unit spacing; the file is deleted.

    Read by plain reads: a memory map of a file that is cut short would end the program. Raises OSError for a file
    that cannot be read, RunError for one that is no whole volume.
    """
    with path.open("rb") as file:
        image = _allocated(file, path)
        for slab in _slabs(image_array(image)):
            if file.readinto(slab.data.cast("B")) != slab.nbytes:
                raise RunError(f"result '{path.name}' is cut short; run again")
            yield WORKING
    # One by one, because for large ones it takes as long as reading a slab.
    path.unlink()
    yield WORKING
    return image


def float_image(array: NDArray[Any]) -> Steps[Any]:
    """A copy of an array (z, y, x) as a single-precision vtkImageData, at the origin with unit spacing."""
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[::-1])
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    for target, slab in zip(_slabs(image_array(image)), _slabs(array, np.float32), strict=True):
        target[...] = slab
        yield WORKING
    return image


def _allocated(file: Any, path: Path) -> Any:
    """An image of the size and type that the header says."""
    try:
        npy: Any = np.lib.format  # has no types
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
        kind = get_vtk_array_type(dtype)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"result '{path.name}' cannot be read ({error}); run again") from None
    if fortran or len(shape) != 3:
        raise RunError(f"result '{path.name}' is no volume in (z, y, x) order; run again")
    image = vtk.vtkImageData()
    image.SetDimensions(shape[::-1])
    image.AllocateScalars(kind, 1)
    return image


def _slabs(array: NDArray[Any], dtype: Any | None = None) -> list[NDArray[Any]]:
    """The array in pieces of about _SLAB_BYTES; dtype: as large as they would be in that type."""
    slice_bytes = array[:1].size * np.dtype(dtype or array.dtype).itemsize
    thickness = max(1, _SLAB_BYTES // max(1, slice_bytes))
    return [array[start : start + thickness] for start in range(0, len(array), thickness)]
