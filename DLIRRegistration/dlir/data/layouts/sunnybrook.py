"""Sunnybrook Cardiac Data: cine MR with contours of the left ventricle at ED and ES (§3.1; Radau et al. 2009)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlir.data.layouts.contours import fill, polygon_area, read_polygon, slice_of
from dlir.data.pair import DataFolder, Pair, Scan, existing, ordered_pairs
from dlir.errors import DLIRError, EvaluationError
from dlir.io.dicom.series import instance_positions
from dlir.io.reading import Volume, read_grid, read_label
from dlir.io.source import parse_source

# Every scan has 20 time points, and its images are numbered slice by slice.
_PHASES = 20
_CAVITY, _MYOCARDIUM = 1, 2

_CONTOUR = re.compile(r"IM-\d+-(\d+)-(i|o)contour-manual\.txt")
_LABEL = re.compile(r"label_phase(\d+)\.nii(\.gz)?")
_SUBJECT = re.compile(r"SC-(HF-I|HF-NI|HYP|N)-0*(\d+)")


@dataclass(frozen=True)
class ContouredScan(Scan):
    """One time point of a DICOM series. contours: files by image number and kind, "i" (cavity) or "o" (with wall)."""

    contours: Mapping[tuple[int, str], Path] = field(default_factory=dict)

    def read_label(self, image: Volume) -> Volume:
        """1 inside the inner contour, 2 between it and the outer one, where that was drawn.

        Raises ImageError for a contour that cannot be read, EvaluationError for one of another time point.
        """
        positions = instance_positions(parse_source(self.image, "image"))
        array = np.zeros(image.grid.shape, np.uint8)
        for (number, kind), path in sorted(self.contours.items(), key=lambda item: item[0][1], reverse=True):
            if number not in positions:
                raise EvaluationError(f"contour '{path}' was drawn on image {number}, which '{self.image}' lacks")
            plane = array[slice_of(positions[number], image.grid)]
            plane[fill(read_polygon(path), plane.shape)] = _MYOCARDIUM if kind == "o" else _CAVITY
        return Volume(array, image.grid, f"contours of {self.name}")


class Sunnybrook(DataFolder):
    """The two ways in which it comes; the subjects of both are taken.

    Images as DICOM, contours as SUBJECT/contours-manual/IRCCI-expert/IM-0001-NNNN-icontour-manual.txt, where the
    images of SUBJECT are those that scd_patientdata.csv names (SCD…/CINESAX…), a folder, or SUBJECT_dicom.zip.
    Or SUBJECT/cine.nii.gz, all time points, with two files label_phaseTT.nii.gz (1 cavity, 2 myocardium).
    Only the cavity is scored, because the outer contour exists at ED alone.
    """

    title = "Sunnybrook"
    labels: Mapping[int, str] = {_CAVITY: "LV"}

    def pairs(self) -> list[Pair]:
        """ED and ES of every subject, both ways."""
        subjects = {path.parent.name: _converted(path) for path in self.folder.rglob("cine.nii*")}
        drawn: dict[str, list[Path]] = {}
        for path in self.folder.rglob("IM-*contour-manual.txt"):
            drawn.setdefault(_subject_of(path), []).append(path)
        for subject, contours in drawn.items():
            subjects.setdefault(subject, self._contoured(subject, contours))
        if not subjects:
            raise EvaluationError(
                f"Sunnybrook folder '{self.folder}' holds neither cine.nii.gz nor manual contours; "
                "give the folder above both images and contours"
            )
        return [pair for name in sorted(subjects, key=_order) for pair in ordered_pairs(subjects[name])]

    # -- DICOM and contours ----------------------------------------------------------------------

    def _contoured(self, subject: str, files: list[Path]) -> list[Scan]:
        numbered = {(int(m[1]), m[2]): path for path in files if (m := _CONTOUR.fullmatch(path.name))}
        phases = sorted({(number - 1) % _PHASES for number, kind in numbered if kind == "i"})
        series = self._series(subject)
        if len(phases) != 2 or not series:
            found = f"inner contours at {len(phases)} time points and {'its' if series else 'no'} DICOM images"
            problem = f"{subject} has {found}; it needs contours at ED and ES, and its images"
            return [Scan(subject, part, problem=problem) for part in ("ED", "ES")]

        def size(phase: int) -> float:
            inner = [path for (n, kind), path in numbered.items() if kind == "i" and (n - 1) % _PHASES == phase]
            return sum(polygon_area(read_polygon(path)) for path in inner)

        try:
            ordered = sorted(phases, key=size, reverse=True)
        except DLIRError as error:
            return [Scan(subject, part, problem=str(error)) for part in ("ED", "ES")]
        return [
            ContouredScan(
                subject,
                part,
                f"{series}#{phase}",
                contours={key: path for key, path in numbered.items() if (key[0] - 1) % _PHASES == phase},
            )
            for part, phase in zip(("ED", "ES"), ordered, strict=True)
        ]

    def _series(self, subject: str) -> str:
        """The DICOM folder or zip of a subject; empty where there is none."""
        for table in self.folder.rglob("scd_patientdata.csv"):
            with table.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            known = {_plain(row.get("OriginalID") or ""): row.get("PatientID") or "" for row in rows}
            if identity := known.get(subject):
                series = sorted(path for path in self.folder.rglob(f"{identity}/CINESAX*") if path.is_dir())
                return str(series[0]) if series else ""
        for path in sorted(self.folder.rglob("*")):
            is_images = path.is_dir() and not any(path.rglob("*contour-manual.txt"))
            if _plain(path.name.removesuffix("_dicom.zip")) == subject and (is_images or path.suffix == ".zip"):
                return str(path)
        return ""


# -- NIfTI --------------------------------------------------------------------------------------------


def _converted(cine: Path) -> list[Scan]:
    subject = cine.parent.name
    found = {int(m[1]): path for path in cine.parent.iterdir() if (m := _LABEL.fullmatch(path.name))}
    try:
        if len(found) != 2:
            raise EvaluationError(f"'{cine.parent}' holds {len(found)} files label_phaseTT.nii.gz; it needs two")
        arrays = {phase: read_label(path, read_grid(path)).array for phase, path in found.items()}
    except DLIRError as error:
        return [Scan(subject, part, problem=str(error)) for part in ("ED", "ES")]
    ordered = sorted(found, key=lambda phase: (-np.count_nonzero(arrays[phase] == _CAVITY), phase))
    return [
        Scan(subject, part, f"{cine}#{phase}", existing(found[phase]))
        for part, phase in zip(("ED", "ES"), ordered, strict=True)
    ]


# -- names --------------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """A subject's name without the zeros that some lists put before its number."""
    match = _SUBJECT.fullmatch(name)
    return f"SC-{match[1]}-{match[2]}" if match else name


def _subject_of(contour: Path) -> str:
    """The subject of a contour: the nearest folder above that is called like one."""
    return next((_plain(p.name) for p in contour.parents if _SUBJECT.fullmatch(p.name)), contour.parent.name)


def _order(subject: str) -> tuple[str, int]:
    match = _SUBJECT.fullmatch(subject)
    return (match[1], int(match[2])) if match else (subject, 0)
