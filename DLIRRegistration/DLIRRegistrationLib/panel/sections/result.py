"""The last result in a few lines: the verdict, what has changed, and what one does next."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.parts.reveal import reveal
from DLIRRegistrationLib.panel.parts.status import verdict_text
from DLIRRegistrationLib.panel.section import Host, Section
from DLIRRegistrationLib.panel.values import present

# Sections that mean something only where there is a result, and the button that leads there, if one does.
_OF_RESULT = ("lookButton", "trustButton", "saveButton")
_STEPS = {"nextCarryButton": "carryButton", "nextTrustButton": "trustButton", "nextSaveButton": "saveButton"}


class ResultSection(Section):
    """Sections that a result makes useful are there as soon as there is one; Compare unfolds by itself then."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._had: Any = None
        for button, section in _STEPS.items():
            getattr(self.ui, button).connect("clicked(bool)", lambda _on, name=section: reveal(getattr(self.ui, name)))

    def show(self) -> None:
        parameters, ui, runner = self.host.parameters, self.ui, self.host.runner
        table = present(parameters.resultTable)
        refining = runner.is_cancel(ui.refineFurtherButton)
        for name in _OF_RESULT:
            getattr(ui, name).visible = table is not None
        ui.resultWidget.visible = table is not None and (refining or not runner.busy)
        for name in _STEPS:
            getattr(ui, name).visible = not refining
        if table is None:
            return
        level = parameters.verdictLevel
        ui.verdictReasonLabel.text = verdict_text(level, parameters.verdictReason) if level else ""
        ui.verdictReasonLabel.visible = bool(level)
        ui.changesLabel.text = parameters.resultChanges
        ui.changesLabel.visible = bool(parameters.resultChanges)
        ui.nextTrustButton.text = _("Inspect the folds") if self._folds(parameters) else _("See the figures")

    def _folds(self, parameters: Any) -> bool:
        jacobian = present(parameters.resultJacobian)
        return jacobian is not None and bool(self.host.logic.folds(jacobian))
