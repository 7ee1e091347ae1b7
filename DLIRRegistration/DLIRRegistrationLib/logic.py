"""The module's Logic, for scripts and the panel: everything that the panel offers, and nothing that needs a window."""

# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from dlir.errors import DLIRError
from dlir.registration.choices import NO_MODEL, Kind
from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import Curve, Offer, Progress, silent
from DLIRRegistrationLib.models import FORMER_DEFAULT, misfit
from DLIRRegistrationLib.registration.afterwards.folds import MOST as MOST_FOLDS
from DLIRRegistrationLib.registration.afterwards.folds import Fold
from DLIRRegistrationLib.registration.afterwards.with_transforms import WithTransforms
from DLIRRegistrationLib.registration.foreseen import Foreseen, ModelChoice
from DLIRRegistrationLib.registration.requests import (
    MaskInput,
    OutputSelection,
    RegistrationInputs,
    RegistrationNodes,
    optimisation_problem,
)
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.registration.sequence_requests import SequenceInputs, SequenceNodes, SequenceOutputs
from DLIRRegistrationLib.registration.sequence_run import SequenceRun
from DLIRRegistrationLib.registration.task import BackgroundTask, RegistrationTask
from DLIRRegistrationLib.scene.frames import grid_of_volume
from DLIRRegistrationLib.training import TrainingRun
from DLIRRegistrationLib.worker.client import WorkerClient

# What calls are made with and what they return, for scripts and the panel to import from here.
__all__ = [
    "MOST_FOLDS",
    "DLIRRegistrationLogic",
    "Fold",
    "Foreseen",
    "MaskInput",
    "OutputSelection",
    "RegistrationNodes",
    "SequenceNodes",
    "SequenceOutputs",
    "Task",
    "TrainingRun",
    "Verdict",
    "optimisation_problem",
]

Task = RegistrationTask[Any]
Failure = Callable[[str, str], None]


