"""Apply, which becomes Cancel, Refine further, and Install where Python packages are missing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from dlir.errors import DLIRError
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.panel.parts.packages import ensure_installed
from DLIRRegistrationLib.panel.section import Host, RunSection
from DLIRRegistrationLib.panel.values import keep_result, present, refinement_of, registration_of

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import RegistrationNodes


class ApplySection(RunSection):
    """One registration with what is chosen. Its result is kept in the parameters for Look and Trust.

    on_installed: called after an installation was tried, for buttons to be enabled. on_result: when the result is in
    the parameters.
    """

    def __init__(self, host: Host, on_installed: Callable[[], None], on_result: Callable[[], None]) -> None:
        super().__init__(
            host,
            host.ui.applyButton,
            _("Register the moving volume to the fixed one."),
            registration_of,
            host.logic.registrationProblem,
            partial(host.logic.register, onOffer=host.status.offer),
        )
        self._on_installed, self._on_result = on_installed, on_result
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
        self.host.status.result(result.verdict)
        if self.host.parameters is not None:
            keep_result(self.host.parameters, choices, result)
            self._on_result()

    def _on_install(self) -> None:
        ensure_installed(self.host.status, dependencies.requirements())
        self.warm_up()
        self._on_installed()


class RefineSection(RunSection):
    """One more refinement of the last result, in whose nodes the better one goes."""

    def __init__(self, host: Host, on_result: Callable[[], None]) -> None:
        super().__init__(
            host,
            host.ui.refineFurtherButton,
            _("Goes on optimising the last result, for as long as Refinement says; its nodes are overwritten."),
            refinement_of,
            host.logic.refinementProblem,
            partial(host.logic.refineFurther, onOffer=host.status.offer),
        )
        self._on_result = on_result

    def show(self) -> None:
        super().show()
        own, runner = self.ui.refineFurtherButton, self.host.runner
        done = present(self.host.parameters.resultTable) is not None
        own.visible = runner.is_cancel(own) or (done and not runner.busy)
        self.ui.applyButton.visible = not runner.is_cancel(own)  # there is one Cancel

    def _on_done(self, choices: dict[str, Any], result: RegistrationNodes) -> None:
        self.host.status.result(result.verdict)
        if self.host.parameters is not None:
            keep_result(self.host.parameters, choices, result)
            self._on_result()
