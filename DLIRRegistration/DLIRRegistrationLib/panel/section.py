"""What the sections of the panel have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from dlir.registration.choices import NO_MODEL
from DLIRRegistrationLib.panel.parts.licence import may_use
from DLIRRegistrationLib.panel.parts.runner import Runner
from DLIRRegistrationLib.panel.parts.status import StatusLine
from DLIRRegistrationLib.panel.wording import in_panel_words


@dataclass
class Host:
    """The panel as its sections see it.

    ui: the widgets by their names. parameters: the wrapped parameter node; None while the panel is not shown or the
    scene is being closed, and then no section writes anything. missing: which Python packages must be installed
    before anything can run, as a sentence. reading: whether a scene is being read.
    """

    ui: Any
    logic: Any
    status: StatusLine
    runner: Runner
    parameters: Any = None
    missing: str | None = None
    reading: bool = False

    @property
    def settled(self) -> bool:
        """Whether there are parameters that mean something: while a scene is read, they change one by one."""
        return self.parameters is not None and not self.reading

    def obstacle(self) -> str | None:
        """Why nothing can be started at present, whatever is chosen; for a tooltip."""
        return _("Wait for the end of what is running, or cancel it.") if self.runner.busy else self.missing


class Section:
    """Some widgets and what they do."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ui = host.ui

    def show(self) -> None:
        """Bring the widgets in line with the parameters, which are there. Called whenever one has changed."""

    def close(self) -> None:
        """Let go of nodes, timers and processes; nothing is called afterwards."""

    def write(self, name: str, value: Any) -> None:
        """The user has chosen a value. What a widget tells while a scene is read is nobody's choice."""
        if self.host.settled and getattr(self.host.parameters, name) != value:
            setattr(self.host.parameters, name, value)


class RunSection(Section):
    """A section whose button starts a registration by the Logic, and cancels it while that runs.

    ready: what the button does, for its tooltip. chosen: from the parameters to what the Logic is asked with. problem,
    register: the Logic's, which are called with that.
    """

    def __init__(
        self,
        host: Host,
        button: Any,
        ready: str,
        chosen: Callable[[Any], dict[str, Any]],
        problem: Callable[..., str | None],
        register: Callable[..., Any],
    ) -> None:
        super().__init__(host)
        self._button, self._ready = button, ready
        self._chosen, self._refusal, self._register = chosen, problem, register
        button.connect("clicked(bool)", self._on_pressed)

    def show(self) -> None:
        if self.host.runner.is_cancel(self._button):
            allow(self._button, None, _("End the registration; nothing will be changed."))
        else:
            allow(self._button, self._problem(), self._ready)

    def _problem(self) -> str | None:
        refused = self.host.obstacle() or self._refusal(**self._chosen(self.host.parameters))
        return refused and in_panel_words(refused)

    def _on_pressed(self) -> None:
        if self.host.runner.is_cancel(self._button):
            self.host.runner.pressed_again()
        elif self.host.parameters is not None and self._problem() is None:
            choices = self._chosen(self.host.parameters)
            # The user takes time to answer, in which a scene may be closed.
            if not may_use(choices.get("model", NO_MODEL), self.host.status) or self.host.parameters is None:
                return
            self.host.runner.start(
                lambda **calls: self._register(**choices, blocking=False, **calls),
                self._button,
                lambda result: self._on_done(choices, result),
            )

    def _on_done(self, choices: dict[str, Any], result: Any) -> None:
        """choices: what it was started with."""


def allow(button: Any, problem: str | None, ready: str) -> None:
    """Enable a button unless there is a problem, which its tooltip then tells instead of what it does."""
    button.enabled = problem is None
    button.toolTip = problem or ready


def fill(box: Any, entries: Iterable[tuple[str, str]]) -> None:
    """Give a list these entries, text and value of each, without its signals."""

    def refill() -> None:
        box.clear()
        for text, value in entries:
            box.addItem(text, value)

    silently(box, refill)


def put(widget: Any, name: str, value: Any) -> None:
    """Set a property of a widget, if it is another one, without the widget's signals."""
    if getattr(widget, name) != value:
        silently(widget, lambda: setattr(widget, name, value))


def silently(widget: Any, change: Callable[[], None]) -> None:
    """Change a widget without its signals."""
    blocked = widget.blockSignals(True)
    try:
        change()
    finally:
        widget.blockSignals(blocked)
