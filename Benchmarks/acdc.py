"""What every benchmark on ACDC shares: reading a patient's two frames, and the row that a registration gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tables import LABELS, Row

from dlir.evaluation.metrics import jacobian_statistics, label_report
from dlir.geometry import ImageGrid

DIRECTIONS = ("ES-to-ED", "ED-to-ES")
# The size for which the time is compared whatever the patient's own.
LARGE_SIZE = (256, 256, 12)


@dataclass(frozen=True)
class Frame:
    """One time point: intensities and labels (z, y, x) on one grid."""

    grid: ImageGrid
    intensity: NDArray[np.float32]
    label: NDArray[np.uint8]


@dataclass(frozen=True)
class Registered:
    """What a registration returned on the fixed grid, and the seconds that the registration alone took."""

    label: NDArray[np.uint8]
    determinant: NDArray[np.float32]
    seconds: float


def read_frames(data: Path, patient: str) -> dict[str, Frame]:
    """The patient's "ED" and "ES" frames."""
    folder = data / f"patient{patient}"
    info = dict(line.split(":", 1) for line in (folder / "Info.cfg").read_text().splitlines() if ":" in line)
    frames = {}
    for phase in ("ED", "ES"):
        stem = folder / f"patient{patient}_frame{int(info[phase]):02d}"
        image = sitk.ReadImage(f"{stem}.nii.gz", sitk.sitkFloat32)
        label = sitk.GetArrayFromImage(sitk.ReadImage(f"{stem}_gt.nii.gz", sitk.sitkUInt8))
        frames[phase] = Frame(ImageGrid.from_sitk(image), sitk.GetArrayFromImage(image), label)
    return frames


def resized(frame: Frame) -> Frame:
    """The frame cut or padded with 0, about its center, to `LARGE_SIZE` voxels of its own spacing."""
    start = [round((have - want) / 2) for have, want in zip(frame.grid.size, LARGE_SIZE, strict=True)]
    grid = frame.grid.lattice(start, (1, 1, 1), LARGE_SIZE)
    reference = grid.to_sitk(np.zeros(grid.shape, np.uint8))

    def resampled(array: NDArray[Any]) -> NDArray[Any]:
        image = sitk.Resample(frame.grid.to_sitk(array), reference, sitk.Transform(), sitk.sitkNearestNeighbor)
        values: NDArray[Any] = sitk.GetArrayFromImage(image)
        return values

    return Frame(grid, resampled(frame.intensity), resampled(frame.label))


def scaled(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensities as in §6.1: minimum to 0, 99th percentile to 1."""
    low, high = intensity.min(), np.percentile(intensity, 99)
    return ((intensity - low) / (high - low)).astype(np.float32)


def make_row(method: str, patient: str, direction: str, run: int, fixed: Frame, outcome: Registered) -> Row:
    """One row of the schema of `tables.py`."""
    jacobian = jacobian_statistics(outcome.determinant)
    report = label_report(fixed.label, outcome.label, fixed.grid, list(LABELS))
    return Row(
        method=method,
        patient=patient,
        direction=direction,
        run=run,
        seconds=round(outcome.seconds, 3),
        size=fixed.grid.size,
        folding_percent=100 * jacobian.folding_fraction,
        jacobian_sd=jacobian.sd,
        jacobian_min=jacobian.min,
        jacobian_max=jacobian.max,
        labels={name: report[value] for value, name in LABELS.items()},
    )
