"""Unfolding a section, and bringing it into sight."""

from __future__ import annotations

from typing import Any

import qt


def reveal(section: Any) -> None:
    """Unfold a section of the panel; where the panel scrolls, it is scrolled there as soon as that has its size."""
    section.collapsed = False
    area = section.parent()
    while area is not None and area.className() != "QScrollArea":
        area = area.parent()
    if area is not None:
        qt.QTimer.singleShot(0, lambda: area.ensureWidgetVisible(section, 0, 0))