class DLIRRegistrationLogic(WithTransforms, ScriptedLoadableModuleLogic):
    """Registers and propagates; Slicer's base class adds the parameter node.

        logic = DLIRRegistrationLogic()
        result = logic.register(fixed, moving)                       # waits; raises dlir.errors.DLIRError
        run = logic.register(fixed, moving, blocking=False, onDone=print)
        ...                                                          # a timer calls logic.poll() until not run.active
        logic.close()

    worker: the process that computes; started by the first registration, or before by `worker.start()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.worker = WorkerClient()
        self._tasks: list[BackgroundTask[Any]] = []
        self._trainings: dict[Path, TrainingRun] = {}

    def warmUp(self) -> None:
        """Starts the worker process, which takes seconds, before it is needed; returns at once. Raises WorkerError."""
        self.worker.start()

    def poll(self) -> None:
        """Lets everything that is not blocking go on, for some 20 ms each; never raises. For a timer."""
        self._tasks = [task for task in self._tasks if task.active]
        for task in self._tasks:
            task.poll()
        for training in self._trainings.values():
            training.poll()
        if not self._tasks:
            self.worker.poll()  # it may be ready by now, or have died

    def close(self) -> None:
        """Cancels what is under way, ends the worker process and deletes its temporary files."""
        for task in self._tasks:
            task.cancel()
        for training in self._trainings.values():
            training.close()
        self._tasks.clear()
        self._trainings.clear()
        self.worker.close()

    # -- registration ----------------------------------------------------------------------------

    def newRun(
        self,
        fixed: Any,
        moving: Any,
        model: str = FORMER_DEFAULT,
        *,
        fixedMask: Any | None = None,
        movingMask: Any | None = None,
        initialTransform: Any | None = None,
        initialize: str = "auto",
        segmentations: Sequence[Any] = (),
        fixedSegmentation: Any | None = None,
        movingLandmarks: Any | None = None,
        fixedLandmarks: Any | None = None,
        device: str = "auto",
        refine: str | None = None,
        kind: str = Kind.deformable.value,
        outputs: OutputSelection | None = None,
    ) -> Run:
        """What `register` runs, not started yet, for a caller with a timer of its own.

        fixed, moving: scalar volume nodes. model: a name of the catalogue, a model file, "auto": the installed
            model that was made for such images, and none where there is no such model; or "none".
        fixedMask, movingMask: where the images count when the pair is optimised, and in the report: a labelmap volume
            node, a segmentation node, or a MaskInput with one of its segments.
        initialTransform: a transform node that brings the moving volume roughly onto the fixed one; without it,
            `initialize` says whether to begin with aligned "centers", with the "scanner"'s positions, or where they
            fit best ("auto").
        segmentations: drawn on the moving image, to be propagated; scored by the segments of `fixedSegmentation`.
        movingLandmarks: point list to be propagated; with `fixedLandmarks` the report has their error.
        device: "auto", "cpu", "cuda" or "mps".
        refine: how long the pair is optimised: "10s", "50it", "converged" or "off"; by default "off" with a model, and
            else "10s". `finish()` of the run ends that with the best so far.
        kind: "rigid", "affine" or "deformable"; what does not bend is found without a model.
        outputs: which results are wanted, and nodes that are to be overwritten; by default all, in new nodes.
        """
        inputs = RegistrationInputs(
            fixed=fixed,
            moving=moving,
            model=model,
            fixed_mask=_mask(fixedMask),
            moving_mask=_mask(movingMask),
            initial_transform=initialTransform,
            initialize=initialize,
            segmentations=tuple(segmentations),
            fixed_segmentation=fixedSegmentation,
            moving_landmarks=movingLandmarks,
            fixed_landmarks=fixedLandmarks,
            device=device,
            refine=refine,
            kind=kind,
        )
        return Run(inputs, outputs or OutputSelection(), self.worker)

    @overload
    def register(self, fixed: Any, moving: Any, model: str = ..., *, blocking: Literal[False], **more: Any) -> Run: ...

    @overload
    def register(self, fixed: Any, moving: Any, model: str = ..., **more: Any) -> RegistrationNodes: ...

    def register(
        self,
        fixed: Any,
        moving: Any,
        model: str = FORMER_DEFAULT,
        *,
        blocking: bool = True,
        processEvents: bool = False,
        onProgress: Progress | None = None,
        onDone: Callable[[RegistrationNodes], None] | None = None,
        onFailed: Failure | None = None,
        onOffer: Offer = silent,
        onCurve: Curve = silent,
        **choices: Any,
    ) -> RegistrationNodes | Run:
        """Registers the moving volume to the fixed one; their nodes are read when this is called.

        fixed, moving, model, choices: those of `newRun`.
        blocking: wait, and return the result. Otherwise returns the Run, which `poll` keeps going; runs that are
            started meanwhile wait for each other.
        processEvents: keep Slicer's windows alive while waiting.
        onProgress: gets the step and the fraction done. onDone: gets the result. onFailed: gets one line for the
            user, and "error", "crash" or "cancelled". onOffer: gets the verdict so far, while the pair is registered
            the other way round, which may make it worse. onCurve: gets, while the pair is optimised, the stage in
            words and its objective, each time before onProgress.
        Raises RunError, a DLIRError, where a blocking registration fails.
        """
        run = self.newRun(fixed, moving, model, **choices)
        run.on_offer, run.on_curve = onOffer, onCurve
        self._start(run, onProgress, onDone, onFailed)
        return self._waited(run, processEvents) if blocking else run

    def registrationProblem(self, fixed: Any, moving: Any, model: str = FORMER_DEFAULT, **choices: Any) -> str | None:
        """Why `register` would refuse these, as one sentence; None where it would begin."""
        return self.newRun(fixed, moving, model, **choices).problem()

    def foreseeModel(
        self, fixed: Any, moving: Any, onDone: Callable[[Foreseen | None], None]
    ) -> BackgroundTask[Foreseen] | None:
        """Finds which model "auto" would take for two volumes, without registering them; `poll` keeps it going.

        onDone: gets it, or None where it cannot be told; the registration will say why. Returns None, and nothing is
        begun, while the worker is not idle.
        """
        if self.worker.state != "ready":
            return None
        task = ModelChoice(fixed, moving, self.worker)
        self._start(task, None, onDone, lambda message, kind: onDone(None))
        return task

    def modelMisfit(self, model: str, *volumes: Any) -> str | None:
        """Why a model cannot have been made for volume nodes, by their size, as one sentence; None where it can."""
        try:
            return misfit(model, {node.GetName(): grid_of_volume(node) for node in volumes})
        except DLIRError:  # not even an image, which `registrationProblem` tells
            return None

    def newRefinement(
        self,
        fixed: Any,
        moving: Any,
        former: RegistrationNodes | OutputSelection,
        *,
        refine: str | None = None,
        kind: str = Kind.deformable.value,
        **choices: Any,
    ) -> Run:
        """What `refineFurther` runs, not started yet."""
        outputs = former.selection() if isinstance(former, RegistrationNodes) else former
        start = outputs.transform
        if start is not None and not start.IsLinear():
            kind = Kind.deformable.value  # what bends already is not made rigid
        choices |= {"initialTransform": start, "refine": refine, "kind": kind, "outputs": outputs}
        run = self.newRun(fixed, moving, NO_MODEL, **choices)
        return Run(replace(run.inputs, continues=True), outputs, self.worker)

    def refineFurther(
        self,
        fixed: Any,
        moving: Any,
        former: RegistrationNodes | OutputSelection,
        *,
        blocking: bool = True,
        processEvents: bool = False,
        onProgress: Progress | None = None,
        onDone: Callable[[RegistrationNodes], None] | None = None,
        onFailed: Failure | None = None,
        onOffer: Offer = silent,
        onCurve: Curve = silent,
        **choices: Any,
    ) -> RegistrationNodes | Run:
        """Goes on from the transform of a result by optimising the pair; the new result takes the place of the former.

        fixed, moving: the same as before. former: the result, or its nodes; overwritten at the end, all together.
        choices: `refine`, as for `newRun` ("10s" by default), `kind`, which counts where the transform does not bend
            yet, and all of `newRun` that belongs to the images: masks, segmentations, landmarks, device.
        The rest as for `register`. A transform that bends is improved by fine stages only. One kept as a displacement
        grid is followed as an initial transform is: not exactly.
        """
        run = self.newRefinement(fixed, moving, former, **choices)
        run.on_offer, run.on_curve = onOffer, onCurve
        self._start(run, onProgress, onDone, onFailed)
        return self._waited(run, processEvents) if blocking else run

    def refinementProblem(
        self, fixed: Any, moving: Any, former: RegistrationNodes | OutputSelection, **choices: Any
    ) -> str | None:
        """Why `refineFurther` would refuse these, as one sentence; None where it would begin."""
        return self.newRefinement(fixed, moving, former, **choices).problem()

    def newSequenceRun(
        self,
        sequence: Any,
        reference: int = 0,
        model: str = FORMER_DEFAULT,
        segmentation: Any | None = None,
        initialize: str = "auto",
        device: str = "auto",
        outputs: SequenceOutputs | None = None,
        *,
        refine: str | None = None,
        kind: str = Kind.deformable.value,
    ) -> SequenceRun:
        """What `registerSequence` runs, not started yet, for a caller with a timer of its own.

        sequence: a sequence node of volumes. reference: the frame, from 0, that the others are registered to.
        segmentation: drawn on the reference frame, to be carried to every frame.
        outputs: which results are wanted (the Jacobian maps are not unless asked for), and sequence nodes that are to
            be overwritten. All results are sequences that one browser node plays together with `sequence`.
        refine: as for `newRun`, for each frame; `finish()` ends that of the present one.
        The rest as for `newRun`; "auto" chooses one model, or none, for all frames, by the first that is registered.
        """
        inputs = SequenceInputs(sequence, reference, model, segmentation, initialize, device, refine, kind)
        return SequenceRun(inputs, outputs or SequenceOutputs(), self.worker)

    @overload
    def registerSequence(
        self, sequence: Any, reference: int = ..., model: str = ..., *, blocking: Literal[False], **more: Any
    ) -> SequenceRun: ...

    @overload
    def registerSequence(self, sequence: Any, reference: int = ..., model: str = ..., **more: Any) -> SequenceNodes: ...

    def registerSequence(
        self,
        sequence: Any,
        reference: int = 0,
        model: str = FORMER_DEFAULT,
        *,
        blocking: bool = True,
        processEvents: bool = False,
        onProgress: Progress | None = None,
        onDone: Callable[[SequenceNodes], None] | None = None,
        onFailed: Failure | None = None,
        onCurve: Curve = silent,
        **choices: Any,
    ) -> SequenceNodes | SequenceRun:
        """Registers every frame of a sequence node of volumes to its frame number `reference`, counted from 0.

        sequence, reference, model, choices: those of `newSequenceRun`. The rest as for `register`; onProgress tells
        the frame too. A cancelled run leaves no sequence behind.
        """
        run = self.newSequenceRun(sequence, reference, model, **choices)
        run.on_curve = onCurve
        self._start(run, onProgress, onDone, onFailed)
        return self._waited(run, processEvents) if blocking else run

    def sequenceProblem(
        self, sequence: Any, reference: int = 0, model: str = FORMER_DEFAULT, **choices: Any
    ) -> str | None:
        """Why `registerSequence` would refuse these, as one sentence; None where it would begin."""
        return self.newSequenceRun(sequence, reference, model, **choices).problem()

    def _start(self, task: BackgroundTask[Any], on_progress: Any, on_done: Any, on_failed: Any) -> None:
        self._tasks = [*(known for known in self._tasks if known.active), task]
        task.start(on_progress, on_done, on_failed)

    def _waited(self, task: Task, process_events: bool) -> Any:
        try:
            return task.wait(slicer.app.processEvents if process_events else None)
        finally:
            self._tasks = [known for known in self._tasks if known is not task]  # it holds copies of its images

    # -- training --------------------------------------------------------------------------------

    def trainingRun(self, output: str | Path) -> TrainingRun:
        """The training whose run folder is `output`: the one under way there, or what an earlier one has left."""
        folder = Path(output).absolute()
        self._trainings = {path: run for path, run in self._trainings.items() if run.active or path == folder}
        if folder not in self._trainings:
            self._trainings[folder] = TrainingRun(folder)
        return self._trainings[folder]

    def train(self, data: str | Path, configuration: str, output: str | Path, device: str = "auto") -> TrainingRun:
        """Trains a model from the images in the folder `data`, in the background; returns at once.

        configuration: the name of a preset, or a YAML file. output: the run folder, which holds no run yet.
        device: as for `newRun`. `poll` keeps the run up to date. Raises WorkerError or OutputError where it cannot
        begin; whatever else is wrong, such as the data, the run will say.
        """
        run = self.trainingRun(output)
        run.start(Path(data), configuration, device)
        return run

    def resumeTraining(self, output: str | Path, device: str = "auto") -> TrainingRun:
        """Continues the training in the run folder `output` from its last checkpoint. Returns and raises as `train`."""
        run = self.trainingRun(output)
        run.resume(device)
        return run


def _mask(given: Any | None) -> MaskInput | None:
    return given if given is None or isinstance(given, MaskInput) else MaskInput(given)
