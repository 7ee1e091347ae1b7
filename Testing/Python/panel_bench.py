"""A bench for the panel: a window around it, registrations that do as they are told, and how to press and wait."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import application
import numpy as np
import pytest
import pythonqt
import slicer
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QScrollArea, QVBoxLayout

from dlir.model.catalogue import resource_folder
from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import Curve, Offer, silent
from dlir.registration.results.rows import report_rows
from DLIRRegistrationLib.registration.report import fill_table
from DLIRRegistrationLib.registration.requests import RegistrationNodes
from DLIRRegistrationLib.registration.sequence_requests import SequenceNodes
from DLIRRegistrationLib.registration.task import WAITING, WORKING, BackgroundTask, RunError, Steps
from DLIRRegistrationLib.sample_data import SAMPLES
from DLIRRegistrationLib.scene.sequences import play_together
from grids import make_grid
from mrml import MRML

MODULE_FILE = Path(__file__).resolve().parents[2] / "DLIRRegistration" / "DLIRRegistration.py"
GRID = make_grid((6, 20, 24), (1.5, 1.5, 8.0), (-20.0, 30.0, 12.0), (0.2, -0.1, 0.3))
REPORT: dict[str, Any] = {
    "similarity": {"measure": "NCC", "before": 0.912, "after": 0.978, "voxels_before": 2800, "voxels_after": 2810},
    "jacobian": {
        "folding_count": 0,
        "folding_percent": 0.0,
        "mean": 1.002,
        "sd": 0.143,
        "min": 0.412,
        "max": 1.873,
    },
    "fixed": {"shape": [6, 20, 24]},
    "volumes": {
        "Left ventricle": {"before_ml": 61.2, "after_ml": 139.8},
        "Myocardium": {"before_ml": 118.0, "after_ml": 121.3},
    },
    "labels": {
        "Left ventricle": {
            "before": {"dice": 0.71, "hd_mm": 14.2, "asd_mm": 3.9},
            "after": {"dice": 0.92, "hd_mm": 7.1, "asd_mm": 1.2},
        }
    },
    "seconds": {"reading": 0.3, "network": 1.1, "figures": 0.6},
    "device": "CPU",
    "model": {"name": "cardiac-cine", "title": "Short-axis cardiac cine MR, within one person"},
}


@dataclass
class Script:
    """What the next runs of the bench's Logic do."""

    steps: list[tuple[str, float]] = field(default_factory=lambda: [("reading", 0.05), ("stage 2 of 3", 0.55)])
    values: list[float] = field(default_factory=list)
    refine: bool = False
    last: str = "figures"
    hold: bool = False
    failure: tuple[str, str] | None = None
    offer: Verdict | None = None
    report: dict[str, Any] = field(default_factory=lambda: dict(REPORT))


class ScriptedRun(BackgroundTask[RegistrationNodes]):
    """A run that takes its course from a script and then makes nodes like a real one."""

    def __init__(self, bench: Bench, inputs: Any, outputs: Any, worker: Any) -> None:
        super().__init__(worker)
        self.bench, self.script, self.inputs, self.outputs = bench, bench.script, inputs, outputs
        self.on_offer: Offer = silent
        self.on_curve: Curve = silent
        self.finished = False

    def finish(self) -> None:
        self.finished = True

    def problem(self) -> str | None:
        return self.inputs.problem() or self.outputs.problem(self.inputs)

    def _prepare(self) -> None:
        self.bench.runs.append(self)

    def _steps(self) -> Steps[RegistrationNodes]:
        for step, fraction in self.script.steps:
            self._progress(step, fraction)
            yield WAITING
        for value in self.script.values:
            self.on_curve("stage 1 of 2", value)
            self._progress(f"refining, stage 1 of 2, similarity {value}", 0.5)
            yield WAITING
        while self.script.refine and not self.finished:
            self.on_curve("stage 2 of 2", 0.75)
            self._progress("refining, stage 2 of 2, similarity 0.75", 0.5)
            yield WAITING
        self._progress(self.script.last, 0.9)
        if self.script.offer is not None:
            self.on_offer(self.script.offer)
        while self.script.hold:
            yield WAITING
        if self.script.failure is not None:
            raise RunError(*self.script.failure)
        yield WORKING
        return self._result()

    def _result(self) -> RegistrationNodes:
        if self.inputs.fixed.GetScene() is None or self.inputs.moving.GetScene() is None:
            raise RunError("An input has left the scene; choose another one.")
        jacobian = np.ones(GRID.shape, np.float32)
        jacobian[2, 5, 7] = self.script.report["jacobian"]["min"]
        scene = slicer.mrmlScene
        table = scene.AddNewNodeByClass("vtkMRMLTableNode", "Report")
        fill_table(table, report_rows(self.script.report))
        return RegistrationNodes(
            warped=self._volume("warped", np.zeros(GRID.shape, np.float32)),
            transform=scene.AddNewNodeByClass("vtkMRMLTransformNode", "transform"),
            jacobian=self._volume("jacobian", jacobian),
            segmentations=tuple(
                scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{node.GetName()} propagated")
                for node in self.inputs.segmentations
            ),
            landmarks=None,
            table=table,
            report=self.script.report,
            verdict=Verdict.from_report(self.script.report),
            seconds=2.0,
            error_map=self._volume("error", np.ones(GRID.shape, np.float32)) if self.outputs.want_error_map else None,
        )

    def _volume(self, name: str, array: Any) -> Any:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, array)
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1, 1, 1]) @ GRID.index_to_physical))
        node.CreateDefaultDisplayNodes()
        return node


