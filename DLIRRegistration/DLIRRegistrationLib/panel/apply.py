"""Apply, which becomes Cancel, and Install where Python packages are missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from dlir.errors import DLIRError
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.panel.packages import ensure_installed
from DLIRRegistrationLib.panel.section import Host, RunSection
from DLIRRegistrationLib.panel.values import registration_of

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import RegistrationNodes


class ApplySection(RunSection):
    """One registration with what is chosen. Its result is kept in the parameters for Look and Trust.

    on_installed: called after an installation was tried, for buttons to be enabled.
    """

    def __init__(self, host: Host, on_installed: Callable[[], None]) -> None:
        super().__init__(
            host,
            host.ui.applyButton,
            _("Register the moving volume to the fixed one."),
            registration_of,
            host.logic.registrationProblem,
            partial(host.logic.register, onOffer=host.status.offer),
        )
        self._on_installed = on_installed
        self.ui.installButton.connect("clicked(bool)", self._on_install)

    def warm_up(self) -> None:
        """The panel has been entered: see what is missing, and start the worker where nothing is."""
        self.host.missing = dependencies.problem()
        self.ui.installLabel.text = self.host.missing or ""
        self.ui.installWidget.visible = self.host.missing is not None
        if self.host.missing is None:
            try:
                self.host.logic.warmUp()
            except DLIRError as error:
                self.host.status.note(str(error))

    def _on_done(self, choices: dict[str, Any], result: RegistrationNodes) -> None:
        super()._on_done(choices, result)
        parameters = self.host.parameters
        if parameters is None:
            return
        with slicer.util.NodeModify(parameters):
            parameters.showBefore = False
            parameters.resultFixed, parameters.resultMoving = choices["fixed"], choices["moving"]
            parameters.resultWarped, parameters.resultTransform = result.warped, result.transform
            parameters.resultJacobian, parameters.resultTable = result.jacobian, result.table
            parameters.resultDrawn = choices["segmentations"]
            parameters.resultPropagated = list(result.segmentations)
            parameters.verdictLevel, parameters.verdictReason = result.verdict.level, result.verdict.reason

    def _on_install(self) -> None:
        ensure_installed(self.host.status, dependencies.requirements())
        self.warm_up()
        self._on_installed()
