"""Questions and messages in windows. Without windows, or in tests, nothing is shown and nothing waits."""

from __future__ import annotations

from typing import Any

import qt
import slicer


def can_ask() -> bool:
    """Whether there is somebody to answer."""
    return not slicer.app.testingEnabled() and slicer.util.mainWindow() is not None


def agreed(text: str, title: str) -> bool:
    """Ask, and wait for the answer; False where nobody can be asked."""
    return can_ask() and bool(slicer.util.confirmOkCancelDisplay(text, windowTitle=title))


def show_error(text: str, details: str = "") -> None:
    """Show an error and wait until it has been read. details: behind a button of the window."""
    if can_ask():
        slicer.util.errorDisplay(text, **({"detailedText": details} if details else {}))


def choose_target(title: str, name: str, pattern: str, parent: Any) -> str:
    """A file to be written, chosen by the user; empty where none was chosen, or nobody can be asked."""
    return qt.QFileDialog.getSaveFileName(parent, title, name, pattern) if can_ask() else ""


def choose_file(title: str, pattern: str, parent: Any) -> str:
    """A file chosen by the user; empty where none was chosen, or nobody can be asked."""
    return qt.QFileDialog.getOpenFileName(parent, title, "", pattern) if can_ask() else ""
