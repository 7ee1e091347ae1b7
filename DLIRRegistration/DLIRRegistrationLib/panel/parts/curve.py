"""A learning curve as a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import qt

_MARGIN, _LINE = 6, 15

# Its name, its colour ("#rrggbb") and its points (x, y) with x ascending.
Curve = tuple[str, str, Sequence[tuple[float, float]]]


def curve_picture(width: int, height: int, curves: Sequence[Curve]) -> Any:
    """A QPixmap with the curves, and at the lower right, which rising curves leave free, their names and last values.

    curves: all of one quantity, for the axes fit all of them.
    """
    picture = qt.QPixmap(width, height)
    picture.fill(qt.QColor("#ffffff"))
    points = [point for _, _, curve in curves for point in curve]
    painter = qt.QPainter(picture)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    painter.setPen(qt.QColor("#c8c8c8"))
    painter.drawRect(0, 0, width - 1, height - 1)
    if points:
        place = _scale(points, width, height)
        for number, (name, color, curve) in enumerate(curves):
            painter.setPen(qt.QColor(color))
            placed = [place(x, y) for x, y in curve]
            for (x1, y1), (x2, y2) in pairwise(placed):
                painter.drawLine(x1, y1, x2, y2)
            if curve:
                label = f"{name} {curve[-1][1]:.3g}"
                across = width - _MARGIN - painter.fontMetrics().horizontalAdvance(label)
                painter.drawText(across, height - _MARGIN - _LINE * (len(curves) - 1 - number), label)
    painter.end()
    return picture


def _scale(points: Sequence[tuple[float, float]], width: int, height: int) -> Any:
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return (
            round(_MARGIN + across * (width - 2 * _MARGIN)),
            round(height - _MARGIN - up * (height - 2 * _MARGIN)),
        )

    return place
