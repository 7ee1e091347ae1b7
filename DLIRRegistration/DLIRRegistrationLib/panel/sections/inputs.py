"""Images and Options: model and its card, masks, where to start from."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from dlir.model.catalogue import all_models
from dlir.registration.choices import AUTO_MODEL, NO_MODEL
from DLIRRegistrationLib import models
from DLIRRegistrationLib.logic import optimisation_problem
from DLIRRegistrationLib.panel.choices import Start, no_model
from DLIRRegistrationLib.panel.parts.masks import MaskChooser
from DLIRRegistrationLib.panel.section import Host, Section, fill, put
from DLIRRegistrationLib.panel.wording import in_panel_words


class InputsSection(Section):
    """What is registered. Most of it is connected with the parameters by name; here is what Slicer cannot connect."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._masks = [
            MaskChooser(self, "fixed", self.ui.fixedMaskSegmentSelector),
            MaskChooser(self, "moving", self.ui.movingMaskSegmentSelector),
        ]
        self._carded: str | None = None
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._on_model)
        self.refresh_models()

    def refresh_models(self) -> None:
        """Read the catalogue, at first and when it has changed; `show` then chooses in it."""
        usable = [entry.name for entry in all_models() if entry.header is not None]
        named = zip(usable, usable, strict=True)
        fill(self.ui.modelSelector, [(_("Automatic"), AUTO_MODEL), *named, (no_model(), NO_MODEL)])
        self._carded = None

    def show(self) -> None:
        parameters = self.host.parameters
        self._show_model(parameters.model)
        for mask in self._masks:
            mask.show()
        self.ui.initializeSelector.enabled = parameters.initialTransform is None
        self.ui.initializeSelectorLabel.enabled = parameters.initialTransform is None
        self._show_second(parameters)

    def close(self) -> None:
        for mask in self._masks:
            mask.close()

    def _show_model(self, name: str) -> None:
        put(self.ui.modelSelector, "currentIndex", self.ui.modelSelector.findData(name))
        if self._carded != name:
            self._carded = name
            self.ui.modelCardLabel.text = models.card_line(name)

    def _show_second(self, parameters: Any) -> None:
        """The second best start is greyed out where there is no such thing, and says why."""
        refused = optimisation_problem(parameters.model, None, parameters.kind.value, Start.SECOND.value)
        box, row = self.ui.initializeSelector, list(Start).index(Start.SECOND)
        box.model().item(row).setEnabled(refused is None)
        hint = in_panel_words(refused) if refused else _("The next best position that the optimisation has found.")
        box.setItemData(row, hint, qt.Qt.ToolTipRole)

    def _on_model(self, index: int) -> None:
        if index >= 0:
            self.write("model", self.ui.modelSelector.itemData(index))
