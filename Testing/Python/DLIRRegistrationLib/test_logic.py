"""The Logic as scripts use it, with the real scene, the real worker and the shipped model."""

from __future__ import annotations

import gc
import inspect
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk

from dlir.errors import DLIRError, ImageError
from DLIRRegistrationLib.logic import DLIRRegistrationLogic
from DLIRRegistrationLib.registration.requests import MaskInput, OutputSelection, RegistrationNodes
from DLIRRegistrationLib.registration.sequence_requests import SequenceOutputs
from DLIRRegistrationLib.scene.segmentations import segment_volumes_ml
from DLIRRegistrationLib.worker.client import WorkerClient
from segments import overlapping, segmentation
from small_pair import SEGMENT, small_cine

if TYPE_CHECKING:
    from mrml import MRML
    from small_pair import SmallPair


def array(node: Any) -> Any:
    return slicer.util.arrayFromVolume(node)


def count(scene: MRML) -> int:
    return int(scene.scene.GetNumberOfNodes())


def until(logic: DLIRRegistrationLogic, reached: Callable[[], bool]) -> None:
    """What a timer does. However busy the machine is: what never ends is ended by pytest's own limit."""
    while not reached():
        logic.poll()
        time.sleep(0.005)


def until_done(logic: DLIRRegistrationLogic, tasks: list[Any]) -> None:
    until(logic, lambda: not any(task.active for task in tasks))