class ScriptedSequenceRun(ScriptedRun):
    """The same for a sequence."""

    def _result(self) -> Any:
        scene = slicer.mrmlScene
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
        browser.SetAndObserveMasterSequenceNodeID(self.inputs.sequence.GetID())
        frames = [self.inputs.sequence.GetNthDataNode(n) for n in range(self.inputs.sequence.GetNumberOfDataNodes())]
        warped, carried = self._sequence("warped", frames), None
        if self.inputs.segmentation is not None:
            carried = self._sequence("carried", [self.inputs.segmentation] * len(frames))
        play_together(browser, [node for node in (warped, carried) if node is not None])
        return SequenceNodes(
            warped=warped,
            transform=None,
            jacobian=None,
            segmentation=carried,
            browser=browser,
            table=scene.AddNewNodeByClass("vtkMRMLTableNode", "frames"),
            reports=(None, self.script.report),
            verdict=Verdict.from_report(self.script.report),
            seconds=4.0,
        )

    def _sequence(self, name: str, nodes: list[Any]) -> Any:
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        for number, node in enumerate(nodes):
            sequence.SetDataNodeAtValue(node, str(number))
        return sequence


class QuietWorker:
    """Counts what it is asked for; it is never ready for more than one thing."""

    state = "busy"

    def __init__(self) -> None:
        self.starts = self.polls = self.closes = 0

    def start(self) -> None:
        self.starts += 1

    def poll(self) -> None:
        self.polls += 1

    def close(self) -> None:
        self.closes += 1


