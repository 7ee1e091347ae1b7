"""The panel as a whole: its sections, and the times at which they may do something."""

from __future__ import annotations

from typing import Any

import qt

from DLIRRegistrationLib.panel.parts.alignment import align_labels
from DLIRRegistrationLib.panel.parts.refining import RefiningView
from DLIRRegistrationLib.panel.parts.runner import Runner
from DLIRRegistrationLib.panel.parts.status import StatusLine
from DLIRRegistrationLib.panel.section import Host, Section
from DLIRRegistrationLib.panel.sections.apply import ApplySection, RefineSection
from DLIRRegistrationLib.panel.sections.carry import CarrySection
from DLIRRegistrationLib.panel.sections.inputs import InputsSection
from DLIRRegistrationLib.panel.sections.look import LookSection
from DLIRRegistrationLib.panel.sections.models import ModelsSection
from DLIRRegistrationLib.panel.sections.names import NamesSection
from DLIRRegistrationLib.panel.sections.outputs import OutputsSection
from DLIRRegistrationLib.panel.sections.result import ResultSection
from DLIRRegistrationLib.panel.sections.save import SaveSection
from DLIRRegistrationLib.panel.sections.sequence import SequenceSection
from DLIRRegistrationLib.panel.sections.train import TrainSection
from DLIRRegistrationLib.panel.sections.trust import TrustSection
from DLIRRegistrationLib.panel.values import choose_volumes, offered_volumes

# While nothing runs: often enough to notice a worker that is ready or has died.
_IDLE_MS = 1000
# While it is found out which model fits.
_BUSY_MS = 50


class Panel:
    """ui: the widgets of the .ui file by their names. logic: what does the work."""

    def __init__(self, ui: Any, logic: Any) -> None:
        self._closed = False
        self._offered: set[str] = set()
        status = StatusLine(ui.statusLabel)
        refining = RefiningView(ui.refiningLabel, ui.keepButton, ui.progressBar)
        self.runner = Runner(logic.poll, ui.progressBar, refining, status, self.show)
        self.host = Host(ui, logic, status, self.runner)
        self.inputs = InputsSection(self.host)
        self.carry = CarrySection(self.host)
        self.apply = ApplySection(self.host, self.show, self._on_result)
        self.look = LookSection(self.host)
        self.models = ModelsSection(self.host, self._on_catalogue)
        self.train = TrainSection(self.host, self.models.add)
        others = (OutputsSection, TrustSection, SaveSection, SequenceSection, NamesSection)
        rest = [RefineSection(self.host, self._on_result), *(section(self.host) for section in others)]
        self.sections: list[Section] = [self.inputs, self.apply, self.look, self.carry, self.models, self.train, *rest]
        self.sections.append(ResultSection(self.host))  # last, for it hides whole sections
        names = ("inputs", "moreInputs", "outputs", "look", "carry", "measure", "sequence", "train")
        align_labels([getattr(ui, f"{name}Button") for name in names])
        self._idle = qt.QTimer()
        self._idle.setInterval(_IDLE_MS)
        self._idle.connect("timeout()", self._on_idle)

    def set_parameters(self, parameters: Any) -> None:
        """Show other parameters; None, as while a scene is closed, ends what runs, and nothing said of it stays."""
        if parameters is None:
            self.runner.cancel()
            self.host.status.forget()
            self.look.leave()
        if self.host.parameters is None or parameters is None:
            self.look.forget()
        self.host.parameters = parameters

    def show(self) -> None:
        """Bring all widgets in line with the parameters."""
        if self.host.settled and not self._closed:
            for section in self.sections:
                section.show()

    def enter(self) -> None:
        self.apply.warm_up()
        self._offered = _offered()
        self.show()
        self._idle.start()

    def exit(self) -> None:
        self._idle.stop()

    def close(self) -> None:
        """End what runs and let go of everything; nothing is called any more."""
        self._closed = True
        self.host.parameters = None
        self._idle.stop()
        self._idle.deleteLater()  # what it calls holds the panel
        self.runner.close()
        self.host.status.close()
        for section in self.sections:
            section.close()

    def _on_result(self) -> None:
        """A pair has been registered, and its result is in the parameters."""
        self.carry.carry_surfaces()
        self.look.present_result()

    def _on_catalogue(self) -> None:
        self.inputs.refresh_models()
        self.show()

    def _on_idle(self) -> None:
        self.host.logic.poll()
        self.train.follow()
        if self.host.settled:
            self.look.follow()
            self._idle.setInterval(_BUSY_MS if self.inputs.follow() else _IDLE_MS)
        self._propose()

    def _propose(self) -> None:
        """Volumes that were loaded just now are proposed; a choice that was undone is not made again."""
        before, self._offered = self._offered, _offered()
        if self.host.settled and not self._offered <= before:
            choose_volumes(self.host.parameters)


def _offered() -> set[str]:
    return {node.GetID() for node in offered_volumes()}
