"""What a request names, read and checked. Images need no torch, so that a wrong name is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, TransformError
from dlir.geometry import ImageGrid
from dlir.io import Landmarks, Volume, read_image, read_label, read_landmarks, read_mask
from dlir.io.arrays import read_array
from dlir.io.points import mismatch
from dlir.io.reading import intensities, marked_by, require_labels
from dlir.registration.choices import Beginning, Initialization
from dlir.registration.request import ArrayFile, ImageSource, PointSource, RegistrationRequest, TransformSource

if TYPE_CHECKING:
    from dlir.registration.initialization import Start
    from dlir.transforms.spatial import CompositeTransform


@dataclass(frozen=True, eq=False)
class Loaded:
    """A pair in memory, with what belongs to it.

    initial, mode, expected: as for `initialize`. fixed_mask, moving_mask: where the figures of the report count; on
    the voxels of their image. moving_labels, fixed_labels, backward_labels: integers, on any grid; see
    `RegistrationRequest`.
    fixed_landmarks, moving_landmarks: NaN for a point that is not known.
    Raises GeometryError for a mask that does not lie on its image, and for landmarks that do not correspond.
    """

    fixed: Volume
    moving: Volume
    initial: CompositeTransform | None = None
    mode: str = Initialization.auto.value
    expected: str = Initialization.scanner.value
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    moving_labels: Sequence[Volume] = ()
    fixed_labels: Sequence[Volume] = ()
    backward_labels: Sequence[Volume] = ()
    fixed_landmarks: Landmarks | None = None
    moving_landmarks: Landmarks | None = None

    def __post_init__(self) -> None:
        for mask, image in ((self.fixed_mask, self.fixed), (self.moving_mask, self.moving)):
            if mask is not None and not mask.grid.same_as(image.grid):
                raise GeometryError(
                    f"mask '{mask.source}' does not lie on '{image.source}'; resample it onto the image"
                )
        fixed, moving = self.fixed_landmarks, self.moving_landmarks
        if fixed is not None and moving is not None and (wrong := mismatch(fixed, moving)):
            raise GeometryError(wrong)

    @property
    def start(self) -> CompositeTransform:
        """The transform before the first stage. Raises GeometryError where the images do not overlap."""
        return self.started.transform

    @cached_property
    def started(self) -> Start:
        """The same, and why it is that one."""
        from dlir.registration.initialization import initialize

        return initialize(self.fixed, self.moving, self.initial, self.mode, self.expected)


def load(request: RegistrationRequest, expected: str = Initialization.scanner.value) -> Loaded:
    """Read it all. expected: as for `initialize`. Raises the errors of reading, each naming the input."""
    fixed, moving = _image(request.fixed, "fixed image"), _image(request.moving, "moving image")
    return Loaded(
        fixed,
        moving,
        moving_labels=[_label(source, moving, "moving label") for source in request.moving_labels],
        fixed_labels=[_label(source, fixed, "fixed label") for source in request.fixed_labels],
        backward_labels=[_label(source, fixed, "fixed label") for source in request.backward_labels],
        fixed_mask=_mask(request.fixed_mask, fixed, "fixed mask"),
        moving_mask=_mask(request.moving_mask, moving, "moving mask"),
        fixed_landmarks=_landmarks(request.fixed_landmarks, fixed, "fixed landmarks"),
        moving_landmarks=_landmarks(request.moving_landmarks, moving, "moving landmarks"),
        initial=_transform(request.initial_transform),
        mode=Initialization.auto.value if request.initialize in (None, Beginning.second.value) else request.initialize,
        expected=expected,
    )


def in_place(labels: Volume, grid: ImageGrid) -> NDArray[Any]:
    """Labels on the voxels of another grid of the same space, by nearest neighbour."""
    if labels.grid.same_as(grid):
        return labels.array
    from dlir.transforms.resample import resample
    from dlir.transforms.spatial import CompositeTransform

    return resample(labels.array, labels.grid, CompositeTransform(()), grid, "nearest")


def _image(source: ImageSource, role: str) -> Volume:
    if isinstance(source, str):
        return read_image(source, role)
    volume = _volume(source)
    return replace(volume, array=intensities(volume.array, f"{role} '{volume.source}'"))


def _label(source: ImageSource, image: Volume, role: str) -> Volume:
    if isinstance(source, str):
        return read_label(source, image, role)
    volume = _volume(source)
    if not np.issubdtype(volume.array.dtype, np.integer):
        raise ImageError(f"'{volume.source}' holds {volume.array.dtype} values, no labels; give whole numbers")
    require_labels(volume.array, f"{role} '{volume.source}'")
    return volume


def _mask(source: ImageSource | None, image: Volume, role: str) -> Volume | None:
    """On the voxels of its image."""
    if source is None:
        return None
    if isinstance(source, str):
        return read_mask(source, image, role)
    volume = _volume(source)
    marks = marked_by(volume.array, f"{role} '{volume.source}'", role)
    marked = in_place(Volume(marks.view(np.uint8), volume.grid, volume.source), image.grid) > 0
    if not marked.any():
        raise ImageError(f"{role} '{volume.source}' marks no voxel of '{image.source}'; choose another mask or none")
    return Volume(marked, image.grid, volume.source)


def _volume(source: ArrayFile | Volume) -> Volume:
    if isinstance(source, Volume):
        volume = source
    else:
        volume = Volume(read_array(source.array), _grid(source.grid, source.name), source.name)
    if volume.array.shape != volume.grid.shape:
        shape, expected = volume.array.shape, volume.grid.shape
        raise GeometryError(f"'{volume.source}' has {shape} voxels, but its grid says {expected}; run again")
    return volume


def _grid(values: dict[str, Any], name: str) -> ImageGrid:
    try:
        return ImageGrid(**values)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"the grid of '{name}' cannot be read ({error}); run again") from None


def _landmarks(source: PointSource | None, image: Volume, role: str) -> Landmarks | None:
    if source is None:
        return None
    if isinstance(source, str):
        return read_landmarks(source, image.grid, role=role)
    return Landmarks(np.array([(np.nan,) * 3 if point is None else point for point in source], float))


def _transform(source: TransformSource | None) -> CompositeTransform | None:
    if source is None:
        return None
    from dlir.transforms.files import read_transform

    found, name = (read_transform(Path(source)), f" '{source}'") if isinstance(source, str) else (source, "")
    linear = found.bound()[0][:3, :3]
    if np.linalg.matrix_rank(linear) < 3:
        raise TransformError(f"initial transform{name} sends all points into a plane; give one that has an inverse")
    if np.linalg.det(linear) < 0:
        raise TransformError(
            f"initial transform{name} mirrors the image, so that all that follows would fold; give one that does "
            "not, or mirror the moving image itself"
        )
    return found
