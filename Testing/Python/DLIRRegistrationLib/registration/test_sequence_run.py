"""A sequence registered frame by frame, with the real scene, the real worker and the shipped model."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from dlir.model.catalogue import resolve_model
from dlir.worker.protocol import Done, Event, Register
from DLIRRegistrationLib.registration.requests import OutputSelection, RegistrationInputs
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.registration.sequence_requests import SequenceInputs, SequenceNodes, SequenceOutputs
from DLIRRegistrationLib.registration.sequence_run import SequenceRun
from DLIRRegistrationLib.registration.task import RunError
from DLIRRegistrationLib.scene.frames import grid_of_volume
from DLIRRegistrationLib.scene.sequences import index_values
from small_pair import SEGMENT, segment_mask, small_cine

if TYPE_CHECKING:
    from dlir.registration.request import RegistrationRequest
    from DLIRRegistrationLib.worker.client import WorkerClient
    from mrml import MRML
    from small_pair import SmallPair


@pytest.fixture
def cine(scene: MRML, pair: SmallPair) -> Any:
    return small_cine(scene, pair)


def run(inputs: SequenceInputs, worker: WorkerClient, outputs: SequenceOutputs | None = None) -> SequenceNodes:
    task = SequenceRun(inputs, outputs or SequenceOutputs(), worker)
    task.start()
    return task.wait()


def frame(sequence: Any, number: int) -> Any:
    return sequence.GetNthDataNode(number)


def array(node: Any) -> Any:
    return slicer.util.arrayFromVolume(node)


def column(table: Any, name: str) -> list[Any]:
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(table.GetNumberOfRows())]


def test_every_frame_comes_onto_the_reference_and_the_segmentation_to_every_frame(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient
) -> None:
    """As single registrations do, both ways round."""
    result = run(SequenceInputs(cine, 0, segmentation=pair.fixed_drawn), worker, SequenceOutputs(want_jacobian=True))
    single = Run(RegistrationInputs(pair.fixed, pair.moving), OutputSelection(), worker)
    single.start()
    alone = single.wait()
    for node in (result.warped, result.transform, result.jacobian, result.segmentation):
        assert index_values(node) == ["0", "40", "80"]
        assert (node.GetIndexName(), node.GetIndexUnit()) == ("time", "ms")
    assert np.array_equal(array(frame(result.warped, 0)), array(pair.fixed))
    assert np.array_equal(array(frame(result.jacobian, 0)), np.ones_like(array(alone.jacobian)))
    assert np.array_equal(array(frame(result.warped, 1)), array(alone.warped))
    assert np.array_equal(array(frame(result.jacobian, 1)), array(alone.jacobian))
    # Equal images need not come out as equal: the networks displace them a little, too.
    assert np.abs(array(frame(result.warped, 2)) - array(pair.fixed)).mean() < 3
    grid = grid_of_volume(pair.fixed)
    drawn = segment_mask(pair.fixed_drawn, grid, scene)
    carried = [segment_mask(frame(result.segmentation, number), grid, scene) for number in range(3)]
    assert np.array_equal(carried[0], drawn)
    truth = segment_mask(pair.moving_drawn, grid, scene)
    assert dice(carried[1], truth) > dice(drawn, truth) + 0.02
    volumes = [mask.sum() * np.prod(grid.spacing) / 1000 for mask in carried]
    assert column(result.table, f"{SEGMENT} (ml)") == pytest.approx(volumes)
    assert column(result.table, "NCC after")[1] == pytest.approx(alone.report["similarity"]["after"])
    assert result.reports[0] is None
    assert result.verdict.level == "check"  # so small a part of a heart may be something else


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_all_results_play_together(pair: SmallPair, cine: Any, worker: WorkerClient) -> None:
    result = run(SequenceInputs(cine, 2, segmentation=pair.fixed_drawn), worker)
    browser = result.browser
    assert browser.GetMasterSequenceNode() is cine
    assert browser.GetSelectedItemNumber() == 2
    shown = [browser.GetProxyNode(node) for node in (cine, result.warped, result.transform, result.segmentation)]
    assert None not in shown
    assert shown[3].GetDisplayNode() is not None
    source, warped = (node.GetDisplayNode() for node in shown[:2])
    assert (warped.GetWindow(), warped.GetAutoWindowLevel()) == (source.GetWindow(), 0)
    for number in range(3):
        browser.SetSelectedItemNumber(number)
        assert np.array_equal(array(shown[0]), array(frame(cine, number)))
        assert np.array_equal(array(shown[1]), array(frame(result.warped, number)))
        assert shown[3].GetSegmentation().GetNthSegment(0).GetName() == SEGMENT


def test_names_say_what_they_are(pair: SmallPair, cine: Any, worker: WorkerClient) -> None:
    result = run(SequenceInputs(cine, 1, segmentation=pair.moving_drawn), worker, SequenceOutputs(want_jacobian=True))
    nodes = (result.warped, result.transform, result.jacobian, result.segmentation, result.table, result.browser)
    assert [node.GetName() for node in nodes] == [
        "cine registered to frame 2",
        "cine registered to frame 2 transform",
        "cine registered to frame 2 Jacobian",
        "ES drawn on cine",
        "cine registered to frame 2 report",
        "cine browser",
    ]


def test_the_browser_that_plays_the_sequence_plays_the_results_too(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient
) -> None:
    browser = scene.add("SequenceBrowser", "mine")
    browser.SetAndObserveMasterSequenceNodeID(cine.GetID())
    browser.SetSelectedItemNumber(1)
    result = run(SequenceInputs(cine), worker)
    assert result.browser is browser
    assert browser.GetSelectedItemNumber() == 1
    assert browser.IsSynchronizedSequenceNode(result.warped, True)
    assert result.segmentation is None


def test_frames_lie_where_the_node_that_shows_them_lies(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient
) -> None:
    browser = scene.add("SequenceBrowser", "mine")
    browser.SetAndObserveMasterSequenceNodeID(cine.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    matrix = np.array([[0.0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 10], [0, 0, 0, 1]])
    table = scene.linear_transform(matrix)
    shown = browser.GetProxyNode(cine)
    for node in (shown, pair.fixed, pair.fixed_drawn):
        node.SetAndObserveTransformNodeID(table.GetID())
    result = run(SequenceInputs(cine, segmentation=pair.fixed_drawn), worker)
    grid = grid_of_volume(pair.fixed)
    assert grid_of_volume(frame(result.warped, 1)).same_as(grid)
    drawn = segment_mask(frame(result.segmentation, 0), grid, scene)
    assert np.array_equal(drawn, segment_mask(pair.fixed_drawn, grid, scene))


def test_selected_sequences_are_overwritten(scene: MRML, cine: Any, worker: WorkerClient) -> None:
    chosen = SequenceOutputs(warped=scene.add("Sequence", "mine"), want_transform=False)
    chosen.warped.SetDataNodeAtValue(frame(cine, 0), "999")
    result = run(SequenceInputs(cine), worker, chosen)
    assert result.warped is chosen.warped
    assert chosen.warped.GetName() == "mine"
    assert index_values(chosen.warped) == ["0", "40", "80"]
    assert result.transform is None


def test_text_indices_keep_their_order(pair: SmallPair, scene: MRML, worker: WorkerClient) -> None:
    node = scene.add("Sequence", "phases")
    node.SetIndexType(node.TextIndex)
    for name, volume in (("systole", pair.moving), ("diastole", pair.fixed)):
        node.SetDataNodeAtValue(volume, name)
    result = run(SequenceInputs(node, 1), worker)
    assert index_values(result.warped) == ["systole", "diastole"]
    assert np.array_equal(array(frame(result.warped, 1)), array(pair.fixed))


def test_the_results_survive_saving(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient, tmp_path: Path
) -> None:
    result = run(SequenceInputs(cine, segmentation=pair.fixed_drawn), worker)
    name, expected = result.warped.GetName(), array(frame(result.warped, 1)).copy()
    path = tmp_path / "scene.mrb"
    scene.save(path)
    scene.load(path)
    sequence = next(node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if node.GetName() == name)
    assert np.array_equal(array(frame(sequence, 1)), expected)


class Answering:
    """A worker that says at once what it was told to, and keeps what it was asked."""

    def __init__(self, folder: Path, report: dict[str, Any]) -> None:
        self.folder, self.report = folder, report
        self.asked: list[RegistrationRequest] = []

    def reserve(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def release(self, name: str) -> None:
        shutil.rmtree(self.folder / name)

    def poll(self) -> None: ...

    def submit(self, request: Register, on_event: Callable[[Event], None]) -> None:
        self.asked.append(request.registration)
        on_event(Done(request.id, {}, self.report, 0.1))


def test_a_model_is_chosen_once_for_all_frames(cine: Any, tmp_path: Path) -> None:
    report = {
        "similarity": {"measure": "NCC", "before": 0.9, "after": 0.97},
        "jacobian": {"folding_count": 0, "folding_percent": 0.0, "mean": 1.0, "sd": 0.1, "min": 0.5, "max": 2.0},
        "model": {"name": "Hippocampi", "file": "hippocampus.safetensors", "distances": {"hippocampus": 0.4}},
    }
    chosen, named = Answering(tmp_path, report), Answering(tmp_path, report)
    nothing = SequenceOutputs(want_warped=False, want_transform=False)
    for worker, model in ((chosen, "auto"), (named, "cardiac-cine")):
        task = SequenceRun(SequenceInputs(cine, 1, model), nothing, worker)  # type: ignore[arg-type]
        task.start()
        task.wait()
    assert [asked.model for asked in chosen.asked] == ["auto", str(resolve_model("hippocampus"))]
    assert [asked.model for asked in named.asked] == 2 * [str(resolve_model("cardiac-cine"))]


def test_a_model_is_chosen_for_the_frame_half_a_cycle_away(scene: MRML, pair: SmallPair, tmp_path: Path) -> None:
    """And serves all, as on the command line: neighbours look alike to any model."""
    figures = {
        "similarity": {"measure": "NCC", "before": 0.9, "after": 0.97},
        "jacobian": {"folding_count": 0, "folding_percent": 0.0, "mean": 1.0, "sd": 0.1, "min": 0.5, "max": 2.0},
    }
    chosen = {"name": "Hippocampi", "file": "hippocampus.safetensors", "distances": {"hippocampus": 0.4}}

    class Choosing(Answering):
        def submit(self, request: Register, on_event: Callable[[Event], None]) -> None:
            auto = request.registration.model == "auto"
            self.report = figures | {"model": chosen if auto else chosen | {"distances": {}}}
            super().submit(request, on_event)

    worker, nothing = Choosing(tmp_path, {}), SequenceOutputs(want_warped=False, want_transform=False)
    task = SequenceRun(SequenceInputs(small_cine(scene, pair, 6), 1, "auto"), nothing, worker)  # type: ignore[arg-type]
    task.start()
    assert task.wait().chosen_model == "Hippocampi"
    assert [asked.moving.name for asked in worker.asked] == [f"cine, frame {number}" for number in (5, 1, 3, 4, 6)]
    assert [asked.model for asked in worker.asked] == ["auto", *4 * [str(resolve_model("hippocampus"))]]


def test_where_no_model_fits_the_first_frame_none_is_looked_for_again(cine: Any, tmp_path: Path) -> None:
    report = {
        "similarity": {"measure": "NCC", "before": 0.9, "after": 0.97},
        "jacobian": {"folding_count": 0, "folding_percent": 0.0, "mean": 1.0, "sd": 0.1, "min": 0.5, "max": 2.0},
        "model": {"name": "none", "file": None, "distances": {"hippocampus": 40.0}},
    }
    worker, nothing = Answering(tmp_path, report), SequenceOutputs(want_warped=False, want_transform=False)
    task = SequenceRun(SequenceInputs(cine, 1, "auto", refine="5s"), nothing, worker)  # type: ignore[arg-type]
    task.start()
    assert task.wait().chosen_model == "none"
    assert [(asked.model, asked.refine) for asked in worker.asked] == [("auto", "5s"), ("none", "5s")]


def test_progress_counts_the_frames(cine: Any, worker: WorkerClient) -> None:
    told: list[tuple[str, float]] = []
    task = SequenceRun(SequenceInputs(cine, 1), SequenceOutputs(), worker)
    task.start(on_progress=lambda step, fraction: told.append((step, fraction)))
    task.wait()
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert {"frame 1 of 3: stage 1 of 3", "frame 3 of 3: stage 2 of 3", "nodes"} <= {step for step, _ in told}
    assert not any(step.startswith("frame 2") for step, _ in told)


@pytest.mark.parametrize("moment", ["frame 1 of 3: handing over", "frame 3 of 3: stage 2 of 3", "nodes"])
def test_cancelling_leaves_everything_as_it_was(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient, moment: str
) -> None:
    """Before the first frame, within the last, and when all is computed."""
    chosen = SequenceOutputs(warped=scene.add("Sequence", "mine"), transform=scene.add("Sequence", "too"))
    chosen.warped.SetDataNodeAtValue(pair.moving, "999")
    count = scene.scene.GetNumberOfNodes()
    kinds: list[str] = []
    task = SequenceRun(SequenceInputs(cine, 1, segmentation=pair.moving_drawn), chosen, worker)
    task.start(
        on_progress=lambda step, fraction: task.cancel() if step == moment else None,
        on_failed=lambda message, kind: kinds.append(kind),
    )
    with pytest.raises(RunError, match="cancelled"):
        task.wait()
    assert kinds == ["cancelled"]
    assert scene.scene.GetNumberOfNodes() == count
    assert index_values(chosen.warped) == ["999"]
    assert chosen.transform.GetNumberOfDataNodes() == 0
    assert index_values(cine) == ["0", "40", "80"]


def test_a_frame_that_changes_before_its_turn_ends_the_run(cine: Any, worker: WorkerClient) -> None:
    task = SequenceRun(SequenceInputs(cine), SequenceOutputs(), worker)

    def change(step: str, fraction: float) -> None:
        if step.startswith("frame 2"):
            frame(cine, 2).GetImageData().Modified()

    task.start(on_progress=change)
    with pytest.raises(RunError, match="'cine, frame 3' was changed"):
        task.wait()


Change = Callable[["MRML", "SmallPair", Any], SequenceInputs]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda scene, pair, cine: SequenceInputs(None), "Choose a sequence"),
        (lambda scene, pair, cine: SequenceInputs(cine, 3), "no frame 4; choose one of 1 to 3"),
        (lambda scene, pair, cine: SequenceInputs(cine, -1), "no frame 0"),
        (lambda scene, pair, cine: SequenceInputs(cine, model=""), "Choose a model"),
        (lambda scene, pair, cine: SequenceInputs(scene.add("Sequence", "hollow")), "'hollow' has less than two"),
        (lambda scene, pair, cine: SequenceInputs(small_cine(scene, pair, 1)), "less than two frames"),
        (lambda scene, pair, cine: SequenceInputs(of_drawings(scene, pair)), "'drawings' is not one of volumes"),
    ],
)
def test_what_cannot_run_is_told(
    scene: MRML, pair: SmallPair, cine: Any, worker: WorkerClient, inputs: Change, message: str
) -> None:
    given = inputs(scene, pair, cine)
    assert message in str(given.problem())
    with pytest.raises(RunError, match=message):
        run(given, worker)


def of_drawings(scene: MRML, pair: SmallPair) -> Any:
    node = scene.add("Sequence", "drawings")
    for value in ("0", "1"):
        node.SetDataNodeAtValue(pair.fixed_drawn, value)
    return node


def test_outputs_must_fit(scene: MRML, pair: SmallPair, cine: Any) -> None:
    inputs, node = SequenceInputs(cine), scene.add("Sequence", "other")
    assert SequenceOutputs(warped=node).problem(inputs) is None
    assert "is also the input" in str(SequenceOutputs(warped=cine).problem(inputs))
    assert "is no sequence" in str(SequenceOutputs(warped=pair.fixed).problem(inputs))
    assert "chosen for two" in str(replace(SequenceOutputs(warped=node), jacobian=node).problem(inputs))
