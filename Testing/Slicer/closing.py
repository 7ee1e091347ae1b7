"""The scene is closed while something runs: a registration, a sequence, a training. Nothing of it comes back."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import SAMPLE, Bench, play
from scene_state import check_scene, nodes, results


def during_a_registration(bench: Bench) -> None:
    bench.open()
    bench.choose_sample()
    bench.start()
    bench.spin(0.1)
    bench.clear()
    _check_nothing_runs(bench)
    bench.choose_sample()
    bench.apply()
    assert bench.parameters.verdictLevel == "good", "the next one works"
    check_scene(bench)


def at_every_step_of_a_registration(bench: Bench) -> None:
    """A little later each time, from the first tick to the nodes."""
    for wait in (0.0, 0.3, 0.8, 1.5):
        bench.clear()
        bench.choose_sample()
        bench.start()
        bench.spin(wait)
        bench.clear()
        _check_nothing_runs(bench)


def another_module_is_shown_meanwhile(bench: Bench) -> None:
    bench.choose_sample()
    bench.start()
    slicer.util.selectModule("Data")
    bench.until(lambda: not bench.busy, "the registration has ended")
    bench.open()
    assert bench.parameters.verdictLevel == "good", "the result is there"
    check_scene(bench)


def inputs_are_deleted_meanwhile(bench: Bench) -> None:
    bench.clear()
    bench.choose_sample()
    bench.start()
    for node in nodes("vtkMRMLScalarVolumeNode"):
        slicer.mrmlScene.RemoveNode(node)
    bench.until(lambda: not bench.busy, "the registration has ended")
    bench.spin(0.3)
    check_scene(bench)
    bench.clear()


def during_a_sequence(bench: Bench) -> None:
    bench.parameters.sequence = slicer.util.loadNodeFromFile(str(SAMPLE / "cine.seq.nrrd"), "SequenceFile")
    bench.parameters.model = "cardiac-cine"
    bench.spin(0.3)
    bench.ui.registerSequenceButton.click()
    assert bench.busy, bench.ui.registerSequenceButton.toolTip
    bench.spin(1.0)
    bench.clear()
    _check_nothing_runs(bench)


def during_a_training(bench: Bench) -> None:
    """It goes on, for it has nothing to do with the scene; the panel says so, and can stop it."""
    from DLIRRegistrationLib import dependencies

    if lacking := dependencies.problem(dependencies.training_requirements()):
        print(f"left out: {lacking}")
        return
    folder = Path(tempfile.mkdtemp(prefix="dlir-training-"))
    (folder / "images").mkdir()
    shutil.copy(SAMPLE / "cine.seq.nrrd", folder / "images")
    parameters = bench.parameters
    parameters.trainingData, parameters.trainingPreset = str(folder / "images"), "cardiac-cine"
    parameters.trainingOutput = str(folder / "run")
    bench.spin(0.2)
    assert bench.ui.startTrainingButton.enabled, bench.ui.startTrainingButton.toolTip
    bench.ui.startTrainingButton.click()
    bench.spin(1.0)
    bench.clear()
    check_scene(bench)
    assert bench.parameters.trainingOutput == str(folder / "run"), "the fields are those of what runs"
    assert bench.ui.stopTrainingButton.enabled, "it can be stopped"
    bench.ui.stopTrainingButton.click()
    run = bench.logic.trainingRun(folder / "run")
    bench.until(lambda: not run.active, "the training has ended")
    assert run.state == "stopped", f"it was stopped, and did not fail: {run.error}"


def _check_nothing_runs(bench: Bench) -> None:
    bench.spin(0.5)
    assert not bench.busy, "nothing runs"
    assert results() == [], f"no node is left: {json.dumps([node.GetName() for node in results()])}"
    assert bench.ui.applyButton.text == "Apply", "the button starts again"
    check_scene(bench)


play(
    during_a_registration,
    at_every_step_of_a_registration,
    another_module_is_shown_meanwhile,
    inputs_are_deleted_meanwhile,
    during_a_sequence,
    during_a_training,
)
