"""Images and Options: model and its card, masks, where to start from."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from dlir.model.catalogue import all_models
from dlir.registration.choices import AUTO_MODEL, NO_MODEL
from DLIRRegistrationLib import models
from DLIRRegistrationLib.logic import Foreseen, optimisation_problem
from DLIRRegistrationLib.panel.choices import Kind, Start, no_model
from DLIRRegistrationLib.panel.parts.masks import MaskChooser
from DLIRRegistrationLib.panel.section import Host, Section, fill, put
from DLIRRegistrationLib.panel.values import present
from DLIRRegistrationLib.panel.wording import in_panel_words


class InputsSection(Section):
    """What is registered. Most of it is connected with the parameters by name; here is what Slicer cannot connect."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._masks = [
            MaskChooser(self, "fixed", self.ui.fixedMaskSegmentSelector),
            MaskChooser(self, "moving", self.ui.movingMaskSegmentSelector),
        ]
        self._carded: tuple[Any, ...] | None = None
        self._foreseen: Foreseen | None = None
        self._seen: tuple[Any, ...] | None = None  # the images that it is of, or is being asked for
        self._asked: Any = None
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
        p = self.host.parameters
        images = tuple(node for node in map(present, (p.fixedVolume, p.movingVolume)) if node is not None)
        shown = name, images, self._foreseen, self._asked
        if self._carded != shown:
            self._carded = shown
            self.ui.modelCardLabel.text = self._auto_line() if name == AUTO_MODEL else self._own_line(name, images)

    def follow(self) -> bool:
        """With Automatic, find out for new images which model that would be; whether that is under way.

        Called about once a second, and more often then.
        """
        p = self.host.parameters
        fixed, moving = present(p.fixedVolume), present(p.movingVolume)
        key = None
        if p.model == AUTO_MODEL and p.kind is Kind.DEFORMABLE and fixed is not None and moving not in (None, fixed):
            key = fixed, moving, *(node.GetImageData() and node.GetImageData().GetMTime() for node in (fixed, moving))
        if self._asked is not None and self._asked.active:
            return True
        if key != self._seen and not self.host.runner.busy:
            self._foreseen, self._asked, self._seen = None, None, None
            if key is not None:
                self._asked = self.host.logic.foreseeModel(fixed, moving, self._on_foreseen)
            if key is None or self._asked is not None:
                self._seen = key
            self.show()
        return self._asked is not None and self._asked.active

    def _on_foreseen(self, found: Foreseen | None) -> None:
        self._foreseen, self._asked = found, None
        if self.host.settled:
            self.show()

    def _own_line(self, name: str, images: tuple[Any, ...]) -> str:
        wrong = self.host.logic.modelMisfit(name, *images)
        return "\n".join(filter(None, (models.card_line(name), wrong)))

    def _auto_line(self) -> str:
        found = self._foreseen
        if self._asked is not None and found is None:
            return _("Looking which model was made for such images …")
        if found is None or self._seen is None:
            return models.card_line(AUTO_MODEL)
        if found.name is None:
            return _("No installed model was made for such images: this pair will be optimised.")
        words = (
            _("{name}, if its networks find these images like their own: {card}.")
            if found.doubtful
            else _("{name}, which was made for such images: {card}.")
        )
        return words.format(name=found.name, card=models.card_line(found.name))

    def _show_second(self, parameters: Any) -> None:
        """The second best start is greyed out where there is no such thing, and says why."""
        refused = optimisation_problem(parameters.model, None, parameters.kind.value, Start.SECOND.value)
        box, row = self.ui.initializeSelector, list(Start).index(Start.SECOND)
        box.model().item(row).setEnabled(refused is None)
        for number, start in enumerate(Start):
            box.setItemData(number, start.hint(), qt.Qt.ToolTipRole)
        if refused:
            box.setItemData(row, in_panel_words(refused), qt.Qt.ToolTipRole)

    def _on_model(self, index: int) -> None:
        if index >= 0:
            self.write("model", self.ui.modelSelector.itemData(index))
