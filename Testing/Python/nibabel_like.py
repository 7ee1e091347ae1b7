"""A stand-in for an image of nibabel, which is no dependency: it has what DLIR asks of one.

Its affine leads from voxel (i, j, k) to RAS, in the unit that its header names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass
class Header:
    """unit: "mm", "meter", "micron" or "unknown". zooms: pixdim, in that unit, of time too where there is one."""

    unit: str = "mm"
    zooms: tuple[float, ...] = (0.0, 0.0, 0.0)

    def get_zooms(self) -> tuple[float, ...]:
        return self.zooms

    def get_xyzt_units(self) -> tuple[str, str]:
        return self.unit, "sec"


@dataclass
class NibabelImage:
    """dataobj: (i, j, k), and more axes where there are any."""

    dataobj: NDArray[Any]
    affine: NDArray[np.float64] | None
    header: Header = field(default_factory=Header)
    name: str | None = None

    def get_filename(self) -> str | None:
        return self.name

    @classmethod
    def of(cls, array: NDArray[Any], grid: ImageGrid, unit: str = "mm", mm: float = 1.0) -> NibabelImage:
        """The image of an array (z, y, x) on a grid. mm: of one unit."""
        affine = RAS @ grid.index_to_physical
        affine[:3] /= mm
        return cls(array.T, affine, Header(unit, tuple(length / mm for length in grid.spacing)))
