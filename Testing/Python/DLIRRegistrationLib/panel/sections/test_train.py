"""Train: what may be pressed when, the learning curve, and the use of the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

HISTORY = [
    {
        "phase": phase,
        "iteration": 100 * (step + 1),
        "seconds": 10.0,
        "loss": -0.8,
        "similarity": 0.7 + 0.02 * (4 * phase + step),
        "validation_similarity": 0.68 + 0.018 * (4 * phase + step),
    }
    for phase in range(3)
    for step in range(4)
]


@pytest.fixture
def training(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The class of trainings as the panel uses it, with a process that only pretends; folders are chosen."""
    from DLIRRegistrationLib.training import TrainingRun

    class Pretended(TrainingRun):
        started: list[tuple[Any, ...]] = []  # noqa: RUF012
        newest: Pretended

        def __init__(self, output: Path) -> None:
            super().__init__(output)
            Pretended.newest = self

        def _launch(self, options: list[str]) -> None:
            self.started.append(tuple(options))
            self._process = object()
            self.state, self.error = "running", None

        def stop(self) -> None:
            self.state = "stopping"

        def end(self, state: Any, error: str | None = None) -> None:
            self._process, self.state, self.error = None, state, error

        def poll(self) -> Any:
            self._read_history()
            return self.state

        def close(self) -> None:
            self._process = None

    monkeypatch.setattr("DLIRRegistrationLib.logic.TrainingRun", Pretended)
    bench.unfold("trainButton")
    data = tmp_path / "images"
    data.mkdir()
    bench.ui.trainingDataEdit.currentPath = str(data)
    bench.ui.trainingOutputEdit.currentPath = str(tmp_path / "run")
    return Pretended


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text("{}", encoding="utf-8")
    (folder / "history.json").write_text(json.dumps(rows), encoding="utf-8")


def _seconds_pass(bench: Bench) -> None:
    bench.widget.panel._on_idle()
    bench.settle()


def test_start_says_what_is_missing(bench: Bench, training: Any, tmp_path: Path) -> None:
    button = bench.ui.startTrainingButton
    assert button.toolTip == "Choose a preset, or a file of your own."
    bench.ui.presetSelector.currentIndex = 0
    assert button.enabled
    bench.ui.trainingOutputEdit.currentPath = ""
    assert button.toolTip == "Choose an output folder."
    bench.ui.trainingDataEdit.currentPath = str(tmp_path / "nothing")
    assert button.toolTip == "Choose the folder of your images."
    assert not button.enabled


def test_start_stop_resume_and_use(bench: Bench, training: Any, tmp_path: Path) -> None:
    from dlir.model.catalogue import resource_folder

    ui = bench.ui
    ui.presetSelector.currentIndex = ui.presetSelector.findData("cardiac-cine")
    bench.click("startTrainingButton")
    run = training.newest
    assert training.started[-1][:2] == ("--data", str(tmp_path / "images"))
    assert "cardiac-cine" in training.started[-1]
    assert (ui.startTrainingButton.enabled, ui.stopTrainingButton.enabled) == (False, True)
    assert not ui.trainingOutputEdit.enabled
    assert ui.trainingStatusLabel.text == "Training: reading the images, then learning until the first check."
    assert not ui.curveLabel.visible

    _write(run.output, HISTORY[:6])
    _seconds_pass(bench)
    assert ui.trainingStatusLabel.text == "Training: stage 2, iteration 200."
    assert ui.curveLabel.visible
    first = ui.curveLabel.cpp.pixmap().toImage()
    _write(run.output, HISTORY)
    _seconds_pass(bench)
    assert ui.curveLabel.cpp.pixmap().toImage() != first

    bench.click("stopTrainingButton")
    assert ui.trainingStatusLabel.text.startswith("Stopping")
    run.end("stopped")
    bench.exit()
    bench.enter()
    assert ui.trainingStatusLabel.text == "Stopped at stage 3, iteration 400; it can be resumed."
    assert "holds a run already" in ui.startTrainingButton.toolTip
    bench.click("resumeTrainingButton")
    assert training.started[-1][:2] == ("--resume", str(run.output))

    shutil.copyfile(resource_folder("Models") / "cardiac-cine.safetensors", run.output / "model.safetensors")
    assert not ui.useModelButton.enabled
    run.end("finished")
    bench.exit()
    bench.enter()
    bench.click("useModelButton")
    assert bench.parameters.model == "run"
    assert ui.modelSelector.currentText == "run"


def test_a_training_stays_in_sight_when_the_scene_is_closed(bench: Bench, training: Any, tmp_path: Path) -> None:
    ui = bench.ui
    ui.presetSelector.currentIndex = ui.presetSelector.findData("cardiac-cine")
    bench.click("startTrainingButton")
    bench.mrml.scene.Clear(0)
    bench.settle()
    assert ui.trainingDataEdit.currentPath == str(tmp_path / "images")
    assert ui.trainingOutputEdit.currentPath == str(tmp_path / "run")
    assert ui.presetSelector.currentText == "cardiac-cine"
    assert ui.stopTrainingButton.enabled
    assert bench.parameters.trainingOutput == str(tmp_path / "run")


