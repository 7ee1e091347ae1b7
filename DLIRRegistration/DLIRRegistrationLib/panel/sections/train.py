"""Train: a model from the user's own images, in the background."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctk
from slicer.i18n import tr as _

from dlir.errors import DLIRError
from dlir.model.catalogue import SUFFIX, resource_folder
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.panel.parts.curve import Curve, curve_picture
from DLIRRegistrationLib.panel.parts.dialogs import choose_file
from DLIRRegistrationLib.panel.parts.packages import ensure_installed
from DLIRRegistrationLib.panel.section import Host, Section, allow, fill, put, silently
from DLIRRegistrationLib.panel.wording import in_panel_words

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import TrainingRun

# One scale has room for one quantity. Validation is by the same similarity in all stages; training is not.
_VALIDATION, _VALIDATION_COLOR = "validation_similarity", "#d98200"
_TRAINING, _TRAINING_COLOR = "similarity", "#1f77b4"
_CURVE_HEIGHT = 130
_FIELDS = ("trainingData", "trainingPreset", "trainingOutput")
_FROM_FILE = "file"


class TrainSection(Section):
    """One training at a time; the output folder says which.

    add_model: adds a model file to the catalogue and tells its name there, or None where it could not.
    """

    def __init__(self, host: Host, add_model: Callable[[str], str | None]) -> None:
        super().__init__(host)
        self._add_model = add_model
        self._run: TrainingRun | None = None
        self._begun_with: dict[str, str] = {}
        self._drawn: tuple[int, int] | None = None
        self._fill_presets()
        for edit, name in ((self.ui.trainingDataEdit, "trainingData"), (self.ui.trainingOutputEdit, "trainingOutput")):
            edit.filters = ctk.ctkPathLineEdit.Dirs
            edit.connect("currentPathChanged(QString)", lambda path, name=name: self.write(name, path))
            # An empty path is not told as one, but as no valid one.
            edit.connect("validInputChanged(bool)", lambda valid, name=name: self._on_valid(name, valid))
        self.ui.presetSelector.connect("currentIndexChanged(int)", self._on_preset)
        self.ui.startTrainingButton.connect("clicked(bool)", self._on_start)
        self.ui.stopTrainingButton.connect("clicked(bool)", self._on_stop)
        self.ui.resumeTrainingButton.connect("clicked(bool)", self._on_resume)
        self.ui.useModelButton.connect("clicked(bool)", self._on_use)

    def show(self) -> None:
        parameters, ui = self.host.parameters, self.ui
        if self._active:  # whatever scene is open now
            for name, value in self._begun_with.items():
                self.write(name, value)
        put(ui.trainingDataEdit, "currentPath", parameters.trainingData)
        put(ui.trainingOutputEdit, "currentPath", parameters.trainingOutput)
        self._show_preset(parameters.trainingPreset)
        if not self._active:
            self._look_into(parameters.trainingOutput)
        self._show_run()

    def follow(self) -> None:
        """Show how the training goes; called about once a second, after the Logic has looked."""
        if self._run is not None and self.host.parameters is not None:
            self._show_run()

    # -- what is shown ---------------------------------------------------------------------------

    @property
    def _active(self) -> bool:
        return self._run is not None and self._run.active

    def _look_into(self, folder: str) -> None:
        """A run that is in the output folder already can be continued or used."""
        if not folder:
            self._run = None
        elif self._run is None or self._run.output != Path(folder).absolute():
            self._run = self.host.logic.trainingRun(folder)

    def _show_run(self) -> None:
        ui, run = self.ui, self._run
        for name in ("trainingDataEdit", "presetSelector", "trainingOutputEdit"):
            getattr(ui, name).enabled = not self._active
        allow(ui.startTrainingButton, self._problem(), _("Starts the training in the background."))
        ui.stopTrainingButton.enabled = run is not None and run.state == "running"
        ui.resumeTrainingButton.enabled = run is not None and run.resumable
        ui.useModelButton.enabled = run is not None and run.model is not None
        text = _state_text(run) if run is not None else ""
        ui.trainingStatusLabel.text = text
        ui.trainingStatusLabel.visible = bool(text)
        self._draw(run.history if run is not None else [])

    def _draw(self, history: list[dict[str, Any]]) -> None:
        label = self.ui.curveLabel
        label.visible = len(history) > 1
        width = self.ui.useModelButton.width  # the label itself follows its picture
        if len(history) < 2 or self._drawn == (id(history), width):
            return
        self._drawn = (id(history), width)
        label.setPixmap(curve_picture(width, _CURVE_HEIGHT, [shown_curve(history)]))

    def _problem(self) -> str | None:
        """Why no training can be started, for a tooltip."""
        parameters, run = self.host.parameters, self._run
        if self._active:
            return _("A training is under way.")
        if self.host.missing is not None:
            return self.host.missing
        if not parameters.trainingData or not Path(parameters.trainingData).is_dir():
            return _("Choose the folder of your images.")
        if not parameters.trainingPreset:
            return _("Choose a preset, or a file of your own.")
        if run is None:
            return _("Choose an output folder.")
        if run.resumable or run.history:
            return _("The output folder holds a run already: resume it, or choose another folder.")
        return None

    # -- presets ---------------------------------------------------------------------------------

    def _fill_presets(self) -> None:
        names = sorted(path.stem for path in resource_folder("Presets").glob("*.yaml"))
        fill(self.ui.presetSelector, [*zip(names, names, strict=True), (_("From a file…"), _FROM_FILE)])

    def _show_preset(self, chosen: str) -> None:
        box = self.ui.presetSelector
        if chosen and box.findData(chosen) < 0:
            silently(box, lambda: box.insertItem(box.count - 1, Path(chosen).name, chosen))
        put(box, "currentIndex", box.findData(chosen) if chosen else -1)

    def _on_preset(self, index: int) -> None:
        chosen = self.ui.presetSelector.itemData(index) if index >= 0 else ""
        if chosen == _FROM_FILE:
            pattern = _("Training configurations (*.yaml *.yml)")
            chosen = choose_file(_("Choose a training configuration"), pattern, self.ui.presetSelector)
        if chosen:
            self.write("trainingPreset", chosen)
        if self.host.parameters is not None:
            self._show_preset(self.host.parameters.trainingPreset)

    # -- what the user does ----------------------------------------------------------------------

    def _on_valid(self, name: str, valid: bool) -> None:
        if not valid:
            self.write(name, "")

    def _on_start(self) -> None:
        if self.host.parameters is None or self._problem() is not None or not self._equipped():
            return
        parameters = self.host.parameters
        self.ui.trainingDataEdit.addCurrentPathToHistory()
        self.ui.trainingOutputEdit.addCurrentPathToHistory()
        data, preset, output = parameters.trainingData, parameters.trainingPreset, parameters.trainingOutput
        self._begin(lambda device: self.host.logic.train(data, preset, output, device))

    def _on_resume(self) -> None:
        if self._run is not None and self.host.parameters is not None and self._equipped():
            output = self._run.output
            self._begin(lambda device: self.host.logic.resumeTraining(output, device))

    def _on_stop(self) -> None:
        if self._run is not None and self.host.parameters is not None:
            self._run.stop()
            self._show_run()

    def _equipped(self) -> bool:
        """Whether what training needs is there, or has been installed just now; meanwhile a scene may be closed."""
        installed = ensure_installed(self.host.status, dependencies.training_requirements())
        return installed and self.host.parameters is not None

    def _begin(self, begin: Callable[[str], TrainingRun]) -> None:
        try:
            self._run = begin(self.host.parameters.device.value)
            self._begun_with = {name: getattr(self.host.parameters, name) for name in _FIELDS}
        except DLIRError as error:
            self.host.status.error(in_panel_words(str(error)))
        self._show_run()

    def _on_use(self) -> None:
        model = self._run.model if self._run is not None else None
        if model is None or self._run is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder, f"{self._run.output.name}{SUFFIX}")  # in the run folder all have the same name
            shutil.copyfile(model, named)
            name = self._add_model(str(named))
        if name is not None:
            self.write("model", name)
            self.host.status.note(_("The model '{name}' is among your models now, and chosen.").format(name=name))


def shown_curve(history: list[dict[str, Any]]) -> Curve:
    """The similarity in validation over all stages; where nobody is held out, that of the current stage in training."""
    if any(_VALIDATION in row for row in history):
        own = [(n, row[_VALIDATION]) for n, row in enumerate(history) if _VALIDATION in row]
        return "validation similarity", _VALIDATION_COLOR, own
    stage = [(n, row[_TRAINING]) for n, row in enumerate(history) if row["phase"] == history[-1]["phase"]]
    return "similarity of this stage", _TRAINING_COLOR, stage


def _stopped_text(run: TrainingRun, at: str) -> str:
    if run.history:
        return _("Stopped at {at}; it can be resumed.").format(at=at)
    if run.checkpointed:
        return _("Stopped before the first check; it can be resumed.")
    return _("Stopped before the first checkpoint.")


def _state_text(run: TrainingRun) -> str:
    last = run.history[-1] if run.history else None
    at = (
        _("stage {stage}, iteration {iteration}").format(stage=int(last["phase"]) + 1, iteration=int(last["iteration"]))
        if last
        else _("reading the images, then learning until the first check")
    )
    return {
        "idle": _("There is a run, at {at}.") if last else "",
        "running": _("Training: {at}."),
        "stopping": _("Stopping, after a checkpoint: {at}."),
        "stopped": _stopped_text(run, at),
        "finished": _("Finished: {at}."),
        "failed": _("Failed: {error}"),
    }[run.state].format(at=at, error=in_panel_words(str(run.error or "")))