def test_one_call_registers(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    result = logic.register(pair.fixed, pair.moving, segmentations=[pair.moving_drawn])
    assert isinstance(result, RegistrationNodes)
    assert result.warped.GetName() == "ES registered to ED"
    assert result.segmentations[0].GetSegmentation().GetNthSegment(0).GetName() == SEGMENT


def test_every_input_can_be_given(logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair) -> None:
    identity = scene.linear_transform(np.eye(4), "start")
    landmarks = [scene.add("MarkupsFiducial", name) for name in ("on ES", "on ED")]
    for node in landmarks:
        node.AddControlPoint(*pair.fixed.GetOrigin(), "corner")
    result = logic.register(
        pair.fixed,
        pair.moving,
        "cardiac-cine",
        fixedMask=pair.fixed_drawn,
        movingMask=MaskInput(pair.moving_drawn, SEGMENT),
        initialTransform=identity,
        segmentations=[pair.moving_drawn],
        fixedSegmentation=pair.fixed_drawn,
        movingLandmarks=landmarks[0],
        fixedLandmarks=landmarks[1],
        device="cpu",
        outputs=OutputSelection(want_jacobian=False),
    )
    assert isinstance(result, RegistrationNodes)
    report = result.report
    assert (report["fixed_mask"], report["moving_mask"]) == ("ED drawn", "ES drawn")
    assert report["initialization"]["mode"] == "given transform"
    assert {"labels", "landmarks", "volumes"} <= set(report)
    assert result.jacobian is None
    assert result.landmarks is not None


def test_a_result_is_refined_further_in_its_place(logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair) -> None:
    steps: list[str] = []
    told: list[tuple[str, float]] = []
    first = logic.register(pair.fixed, pair.moving, segmentations=[pair.moving_drawn])
    before, nodes = first.report["similarity"]["after"], count(scene)
    warped = array(first.warped).copy()
    again = logic.refineFurther(
        pair.fixed,
        pair.moving,
        first,
        segmentations=[pair.moving_drawn],
        refine="8it",
        kind="rigid",
        onProgress=lambda step, fraction: steps.append(step),
        onCurve=lambda stage, value: told.append((stage, value)),
    )
    assert count(scene) == nodes
    for kind in ("warped", "transform", "jacobian", "table"):
        assert getattr(again, kind) is getattr(first, kind)
    assert again.segmentations == first.segmentations
    assert not np.array_equal(array(again.warped), warped)
    report = again.report
    assert report["model"]["name"] == "none"
    assert (report["refinement"]["kind"], report["refinement"]["affine"]) == ("deformable", [])
    assert report["similarity"]["before"] == pytest.approx(before, abs=0.001), "it begins where the first one ended"
    shown = [step.rsplit(" ", 1) for step in steps if "similarity" in step]
    assert [words for words, _ in shown] == [f"refining, {stage}, similarity" for stage, _ in told]
    assert [float(value) for _, value in shown] == pytest.approx([value for _, value in told], abs=1e-4)
    assert told


def test_a_refinement_is_ended_with_the_best_so_far(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    values: list[float] = []
    run = logic.register(
        pair.fixed,
        pair.moving,
        "none",
        refine="5000s",
        outputs=OutputSelection(want_warped=False, want_jacobian=False),
        blocking=False,
        onCurve=lambda stage, value: values.append(value),
    )
    until(logic, lambda: len(values) >= 3 or not run.active)
    assert run.active
    run.finish()
    until_done(logic, [run])
    assert run.error is None
    assert run.result is not None
    refinement = run.result.report["refinement"]
    assert refinement["stopped"]
    assert refinement["seconds"] < 1000  # it was given 5000
    run.finish()  # afterwards that changes nothing


def test_without_blocking_a_timer_keeps_it_going(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    done: list[RegistrationNodes] = []
    told: list[float] = []
    run = logic.register(
        pair.fixed,
        pair.moving,
        blocking=False,
        onProgress=lambda step, fraction: told.append(fraction),
        onDone=done.append,
    )
    assert done == []
    until_done(logic, [run])
    assert [result.warped.GetName() for result in done] == ["ES registered to ED"]
    assert told


def test_runs_that_are_started_together_wait_for_each_other(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    done: list[tuple[str, RegistrationNodes]] = []
    runs = [
        logic.register(fixed, moving, blocking=False, onDone=lambda result, name=name: done.append((name, result)))
        for name, fixed, moving in (("forth", pair.fixed, pair.moving), ("back", pair.moving, pair.fixed))
    ]
    until_done(logic, runs)
    assert [name for name, _ in done] == ["forth", "back"]
    assert [result.warped.GetName() for _, result in done] == ["ES registered to ED", "ED registered to ES"]


def test_events_are_processed_only_if_asked(
    logic: DLIRRegistrationLogic, pair: SmallPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[None] = []
    monkeypatch.setattr(slicer.app, "processEvents", lambda: ticks.append(None))
    logic.register(pair.fixed, pair.moving)
    assert ticks == []
    logic.register(pair.fixed, pair.moving, processEvents=True)
    assert len(ticks) > 3


def test_a_failure_raises_where_it_blocks_and_is_told_where_it_does_not(
    logic: DLIRRegistrationLogic, pair: SmallPair
) -> None:
    with pytest.raises(DLIRError, match="Choose a moving volume"):
        logic.register(pair.fixed, None)
    told: list[tuple[str, str]] = []
    run = logic.register(pair.fixed, None, blocking=False, onFailed=lambda message, kind: told.append((message, kind)))
    assert not run.active
    assert told == [("Choose a moving volume.", "error")]


def test_one_call_registers_a_sequence(logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair) -> None:
    cine = small_cine(scene, pair, 2)
    result = logic.registerSequence(cine, 0, segmentation=pair.fixed_drawn, outputs=SequenceOutputs(want_warped=False))
    assert result.warped is None
    assert result.transform.GetNumberOfDataNodes() == result.segmentation.GetNumberOfDataNodes() == 2
    run = logic.registerSequence(cine, 1, blocking=False)
    until_done(logic, [run])
    assert run.result.warped.GetName() == "cine registered to frame 2"


def test_what_would_be_refused_can_be_asked_before(api: DLIRRegistrationLogic, scene: MRML, pair: SmallPair) -> None:
    """With the same arguments, and nothing is started."""
    assert api.registrationProblem(pair.fixed, pair.moving, segmentations=[pair.moving_drawn]) is None
    for fixed, moving, more in (
        (pair.fixed, None, {}),
        (pair.fixed, pair.fixed, {"initialize": "scanner"}),
        (pair.fixed, pair.moving, {"outputs": OutputSelection(warped=pair.fixed)}),
        (pair.fixed, pair.moving, {"fixedMask": MaskInput(pair.fixed_drawn, "lost")}),
    ):
        problem = api.registrationProblem(fixed, moving, **more)
        with pytest.raises(DLIRError) as caught:
            api.register(fixed, moving, **more)
        assert problem == str(caught.value)
    assert "no transform to go on from" in str(api.refinementProblem(pair.fixed, pair.moving, OutputSelection()))
    former = OutputSelection(transform=scene.add("Transform", "former"))
    assert api.refinementProblem(pair.fixed, pair.moving, former) is None
    cine = small_cine(scene, pair, 2)
    assert "--kind rigid is found without a model" in str(api.sequenceProblem(cine, kind="rigid"))
    assert api.sequenceProblem(cine, 1, segmentation=pair.fixed_drawn) is None
    assert api.sequenceProblem(cine, 2) == "The sequence 'cine' has no frame 3; choose one of 1 to 2."
    assert api.sequenceProblem(cine, outputs=SequenceOutputs(warped=cine)).startswith("'cine' is also the input")
    assert api.worker.state == "stopped"


def test_an_argument_that_there_is_not_is_refused(api: DLIRRegistrationLogic, pair: SmallPair) -> None:
    for call in (api.register, api.registrationProblem, api.registerSequence):
        with pytest.raises(TypeError, match="fixed_mask"):
            call(pair.fixed, pair.moving, fixed_mask=pair.fixed_drawn)


def test_a_run_can_be_had_that_is_not_started(logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair) -> None:
    """For a caller with a timer of its own."""
    cine = small_cine(scene, pair, 2)
    for run in (logic.newRun(pair.fixed, pair.moving), logic.newSequenceRun(cine, 1, "cardiac-cine", pair.fixed_drawn)):
        assert (run.problem(), run.active) == (None, False)
        run.start()
        assert run.wait().warped is not None


def test_the_worker_can_be_started_before_it_is_needed(
    api: DLIRRegistrationLogic, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(api.worker, "start", lambda: asked.append("start"))
    monkeypatch.setattr(api.worker, "poll", lambda: asked.append("poll"))
    api.warmUp()
    api.poll()
    assert asked == ["start", "poll"], "a worker that has died is noticed while nothing runs"


def test_training_goes_on_in_the_background(
    api: DLIRRegistrationLogic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    class Process:
        def __init__(self, *arguments: Any, **named: Any) -> None:
            calls.append(arguments[0])
            self.all_ended = self.ended = False
            self.exit_code = 0

        def close_stdin(self) -> None:
            self.all_ended = True

    monkeypatch.setattr("DLIRRegistrationLib.training.ChildProcess", Process)
    run = api.train(tmp_path / "images", "cardiac-cine", tmp_path / "run", "cpu")
    assert run.state == "running"
    assert {"train", "--data", str(tmp_path / "images"), "--preset", "cardiac-cine", "cpu"} <= set(calls[0])
    assert api.trainingRun(tmp_path / "other") is not run
    assert api.trainingRun(tmp_path / "run") is run, "one run for each folder"
    run.stop()
    api.poll()
    assert run.state == "finished"
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "run.json").write_text("{}")
    assert api.trainingRun(tmp_path / "earlier").resumable
    resumed = api.resumeTraining(tmp_path / "earlier")
    assert {"--resume", str(tmp_path / "earlier"), "auto"} <= set(calls[1])
    api.close()
    assert not resumed.active


# -- with a transform that is there --------------------------------------------------------------------


def test_a_segmentation_is_propagated_as_the_registration_does(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    result = logic.register(pair.fixed, pair.moving, segmentations=[pair.moving_drawn])
    node = logic.propagateSegmentation(pair.moving_drawn, result.transform, pair.fixed)
    assert node.GetName() == "ES drawn on ED_1"
    one, other = (list(segment_volumes_ml(each).values()) for each in (node, result.segmentations[0]))
    assert one == pytest.approx(other, rel=0.01)


def test_overlap_names_and_colours_survive_propagation(
    logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair
) -> None:
    from DLIRRegistrationLib.scene.frames import grid_of_volume

    grid = grid_of_volume(pair.moving)
    drawn = segmentation(scene, overlapping(grid), grid)
    result = logic.register(pair.fixed, pair.moving, segmentations=[drawn])
    for node in (result.segmentations[0], logic.propagateSegmentation(drawn, result.transform, pair.fixed)):
        for number in range(3):
            ours, theirs = (each.GetSegmentation().GetNthSegment(number) for each in (node, drawn))
            assert ours.GetName() == theirs.GetName()
            assert ours.GetColor() == theirs.GetColor()
        volumes = segment_volumes_ml(node)
        assert all(volumes[name] > 0 for name in ("ventricle", "muscle", "scar"))


def test_an_existing_segmentation_is_overwritten_only_if_selected(
    logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair
) -> None:
    transform, mine = scene.add("Transform", "nothing"), scene.add("Segmentation", "mine")
    assert logic.propagateSegmentation(pair.moving_drawn, transform, pair.fixed, mine) is mine
    assert segment_volumes_ml(mine)[SEGMENT] > 0
    before = count(scene)
    with pytest.raises(ImageError, match="has no segments"):
        logic.propagateSegmentation(scene.add("Segmentation", "empty"), transform, pair.fixed)
    assert count(scene) == before + 1


@pytest.fixture
def api(scene: MRML) -> Iterator[DLIRRegistrationLogic]:
    """The Logic, without a worker process."""
    logic = DLIRRegistrationLogic()
    yield logic
    logic.close()


@pytest.fixture
def shift(scene: MRML) -> Any:
    """Brings the moving image 5 mm to the right, onto the fixed one."""
    matrix = np.eye(4)
    matrix[0, 3] = 5.0
    return scene.linear_transform(matrix, "shift")


def test_points_are_propagated(api: DLIRRegistrationLogic, scene: MRML, shift: Any) -> None:
    points = scene.add("MarkupsCurve", "vessel")
    for x in (1.0, 2.0):
        points.AddControlPoint([x, 3.0, 4.0], f"at {x:g}")
    made = api.propagateMarkups(points, shift)
    assert (made.GetClassName(), made.GetName()) == ("vtkMRMLMarkupsCurveNode", "vessel propagated")
    moved = slicer.util.arrayFromMarkupsControlPoints(made, world=True)
    assert moved == pytest.approx(np.array([[6.0, 3.0, 4.0], [7.0, 3.0, 4.0]]))
    assert [made.GetNthControlPointLabel(number) for number in range(2)] == ["at 1", "at 2"]
    assert made.GetDisplayNode() is not None
    before = count(scene)
    assert api.propagateMarkups(made, shift, output=made) is made
    assert slicer.util.arrayFromMarkupsControlPoints(made)[0, 0] == pytest.approx(11.0)
    assert count(scene) == before


def test_a_model_is_propagated(api: DLIRRegistrationLogic, scene: MRML, shift: Any) -> None:
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    model = scene.add("Model", "tumour")
    model.SetAndObservePolyData(sphere.GetOutput())
    made = api.propagateModel(model, shift)
    assert made.GetName() == "tumour propagated"
    drawn, moved = (slicer.util.arrayFromModelPoints(node) for node in (model, made))
    assert moved - drawn == pytest.approx(np.broadcast_to([5.0, 0.0, 0.0], drawn.shape), abs=1e-5)
    other = scene.add("Model", "chosen")
    before = count(scene)
    assert api.propagateModel(model, shift, output=other) is other
    assert other.GetPolyData().GetNumberOfPoints() == len(drawn)
    with pytest.raises(ImageError, match="has no surface"):
        api.propagateModel(scene.add("Model", "empty"), shift)
    assert count(scene) == before + 1, "only the empty one"


def test_the_jacobian_of_a_transform_is_that_of_the_registration(
    logic: DLIRRegistrationLogic, scene: MRML, pair: SmallPair
) -> None:
    result = logic.register(pair.fixed, pair.moving)
    node = logic.jacobianVolume(result.transform, pair.fixed)
    assert node.GetName() == "ES registered to ED transform Jacobian"
    # The registration samples it, which its own tests allow some hundredths for.
    assert np.abs(array(node) - array(result.jacobian)).max() < 0.1
    assert np.abs(array(node) - array(result.jacobian)).mean() < 0.005
    assert "Jacobian" in node.GetDisplayNode().GetColorNode().GetName()
    mine = scene.add("ScalarVolume", "mine")
    assert logic.jacobianVolume(result.transform, pair.fixed, mine) is mine
    assert np.array_equal(array(mine), array(node))


# -- as it is ------------------------------------------------------------------------------------------


def test_everything_has_a_docstring() -> None:
    for name, member in inspect.getmembers(DLIRRegistrationLogic, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name


def test_closing_cancels_what_is_under_way(logic: DLIRRegistrationLogic, pair: SmallPair, scene: MRML) -> None:
    """Even while the process is still starting."""
    logic.worker = WorkerClient(sys.executable)
    kinds: list[str] = []
    before = count(scene)
    run = logic.register(pair.fixed, pair.moving, blocking=False, onFailed=lambda message, kind: kinds.append(kind))
    assert logic.worker.state == "starting"
    logic.close()
    assert kinds == ["cancelled"]
    assert not run.active
    assert logic.worker.state == "stopped"
    assert count(scene) == before


def test_closing_ends_a_call_that_waits(
    logic: DLIRRegistrationLogic, pair: SmallPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Slicer is closed while a script keeps its windows alive."""
    logic.worker = WorkerClient(sys.executable)
    monkeypatch.setattr(slicer.app, "processEvents", logic.close)
    with pytest.raises(DLIRError, match="cancelled"):
        logic.register(pair.fixed, pair.moving, processEvents=True)


def test_what_has_ended_is_let_go(logic: DLIRRegistrationLogic, pair: SmallPair) -> None:
    logic.register(pair.fixed, pair.moving)
    run = logic.register(pair.fixed, pair.moving, blocking=False)
    until_done(logic, [run])
    logic.poll()
    reference = weakref.ref(run)
    del run
    gc.collect()
    assert reference() is None
