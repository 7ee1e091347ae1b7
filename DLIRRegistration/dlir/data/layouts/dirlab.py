"""DIR-Lab 4DCT: ten chest CTs with 300 landmarks at both ends of a breath (§3.3, §8; Castillo et al. 2009, 2010)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlir.data.pair import DataFolder, Pair, Scan
from dlir.errors import EvaluationError, ImageError
from dlir.geometry import ImageGrid, Shape3, Vector3
from dlir.io.points import Landmarks
from dlir.io.reading import Volume

# Columns, rows and slices of each case, and mm in plane; slices are 2.5 mm apart in all of them. The files state
# neither: they are bare voxels.
_CASES: dict[int, tuple[Shape3, float]] = {
    1: ((256, 256, 94), 0.97),
    2: ((256, 256, 112), 1.16),
    3: ((256, 256, 104), 1.15),
    4: ((256, 256, 99), 1.13),
    5: ((256, 256, 106), 1.10),
    6: ((512, 512, 128), 0.97),
    7: ((512, 512, 136), 0.97),
    8: ((512, 512, 128), 0.97),
    9: ((512, 512, 128), 0.97),
    10: ((512, 512, 120), 0.97),
}
_SLICE_MM = 2.5
# What the files hold is 1024 more than Hounsfield units; some scanners mark what they have not seen far below air.
_OFFSET = 1024
_AIR = -1000

_FOLDER = re.compile(r"case(\d+)(pack|deploy)?", re.IGNORECASE)
_INHALE, _EXHALE = "T00", "T50"


@dataclass(frozen=True)
class DirLabScan(Scan):
    """One phase: an .img of little-endian int16, x fastest, and a text file of voxel indices counted from 1."""

    grid: ImageGrid = field(kw_only=True)

    def read_image(self) -> Volume:
        """Hounsfield units. Raises ImageError for a file that does not have the case's number of voxels."""
        if self.problem:
            raise EvaluationError(self.problem)
        try:
            values = np.fromfile(self.image, "<i2")
        except OSError as error:
            raise ImageError(f"image '{self.image}' cannot be opened ({error.strerror}); check the path") from error
        expected = int(np.prod(self.grid.shape))
        if values.size != expected:
            raise ImageError(
                f"image '{self.image}' has {values.size} voxels, {self.subject} has {expected}; fetch it again"
            )
        array = values.reshape(self.grid.shape).astype(np.float32) - _OFFSET
        return Volume(np.maximum(array, _AIR), self.grid, self.image)

    def read_landmarks(self, image: Volume) -> Landmarks | None:
        """(300, 3) LPS mm. Raises ImageError for a file that is not three numbers a line within the image."""
        try:
            lines = Path(self.landmarks).read_text().splitlines()
            rows = np.array([[float(value) for value in line.split()] for line in lines if line.strip()])
        except (OSError, ValueError) as error:
            raise ImageError(f"landmarks '{self.landmarks}' cannot be read ({error}); fetch them again") from error
        if rows.shape[1:] != (3,) or (rows < 1).any() or (rows > np.array(image.grid.size)).any():
            raise ImageError(f"landmarks '{self.landmarks}' are not voxels of {self.subject}, from 1; fetch them again")
        return Landmarks(image.grid.to_physical(rows - 1))


class DirLab(DataFolder):
    """`CaseNPack/Images/caseN_T00*.img` and `CaseNPack/ExtremePhases/*300*T00*.txt` for N from 1 to 10.

    Case 8 comes as Case8Deploy, and the spelling of the subfolders varies. The files say nothing of orientation:
    axes are taken to run to the left, back and up, which changes no distance.
    """

    title = "DIR-Lab 4DCT"

    def pairs(self) -> list[Pair]:
        """Of every case that is there, full exhalation registered to full inhalation, the direction of Table 6."""
        found = {int(m[1]): path for path in self.folder.iterdir() if (m := _FOLDER.fullmatch(path.name))}
        cases = sorted(number for number in found if number in _CASES)
        if not cases:
            raise EvaluationError(
                f"DIR-Lab folder '{self.folder}' holds no Case1Pack, Case2Pack, …; give the one that does"
            )
        return [Pair(_scan(found[n], n, _INHALE), _scan(found[n], n, _EXHALE)) for n in cases]


def _scan(folder: Path, number: int, phase: str) -> DirLabScan:
    (columns, rows, slices), in_plane = _CASES[number]
    spacing: Vector3 = (in_plane, in_plane, _SLICE_MM)
    grid = ImageGrid((slices, rows, columns), spacing)
    subject = f"case {number}"
    images = _find(folder, rf"case{number}_{phase}(-ssm|_s)?\.img")
    points = _find(folder, rf"case{number}_(dirlab)?300_{phase}_xyz\.txt")
    missing = [what for what, files in (("image", images), ("landmarks", points)) if len(files) != 1]
    if missing:
        problem = f"'{folder}' holds no single file of the {' and '.join(missing)} of {phase}; unpack the case again"
        return DirLabScan(subject, phase, problem=problem, grid=grid)
    return DirLabScan(subject, phase, str(images[0]), landmarks=str(points[0]), grid=grid)


def _find(folder: Path, pattern: str) -> list[Path]:
    matching = re.compile(pattern, re.IGNORECASE)
    return sorted(path for path in folder.rglob("*") if matching.fullmatch(path.name))
