"""Images and labels of any layout through a transform: one volume, time points, or several values per voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError, OptionError, OutputError, note
from dlir.geometry import ImageGrid
from dlir.io import Volume, count_phases, read_image, read_label, write_image
from dlir.io.dicom.series import is_dicom_source
from dlir.io.formats.components import has_components, read_components
from dlir.io.formats.segments import read_segments
from dlir.io.reading import require_labels, whole_numbers
from dlir.io.sequence_writing import sequence_writer
from dlir.io.sequences import read_sequence
from dlir.io.source import parse_source
from dlir.io.writing import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import SimpleITK as sitk

# One volume; a value for each time point; several values in each voxel.
Layout = Literal["volume", "times", "components"]

_SEQUENCE_SUFFIXES = (".nii.gz", ".nrrd")


@dataclass(frozen=True, eq=False)
class Image:
    """arrays: (z, y, x), one for each time point or component. grid: where they lie. outside: what is beyond it.
    seconds: of time points, from the first; None where that is not known.
    """

    arrays: Sequence[NDArray[Any]]
    grid: ImageGrid
    outside: float
    layout: Layout = "volume"
    seconds: tuple[float, ...] | None = None

    def check_name(self, path: Path) -> None:
        """Raises OutputError for a name of a type that cannot be written."""
        suffixes = _SEQUENCE_SUFFIXES if self.layout == "times" else IMAGE_SUFFIXES
        if not path.name.endswith(suffixes):
            what = "an image of several time points" if self.layout == "times" else "an image"
            raise OutputError(f"cannot write '{path.name}': {what} must end in {', '.join(suffixes)}; rename it")

    def write(self, path: Path) -> None:
        """Raises OutputError."""
        if self.layout == "times":
            dtype = np.result_type(*self.arrays)
            with sequence_writer(path, len(self.arrays), self.grid, dtype, self.seconds) as add:
                for array in self.arrays:
                    add(array)
        elif self.layout == "components":
            write_image(path, np.stack(self.arrays, -1), self.grid, is_vector=True)
        else:
            write_image(path, self.arrays[0], self.grid)

    def to_sitk(self) -> sitk.Image:
        """Of four dimensions where there are time points, a second apart if nobody knows."""
        import SimpleITK as sitk

        if self.layout == "components":
            return self.grid.to_sitk(np.stack(self.arrays, -1), is_vector=True)
        images = list(map(self.grid.to_sitk, self.arrays))
        if self.layout == "volume":
            return images[0]
        step = 1.0 if self.seconds is None else (self.seconds[-1] - self.seconds[0]) / (len(images) - 1)
        joined: sitk.Image = sitk.JoinSeries(images, 0.0, step)
        return joined


def read_any_image(source: str | Volume) -> Image:
    """An image, 4D and with several values per voxel as well. Raises the errors of `read_image`."""
    if isinstance(source, Volume):
        return Image([source.array], source.grid, float(source.array.min()))
    parsed = parse_source(source, "image")
    if parsed.phase is None and not is_dicom_source(parsed) and has_components(parsed):
        found = read_components(parsed)
        note(
            f"{parsed.name} has {len(found.arrays)} values per voxel; each is interpolated by itself, and vectors are "
            "not turned with the transform"
        )
        return Image(found.arrays, found.grid, 0.0, "components")
    if count_phases(source, "image") > 1:
        cine = read_sequence(source, "image")
        arrays = [_finite(array, parsed.name) for array in cine.arrays]
        return Image(arrays, cine.grid, min(float(array.min()) for array in arrays), "times", cine.seconds)
    volume = read_image(source, "image")
    return Image([volume.array], volume.grid, float(volume.array.min()))


def _finite(native: NDArray[Any], name: str) -> NDArray[np.float32]:
    """A time point; one that is the same all over, as before a contrast agent comes, will do."""
    array = np.ascontiguousarray(native, np.float32)
    if not np.isfinite(array).all():
        raise ImageError(f"{name} has voxels that are not finite numbers (NaN or infinite); replace them")
    return array


def read_any_label(source: str | Volume) -> Image:
    """A label map, or one for each time point. Raises the errors of `read_label`."""
    if isinstance(source, Volume):
        return Image([source.array], source.grid, 0.0)
    parsed = parse_source(source, "label")
    if parsed.phase is None and not read_segments(source, "label") and count_phases(source, "label") > 1:
        cine = read_sequence(source, "label")
        arrays = [whole_numbers(array, parsed.name) for array in cine.arrays]
        for array in arrays:
            require_labels(array, parsed.name)
        return Image(arrays, cine.grid, 0.0, "times", cine.seconds)
    volume = read_label(source, None, "label")
    return Image([volume.array], volume.grid, 0.0)


def require_interpolation(chosen: str | None, among: Sequence[str], what: str) -> str:
    """The one that is chosen, or the first. Raises OptionError for one that is not for such images."""
    if chosen is None:
        return among[0]
    if chosen not in among:
        raise OptionError(f"the interpolation of {what} is '{chosen}'; use {' or '.join(among)}")
    return chosen
