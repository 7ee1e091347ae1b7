"""Where the moving image starts: as given, by the image centres, or as the scanner placed it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlir.errors import GeometryError
from dlir.io.reading import Volume
from dlir.transforms.spatial import AffineTransform, CompositeTransform

# Centres closer than this, in mm, count as equal: the header's rounding must not cost a resampling.
_EQUAL_CENTERS = 1e-3
_SAMPLES = 16


def initialize(
    fixed: Volume, moving: Volume, initial: CompositeTransform | None, mode: str
) -> tuple[CompositeTransform, dict[str, Any]]:
    """The transform applied before the networks, and its description for the report.

    initial: a given transform, used as it is. mode: "centers" shifts the centre of the moving grid onto that of
    the fixed one; "scanner" trusts the positions in the headers.
    Raises GeometryError where the two volumes do not overlap afterwards.
    """
    offset = moving.grid.center - fixed.grid.center
    distance = float(np.linalg.norm(offset))
    if initial is not None:
        transform, described = initial, "given transform"
    elif mode == "centers" and distance > _EQUAL_CENTERS:
        transform, described = CompositeTransform((AffineTransform.translation(offset.tolist()),)), "image centers"
    else:
        transform, described = CompositeTransform(()), "scanner positions"
    overlap = _overlap(fixed, moving, transform)
    if overlap == 0:
        raise GeometryError(
            f"{fixed.source} and {moving.source} do not overlap in space ({distance:.0f} mm between their centers); "
            "start from aligned centers (--initialize centers) or give an --initial-transform"
        )
    return transform, {"mode": described, "center_distance_mm": round(distance, 3), "overlap": round(overlap, 4)}


def _overlap(fixed: Volume, moving: Volume, transform: CompositeTransform) -> float:
    """Fraction of the fixed volume that maps inside the moving one."""
    axes = [np.linspace(-0.5, n - 0.5, 2 * _SAMPLES + 1)[1::2] for n in fixed.grid.size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return float(moving.grid.contains(transform.apply(fixed.grid.to_physical(index))).mean())
