"""Sequence: every frame of a cine, registered to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.display import views
from DLIRRegistrationLib.panel.section import Host, RunSection
from DLIRRegistrationLib.panel.values import present, sequence_of

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import SequenceNodes

# What Look may show of a single pair, and the views will not show any more.
_OF_A_PAIR = ("checkerboard", "showBefore", "showJacobian")


class SequenceSection(RunSection):
    """Starts the registration of a sequence; frames are counted from 1, as in Slicer's own sequence browser."""

    def __init__(self, host: Host) -> None:
        super().__init__(
            host,
            host.ui.registerSequenceButton,
            _("Registers every frame to the reference frame."),
            sequence_of,
            host.logic.sequenceProblem,
            host.logic.registerSequence,
        )

    def show(self) -> None:
        sequence = present(self.host.parameters.sequence)
        frames = sequence.GetNumberOfDataNodes() if sequence is not None else 0
        self.ui.referenceFrameSpinBox.maximum = max(frames, 1)
        # Slicer writes it before the limit is known.
        self.ui.referenceFrameSpinBox.value = self.host.parameters.referenceFrame
        self.ui.referenceFrameSpinBox.enabled = frames > 0
        self.ui.referenceFrameSpinBox.suffix = _(" of {count}").format(count=frames) if frames else ""
        super().show()

    def _on_done(self, choices: dict[str, Any], result: SequenceNodes) -> None:
        self.host.status.verdict(result.verdict, result.chosen_model)
        if self.host.parameters is None:
            return
        for choice in _OF_A_PAIR:
            self.write(choice, False)
        drawn = present(choices["segmentation"])
        if result.segmentation is not None:
            # It lies on the frames as they were, not on the registered ones.
            self.write("fade", 0.0)
            if drawn is not None:
                drawn.SetDisplayVisibility(False)
        fraction = self.host.parameters.fade
        views.play_sequence(result.browser, present(choices["sequence"]), result.warped, result.segmentation, fraction)
