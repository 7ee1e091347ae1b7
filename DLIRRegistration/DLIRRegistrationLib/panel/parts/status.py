"""The line below Apply: what there is to say at present, and the messages before."""

from __future__ import annotations

import re
import time
from html import escape, unescape
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from dlir.registration.choices import NO_MODEL
from DLIRRegistrationLib.panel.parts.dialogs import show_error
from DLIRRegistrationLib.panel.wording import in_panel_words

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import Verdict

_COLORS = {"good": "#2e9e4f", "check": "#d98200", "failed": "#c8372d"}
# Messages that are kept.
_KEPT = 10


def verdict_text(level: str, reason: str) -> str:
    """A verdict as rich text, its level as a coloured dot and a word."""
    word = {"good": _("Good"), "check": _("Check"), "failed": _("Failed")}[level]
    return f"{_dot(level)} <b>{_plain(word)}.</b> {_plain(in_panel_words(reason))}"


class StatusLine:
    """What the panel has to say. Errors appear in a window as well, where there is a user to read it.

    The last messages are kept: a link unfolds them.
    """

    def __init__(self, label: Any) -> None:
        self._label = label
        self._error, self._details = "", ""
        self._current = ""
        self._messages: list[tuple[str, str]] = []  # when, and what, oldest first
        self._unfolded = False
        label.connect("linkActivated(QString)", self._on_link)
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
        self._tell(f"{text} {chosen}".strip())

    def offer(self, verdict: Verdict) -> None:
        """What is known while the last check goes on."""
        so_far = {"good": _("Good so far"), "check": _("Check"), "failed": _("Failed")}[verdict.level]
        reason = "" if verdict.level == "good" else f" {_plain(in_panel_words(verdict.reason))}"
        going_on = _("Checking there and back …")
        self._current = f"{_dot(verdict.level)} <b>{_plain(so_far)}.</b>{reason} {_plain(going_on)}"
        self._show()

    def note(self, text: str) -> None:
        self._tell(_plain(_sentence(text)))

    def error(self, text: str, details: str = "") -> None:
        """details: for those who look after the computer; seen in the window where it is asked for."""
        self._error, self._details = _sentence(text), details
        self._tell(f"{_dot('failed')} {_plain(self._error)}")
        self._later.start()

    def result(self, verdict: Verdict) -> None:
        """A verdict that is shown elsewhere is only kept among the messages."""
        self._keep(verdict_text(verdict.level, verdict.reason))
        self.clear()

    def clear(self) -> None:
        """Nothing more to say of what was; the messages stay."""
        self._current, self._unfolded = "", False
        self._show()

    def forget(self) -> None:
        """The scene that the messages were about is gone."""
        self._messages.clear()
        self.clear()

    def close(self) -> None:
        self._later.stop()
        self._later.deleteLater()

    def _tell(self, rich_text: str) -> None:
        self._keep(rich_text)
        self._current, self._unfolded = rich_text, False
        self._show()

    def _keep(self, rich_text: str) -> None:
        self._messages = [*self._messages, (time.strftime("%H:%M:%S"), rich_text)][-_KEPT:]

    def _show(self) -> None:
        """What was said last is either shown, or stands with the result."""
        earlier = self._messages[:-1]
        lines = [self._current] if self._current else []
        if earlier and self._current:
            link = _("Hide earlier messages") if self._unfolded else _("Earlier messages")
            lines.append(f'<a href="#messages">{_plain(link)}</a>')
        if self._unfolded:
            lines += [f'<span style="color: gray">{when}</span> {text}' for when, text in reversed(earlier)]
        self._label.text = "<br>".join(lines)
        self._label.toolTip = "\n".join(f"{when} {_bare(text)}" for when, text in self._messages)
        self._label.visible = bool(lines)

    def _on_link(self, link: str) -> None:
        self._unfolded = not self._unfolded
        self._show()

    def _open_window(self) -> None:
        show_error(self._error, self._details)


def _dot(level: str) -> str:
    return f'<span style="color: {_COLORS[level]}">●</span>'


def _sentence(text: str) -> str:
    """Errors of the command line begin with a small letter."""
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    return escape(text, quote=False)


def _bare(rich_text: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", rich_text))
