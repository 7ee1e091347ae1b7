"""Frames of ACDC for timing: a patient's end-diastole and end-systole, and both at one large size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.evaluation.datasets.acdc import Acdc
from dlir.evaluation.datasets.base import select
from dlir.geometry import ImageGrid

# The size for which the time is compared whatever the patient's own.
LARGE_SIZE = (256, 256, 12)


@dataclass(frozen=True)
class Frame:
    """One time point: intensities (z, y, x) on a grid."""

    grid: ImageGrid
    intensity: NDArray[np.float32]


def read_frames(data: Path, patient: str) -> dict[str, Frame]:
    """The "ED" and "ES" frames of a patient, a number of three digits."""
    pair = select(Acdc(data).pairs(), [f"patient{patient}"])[0]
    images = {scan.part: scan.read_image() for scan in (pair.fixed, pair.moving)}
    return {part: Frame(image.grid, image.array) for part, image in images.items()}


def resized(frame: Frame) -> Frame:
    """The frame cut or padded with 0, about its center, to `LARGE_SIZE` voxels of its own spacing."""
    start = [round((have - want) / 2) for have, want in zip(frame.grid.size, LARGE_SIZE, strict=True)]
    grid = frame.grid.lattice(start, (1, 1, 1), LARGE_SIZE)
    reference = grid.to_sitk(np.zeros(grid.shape, np.uint8))
    image = sitk.Resample(frame.grid.to_sitk(frame.intensity), reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    return Frame(grid, sitk.GetArrayFromImage(image))
