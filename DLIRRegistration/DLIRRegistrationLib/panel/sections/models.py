"""Models: those that can be chosen, what each says of itself, and the user's own to add or remove."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from dlir.errors import DLIRError
from dlir.model.catalogue import SUFFIX, all_models
from DLIRRegistrationLib import models
from DLIRRegistrationLib.panel.parts.dialogs import agreed, choose_file
from DLIRRegistrationLib.panel.section import Host, Section, allow


class ModelsSection(Section):
    """on_change: called when a model has been added or removed."""

    def __init__(self, host: Host, on_change: Callable[[], None]) -> None:
        super().__init__(host)
        self._on_change = on_change
        self._followed: str | None = None
        self.ui.modelList.connect("currentRowChanged(int)", self._on_row)
        self.ui.addModelButton.connect("clicked(bool)", self._on_add)
        self.ui.removeModelButton.connect("clicked(bool)", self._on_remove)
        self._fill()

    def show(self) -> None:
        """The card is that of the model that has been chosen, until another one is clicked on."""
        model = self.host.parameters.model
        if model != self._followed:
            self._followed = model
            self._select(model)

    def add(self, path: str) -> str | None:
        """Add a model file; its name, or None after saying why it could not be added."""
        try:
            entry = models.add(path)
        except DLIRError as error:
            self.host.status.error(str(error))
            return None
        self._fill(entry.name)
        self._on_change()
        return entry.name

    def _fill(self, chosen: str = "") -> None:
        self._entries = all_models()
        self.ui.modelList.clear()
        for entry in self._entries:
            text = entry.name if entry.bundled else _("{name} (added by you)").format(name=entry.name)
            self.ui.modelList.addItem(text)
        self._select(chosen)

    def _select(self, name: str) -> None:
        names = [entry.name for entry in self._entries]
        self.ui.modelList.setCurrentRow(names.index(name) if name in names else 0)

    def _on_row(self, row: int) -> None:
        entry = self._entries[row] if 0 <= row < len(self._entries) else None
        kept = _("Models that come with DLIR stay; you can remove those you added.")
        own = entry is not None and not entry.bundled
        allow(self.ui.removeModelButton, None if own else kept, _("Deletes this model."))
        try:
            text = models.card_text(str(entry.path)) if entry is not None else ""
        except DLIRError as error:
            text = str(error)
        self.ui.modelCardView.plainText = text

    def _on_add(self) -> None:
        path = choose_file(_("Add a model"), _("Models (*{suffix})").format(suffix=SUFFIX), self.ui.modelList)
        if path:
            self.add(path)

    def _on_remove(self) -> None:
        entry = self._entries[self.ui.modelList.currentRow]
        question = _("Delete the model file '{path}'? This cannot be undone.").format(path=entry.path)
        if not agreed(question, _("Remove a model")):
            return
        try:
            models.remove(entry.name)
        except DLIRError as error:
            self.host.status.error(str(error))
        self._fill()
        self._on_change()
