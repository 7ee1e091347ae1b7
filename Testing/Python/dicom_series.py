"""DICOM series for tests, as a scanner writes them: one file for each slice, on any grid, with its identifiers; and
segmentations of them, by highdicom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_files import write_dicom
from dlir.geometry import ImageGrid


def write_series(
    folder: Path,
    values: NDArray[np.int16],
    grid: ImageGrid,
    uid: str,
    *,
    study: str = "1.2.3",
    tags: Mapping[str, object] | None = None,
) -> Path:
    """Slices of `values` (z, y, x), in a frame of reference of their own. uid: of the series; the others begin so."""
    across, down, normal = grid.direction_matrix.T
    for number, plane in enumerate(values):
        position = np.array(grid.origin) + number * grid.spacing[2] * normal
        stated: dict[str, object] = {
            "0008|0018": f"{uid}.7.{number + 1}",
            "0010|0010": "Doe^Jane",
            "0010|0020": "P1",
            "0020|000d": study,
            "0020|000e": uid,
            "0020|0013": number + 1,
            "0020|0032": "\\".join(f"{value:.9g}" for value in position),
            "0020|0037": "\\".join(f"{value:.9g}" for value in (*across, *down)),
            "0020|0052": f"{uid}.8",
            "0028|0030": f"{grid.spacing[1]:.9g}\\{grid.spacing[0]:.9g}",
        }
        write_dicom(folder / f"{number:03d}.dcm", plane, {**stated, **(tags or {})})
    return folder


def _height(header: Any) -> float:
    across, down = np.reshape(np.array(header.ImageOrientationPatient, float), (2, 3))
    return float(np.cross(across, down) @ np.array(header.ImagePositionPatient, float))


def write_seg(
    path: Path, folder: Path, segments: Sequence[tuple[str, NDArray[np.bool_]]], kind: str = "BINARY"
) -> Path:
    """A SEG of the images in a folder, its segments numbered from 1, ordered along the normal of the slices."""
    import highdicom as hd
    import pydicom

    headers = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=_height)
    for header in headers:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
            setattr(header, keyword, "")
        header.StudyDate = header.StudyTime = ""
        # Alike in all, but for what who took out the names made of the first, and rounding of the second.
        header.FrameOfReferenceUID = headers[0].FrameOfReferenceUID
        header.ImageOrientationPatient = headers[0].ImageOrientationPatient
        header.SliceThickness = header.get("SliceThickness", 1.0)
    organ = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    descriptions = [
        hd.seg.SegmentDescription(number, name, organ, organ, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for number, (name, _) in enumerate(segments, 1)
    ]
    voxels = np.stack([mask for _, mask in segments], -1).astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
    if kind == "LABELMAP":
        voxels = (voxels * np.arange(1, len(segments) + 1, dtype=np.uint8)).max(-1)
    made = hd.seg.Segmentation(
        headers, voxels, kind, descriptions, hd.UID(), 2, hd.UID(), 1, "tests", "tests", "1", "1"
    )
    made.save_as(path)
    return path
