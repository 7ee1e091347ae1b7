"""The client of the worker process: starts it, hands it requests, delivers its events, and always gets rid of it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlir.errors import OutputError, ProtocolError, WorkerError
from dlir.worker.protocol import (
    SCRATCH_PREFIX,
    Bye,
    Done,
    Event,
    Failed,
    Finish,
    Ready,
    Request,
    Work,
    decode_event,
    encode_request,
)
from DLIRRegistrationLib.worker.process import ChildProcess, application

State = Literal["stopped", "starting", "ready", "busy"]

# Seconds in which this thread sleeps so that others get to run: in Slicer they do so only during Python code.
_BREATH = 0.001
_WAIT_STEP = 0.005
# Seconds to wait for a killed process. It takes a few milliseconds; more where the system is very busy.
_DEATH = 5.0
_SHORT_DEATH = 0.03
# Seconds of deleting files at once.
_TIDYING = 0.03


@dataclass
class _Pending:
    request: Work
    on_event: Callable[[Event], None]
    sent: bool = False


class _Worker:
    """A running worker process and the thread that reads what it says."""

    def __init__(self, python: str | None, environment: Mapping[str, str], scratch: Path) -> None:
        arguments = ["dlir.worker", "--scratch", str(scratch)]
        self.process = ChildProcess(arguments, scratch / "worker.log", python, environment, answers=True)
        self.pid: int | None = None
        self.complaint: str | None = None
        self._events: queue.SimpleQueue[Event | ProtocolError] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ready(self) -> bool:
        return self.pid is not None

    def _read(self) -> None:
        assert self.process.stdout is not None  # a process that answers
        for line in self.process.stdout:
            if not line.endswith(b"\n"):  # killed in the midst of it
                break
            try:
                self._events.put(decode_event(line))
            except ProtocolError as error:
                self._events.put(error)  # to be logged on the caller's thread: Slicer's log has windows
        self.process.stdout.close()

    def send(self, request: Request) -> bool:
        """False where the process is gone."""
        try:
            self.process.stdin.write(encode_request(request))
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def next_event(self) -> Event | None:
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return None
            if not isinstance(event, ProtocolError):
                return event
            logging.error("DLIR: the worker said something unexpected: %s", event)

    def hear_out(self) -> None:
        """After the end of the process: have all that it said."""
        self.process.kill()  # children of it may still be there and keep its output open
        self._reader.join(_DEATH)
        self.process.close_stdin()


class WorkerClient:
    """Requests to a warm `python -m dlir.worker`. To be used from one thread, which calls `poll` often.

        client = WorkerClient()
        client.start()
        folder = client.reserve()
        ...  # write the arrays below `folder`, for example with dlir.io.arrays.write_array
        client.submit(Register(folder.name, RegistrationRequest(..., Outputs(str(folder), "arrays"))), on_event)
        ...  # poll() by a timer, until on_event gets Done or Failed; read the files
        client.release(folder.name)

    python: the interpreter; by default Slicer's own or, outside of Slicer, the present one. environment: variables
    for the process besides the present ones. May be used again after `close`.
    """

    def __init__(self, python: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._python, self._environment = python, dict(environment or {})
        self._worker: _Worker | None = None
        self._dying: list[_Worker] = []
        self._pending: dict[str, _Pending] = {}
        self._scratch: Path | None = None
        self._folders: dict[str, Path] = {}
        self._released: list[Path] = []

    @property
    def state(self) -> State:
        """ "stopped", "starting" (importing torch), "ready" or "busy" (with a request)."""
        if self._worker is None:
            return "stopped"
        if not self._worker.ready:
            return "starting"
        return "busy" if self._pending else "ready"

    @property
    def pid(self) -> int | None:
        """Of the process that computes, which Slicer's launcher may have started; None until it is ready."""
        return None if self._worker is None else self._worker.pid

    # -- requests --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process if there is none, or none any more, and return at once; it imports torch meanwhile.

        Raises WorkerError where it cannot be started, OutputError where there is no place for its files.
        """
        if self._worker is not None and not self._pending and self._worker.process.ended:
            self._bury(self._worker)
        if self._worker is None:
            self._worker = _Worker(self._python, self._environment, self._scratch_folder())

    def reserve(self) -> Path:
        """A new empty folder for the arrays of one request, whose id is to be the folder's name.

        Raises OutputError where there is no place for it.
        """
        folder = _make_folder("request-", self._scratch_folder())
        self._folders[folder.name] = folder
        return folder

    def submit(self, request: Work, on_event: Callable[[Event], None]) -> str:
        """Hand in a request; several wait for each other. Starts the process where there is none.

        on_event: called by `poll` with each Progress, Notice and Provisional and, last, with Done or Failed. Returns
        the id. Raises as `start`, and ValueError for the id of a request that has not ended.
        """
        if request.id in self._pending:
            raise ValueError(f"request '{request.id}' is under way")
        self.start()
        self._scratch_folder()
        self._pending[request.id] = _Pending(request, on_event)
        self._send()
        return request.id

    def wait(self, request_id: str, timeout: float | None = None) -> bool:
        """Poll until the request has ended; False if it has not after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while request_id in self._pending:
            if deadline is not None and time.monotonic() > deadline:
                return False
            self.poll()
            time.sleep(_WAIT_STEP)
        return True

    def cancel(self, request_id: str) -> None:
        """End a request now: Failed(kind="cancelled") is delivered before this returns.

        The process is killed with its children, and a new one started; other requests go to that. A request that
        has ended is left alone.
        """
        pending = self._pending.pop(request_id, None)
        if pending is None:
            return
        if pending.sent:
            self._kill()
            self._restart()
        pending.on_event(Failed(request_id, "cancelled", "cancelled"))

    def finish(self, request_id: str) -> None:
        """End the refinement of a request with the best so far; `on_event` gets Done as always, only sooner.

        Nothing happens where that request, or its refinement, is not under way.
        """
        pending = self._pending.get(request_id)
        if pending is not None and pending.sent and self._worker is not None:
            self._worker.send(Finish(request_id))  # a process that is gone is noticed by `poll`

    def release(self, request_id: str) -> None:
        """Delete the folder of a request that has ended, or of a reserved one that was never handed in."""
        if request_id in self._pending:
            raise ValueError(f"request '{request_id}' is under way; cancel it first")
        folder = self._folders.pop(request_id, None)
        if folder is not None:
            self._released.append(folder)
            self._tidy()

    def close(self) -> None:
        """Kill the process and delete every temporary file. Requests that have not ended are forgotten."""
        atexit.unregister(self.close)
        self._pending.clear()
        self._kill()
        for worker in self._dying:
            worker.process.wait(_DEATH)
            worker.hear_out()
        self._dying.clear()
        self._folders.clear()
        self._released.clear()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    # -- events ----------------------------------------------------------------------------------

    def poll(self) -> None:
        """Deliver what has come in since; see to a process that died. Takes a few milliseconds."""
        self._tidy()
        worker = self._worker
        if worker is None:
            return
        if self.state != "ready":
            time.sleep(_BREATH)
        if worker.process.ended:
            self._bury(worker)
        else:
            self._hear(worker)

    def _bury(self, worker: _Worker) -> None:
        """The process has ended: deliver what it still said, and see to what it left undone."""
        worker.hear_out()
        self._hear(worker)
        if self._worker is worker:
            self._lost(worker)

    def _hear(self, worker: _Worker) -> None:
        while self._worker is worker and (event := worker.next_event()) is not None:
            self._deliver(worker, event)

    def _deliver(self, worker: _Worker, event: Event) -> None:
        if isinstance(event, Ready):
            worker.pid = event.pid
            self._send()
        elif isinstance(event, Failed) and event.id is None:
            worker.complaint = event.message
        elif not isinstance(event, Bye) and event.id in self._pending:
            ended = isinstance(event, (Done, Failed))
            pending = self._pending.pop(event.id) if ended else self._pending[event.id]
            pending.on_event(event)

    def _send(self) -> None:
        if self._worker is not None and self._worker.ready:
            for pending in self._pending.values():
                pending.sent = pending.sent or self._worker.send(pending.request)

    def _lost(self, worker: _Worker) -> None:
        """The process died of itself. It answers in order, so it was at work on the first request that it has."""
        self._worker = None
        ending = worker.process.ending
        level = logging.INFO if worker.ready and not self._pending else logging.ERROR  # nobody has lost anything
        logging.log(level, "DLIR: the worker process ended (%s). It said:\n%s", ending, worker.process.last_words())
        if not worker.ready:
            self._fail_all(worker.complaint or f"The registration process cannot start ({ending}); see the log.")
            return
        victim = next((name for name, pending in self._pending.items() if pending.sent), None)
        failed = self._pending.pop(victim) if victim is not None else None
        if failed is not None or self._pending:
            self._restart()
        if failed is not None:
            again = "was started again" if self._worker else "could not be started again"
            message = f"The registration process died ({ending}) and {again}; run the registration again."
            failed.on_event(Failed(victim, "crash", message))

    def _fail_all(self, message: str) -> None:
        failed, self._pending = self._pending, {}
        for name, pending in failed.items():
            pending.on_event(Failed(name, "crash", message))

    # -- the process and its files ---------------------------------------------------------------

    def _kill(self) -> None:
        if self._worker is not None:
            self._worker.process.kill()
            self._worker.process.wait(_SHORT_DEATH)
            self._dying.append(self._worker)
            self._worker = None

    def _restart(self) -> None:
        for pending in self._pending.values():
            pending.sent = False
        try:
            self.start()
        except (WorkerError, OutputError) as error:
            logging.error("DLIR: %s", error)
            self._fail_all(str(error))

    def _tidy(self) -> None:
        """Let go of killed processes and of released folders, as soon as that can be done."""
        for worker in [worker for worker in self._dying if worker.process.ended]:
            worker.hear_out()
            self._dying.remove(worker)
        if self._released and not self._dying:
            deadline = time.monotonic() + _TIDYING
            for folder in self._released:
                _delete(folder, deadline)
            self._released = [folder for folder in self._released if folder.exists()]

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = _make_folder(SCRATCH_PREFIX, getattr(application(), "temporaryPath", None))
            atexit.register(self.close)
        elif not self._scratch.is_dir():  # somebody has tidied up; the running process knows this place and no other
            try:
                self._scratch.mkdir(mode=0o700, parents=True)
            except OSError as error:
                raise _no_place(self._scratch.parent, error) from error
        return self._scratch


def _delete(folder: Path, deadline: float) -> None:
    """Delete a folder with all in it, or what of that can be deleted until `deadline`; large files take long.

    A worker that is killed while it writes leaves a folder of its own in there.
    """
    with contextlib.suppress(OSError):  # still open elsewhere, or gone: tried again as long as the folder is there
        for path in folder.iterdir():
            if time.monotonic() > deadline:
                return
            if path.is_dir():
                _delete(path, deadline)
            else:
                path.unlink()
        folder.rmdir()


def _make_folder(prefix: str, parent: Path | str | None) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise _no_place(parent or tempfile.gettempdir(), error) from error


def _no_place(place: Path | str, error: OSError) -> OutputError:
    return OutputError(
        f"cannot make a temporary folder in '{place}': {error.strerror}; free some space or choose another place"
    )
