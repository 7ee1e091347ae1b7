"""Outputs: which results are wanted, and which nodes take them."""

from __future__ import annotations

from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.section import Section
from DLIRRegistrationLib.panel.values import all_present


class OutputsSection(Section):
    """All values are connected by name; what is not wanted, or cannot be, is greyed out."""

    def show(self) -> None:
        parameters, ui = self.host.parameters, self.ui
        ui.warpedSelector.enabled = parameters.wantWarped
        ui.transformSelector.enabled = parameters.wantTransform
        ui.transformKindSelector.enabled = parameters.wantTransform
        ui.transformKindSelectorLabel.enabled = parameters.wantTransform
        ui.jacobianSelector.enabled = parameters.wantJacobian
        ui.errorMapSelector.enabled = parameters.wantErrorMap
        count = len(all_present(parameters.segmentations))
        ui.outputSegmentationSelector.enabled = count == 1
        ui.outputSegmentationSelectorLabel.enabled = count > 0
        ui.outputSegmentationSelector.toolTip = {
            0: _("Choose a segmentation first, in “Carry over”."),
            1: _("Takes the propagated segmentation; one chosen here is overwritten."),
        }.get(count, _("Each of the segmentations gets a new one."))
        has_landmarks = parameters.movingLandmarks is not None
        ui.outputLandmarksSelector.enabled = has_landmarks
        ui.outputLandmarksSelectorLabel.enabled = has_landmarks
        ui.outputLandmarksSelector.toolTip = (
            _("Takes the moving landmarks, carried to the fixed image; a list chosen here is overwritten.")
            if has_landmarks
            else _("Choose landmarks first, in “Carry over”.")
        )
