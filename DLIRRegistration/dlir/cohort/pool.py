"""Processes that work on one task after the other, kept warm; one that dies takes its task with it and nothing else.

Spawned, so that torch in them is nobody else's, and ended with the process that started them, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from filelock import FileLock

from dlir.errors import DiskFullError, DLIRError, WorkerError
from dlir.registration.threads import use_threads

Task = TypeVar("Task")
# What ended before it could begin, one after the other, until nothing more is started.
_PATIENCE = 3


class Worker(Protocol):
    """What works in a process of its own. device: where it computes: "cpu", "cuda" or "mps"."""

    device: str

    def __call__(self, task: Any, /) -> Any: ...


@dataclass(frozen=True)
class Done:
    """value: what the worker gave; it and the task travel between processes."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """message: one line. disk_full: nothing else will succeed either. broken: nor will this process."""

    message: str
    disk_full: bool = False
    broken: bool = False


@dataclass(eq=False)
class _Process(Generic[Task]):
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    tasks: list[Task] = field(default_factory=list)


class Pool(Generic[Task]):
    """enter: makes the worker, in its process. jobs: how many processes there are at most, by where they compute.
    threads: of each, by how many there are. locks: in this folder each process holds a lock called after `name`.
    """

    def __init__(
        self,
        enter: Callable[[], Worker],
        jobs: Callable[[str], int],
        threads: Callable[[int], int],
        locks: Path,
        name: str,
    ) -> None:
        self._enter, self._jobs, self._threads, self._locks, self._name = enter, jobs, threads, locks, name
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[_Process[Task]] = []
        # Until the first one tells where it computes, there is one.
        self._wanted, self._failures = 1, 0

    def close(self) -> None:
        """End all processes, in the midst of their work if need be."""
        for process in list(self._processes):
            self._end(process)

    @property
    def under_way(self) -> list[Task]:
        """What processes work on now."""
        return [task for process in self._processes for task in process.tasks]

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Done | Failed]]:
        """Each task with what came of it, in the order in which they end.

        Raises WorkerError where no process starts, and what `enter` refuses with.
        """
        waiting = deque(tasks)
        while waiting or self.under_way:
            while len(self._processes) < min(self._wanted, len(waiting) + len(self.under_way)):
                self._start()
            for process in self._processes:
                if process.ready and not process.tasks and waiting:
                    process.tasks.append(waiting.popleft())
                    with suppress(OSError):  # it has died, as reading from it will tell
                        process.connection.send((self._threads(self._wanted), process.tasks[0]))
            for ready in wait([process.connection for process in self._processes]):
                yield from self._hear(next(process for process in self._processes if process.connection is ready))

    def _hear(self, process: _Process[Task]) -> Iterator[tuple[Task, Done | Failed]]:
        try:
            told = process.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(process)
            return
        if isinstance(told, str):
            process.ready, self._failures, self._wanted = True, 0, max(1, self._jobs(told))
            return
        if isinstance(told, DLIRError):
            raise told
        task = process.tasks.pop()
        if isinstance(told, Failed) and told.broken:
            self._end(process)
        yield task, told

    def _lost(self, process: _Process[Task]) -> Iterator[tuple[Task, Failed]]:
        """One that ended by itself."""
        tasks, process.tasks = process.tasks, []
        how = _how_it_ended(self._end(process))
        if not process.ready:
            self._failures += 1
            if self._failures >= _PATIENCE:
                raise WorkerError(f"the processes that register end while they start ({how}); try fewer --jobs")
        for task in tasks:
            yield task, Failed(f"the process that registered it ended ({how}); it is tried again by the same command")

    def _start(self) -> None:
        own, others = self._context.Pipe()
        numbers = {process.process.name for process in self._processes}
        name = next(name for i in range(len(numbers) + 1) if (name := f"{self._name}.{i}") not in numbers)
        process = self._context.Process(
            target=_serve, args=(others, self._enter, self._locks / f"{name}.lock"), name=name, daemon=True
        )
        self._processes.append(_Process(process, own))  # first, so that whatever comes between, it is ended
        before = _ignore_interrupts()  # a process begins with what is ignored where it was started
        try:
            process.start()
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
            others.close()

    def _end(self, process: _Process[Task]) -> int | None:
        """Ends it, in the midst of its work if need be; gives its exit code."""
        self._processes.remove(process)
        process.connection.close()  # one that waits for a task ends by this
        if process.process.pid is None:  # it was never started
            return None
        process.process.join(0 if process.tasks else 5)
        if process.process.is_alive():
            process.process.kill()
            process.process.join()
        code, scratch = process.process.exitcode, _scratch(process.process.pid)
        process.process.close()
        for left in Path(tempfile.gettempdir()).glob(f"{scratch}*"):
            shutil.rmtree(left, ignore_errors=True)
        return code


def _scratch(pid: int | None) -> str:
    """How the folder for a process's temporary files begins, so that they can be removed when it is killed."""
    return f"dlir-batch-{pid}-"


def _ignore_interrupts() -> Any:
    """What was done about them; None where this thread may not say what is."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, signal.SIG_IGN)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"{name}, as where memory runs out" if name == "SIGKILL" else name
    return f"exit code {code}"


# -- in the process -----------------------------------------------------------------------------------


def _serve(connection: Connection, enter: Callable[[], Worker], lock: Path) -> None:
    """Work until nobody sends any more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever started this ends it
    with (
        tempfile.TemporaryDirectory(prefix=_scratch(os.getpid())) as scratch,
        FileLock(lock),  # so that nobody writes where this still does
    ):
        threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
        tempfile.tempdir = scratch
        try:
            worker = enter()
        except DLIRError as error:
            connection.send(error)
            return
        with suppress(EOFError, OSError):
            connection.send(worker.device)
            threads = 0
            while True:
                wanted, task = connection.recv()
                if wanted != threads:
                    threads = use_threads(wanted)
                connection.send(_answer(worker, task))


def _answer(worker: Worker, task: Any) -> Done | Failed:
    try:
        return Done(worker(task))
    except DLIRError as error:
        return Failed(str(error), disk_full=isinstance(error, DiskFullError))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Failed(f"unexpected {type(error).__name__}: {' '.join(str(error).split())}", broken=True)


def _end_with_parent(scratch: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)
