"""Work in the background of a program with windows: small steps, one or a few at each tick of a timer.

Nothing here knows of Qt: whoever owns a timer calls `poll`, and a script that has none calls `wait`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from inspect import GEN_RUNNING, getgeneratorstate
from pathlib import Path
from typing import Any, Generic, TypeVar

import slicer

from dlir.errors import DLIRError
from dlir.model.catalogue import resolve_model
from dlir.registration.choices import AUTO_MODEL, NO_MODEL
from dlir.registration.progress import Curve, Progress, silent
from DLIRRegistrationLib.worker.client import WorkerClient

Result = TypeVar("Result")

# A step tells whether there is nothing to do until the worker has said something; None says as little as False.
Steps = Generator[bool | None, None, Result]
WAITING, WORKING = True, False

# Seconds of steps per tick. A step takes up to some 20 ms more, and at 100 ms users begin to feel it.
_BUDGET = 0.02
_PAUSE = 0.005

_CANCELLED = "The registration was cancelled; nothing was changed."
_SCENE_CLOSED = "The registration was cancelled, because the scene was closed."


class RunError(DLIRError):
    """A run that ended without a result. kind: "error", "crash" or "cancelled", as of the worker's failures."""

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind


class BackgroundTask(Generic[Result]):
    """One piece of background work with one end: done, or failed.

    Subclasses say what is to be done in `_steps`, a generator, which is closed wherever it stands when the task is
    cancelled; closing the scene cancels it too. Neither `start` nor `poll` nor `cancel` ever raises.
    """

    def __init__(self, worker: WorkerClient) -> None:
        self.worker = worker
        self.scene = slicer.mrmlScene
        self.error: RunError | None = None
        self.result: Result | None = None
        self._running: Steps[Result] | None = None
        self._cancelled: str | None = None
        self._observer: int | None = None
        self._on_progress: Progress = silent
        self._on_done: Callable[[Result], None] = lambda result: None
        self._on_failed: Callable[[str, str], None] = lambda message, kind: None

    def _steps(self) -> Steps[Result]:
        raise NotImplementedError

    def _prepare(self) -> None:
        """Read what must be as it is now; called by `start`, in which it may raise RunError or DLIRError."""

    def _clean(self) -> None:
        """Called once, at the end, whichever it is."""

    @property
    def active(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._running is not None

    @property
    def _stepping(self) -> bool:
        """Whether a step is what calls this."""
        return self._running is not None and getgeneratorstate(self._running) == GEN_RUNNING

    def start(
        self,
        on_progress: Progress | None = None,
        on_done: Callable[[Result], None] | None = None,
        on_failed: Callable[[str, str], None] | None = None,
    ) -> None:
        """Begin, and return at once. Call once.

        on_progress: gets what is being done and the fraction done. on_done: gets the result. on_failed: gets one
        line for the user, and "error" (the user can mend it), "crash" or "cancelled". One of these two is called,
        once, and last.
        """
        self._on_progress = on_progress or self._on_progress
        self._on_done = on_done or self._on_done
        self._on_failed = on_failed or self._on_failed
        self._running = self._steps()
        self._observer = self.scene.AddObserver(self.scene.StartCloseEvent, self._on_scene_close)
        self._guarded(self._prepare)
        self.poll()

    def poll(self) -> None:
        """Go on for some 20 ms. To be called often, by a timer, until `active` is false."""
        if self._running is not None and not self._stepping:
            self._guarded(self._advance)

    def cancel(self) -> None:
        """End it now, or after the step that calls this; the scene stays as it was. Nothing happens if it has ended."""
        self._cancel(_CANCELLED)

    def wait(self, process_events: Callable[[], None] | None = None) -> Result:
        """Poll until the end. process_events: called in between, to keep windows alive.

        Raises RunError where it fails.
        """
        while self.active:
            self.poll()
            if process_events is not None:
                process_events()
            if self.active:
                time.sleep(_PAUSE)
        if self.error is not None:
            raise self.error
        assert self.result is not None  # started, ended, and not failed
        return self.result

    def _progress(self, step: str, fraction: float) -> None:
        self._on_progress(step, fraction)

    def _advance(self) -> None:
        self.worker.poll()
        deadline = time.perf_counter() + _BUDGET
        while self._running is not None:
            try:
                waiting = next(self._running)
            except StopIteration as end:
                self._finish(end.value)
                return
            if self._cancelled is not None:
                self._fail(self._cancelled, "cancelled")
            if waiting or time.perf_counter() > deadline:
                return

    def _cancel(self, message: str) -> None:
        self._cancelled = message
        if self._running is not None and not self._stepping:
            self._fail(message, "cancelled")

    def _on_scene_close(self, scene: Any, event: str) -> None:
        self._cancel(_SCENE_CLOSED)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RunError as error:
            self._fail(str(error), error.kind)
        except (DLIRError, OSError) as error:
            self._fail(str(error), "error")
        except Exception as error:
            logging.exception("DLIR: the registration stopped at an unexpected error")
            self._fail(f"The registration stopped at an unexpected error ({error}); the log has the details.", "crash")

    def _finish(self, result: Result) -> None:
        self.result = result
        self._end()
        self._tell(lambda: self._on_done(result))

    def _fail(self, message: str, kind: str) -> None:
        self.error = RunError(message, kind)
        self._end()
        self._tell(lambda: self._on_failed(message, kind))

    def _end(self) -> None:
        running, self._running = self._running, None
        if self._observer is not None:
            self.scene.RemoveObserver(self._observer)
        if running is not None:
            self._tell(running.close)
        self._tell(self._clean)

    def _tell(self, action: Callable[[], None]) -> None:
        """At the end there is nothing left to fail: what goes wrong in here only goes into the log."""
        try:
            action()
        except Exception:
            logging.exception("DLIR: an error after the registration had ended")


class RegistrationTask(BackgroundTask[Result]):
    """What a registration of a pair and one of a sequence have in common.

    inputs, outputs: what is asked for, and where results go; each says its `problem`, for nodes that are read when the
    task starts. on_curve: to be set before the start; gets the objective while a pair is optimised, each time before
    the progress.
    """

    def __init__(self, inputs: Any, outputs: Any, worker: WorkerClient) -> None:
        super().__init__(worker)
        self.inputs, self.outputs = inputs, outputs
        self.on_curve: Curve = silent
        self._folder: Path | None = None  # of the worker's, released at the end
        self._asked: str | None = None  # the request that the worker has got last

    def problem(self) -> str | None:
        """Why it cannot begin, as one sentence for a tooltip; None where it can."""
        return self.inputs.problem() or self.outputs.problem(self.inputs)

    def finish(self) -> None:
        """End the refinement under way with the best so far: of a sequence, that of the present frame.

        The rest follows as always. Nothing happens where none is under way.
        """
        if self._asked is not None and self.active:
            self.worker.finish(self._asked)

    def _prepare(self) -> None:
        self._began = time.perf_counter()
        if problem := self.problem():
            raise RunError(problem)
        self._model = asked_model(self.inputs.model)

    def _clean(self) -> None:
        if self._folder is not None:
            self.worker.release(self._folder.name)


def asked_model(name: str) -> str:
    """A model as the worker is asked for it, which has another current folder. Raises ModelError for one not found."""
    return name if name in (AUTO_MODEL, NO_MODEL) else str(resolve_model(name).absolute())
