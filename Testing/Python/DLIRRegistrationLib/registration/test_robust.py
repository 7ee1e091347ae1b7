"""Whatever happens during a run: nothing escapes, nothing is left half done, and the next run works.

With the real scene, the real worker and the shipped model.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from disks import small_disk
from DLIRRegistrationLib.registration.requests import OutputSelection, RegistrationInputs, RegistrationNodes
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.scene.frames import grid_of_volume
from DLIRRegistrationLib.scene.segmentations import segment_volumes_ml
from DLIRRegistrationLib.worker.client import WorkerClient
from processes import needs_proc
from small_pair import small_pair

if TYPE_CHECKING:
    from mrml import MRML
    from small_pair import SmallPair

_PATIENCE = 120.0


class Watched:
    """A run, ticked as by a timer; what it told, and the longest tick in seconds.

    on_step: called with each step as it is told.
    """

    def __init__(self, task: Run, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.task = task
        self.on_step = on_step
        self.steps: list[str] = []
        self.results: list[RegistrationNodes] = []
        self.failures: list[tuple[str, str]] = []
        self.longest = 0.0
        self._tick(lambda: task.start(self._on_progress, self.results.append, self._on_failed))

    def _on_progress(self, step: str, fraction: float) -> None:
        self.steps.append(step)
        self.on_step(step)

    def _on_failed(self, message: str, kind: str) -> None:
        self.failures.append((message, kind))

    def _tick(self, action: Callable[[], None]) -> None:
        began = time.perf_counter()
        action()
        self.longest = max(self.longest, time.perf_counter() - began)

    def until(self, step: str) -> Watched:
        """Goes on until a step begins so."""
        self._until(lambda: any(told.startswith(step) for told in self.steps))
        assert self.task.active, self.failures
        return self

    def to_the_end(self) -> Watched:
        self._until(lambda: not self.task.active)
        assert len(self.results) + len(self.failures) == 1
        return self

    def _until(self, over: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while self.task.active and not over():
            assert time.monotonic() < end, self.steps[-3:]
            self._tick(self.task.poll)
            time.sleep(0.002)


def inputs_of(pair: SmallPair) -> RegistrationInputs:
    return RegistrationInputs(
        pair.fixed, pair.moving, segmentations=(pair.moving_drawn,), fixed_segmentation=pair.fixed_drawn
    )


def begun(pair: SmallPair, worker: WorkerClient, outputs: OutputSelection | None = None) -> Watched:
    """A run at which the worker is at work."""
    return Watched(Run(inputs_of(pair), outputs or OutputSelection(), worker)).until("stage 2")


def array(node: Any) -> Any:
    return slicer.util.arrayFromVolume(node)


def state(scene: MRML) -> list[tuple[str, str]]:
    nodes = [scene.scene.GetNthNode(number) for number in range(scene.scene.GetNumberOfNodes())]
    return [(node.GetID(), node.GetName()) for node in nodes]


@pytest.fixture
def expected(pair: SmallPair, worker: WorkerClient) -> RegistrationNodes:
    """What the pair gives when nothing happens. Its nodes stay."""
    return Watched(Run(inputs_of(pair), OutputSelection(), worker)).to_the_end().results[0]


@pytest.fixture(autouse=True)
def nothing_is_left(shared_worker: WorkerClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Besides what the fixture `worker` looks for: nothing in the temporary folder after a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def assert_the_next_run_works(pair: SmallPair, worker: WorkerClient, expected: Any | None = None) -> None:
    result = Watched(Run(inputs_of(pair), OutputSelection(), worker)).to_the_end().results[0]
    assert result.verdict.level == "check"  # so small a part of a heart may be something else
    if expected is not None:
        assert np.array_equal(array(result.warped), array(expected.warped))


# -- the worker ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_worker(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    before = state(scene)
    run = begun(pair, worker)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    [(message, kind)] = run.to_the_end().failures
    assert kind == "crash"
    assert "started again" in message
    assert state(scene) == before
    assert_the_next_run_works(pair, worker)


def test_a_cancelled_run(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    chosen = OutputSelection(warped=scene.add("ScalarVolume", "mine"))
    before = state(scene)
    run = begun(pair, worker, chosen)
    began = time.perf_counter()
    run.task.cancel()
    assert time.perf_counter() - began < 1
    assert [kind for _, kind in run.failures] == ["cancelled"]
    assert state(scene) == before
    assert chosen.warped.GetImageData() is None
    assert_the_next_run_works(pair, worker)


def test_a_worker_that_cannot_be_started(scene: MRML, pair: SmallPair) -> None:
    before = state(scene)
    client = WorkerClient("/nowhere/python")
    run = Watched(Run(inputs_of(pair), OutputSelection(), client)).to_the_end()
    assert "cannot be started" in run.failures[0][0]
    assert state(scene) == before
    client.close()


# -- disks ---------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_when_handing_over(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    before = state(scene)
    with small_disk(20_000):
        run = Watched(Run(inputs_of(pair), OutputSelection(), worker)).to_the_end()
    [(message, kind)] = run.failures
    assert "the disk is full" in message
    assert kind == "error"
    assert state(scene) == before
    assert_the_next_run_works(pair, worker)


@needs_proc
def test_a_disk_that_is_full_when_the_worker_writes(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    import resource

    before, pid = state(scene), worker.pid
    assert pid is not None
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    run = Watched(Run(inputs_of(pair), OutputSelection(), worker)).to_the_end()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    [(message, kind)] = run.failures
    assert "the disk is full" in message
    assert kind == "error"
    assert worker.pid == pid
    assert state(scene) == before
    assert_the_next_run_works(pair, worker)


def test_a_result_that_is_damaged(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    before = state(scene)
    task = Run(inputs_of(pair), OutputSelection(), worker)

    def damage(step: str) -> None:
        if step == "nodes":
            path = Path(task._request.registration.outputs.folder) / "jacobian.npy"
            path.write_bytes(path.read_bytes()[:1000])

    [(message, kind)] = Watched(task, damage).to_the_end().failures
    assert "'jacobian.npy' is cut short" in message
    assert kind == "error"
    assert state(scene) == before
    assert_the_next_run_works(pair, worker)


# -- the scene -----------------------------------------------------------------------------------------


def test_inputs_that_are_removed(
    scene: MRML, pair: SmallPair, worker: WorkerClient, expected: RegistrationNodes
) -> None:
    """Their voxels have been read; the result does not go without them."""
    run = begun(pair, worker)
    for node in (pair.fixed, pair.moving, pair.moving_drawn, pair.fixed_drawn):
        scene.scene.RemoveNode(node)
    [result] = run.to_the_end().results
    assert np.array_equal(array(result.warped), array(expected.warped))
    assert segment_volumes_ml(result.segmentations[0]) == segment_volumes_ml(expected.segmentations[0])
    role = result.transform.GetFixedNodeReferenceRole()
    assert result.transform.GetNodeReferenceID(role) is None
    assert result.warped.GetName() == "ES registered to ED_1"


def test_outputs_that_are_removed(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    """They are made anew: nobody loses a result by tidying up."""
    chosen = OutputSelection(
        warped=scene.add("ScalarVolume", "mine"),
        transform=scene.add("Transform", "my transform"),
        jacobian=scene.add("ScalarVolume", "my Jacobian"),
        segmentations=(scene.add("Segmentation", "my drawing"),),
    )
    run = begun(pair, worker, chosen)
    for node in (chosen.warped, chosen.transform, chosen.segmentations[0]):
        scene.scene.RemoveNode(node)
    [result] = run.to_the_end().results
    assert result.jacobian is chosen.jacobian
    made = (result.warped, result.transform, result.segmentations[0])
    assert [node.GetName() for node in made] == [
        "ES registered to ED",
        "ES registered to ED transform",
        "ES drawn on ED",
    ]
    assert all(scene.scene.GetNodeByID(node.GetID()) is node for node in made)
    assert chosen.warped.GetImageData() is None


def test_a_scene_that_is_closed(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    run = begun(pair, worker)
    scene.scene.Clear()
    assert [kind for _, kind in run.failures] == ["cancelled"]
    run.task.poll()
    assert not [name for _, name in state(scene) if name.startswith("ES")]
    assert_the_next_run_works(small_pair(scene), worker)


def test_inputs_that_change(scene: MRML, pair: SmallPair, worker: WorkerClient, expected: RegistrationNodes) -> None:
    """A run has what was there when it started, at whichever moment things change."""
    grid = grid_of_volume(pair.fixed)
    run = Watched(Run(inputs_of(pair), OutputSelection(), worker))
    for node in (pair.fixed, pair.moving):
        array(node)[...] = 0
        slicer.util.arrayFromVolumeModified(node)
        node.SetSpacing(9, 9, 9)
        node.SetAndObserveTransformNodeID(scene.linear_transform(np.diag([2.0, 2, 2, 1])).GetID())
        node.SetName("something else")
    image = pair.moving_drawn.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    image.GetPointData().GetScalars().Fill(0)
    [result] = run.to_the_end().results
    assert np.array_equal(array(result.warped), array(expected.warped))
    assert segment_volumes_ml(result.segmentations[0]) == segment_volumes_ml(expected.segmentations[0])
    assert result.report["labels"] == expected.report["labels"]
    assert result.report["volumes"] == expected.report["volumes"]
    assert grid_of_volume(result.warped).same_as(grid)
    assert result.warped.GetName().startswith("ES registered to ED")


def test_two_runs_at_once(pair: SmallPair, worker: WorkerClient, expected: RegistrationNodes) -> None:
    """The second waits for the first; cancelling one leaves the other alone."""
    first, second, third = (Watched(Run(inputs_of(pair), OutputSelection(), worker)) for _ in range(3))
    first.until("stage 1")
    second.task.cancel()
    for run in (first, third):
        [result] = run.to_the_end().results
        assert np.array_equal(array(result.warped), array(expected.warped))
    assert [kind for _, kind in second.failures] == ["cancelled"]


def test_a_result_that_cannot_be_put_into_the_scene(
    scene: MRML, pair: SmallPair, worker: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last node fails: those before it are gone again, and a chosen one is as it was."""
    chosen = OutputSelection(warped=scene.add("ScalarVolume", "mine"))
    before = state(scene)

    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no colours")

    with monkeypatch.context() as patch:
        patch.setattr("DLIRRegistrationLib.registration.result_nodes.apply_jacobian_colors", fail)
        run = Watched(Run(inputs_of(pair), chosen, worker)).to_the_end()
    [(message, kind)] = run.failures
    assert "no colours" in message
    assert kind == "crash"
    assert state(scene) == before
    assert chosen.warped.GetImageData() is None
    assert_the_next_run_works(pair, worker)


# -- windows -------------------------------------------------------------------------------------------


def test_no_tick_takes_long(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    """The benchmark panel_latency.py measures it; this is for a machine that does other things too."""
    run = Watched(Run(inputs_of(pair), OutputSelection(), worker)).to_the_end()
    assert run.results
    assert run.longest < 0.5
