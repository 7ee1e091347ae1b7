"""DICOM series for tests, as a scanner writes them: one file for each slice, on any grid, with its identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
