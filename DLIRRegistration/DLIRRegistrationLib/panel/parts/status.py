"""The one line below Apply: how it went, and why."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dlir.registration.choices import NO_MODEL
from DLIRRegistrationLib.panel.parts.dialogs import show_error

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import Verdict

_COLORS = {"good": "#2e9e4f", "check": "#d98200", "failed": "#c8372d"}


def verdict_text(level: str, reason: str) -> str:
    """A verdict as rich text, its level as a coloured dot and a word."""
    word = {"good": _("Good"), "check": _("Check"), "failed": _("Failed")}[level]
    return f"{_dot(level)} <b>{_plain(word)}.</b> {_plain(reason)}"


class StatusLine:
    """What the panel has to say. Errors appear in a window as well, where there is a user to read it."""

    def __init__(self, label: Any) -> None:
        self._label = label
        self._error = ""
        # A window that waits must not be opened from within the work that has failed.
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.connect("timeout()", self._open_window)

    def verdict(self, verdict: Verdict, model: str | None = None) -> None:
        """model: the one that was chosen for the images, or "none", where the user left that open."""
        text = verdict_text(verdict.level, verdict.reason)
        chosen = _("Chosen for these images: {model}.").format(model=f"<b>{_plain(model)}</b>") if model else ""
        if model == NO_MODEL:
            chosen = _plain(_("No model was made for such images, so this pair was optimised."))
        self._show(f"{text} {chosen}".strip())

    def offer(self, verdict: Verdict) -> None:
        """What is known while the last check goes on."""
        so_far = {"good": _("Good so far"), "check": _("Check"), "failed": _("Failed")}[verdict.level]
        reason = "" if verdict.level == "good" else f" {_plain(verdict.reason)}"
        going_on = _("Checking there and back …")
        self._show(f"{_dot(verdict.level)} <b>{_plain(so_far)}.</b>{reason} {_plain(going_on)}")

    def note(self, text: str) -> None:
        self._show(_plain(_sentence(text)))

    def error(self, text: str) -> None:
        self._error = _sentence(text)
        self._show(f"{_dot('failed')} {_plain(self._error)}")
        self._later.start()

    def clear(self) -> None:
        self._label.visible = False
        self._label.text = ""

    def close(self) -> None:
        self._later.stop()
        self._later.deleteLater()

    def _show(self, rich_text: str) -> None:
        self._label.text = rich_text
        self._label.visible = True

    def _open_window(self) -> None:
        show_error(self._error)


def _dot(level: str) -> str:
    return f'<span style="color: {_COLORS[level]}">●</span>'


def _sentence(text: str) -> str:
    """Errors of the command line begin with a small letter."""
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    return escape(text, quote=False)
