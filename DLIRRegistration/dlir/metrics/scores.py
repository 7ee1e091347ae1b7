"""Scores of one structure before and after a registration, as plain values for a report."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.metrics.labels import LabelScores, label_report

Scores = dict[str, dict[str, float | None]]


def structure_scores(fixed: NDArray[Any], before: NDArray[Any], after: NDArray[Any], grid: ImageGrid) -> Scores:
    """Dice, HD, HD95 and ASD (mm), {"before": {"dice": ..., "hd_mm": ..., ...}, "after": ...}; None if not defined.

    fixed: the structure in the fixed image; before, after: that of the moving image as the start and as the whole
    transform bring it there; masks (z, y, x) on `grid`. Raises GeometryError for one that does not fit.
    """
    return {
        when: _plain(label_report(fixed.astype(bool), moved.astype(bool), grid, [1])[1])
        for when, moved in (("before", before), ("after", after))
    }


def _plain(scores: LabelScores) -> dict[str, float | None]:
    values = {"dice": scores.dice, "hd_mm": scores.hd, "hd95_mm": scores.hd95, "asd_mm": scores.asd}
    return {name: defined(value) for name, value in values.items()}


def defined(value: float) -> float | None:
    """None for what is not finite, which JSON does not know."""
    return value if math.isfinite(value) else None
