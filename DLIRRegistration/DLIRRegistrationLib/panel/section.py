"""What the sections of the panel have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.runner import Runner
from DLIRRegistrationLib.panel.status import StatusLine


@dataclass
class Host:
    """The panel as its sections see it.

    ui: the widgets by their names. parameters: the wrapped parameter node; None while the panel is not shown or the
    scene is being closed, and then no section writes anything. missing: which Python packages must be installed
    before anything can run, as a sentence.
    """

    ui: Any
    logic: Any
    status: StatusLine
    runner: Runner
    parameters: Any = None
    missing: str | None = None

    @property
    def settled(self) -> bool:
        """Whether there are parameters that mean something: while a scene is read, they change one by one."""
        return self.parameters is not None and not slicer.mrmlScene.IsImporting()

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


def silently(widget: Any, change: Callable[[], None]) -> None:
    """Change a widget without its signals."""
    blocked = widget.blockSignals(True)
    try:
        change()
    finally:
        widget.blockSignals(blocked)