def test_a_training_that_was_stopped_early_says_whether_it_can_go_on(bench: Bench, training: Any) -> None:
    bench.ui.presetSelector.currentIndex = 0
    for written, told in ((False, "Stopped before the first checkpoint."), (True, "can be resumed")):
        bench.click("startTrainingButton")
        run = training.newest
        if written:  # as Stop has it do, before there is a figure to show
            _write(run.output, [])
            (run.output / "last.pt").touch()
        run.end("stopped")
        _seconds_pass(bench)
        assert told in bench.ui.trainingStatusLabel.text


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packages for training that Slicer lacks; there is a user to be asked, whose answer the test gives."""
    import slicer

    from DLIRRegistrationLib import dependencies

    names = ["monai", "tensorboard"]
    monkeypatch.setattr(slicer.util, "mainWindow", object)
    slicer.app.testing = False
    monkeypatch.setattr(
        dependencies, "_problem", lambda found: f"{found} is not installed" if found.name in names else None
    )
    return names


def _ask(monkeypatch: pytest.MonkeyPatch, yes: bool) -> list[str]:
    import slicer

    questions: list[str] = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, windowTitle: questions.append(text) or yes)
    return questions


def _pip(monkeypatch: pytest.MonkeyPatch, lacking: list[str]) -> list[str]:
    installed: list[str] = []

    def install(self: Any, requirements: Any) -> None:
        for requirement in requirements:
            installed.append(str(requirement))
            lacking.remove(requirement.name)

    monkeypatch.setattr("DLIRRegistrationLib.dependencies.SlicerInstaller.install", install)
    return installed


@pytest.mark.parametrize("button", ["startTrainingButton", "resumeTrainingButton"])
def test_packages_for_training_are_installed_after_asking(
    bench: Bench, training: Any, lacking: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, button: str
) -> None:
    installed, training.started[:] = _pip(monkeypatch, lacking), []
    if button == "resumeTrainingButton":
        _write(tmp_path / "run", HISTORY)
        bench.ui.trainingOutputEdit.currentPath = ""
        bench.ui.trainingOutputEdit.currentPath = str(tmp_path / "run")
    bench.ui.presetSelector.currentIndex = 0
    declined = _ask(monkeypatch, False)
    bench.click(button)
    assert len(declined) == 1
    for word in ("DLIR needs", "monai", "tensorboard"):
        assert word in declined[0]
    assert "torch" not in declined[0]
    assert (installed, training.started) == ([], []), "declining changes nothing"
    assert bench.ui.stopTrainingButton.enabled is False

    _ask(monkeypatch, True)
    bench.click(button)
    assert installed == ["monai>=1.3,<2", "tensorboard>=2.14"]
    assert len(training.started) == 1
    bench.widget.panel.train._run.end("stopped")


def test_a_failed_installation_starts_no_training(
    bench: Bench, training: Any, lacking: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    def fail(self: Any, requirements: Any) -> None:
        raise RuntimeError("no network")

    training.started[:] = []
    shown: list[str] = []

    def display(text: str, detailedText: str = "") -> None:
        shown.append(detailedText)

    monkeypatch.setattr(slicer.util, "errorDisplay", display)
    monkeypatch.setattr("DLIRRegistrationLib.dependencies.SlicerInstaller.install", fail)
    _ask(monkeypatch, True)
    bench.ui.presetSelector.currentIndex = 0
    bench.click("startTrainingButton")
    assert "Monai, tensorboard could not be installed" in bench.ui.statusLabel.text
    assert training.started == []
    bench.wait(lambda: shown == ["no network"])


def test_a_failed_training_says_why(bench: Bench, training: Any) -> None:
    bench.ui.presetSelector.currentIndex = 0
    bench.click("startTrainingButton")
    training.newest.end("failed", "no images match 'acdc/{patient}'")
    bench.exit()
    bench.enter()
    assert bench.ui.trainingStatusLabel.text == "Failed: no images match 'acdc/{patient}'"


def test_a_configuration_may_be_a_file(bench: Bench, training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    box = bench.ui.presetSelector
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.train.choose_file", lambda *_: "")
    box.currentIndex = box.count - 1
    assert box.currentIndex == -1, "nothing was chosen"
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.train.choose_file", lambda *_: "/somewhere/mine.yaml")
    box.currentIndex = box.count - 1
    assert box.currentText == "mine.yaml"
    assert bench.parameters.trainingPreset == "/somewhere/mine.yaml"


def test_a_run_that_was_there_before_is_shown(bench: Bench, training: Any, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    _write(earlier, HISTORY)
    bench.ui.trainingOutputEdit.currentPath = str(earlier)
    assert bench.ui.curveLabel.visible
    assert bench.ui.resumeTrainingButton.enabled
    assert bench.ui.trainingStatusLabel.text == "There is a run, at stage 3, iteration 400."


def test_the_curve_is_of_one_quantity(bench: Bench) -> None:
    """A stage may be trained for another similarity than it is validated by, and than the stage before it."""
    from DLIRRegistrationLib.panel.sections.train import shown_curve

    name, _, points = shown_curve(HISTORY)
    assert name == "validation similarity"
    assert points == [(n, row["validation_similarity"]) for n, row in enumerate(HISTORY)]
    alone = [{key: value for key, value in row.items() if key != "validation_similarity"} for row in HISTORY]
    name, _, points = shown_curve(alone)
    assert name == "similarity of this stage"
    assert points == [(n, row["similarity"]) for n, row in enumerate(HISTORY)][8:]
