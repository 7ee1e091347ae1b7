"""Images, labels and masks from files, checked so that whatever comes out of here can be registered."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, note
from dlir.geometry import ImageGrid
from dlir.io.dicom.segmentation import is_segmentation, read_segmentation
from dlir.io.dicom.series import count_dicom_phases, is_dicom_source, read_dicom
from dlir.io.formats.files import count_file_phases, read_file
from dlir.io.formats.segments import Segment, segments_of_layer
from dlir.io.source import Source, parse_source

Spec = str | os.PathLike[str]

_LABELS_BELOW = 2.0**31
# So many values, each strewn over the volume, are no structures: a grey image. Markers of a few voxels are strewn, too.
_MANY_STREWN, _MARKER, _NO_MARKERS = 100, 20, 2000


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image in memory.

    array: (z, y, x). grid: where it lies, LPS mm. source: what the user typed to name it, for messages. segments: which
    of its values have names, where it is a label map whose file says so.
    """

    array: NDArray[Any]
    grid: ImageGrid
    source: str
    segments: tuple[Segment, ...] = ()


def count_phases(spec: Spec, role: str = "image") -> int:
    """Number of time points that can be chosen with '#' behind `spec`; 1 for 3D, or where `spec` names one.

    Reads headers only. Raises ImageError.
    """
    source = parse_source(spec, role)
    count = count_dicom_phases(source) if is_dicom_source(source) else count_file_phases(source)
    if source.phase is not None:
        source.choose_phase(count)
        return 1
    return count


def read_image(spec: Spec, role: str = "fixed image") -> Volume:
    """A scalar 3D image as float32.

    spec: a file that SimpleITK reads, a folder or .zip of one DICOM series, each with '#' and the index of a
    time point (from 0) where it holds several. role: how messages call it.
    Raises ImageError for a file that is missing, unreadable, not a scalar volume, constant or not finite, and
    GeometryError for a header that places no voxels in space.
    """
    source = parse_source(spec, role)
    native, grid = _load(source)
    return Volume(intensities(native, source.name), grid, source.typed)


