"""Background work in small steps: one end, told once, whatever happens in it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from dlir.errors import ModelError, OutputError
from DLIRRegistrationLib.registration.task import WAITING, WORKING, BackgroundTask, RunError, Steps, asked_model

if TYPE_CHECKING:
    from mrml import MRML


class QuietWorker:
    def poll(self) -> None:
        """Nothing has come."""


class Counting(BackgroundTask[int]):
    """Counts to three, does what it is told on the way, and notes that it has cleaned up."""

    def __init__(self, on_the_way: Callable[[Counting], object] = lambda task: None, wait: bool = False) -> None:
        super().__init__(QuietWorker())  # type: ignore[arg-type]
        self.on_the_way, self.pause = on_the_way, WAITING if wait else WORKING
        self.steps = 0
        self.cleaned = 0
        self.closed = False

    def _steps(self) -> Steps[int]:
        try:
            for self.steps in range(1, 4):
                self.on_the_way(self)
                self._progress("counting", self.steps / 3)
                yield self.pause
            return self.steps
        finally:
            self.closed = True

    def _clean(self) -> None:
        self.cleaned += 1


class Told:
    """What a task tells."""

    def __init__(self, task: BackgroundTask[Any]) -> None:
        self.progress: list[tuple[str, float]] = []
        self.ends: list[Any] = []
        task.start(
            lambda step, fraction: self.progress.append((step, fraction)),
            lambda result: self.ends.append(result),
            lambda message, kind: self.ends.append((message, kind)),
        )


def raising(error: Exception) -> Callable[[BackgroundTask[int]], None]:
    def act(task: BackgroundTask[int]) -> None:
        raise error

    return act


def test_it_runs_to_its_end_and_tells_it_once(scene: MRML) -> None:
    task = Counting(wait=True)
    told = Told(task)
    assert task.active
    assert task.wait() == 3
    task.poll()
    assert told.ends == [3]
    assert told.progress == [("counting", 1 / 3), ("counting", 2 / 3), ("counting", 1.0)]
    assert (task.cleaned, task.active, task.error) == (1, False, None)


def test_a_step_that_waits_ends_the_tick(scene: MRML) -> None:
    task = Counting(wait=True)
    task.start()
    for expected in (1, 2, 3):
        assert task.steps == expected
        task.poll()
    assert task.result == 3


def test_a_tick_ends_after_some_time(scene: MRML) -> None:
    task = Counting(lambda task: time.sleep(0.04))
    task.start()
    assert task.steps == 1


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        (RunError("no", "crash"), "no", "crash"),
        (OutputError("the disk is full"), "the disk is full", "error"),
        (OSError(28, "No space left on device"), "No space left", "error"),
        (ZeroDivisionError("by zero"), "unexpected error (by zero)", "crash"),
    ],
)
def test_what_goes_wrong_is_told_and_does_not_escape(scene: MRML, error: Exception, message: str, kind: str) -> None:
    task = Counting(raising(error))
    told = Told(task)
    assert not task.active
    assert (task.cleaned, task.closed) == (1, True)
    [(text, told_kind)] = told.ends
    assert message in text
    assert told_kind == kind
    with pytest.raises(RunError) as raised:
        task.wait()
    assert raised.value.kind == kind


def test_what_a_listener_raises_does_not_escape(scene: MRML, caplog: pytest.LogCaptureFixture) -> None:
    task = Counting()
    task.start(on_done=lambda result: result / 0)
    assert task.result == 3
    assert "after the registration had ended" in caplog.text
    failing = Counting()
    told: list[str] = []
    failing.start(on_progress=lambda step, fraction: 1 / 0, on_failed=lambda message, kind: told.append(kind))
    assert told == ["crash"]


def test_cancelling_closes_it_where_it_stands(scene: MRML) -> None:
    task = Counting(wait=True)
    told = Told(task)
    task.cancel()
    task.cancel()
    task.poll()
    assert (task.steps, task.closed, task.cleaned) == (1, True, 1)
    [(message, kind)] = told.ends
    assert kind == "cancelled"
    assert "cancelled" in message


def test_a_listener_may_cancel_from_within_a_step(scene: MRML) -> None:
    task = Counting()
    kinds: list[str] = []
    task.start(on_progress=lambda step, fraction: task.cancel(), on_failed=lambda message, kind: kinds.append(kind))
    assert (kinds, task.steps, task.cleaned) == (["cancelled"], 1, 1)


def test_a_listener_may_let_the_timer_tick_within_a_step(scene: MRML) -> None:
    """As `processEvents` does."""
    task = Counting()
    task.start(on_progress=lambda step, fraction: task.poll())
    assert task.wait() == 3


def test_events_are_processed_between_ticks(scene: MRML) -> None:
    task, ticks = Counting(wait=True), []
    task.start()
    task.wait(lambda: ticks.append(task.steps))
    assert ticks == [2, 3, 3]


def test_closing_the_scene_cancels(scene: MRML) -> None:
    task = Counting(wait=True)
    told = Told(task)
    scene.scene.Clear()
    [(message, kind)] = told.ends
    assert kind == "cancelled"
    assert "scene was closed" in message


def test_a_task_that_has_ended_observes_the_scene_no_longer(scene: MRML) -> None:
    task = Counting()
    task.start()
    task.wait()
    gone = weakref.ref(task)
    del task
    gc.collect()
    assert gone() is None


def test_a_task_that_was_never_started_ignores_everything(scene: MRML) -> None:
    task = Counting()
    task.poll()
    task.cancel()
    assert (task.active, task.steps, task.cleaned) == (False, 0, 0)


def test_a_model_file_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker has one of its own. What is no file stays as it is."""
    (tmp_path / "own.safetensors").write_bytes(b"a model")
    monkeypatch.chdir(tmp_path)
    assert Path(asked_model("own.safetensors")) == tmp_path / "own.safetensors"
    assert (asked_model("auto"), asked_model("none")) == ("auto", "none")
    with pytest.raises(ModelError, match="hipocampus"):
        asked_model("hipocampus")
