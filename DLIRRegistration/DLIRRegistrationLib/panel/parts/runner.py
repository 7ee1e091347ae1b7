"""One thing at a time for the panel, by the Logic: its button becomes Cancel, a bar names the step, a timer goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.parts.refining import RefiningView
from DLIRRegistrationLib.panel.wording import in_panel_words, step_in_words

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import Task
    from DLIRRegistrationLib.panel.parts.status import StatusLine

_TICK_MS = 20
# So long after the start a second press counts as part of a double click, not as a wish to cancel.
_DOUBLE_CLICK_S = 0.5


class Runner:
    """The panel's work.

    poll: lets the Logic go on with it. refining: shows how a pair is optimised. on_change: called when work begins
    and when it has ended, for buttons to be enabled or not.
    """

    def __init__(
        self,
        poll: Callable[[], None],
        progress_bar: Any,
        refining: RefiningView,
        status: StatusLine,
        on_change: Callable[[], None],
    ) -> None:
        self._bar = progress_bar
        self._refining = refining
        refining.on_keep(self._finish)
        self._status = status
        self._on_change = on_change
        self._task: Task | None = None
        self._button: Any = None  # there while something runs
        self._button_text = ""
        self._started = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MS)
        self._timer.connect("timeout()", poll)

    @property
    def busy(self) -> bool:
        return self._button is not None

    def is_cancel(self, button: Any) -> bool:
        """Whether this button cancels the present work."""
        return self.busy and self._button == button

    def start(self, begin: Callable[..., Task], button: Any, on_done: Callable[[Any], None]) -> None:
        """Begin. `button`, which the user has pressed, cancels it until it has ended.

        begin: a call of the Logic's that does not block, still without its onProgress, onCurve, onDone and onFailed.
        """
        self._button, self._button_text = button, button.text
        self._started = time.monotonic()
        button.text = _("Cancel")
        self._status.clear()
        self._progress(_("starting"), 0.0)
        self._bar.visible = True
        self._on_change()
        self._timer.start()
        task = begin(
            onProgress=self._progress,
            onCurve=self._curve,
            onDone=lambda result: self._end(lambda: on_done(result)),
            onFailed=lambda message, kind: self._end(lambda: self._tell(message, kind)),
        )
        self._task = task if self.busy else None  # it may have failed at once

    def pressed_again(self) -> None:
        """The button was pressed while its task runs."""
        if time.monotonic() - self._started > _DOUBLE_CLICK_S:
            self.cancel()

    def cancel(self) -> None:
        """End the task now, if there is one."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """End everything; no widget is touched and nothing is called any more."""
        self._timer.stop()
        self._timer.deleteLater()
        task, self._task, self._button = self._task, None, None
        if task is not None:
            task.cancel()

    def _progress(self, step: str, fraction: float) -> None:
        if self.busy:
            self._refining.step()
            self._bar.format = step_in_words(step)
            self._bar.value = round(100 * min(max(fraction, 0.0), 1.0))

    def _curve(self, stage: str, value: float) -> None:
        if self.busy:
            self._refining.told(stage, value)

    def _finish(self) -> None:
        if self._task is not None:
            self._task.finish()

    def _end(self, tell: Callable[[], None]) -> None:
        if not self.busy:  # closed
            return
        self._timer.stop()
        button, self._task, self._button = self._button, None, None
        button.text = self._button_text
        self._bar.visible = False
        self._refining.clear()
        self._on_change()
        tell()

    def _tell(self, message: str, kind: str) -> None:
        if kind == "cancelled":
            self._status.note(message)
        else:
            self._status.error(in_panel_words(message))
