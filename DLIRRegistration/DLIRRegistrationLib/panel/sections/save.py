"""Save: the last result as files, in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from dlir.errors import DLIRError
from DLIRRegistrationLib.panel.parts.dialogs import choose_target
from DLIRRegistrationLib.panel.section import Host, Section, allow
from DLIRRegistrationLib.panel.values import present, result_of


class SaveSection(Section):
    """A button for each kind of file; those without their node say what is missing."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        volumes = _("Volumes (*.nrrd *.nii.gz)")
        self._kinds: list[tuple[Any, str, str, str, Callable[[str, str], None]]] = [
            (self.ui.saveTransformButton, "resultTransform", "transform.h5", _("ITK transforms (*.h5)"), self._node),
            (self.ui.saveWarpedButton, "resultWarped", "warped.nrrd", volumes, self._node),
            (self.ui.saveTableButton, "resultTable", "report.csv", _("Tables (*.csv)"), self._node),
            (self.ui.saveReportButton, "resultTable", "report.html", _("Pages (*.html)"), self._page),
        ]
        self._purposes = {kind[0].name: kind[0].toolTip for kind in self._kinds}
        for button, name, file, pattern, save in self._kinds:
            button.connect("clicked(bool)", lambda _on, chosen=(name, file, pattern, save): self._on_save(*chosen))

    def show(self) -> None:
        for button, name, *_more in self._kinds:
            lacking = None if self._ready(name, button) else _("The result has no such node any more.")
            allow(button, lacking, self._purposes[button.name])

    def _ready(self, name: str, button: Any) -> bool:
        p = self.host.parameters
        needed = [name]
        if button == self.ui.saveReportButton:
            needed += ["resultFixed", "resultMoving", "resultWarped"]
        return all(present(getattr(p, each)) is not None for each in needed)

    def _on_save(self, name: str, file: str, pattern: str, save: Callable[[str, str], None]) -> None:
        p = self.host.parameters
        if p is None or present(getattr(p, name)) is None:
            return
        path = choose_target(_("Save"), file, pattern, self.ui.saveButton)
        if not path:
            return
        if not Path(path).suffix:
            path += Path(file).suffix
        try:
            save(name, path)
        except DLIRError as error:
            self.host.status.error(str(error))
        else:
            self.host.status.note(_("Saved as {path}.").format(path=path))

    def _node(self, name: str, path: str) -> None:
        self.host.logic.saveNode(getattr(self.host.parameters, name), path)

    def _page(self, name: str, path: str) -> None:
        self.host.logic.saveReport(path, **result_of(self.host.parameters))
