"""What the module promises, tried on the sample that ships: in Slicer itself, or wherever there is a MRML scene."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from dlir.model.catalogue import resource_folder
from DLIRRegistrationLib.logic import DLIRRegistrationLogic
from DLIRRegistrationLib.registration.requests import RegistrationNodes
from DLIRRegistrationLib.registration.task import BackgroundTask
from DLIRRegistrationLib.scene.frames import grid_of_volume
from DLIRRegistrationLib.scene.segmentations import segment_volumes_ml

_PAUSE = 0.01
_PATIENCE = 300.0
_FRAMES = 4
# Dice of the cavity: 0.87 before, 0.96 after. Where the voxels of two ways to propagate may differ: at the border.
_LEAST_GAIN, _LEAST_AGREEMENT = 0.05, 0.98
_JACOBIAN_TOLERANCE = 0.1


class SelfCheck:
    """Raises AssertionError, saying what is not as promised.

    logic: the module's Logic. say: told what is being tried. process_events: called while waiting.
    """

    def __init__(
        self, logic: DLIRRegistrationLogic, say: Callable[[str], object], process_events: Callable[[], object]
    ) -> None:
        self.logic, self.say, self.process_events = logic, say, process_events

    def run(self) -> None:
        """Everything, one after the other; adds the sample and all results to the scene."""
        self._load()
        result = self.registers()
        self.propagates(result)
        self.maps_the_jacobian(result)
        self.registers_a_sequence()
        self.cancels()
        self.survives_a_killed_worker()
        self.say("DLIR Registration: all as promised")

    def _load(self) -> None:
        self.say("Loading the sample")
        self.fixed = _read("fixed_ed.nrrd", "ScalarVolume", "VolumeArchetypeStorage")
        self.moving = _read("moving_es.nrrd", "ScalarVolume", "VolumeArchetypeStorage")
        self.fixed_drawn = _read("fixed_ed_label.nrrd", "Segmentation", "SegmentationStorage")
        self.moving_drawn = _read("moving_es_label.nrrd", "Segmentation", "SegmentationStorage")
        self.cine = _first_frames(_read("cine.seq.nrrd", "Sequence", "VolumeSequenceStorage"), _FRAMES)

    # -- what is tried ---------------------------------------------------------------------------

    def registers(self) -> RegistrationNodes:
        """The moving volume comes onto the fixed one, and the cavity with it."""
        self.say("Registering")
        result = self._registered()
        warped: Any = result.warped
        transform: Any = result.transform
        jacobian: Any = result.jacobian
        for node in (warped, jacobian):
            same = grid_of_volume(node).same_as(grid_of_volume(self.fixed))
            _check(same, f"'{node.GetName()}' lies on the fixed volume's voxels")
        role = slicer.vtkMRMLTransformNode.GetMovingNodeReferenceRole()
        _check(transform.GetNodeReference(role) is self.moving, "the transform knows the moving volume")
        _check(result.table.GetNumberOfRows() > 0, "the report has rows")
        _check(result.verdict.level != "failed", f"the verdict is not that it failed: {result.verdict.reason}")
        _check(result.report["jacobian"]["folding_count"] == 0, "nothing folds")
        for name, scores in result.report["labels"].items():
            gain = scores["after"]["dice"] - scores["before"]["dice"]
            _check(gain > _LEAST_GAIN, f"Dice of '{name}' rises by more than {_LEAST_GAIN}; it rose by {gain:.3f}")
        return result

    def propagates(self, result: RegistrationNodes) -> None:
        """The Logic carries a segmentation through the transform as the registration itself did."""
        self.say("Propagating the segmentation")
        again = self.logic.propagateSegmentation(self.moving_drawn, result.transform, self.fixed)
        once, twice = (list(segment_volumes_ml(node).values()) for node in (result.segmentations[0], again))
        ratio = np.divide(once, twice)
        agree = (ratio > _LEAST_AGREEMENT).all() and (ratio < 1 / _LEAST_AGREEMENT).all()
        _check(bool(agree), f"both ways to propagate agree: {once} ml and {twice} ml")

    def maps_the_jacobian(self, result: RegistrationNodes) -> None:
        """The Jacobian of the transform node is that of the registration."""
        self.say("Mapping the Jacobian")
        node = self.logic.jacobianVolume(result.transform, self.fixed)
        exact, told = slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(result.jacobian)
        apart = float(np.abs(exact - told).max())
        _check(apart < _JACOBIAN_TOLERANCE, f"the Jacobian of the transform is that of the result; {apart:.3f} apart")

    def registers_a_sequence(self) -> None:
        """Every frame comes onto the first, and the segmentation to every frame."""
        self.say(f"Registering a sequence of {_FRAMES} frames")
        found = self._waited(self.logic.registerSequence(self.cine, 0, segmentation=self.fixed_drawn, blocking=False))
        for node in (found.warped, found.transform, found.segmentation):
            _check(node.GetNumberOfDataNodes() == _FRAMES, f"'{node.GetName()}' has {_FRAMES} frames")
            together = found.browser.IsSynchronizedSequenceNode(node, True)
            _check(together, f"'{node.GetName()}' plays together with the sequence")
        drawn = [found.segmentation.GetNthDataNode(frame) for frame in range(_FRAMES)]
        volumes = [next(iter(segment_volumes_ml(node).values())) for node in drawn]
        _check(min(volumes) < 0.9 * volumes[0], f"the cavity contracts: {', '.join(f'{ml:.0f}' for ml in volumes)} ml")

    def cancels(self) -> None:
        """A cancelled run leaves the scene as it was."""
        self.say("Cancelling")
        before = slicer.mrmlScene.GetNumberOfNodes()
        told: list[str] = []
        run = self._begun(told)
        run.cancel()
        _check(told == ["cancelled"], f"a cancelled run says so; it said {told}")
        _check(slicer.mrmlScene.GetNumberOfNodes() == before, "a cancelled run leaves nothing in the scene")

    def survives_a_killed_worker(self) -> None:
        """Where the worker process is killed, the run fails and the next one works."""
        self.say("Killing the worker process")
        told: list[str] = []
        run = self._begun(told)
        pid = self.logic.worker.pid
        if pid is None:
            raise AssertionError("not as promised: a busy worker has a process")
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._until(lambda: not run.active)
        _check(told == ["crash"], f"the run says that the process died; it said {told}")
        _check(self._registered().warped is not None, "the next run works")

    # -- running ---------------------------------------------------------------------------------

    def _registered(self) -> RegistrationNodes:
        run = self.logic.register(
            self.fixed,
            self.moving,
            segmentations=[self.moving_drawn],
            fixedSegmentation=self.fixed_drawn,
            blocking=False,
        )
        return self._waited(run)

    def _begun(self, told: list[str]) -> Any:
        """A run at which the worker is at work; how it fails is added to `told`."""
        steps: list[str] = []
        run = self.logic.register(
            self.fixed,
            self.moving,
            blocking=False,
            onProgress=lambda step, fraction: steps.append(step),
            onFailed=lambda message, kind: told.append(kind),
        )
        self._until(lambda: any(step.startswith("stage") for step in steps) or not run.active)
        _check(run.active, f"the run is under way; it ended with: {run.error}")
        return run

    def _waited(self, task: BackgroundTask[Any]) -> Any:
        self._until(lambda: not task.active)
        if task.error is not None:
            raise AssertionError(f"it failed: {task.error}")
        return task.result

    def _until(self, over: Callable[[], bool]) -> None:
        """Does what Slicer does: ticks of a timer, and windows in between."""
        end = time.monotonic() + _PATIENCE
        while not over():
            _check(time.monotonic() < end, f"it is over within {_PATIENCE:.0f} s")
            self.logic.poll()
            self.process_events()
            time.sleep(_PAUSE)


def _check(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"not as promised: {promise}")


def _read(file: str, kind: str, storage_kind: str) -> Any:
    """A node with what a file of the sample holds."""
    path = resource_folder("SampleData") / file
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", file.partition(".")[0])
    # In the scene meanwhile: that of sequences would warn of every frame else.
    storage = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{storage_kind}Node")
    storage.SetFileName(str(path))
    done = bool(storage.ReadData(node))
    slicer.mrmlScene.RemoveNode(storage)
    _check(done, f"'{path}' can be read")
    if node.IsA("vtkMRMLDisplayableNode"):
        node.CreateDefaultDisplayNodes()
    return node


def _first_frames(sequence: Any, count: int) -> Any:
    while sequence.GetNumberOfDataNodes() > count:
        sequence.RemoveDataNodeAtValue(sequence.GetNthIndexValue(sequence.GetNumberOfDataNodes() - 1))
    return sequence
