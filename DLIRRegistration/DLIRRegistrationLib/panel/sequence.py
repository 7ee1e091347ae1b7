"""Sequence: every frame of a cine, registered to one of them."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.section import Host, Section
from DLIRRegistrationLib.panel.values import present


class SequenceSection(Section):
    """Starts the registration of a sequence; frames are counted from 1, as in Slicer's own sequence browser."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.ui.registerSequenceButton.connect("clicked(bool)", self._on_register)

    def show(self) -> None:
        sequence = present(self.host.parameters.sequence)
        frames = sequence.GetNumberOfDataNodes() if sequence is not None else 0
        self.ui.referenceFrameSpinBox.maximum = max(frames, 1)
        self.ui.referenceFrameSpinBox.enabled = frames > 0
        self.ui.referenceFrameSpinBox.suffix = _(" of {count}").format(count=frames) if frames else ""
        button = self.ui.registerSequenceButton
        if self.host.runner.is_cancel(button):
            button.enabled = True
            button.toolTip = _("End the registration; nothing will be changed.")
            return
        problem = self._problem(sequence)
        button.enabled = problem is None
        button.toolTip = problem or _("Registers every frame to the reference frame.")

    def _problem(self, sequence: Any) -> str | None:
        if self.host.runner.busy:
            return _("Wait for the end of what is running, or cancel it.")
        if self.ui.installWidget.visible:
            return self.ui.installLabel.text
        if sequence is None:
            return _("Choose a sequence.")
        if sequence.GetNumberOfDataNodes() < 2:
            return _("The sequence '{name}' has less than two frames.").format(name=sequence.GetName())
        if not sequence.GetNthDataNode(0).IsA("vtkMRMLScalarVolumeNode"):
            return _("The sequence '{name}' is not one of volumes.").format(name=sequence.GetName())
        return None

    def _on_register(self) -> None:
        button = self.ui.registerSequenceButton
        parameters = self.host.parameters
        if self.host.runner.is_cancel(button):
            self.host.runner.pressed_again()
        elif parameters is not None and self._problem(present(parameters.sequence)) is None:
            task = self.host.logic.newSequenceRun(
                parameters.sequence,
                reference=parameters.referenceFrame - 1,
                model=parameters.model,
                segmentation=present(parameters.sequenceSegmentation),
                device=parameters.device.value,
            )
            self.host.runner.start(task, button, self._on_done)

    def _on_done(self, result: Any) -> None:
        self.host.status.verdict(result.verdict)
