"""How an error map looks: what is right stays grey, so that the anatomy shows; what is not is teal, yellow, magenta.

A table of 256 entries over a fixed window, so that one colour means one error in every registration.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from DLIRRegistrationLib.scene.jacobian_colors import ENTRIES, RGB, Entry, color_table, has_colors, show_legend_of
from DLIRRegistrationLib.scene.volumes import volume_display

# Millimetres at the end of the window: what is more has its colour.
MOST = 8.0
LEGEND_TITLE = "Error to expect, mm\nwhat is grey is right, magenta 8 or more"

_STOPS = (0.0, 1.0, 3.0, 5.0, MOST)
_COLORS: tuple[RGB, ...] = (
    (0.25, 0.25, 0.25),
    (0.08, 0.50, 0.55),
    (0.99, 0.90, 0.15),
    (0.95, 0.45, 0.20),
    (0.80, 0.05, 0.60),
)
_NAME, _MARK = "Error to expect (mm)", "DLIR.ErrorColors"


def color_of(error: float) -> RGB:
    """The colour of an error in mm."""
    red, green, blue = (float(np.interp(error, _STOPS, part)) for part in zip(*_COLORS, strict=True))
    return red, green, blue


def apply_error_colors(volume_node: Any) -> None:
    """Give an error map its colours and its fixed window; safe to call again."""
    display = volume_display(volume_node)
    modifying = display.StartModify()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(MOST, MOST / 2)
    display.SetAndObserveColorNodeID(_table().GetID())
    display.EndModify(modifying)


def has_error_colors(volume_node: Any) -> bool:
    """Whether `apply_error_colors` has seen this volume; also after the scene was saved and read again."""
    return has_colors(volume_node, _MARK)


def show_error_legend(volume_node: Any) -> Any:
    """As `show_legend_of`: 0, 2 ... 8 mm."""
    return show_legend_of(volume_node, LEGEND_TITLE, 5, "%.0f")


def _table() -> Any:
    return color_table(_NAME, _MARK, _entries)


def _entries() -> list[Entry]:
    values = [(index + 0.5) * MOST / ENTRIES for index in range(ENTRIES)]
    return [(f"{value:.2f}", (*color_of(value), 1.0)) for value in values]
