"""Carry over: what was drawn on the moving image, and is brought onto the fixed one, with Apply or by itself."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from dlir.errors import DLIRError
from DLIRRegistrationLib.panel.section import Host, Section, allow, silently
from DLIRRegistrationLib.panel.values import all_present, keep_carried, present
from DLIRRegistrationLib.panel.wording import in_panel_words


class CarrySection(Section):
    """The lists in which several nodes can be ticked, and the button that carries over without registering again."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._lists = [
            _Ticked(self, "segmentations", self.ui.segmentationsSelector, "vtkMRMLSegmentationNode"),
            _Ticked(self, "surfaces", self.ui.surfacesSelector, "vtkMRMLModelNode"),
        ]
        self.ui.carryNowButton.connect("clicked(bool)", self._on_carry)

    def show(self) -> None:
        for ticked in self._lists:
            ticked.show()
        ready = _("Brings what is chosen above onto the fixed image, by the last result; nothing is registered again.")
        allow(self.ui.carryNowButton, self._problem(), ready)
        self.ui.measureNoteLabel.text = _("Measured on Apply; the figures are in “Can I trust it?” then.")

    def _problem(self) -> str | None:
        p = self.host.parameters
        if self.host.runner.busy:
            return self.host.obstacle()
        if present(p.resultTransform) is None or present(p.resultFixed) is None:
            return _("There is no transform yet: press Apply, with Transform ticked in Outputs.")
        if not (all_present(p.segmentations) or present(p.movingLandmarks) or all_present(p.surfaces)):
            return _("Choose a segmentation, landmarks or a surface of the moving image.")
        return None

    def carry_surfaces(self) -> None:
        """After Apply, which has carried over all else."""
        p = self.host.parameters
        if all_present(p.surfaces) and present(p.resultTransform) is not None:
            self._carry(surfaces=all_present(p.surfaces))

    def _on_carry(self) -> None:
        if self.host.parameters is None or self._problem() is not None:
            return
        p = self.host.parameters
        landmarks = present(p.movingLandmarks)
        drawn, surfaces = all_present(p.segmentations), all_present(p.surfaces)
        nodes = self._carry(segmentations=drawn, landmarks=[landmarks] if landmarks else [], surfaces=surfaces)
        if nodes:
            names = ", ".join(node.GetName() for node in nodes)
            self.host.status.note(_("Carried over to the fixed image: {names}.").format(names=names))

    def _carry(self, **chosen: list[Any]) -> list[Any]:
        p = self.host.parameters
        former = dict(zip(all_present(p.resultDrawn), all_present(p.resultPropagated), strict=False))
        if (points := present(p.resultLandmarks)) and (source := present(p.movingLandmarks)):
            former[source] = points
        try:
            nodes: list[Any] = self.host.logic.carryOver(p.resultTransform, p.resultFixed, former=former, **chosen)
        except DLIRError as error:
            self.host.status.error(in_panel_words(str(error)))
            return []
        keep_carried(p, chosen.get("segmentations", []), chosen.get("landmarks", []), nodes)
        return nodes


class _Ticked:
    """A list of the nodes of one class, those ticked that a parameter names."""

    def __init__(self, section: Section, name: str, box: Any, kind: str) -> None:
        self._section, self._name, self._box, self._kind = section, name, box, kind
        self._purpose = box.toolTip
        box.connect("checkedNodesChanged()", self._on_ticked)

    def show(self) -> None:
        box, chosen = self._box, all_present(getattr(self._section.host.parameters, self._name))

        def mark() -> None:
            for node in slicer.util.getNodesByClass(self._kind):
                state = qt.Qt.Checked if node in chosen else qt.Qt.Unchecked
                if box.checkState(node) != state:
                    box.setCheckState(node, state)

        silently(box, mark)
        names = ", ".join(node.GetName() for node in chosen)
        box.toolTip = _("To be carried to the fixed image: {names}.").format(names=names) if chosen else self._purpose

    def _on_ticked(self) -> None:
        nodes = slicer.util.getNodesByClass(self._kind)
        self._section.write(self._name, [node for node in nodes if self._box.checkState(node) == qt.Qt.Checked])