def load_module() -> ModuleType:
    """The module file, loaded as Slicer loads it."""
    spec = importlib.util.spec_from_file_location("DLIRRegistration", MODULE_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["DLIRRegistration"] = module
    spec.loader.exec_module(module)
    return module


class Bench:
    """The panel of the module in a scroll area, as in Slicer; opened, and entered.

    worker: a real one; without it registrations do what `script` says, and are collected in `runs`. ui: the widgets
    as the module's code sees them.
    """

    def __init__(self, mrml: MRML, qt_application: Any, patch: pytest.MonkeyPatch, worker: Any = None) -> None:
        self.mrml, self._events = mrml, qt_application
        self.script = Script()
        self.runs: list[ScriptedRun] = []
        pythonqt.escaped.clear()
        # What an observer of VTK's raises goes there, and no further.
        patch.setattr(sys, "excepthook", lambda kind, error, trace: pythonqt.escaped.append(error))
        slicer.app = application.Application(**vars(slicer.app))
        load_module()
        if worker is None:
            patch.setattr("DLIRRegistrationLib.logic.Run", self._run(ScriptedRun))
            patch.setattr("DLIRRegistrationLib.logic.SequenceRun", self._run(ScriptedSequenceRun))
        patch.setattr("DLIRRegistrationLib.logic.WorkerClient", lambda: worker or QuietWorker())
        self.parent = slicer.qSlicerScriptedLoadableModuleWidget()
        slicer.modules.dlirregistration = SimpleNamespace(
            path=str(MODULE_FILE), widgetRepresentation=lambda: self.parent
        )
        self.area = QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setWidget(pythonqt.unwrap(self.parent))
        layout = QVBoxLayout(pythonqt.unwrap(self.parent))
        layout.setContentsMargins(0, 0, 0, 0)
        self.resize(400, 700)
        self.parent.setPythonSource(str(MODULE_FILE))
        self.parent.setup()
        self.enter()
        self.area.show()
        self.settle()

    def _run(self, kind: type[ScriptedRun]) -> Callable[[Any, Any, Any], ScriptedRun]:
        return lambda inputs, outputs, worker: kind(self, inputs, outputs, worker)

    # -- as Slicer does --------------------------------------------------------------------------

    def enter(self) -> None:
        self.parent.enter()

    def exit(self) -> None:
        self.parent.exit()

    def reload(self) -> None:
        """As a developer does; the library stays as it is, with what tests have put into it."""
        slicer.util.reloadScriptedModule("DLIRRegistration")
        self._events.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        self.settle()

    def close(self) -> None:
        """Unloads the module; then nothing may have gone wrong in any handler."""
        slicer.app.moduleManager().unload("DLIRRegistration")
        self.settle()
        self.area.close()
        self.area.deleteLater()
        self.settle()
        assert pythonqt.escaped == []

    # -- as a user does --------------------------------------------------------------------------

    def click(self, name: str) -> None:
        """Clicks a button, which must be visible; a disabled one ignores it."""
        button = pythonqt.unwrap(getattr(self.ui, name))
        assert button.isVisible(), f"{name} is not visible"
        is_box = button.inherits("QCheckBox")
        place = QPoint(8, button.height() // 2) if is_box else button.rect().center()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)
        self.settle()

    def unfold(self, *names: str) -> None:
        for name in names or [name for name in vars(self.ui) if self._is_section(name)]:
            getattr(self.ui, name).collapsed = False
        self.settle()

    def wait(self, until: Callable[[], bool], seconds: float = 5.0) -> None:
        """Lets time pass until something is so."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, "waited in vain"
            self.settle()
            time.sleep(0.005)

    def linger(self, seconds: float) -> None:
        """Lets so much time pass."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end)

    def settle(self) -> None:
        for _ in range(3):
            self._events.processEvents()

    # -- what there is ---------------------------------------------------------------------------

    @property
    def module(self) -> ModuleType:
        return sys.modules["DLIRRegistration"]

    @property
    def widget(self) -> Any:
        return self.parent.self()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def logic(self) -> Any:
        return self.widget.logic

    @property
    def parameters(self) -> Any:
        return self.widget.panel.host.parameters

    @property
    def busy(self) -> bool:
        return bool(self.widget.panel.runner.busy)

    def volume(self, name: str) -> Any:
        rng = np.random.default_rng(len(name))
        return self.mrml.volume(rng.normal(100, 20, GRID.shape).astype(np.int16), GRID, name)

    def segmentation(self, name: str, *segments: str) -> Any:
        node = self.mrml.add("Segmentation", name)
        for segment in segments:
            node.GetSegmentation().AddEmptySegment(segment, segment)
        return node

    def pair(self) -> tuple[Any, Any]:
        """A fixed and a moving volume, chosen."""
        fixed, moving = self.volume("diastole"), self.volume("systole")
        self.parameters.fixedVolume, self.parameters.movingVolume = fixed, moving
        self.settle()
        return fixed, moving

    def sample(self) -> None:
        """The pair that ships, with its segmentations, chosen as a user would."""
        read = self._read
        fixed, moving = read("fixed_ed", "ScalarVolume"), read("moving_es", "ScalarVolume")
        drawn = {name: read(f"{name}_label", "Segmentation") for name in ("fixed_ed", "moving_es")}
        self.parameters.fixedVolume, self.parameters.movingVolume = fixed, moving
        self.parameters.segmentations, self.parameters.fixedSegmentation = [drawn["moving_es"]], drawn["fixed_ed"]
        self.settle()

    def _read(self, name: str, kind: str) -> Any:
        names = {Path(file.name).stem: file.node for sample in SAMPLES for file in sample.files}
        node = self.mrml.add(kind, names[name])
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        if kind == "Segmentation":
            storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(resource_folder("SampleData") / f"{name}.nrrd"))
        assert storage.ReadData(node)
        node.CreateDefaultDisplayNodes()
        return node

    # -- pictures --------------------------------------------------------------------------------

    def resize(self, width: int, height: int) -> None:
        self.area.resize(width, height)
        self.settle()

    def _is_section(self, name: str) -> bool:
        return bool(getattr(self.ui, name).className() == "ctkCollapsibleButton")