def intensities(native: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Voxels as float32. Raises ImageError, calling the image `name`, where they are not finite or all alike."""
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        array = np.ascontiguousarray(native, dtype=np.float32)
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        wrong = array.size - int(np.isfinite(array).sum())
        voxels = "1 voxel that is not a finite number" if wrong == 1 else f"{wrong} voxels that are not finite numbers"
        raise ImageError(f"{name} has {voxels} (NaN or infinite); replace them, for example by the background value")
    if low == high:
        raise ImageError(f"{name} has the value {low:g} in every voxel; check that it is the right one")
    return array


def read_grid(spec: Spec, role: str = "reference image") -> ImageGrid:
    """Where an image lies, whatever its voxels hold: a label map, a mask or an empty image will do.

    spec, role: as for `read_image`. Raises ImageError and GeometryError as it does, but not for the values.
    """
    return _load(parse_source(spec, role))[1]


def read_label(spec: Spec, image: Volume | ImageGrid | None, role: str = "moving label") -> Volume:
    """A label map in its native integer type; whole numbers stored as floating point become int32.

    spec: as for `read_image`, or a DICOM SEG object; for a segmentation of several layers '#' chooses one. image: the
    image that the labels belong to, or its grid, on which they are placed where they lie on its voxels but have another
    extent or order of axes; None leaves them where they are.
    Raises ImageError as `read_image`, and for values that are not whole numbers or no labels, see `require_labels`;
    GeometryError where the labels do not lie on the voxels of the image.
    """
    labels = _whole_numbers(spec, image, role)
    require_labels(labels.array, parse_source(spec, role).name)
    return labels


def require_labels(array: NDArray[Any], name: str) -> None:
    """Raises ImageError, calling the label map `name`, for whole numbers (z, y, x) that are a grey image's: hundreds of
    values, most of them unlike their neighbours along x. Each would be taken for a structure, which takes hours.
    """
    _require_no_grey(array, name, "a label map, in which each value marks a structure")


def _require_no_grey(array: NDArray[Any], name: str, wanted: str) -> None:
    marked = array != 0
    either = np.count_nonzero(marked[..., 1:] | marked[..., :-1])
    if np.count_nonzero(array[..., 1:] != array[..., :-1]) <= either / 2:
        return
    count = len(np.unique(array))
    if count > _NO_MARKERS or (count > _MANY_STREWN and np.count_nonzero(marked) > _MARKER * count):
        raise ImageError(
            f"{name} has {count} values that change from voxel to voxel, as those of a grey image do; give {wanted}"
        )


def read_mask(spec: Spec, image: Volume | ImageGrid, role: str = "fixed mask") -> Volume:
    """A mask as bool: True where the file is not 0. Raises as `read_label`, and ImageError for an empty mask; notes as
    `marked_by`.
    """
    labels, name = _whole_numbers(spec, image, role), parse_source(spec, role).name
    array = marked_by(labels.array, name, role)
    if not array.any():
        raise ImageError(f"{name} is empty; give a mask that marks at least one voxel")
    return Volume(array, labels.grid, labels.source)


def marked_by(array: NDArray[Any], name: str, role: str) -> NDArray[np.bool_]:
    """Where a mask of whole numbers is not 0. Raises ImageError, calling it `name`, for a grey image, as
    `require_labels` does: it marks nearly everything. A note tells of one with several values that all of them count.
    """
    if array.dtype == bool:
        return array
    _require_no_grey(array, name, "a mask, which is 0 where voxels do not count")
    marked: NDArray[np.bool_] = array != 0
    largest = array.max(initial=0)
    if (marked & (array != (largest if largest > 0 else array.min(initial=0)))).any():
        note(f"the {role} has several values other than 0, all of which count")
    return marked


def _whole_numbers(spec: Spec, image: Volume | ImageGrid | None, role: str) -> Volume:
    """As `read_label`, whatever the numbers mean."""
    source = parse_source(spec, role)
    segments = segments_of_layer(source)
    if is_segmentation(source):
        found = read_segmentation(source)
        array, grid = found.layers[source.phase or 0], found.grid
    else:
        array, grid = read_dicom(source) if is_dicom_source(source) else read_file(source)
    array = whole_numbers(array, source.name)
    if image is not None:
        array, grid = _placed(source, array, grid, image)
    return Volume(array, grid, source.typed, segments)


def whole_numbers(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Voxels in their own integer type; those of floating point become int32. Raises ImageError, calling the label map
    `name`, for values that are not whole numbers.
    """
    if np.issubdtype(array.dtype, np.integer):
        return array
    if array.dtype == np.float16:  # which does not reach the limit
        array = array.astype(np.float32)
    # The range comes first, with a comparison that is also false for NaN.
    if not (np.abs(array) < _LABELS_BELOW).all() or (array != np.round(array)).any():
        raise ImageError(
            f"{name} has values that are not whole numbers; give a label map, resampled with "
            "nearest-neighbour interpolation"
        )
    return array.astype(np.int32)


def _load(source: Source) -> tuple[NDArray[Any], ImageGrid]:
    array, grid = read_dicom(source) if is_dicom_source(source) else read_file(source)
    if min(grid.shape) == 1:
        raise ImageError(f"{source.name} is 2D: it has a single slice; give a volume with several slices")
    return array, grid


def _placed(
    source: Source, array: NDArray[Any], grid: ImageGrid, image: Volume | ImageGrid
) -> tuple[NDArray[Any], ImageGrid]:
    """Labels on the voxels of their image. Raises GeometryError where they lie between or outside of them."""
    onto, name = (image, "its image") if isinstance(image, ImageGrid) else (image.grid, f"image '{image.source}'")
    if grid.same_as(onto):
        return array, grid
    voxels = grid.voxels_in(onto)
    if voxels is None:
        raise GeometryError(
            f"{source.name} does not lie on the voxels of {name}: {_describe(grid)}, image {_describe(onto)}; "
            "resample the labels onto the image with nearest-neighbour interpolation"
        )
    axes, turned = np.abs(voxels[:, :3]).argmax(1), voxels[:, :3].sum(1) < 0
    there = array.T.transpose(axes)
    there = np.flip(there, np.flatnonzero(turned).tolist())
    first = voxels[:, 3] - turned * (np.array(there.shape) - 1)
    low, high = np.clip(first, 0, onto.size), np.clip(first + there.shape, 0, onto.size)
    placed = np.zeros(onto.shape, array.dtype)
    taken = there[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))]
    placed.T[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = taken
    lost = np.count_nonzero(array) - np.count_nonzero(placed)
    if lost:
        raise GeometryError(f"{source.name} has {lost} labelled voxels outside of {name}; give the image it belongs to")
    return placed, onto


def _describe(grid: ImageGrid) -> str:
    def numbers(values: tuple[float, ...]) -> str:
        return "(" + ", ".join(f"{v:.5g}" for v in values) + ")"

    size = "×".join(map(str, grid.size))
    return f"{size} voxels of {numbers(grid.spacing)} mm from {numbers(grid.origin)} along {numbers(grid.direction)}"
