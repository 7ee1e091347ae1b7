"""Sequences: all time points of a 4D file or of a DICOM series, read at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dlir.errors import ImageError, note
from dlir.geometry import ImageGrid
from dlir.io.dicom.series import is_dicom_source, read_dicom_phases
from dlir.io.formats.files import read_file_phases
from dlir.io.reading import Spec, Volume, intensities
from dlir.io.source import parse_source

# Between time points, in s: what programs write that do not know.
_UNTOLD = 1.0


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """A 4D image in memory: time points on one grid.

    arrays: (z, y, x) of each, in any type of number. grid: where they lie, LPS mm. source: what the user typed to name
    it. seconds: when each was acquired, counted from the first; None where that is not known.
    Raises ImageError for less than two time points, times that do not rise, and arrays that do not fit the grid.
    """

    arrays: Sequence[NDArray[Any]]
    grid: ImageGrid
    source: str
    seconds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.arrays) < 2:
            raise ImageError(f"'{self.source}' has one time point; give two or more")
        if any(array.shape != self.grid.shape for array in self.arrays):
            raise ImageError(f"'{self.source}' has time points that do not fit its grid of {self.grid.shape}")
        if self.seconds is not None and (
            len(self.seconds) != len(self) or any(a >= b for a, b in itertools.pairwise(self.seconds))
        ):
            raise ImageError(f"'{self.source}' has times that do not rise, or not one for each time point")

    def __len__(self) -> int:
        return len(self.arrays)

    def volume(self, phase: int) -> Volume:
        """A time point, counted from 0, as `read_image` gives it. Raises ImageError as that does for its values."""
        name = f"{self.source}#{phase}"
        return Volume(intensities(self.arrays[phase], f"time point '{name}'"), self.grid, name)


def read_sequence(spec: Spec, role: str = "sequence") -> ImageSequence:
    """All time points of a 4D file, or of a folder or .zip of one DICOM series. role: how messages call it.

    Raises ImageError and GeometryError as `read_image`, and for what is 3D or names one time point.
    """
    source = parse_source(spec, role)
    if source.phase is not None:
        raise ImageError(f"{source.name} names one time point; leave out '#{source.phase}'")
    found = read_dicom_phases(source) if is_dicom_source(source) else read_file_phases(source)
    if len(found.array) == 1:
        raise ImageError(f"{source.name} is 3D and has no time points; give a 4D file, or a DICOM series of several")
    if min(found.grid.shape) == 1:
        raise ImageError(f"{source.name} is 2D: it has a single slice; give a sequence of several slices")
    if found.seconds is not None and found.seconds[1] - found.seconds[0] == _UNTOLD and _is_file(source.path):
        note(f"{source.name} states {_UNTOLD:g} s between its time points, as files do whose writer did not know")
    return ImageSequence(tuple(found.array), found.grid, source.typed, found.seconds)


def _is_file(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() != ".zip"
