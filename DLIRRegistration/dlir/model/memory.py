"""Whether an image fits into memory at a model's resolution: from its header, before anything is computed."""

from __future__ import annotations

import math

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.memory import memory_limit
from dlir.model.spec import ModelSpec

_BYTES = 4
_METRES_FROM_MM = 10_000.0


def require_memory(spec: ModelSpec, grid: ImageGrid, name: str) -> None:
    """Raises GeometryError, calling the image on `grid` `name`, where a stage cannot see it in the memory there is.

    What is counted is the least that a stage needs: two images and what its first convolution makes of them.
    """
    padded = spec.padded_shape(spec.preprocessing.working_grid(grid).shape)
    needed = max(
        _BYTES * math.prod(padded) // math.prod(spec.factors(k)) * (2 + stage.channels[0])
        for k, stage in enumerate(spec.stages)
    )
    limit = memory_limit()
    if needed > limit:
        resolution = " x ".join(f"{r:g}" for r in spec.preprocessing.resolution)
        raise GeometryError(
            f"{name} measures {_extent(grid)}; at the model's {resolution} mm that takes {_gigabytes(needed)} of "
            f"memory, and there are {_gigabytes(limit)}: correct the voxel size, or crop the image"
        )


def require_credible_size(grid: ImageGrid, name: str) -> None:
    """Raises GeometryError for an image on `grid`, which messages call `name`, that is too large for a body."""
    if max(grid.extent) >= _METRES_FROM_MM:
        raise GeometryError(f"{name} measures {_extent(grid)}; correct the voxel size")


def _extent(grid: ImageGrid) -> str:
    factor, unit = (1e-3, "m") if max(grid.extent) >= _METRES_FROM_MM else (1.0, "mm")
    return " x ".join(f"{factor * length:.0f}" for length in grid.extent) + f" {unit}"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB"
