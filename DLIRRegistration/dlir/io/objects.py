"""Images that other libraries hold in memory: SimpleITK, nibabel, arrays and tensors. None of them is imported here."""

from __future__ import annotations

import math
import os
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.placing import nifti_grid
from dlir.io.reading import Volume, read_grid, whole_numbers

# What nibabel calls the units of a header, in mm; nothing else has any.
_MM = {"meter": 1000.0, "micron": 1e-3}


def volume_of(image: Any, role: str) -> Volume:
    """An image that lies in memory, as a volume (z, y, x) in its own type, LPS mm.

    image: a SimpleITK image; a nibabel image, whose affine says where it lies, in RAS and in the unit of its header; or
    (array, grid): (z, y, x), behind axes of length 1 if any, as numpy or torch have it, and what `grid_of` knows. A
    `Volume` stays what it is. role: how messages call it.
    Raises ImageError for anything else, and for what is no scalar 3D image; GeometryError for a place in space that no
    grid has, and for an array that does not fit its grid.
    """
    if isinstance(image, Volume):
        return image
    if isinstance(image, tuple):
        if len(image) != 2:
            raise ImageError(f"{role} is a tuple of {len(image)}; give (array, grid)")
        return _placed(image[0], grid_of(image[1], role), role)
    try:
        if _is_sitk(image):
            return _from_sitk(image, role)
        if _is_nibabel(image):
            return _from_nibabel(image, role)
    except GeometryError as error:
        raise GeometryError(f"{role}: {error}") from error
    kind = type(image).__name__
    if hasattr(image, "shape"):
        raise ImageError(f"{role} is a {kind} that lies nowhere in space; give it with its grid: (array, grid)")
    raise ImageError(f"{role} is a {kind}; give a file, a SimpleITK or nibabel image, or (array, grid)")


def labels_of(image: Any, role: str) -> Volume:
    """As `volume_of`, in whole numbers: those of floating point become int32, and bool uint8.

    Raises ImageError for values that are not whole numbers, too.
    """
    volume = volume_of(image, role)
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return Volume(whole_numbers(array, f"{role} '{volume.source}'"), volume.grid, volume.source, volume.segments)


def grid_of(place: Any, role: str) -> ImageGrid:
    """Where something lies: an `ImageGrid`, or an image that lies there, as for `volume_of` or in a file."""
    if isinstance(place, ImageGrid):
        return place
    if isinstance(place, (str, os.PathLike)):
        return read_grid(place, f"grid of the {role}")
    if isinstance(place, tuple) or not (isinstance(place, Volume) or _is_sitk(place) or _is_nibabel(place)):
        raise GeometryError(f"the grid of the {role} is a {type(place).__name__}; give an ImageGrid, or an image")
    return volume_of(place, role).grid


# -- from other libraries -----------------------------------------------------------------------------


def _is_sitk(image: Any) -> bool:
    return hasattr(image, "GetNumberOfComponentsPerPixel")


def _is_nibabel(image: Any) -> bool:
    return hasattr(image, "affine") and (hasattr(image, "dataobj") or hasattr(image, "get_fdata"))


def _from_sitk(image: Any, role: str) -> Volume:
    import SimpleITK as sitk

    if image.GetDimension() != 3:
        raise ImageError(f"{role} is a {image.GetDimension()}D SimpleITK image; give a 3D volume")
    if image.GetNumberOfComponentsPerPixel() != 1:
        count = image.GetNumberOfComponentsPerPixel()
        raise ImageError(f"{role} has {count} values per voxel (colour or vector); give an image with one")
    return _volume(sitk.GetArrayFromImage(image), ImageGrid.from_sitk(image), role, "SimpleITK image")


def _from_nibabel(image: Any, role: str) -> Volume:
    try:
        array = np.asanyarray(image.dataobj) if hasattr(image, "dataobj") else image.get_fdata()
    except (OSError, EOFError, ValueError, zlib.error) as error:  # its voxels are read only now
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ImageError(f"{role}: its voxels cannot be read by nibabel ({reason}); check its file") from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        hint = "; choose one time point, for example image.slicer[..., 0]" if array.ndim == 4 else ""
        raise ImageError(f"{role} is a {array.ndim}D nibabel image{hint or '; give a 3D volume'}")
    if image.affine is None:
        raise GeometryError("it has no affine, which says where its voxels lie; give it one")
    name = image.get_filename() if hasattr(image, "get_filename") else None
    return _volume(array.T, _from_ras(image, array.shape, role), role, name or "nibabel image")


def _from_ras(image: Any, shape: tuple[int, ...], role: str) -> ImageGrid:
    """The grid of a nibabel image. shape: (x, y, z)."""
    affine = np.asarray(image.affine, float)
    header: Any = getattr(image, "header", None)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise GeometryError("its affine is no 4x4 matrix of finite numbers; correct it")
    unit, mm, stated = "mm", 1.0, None
    if hasattr(header, "get_xyzt_units"):  # NIfTI, whose affine may be an sform without a voxel size
        unit = header.get_xyzt_units()[0]
        mm = _MM.get(unit, 1.0)
        x, y, z = (abs(float(length)) * mm for length in header.get_zooms()[:3])
        stated = (x, y, z) if all(0 < length < math.inf for length in (x, y, z)) else None
    in_lps = affine[:3] * np.array([[-1.0], [-1.0], [1.0]]) * mm
    x_size, y_size, z_size = shape
    return nifti_grid(role, (z_size, y_size, x_size), in_lps, stated, (unit if unit in _MM else "mm", mm))


def _placed(array: Any, grid: ImageGrid, role: str) -> Volume:
    if hasattr(array, "detach"):  # a tensor of torch
        array = _from_torch(array, role)
    array = np.asarray(array)
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.shape != grid.shape:
        raise GeometryError(
            f"{role} is an array of shape {array.shape}, but its grid has {grid.shape}, in the order (z, y, x); "
            "give the grid of this array"
        )
    return _volume(array, grid, role, "array")


def _from_torch(tensor: Any, role: str) -> NDArray[Any]:
    try:
        tensor = tensor.detach().cpu()
        found: NDArray[Any] = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantised, without data
        reason = " ".join(str(error).split()).rstrip(".")
        raise ImageError(f"{role} is a tensor that is no array ({reason}); give a dense one of real numbers") from error
    return found


def _volume(array: NDArray[Any], grid: ImageGrid, role: str, name: str) -> Volume:
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{role} has voxels of type {array.dtype}; give real numbers, one per voxel")
    if min(grid.shape) == 1:
        raise ImageError(f"{role} is 2D: it has a single slice; give a volume with several slices")
    return Volume(np.ascontiguousarray(array, array.dtype.newbyteorder("=")), grid, name)
