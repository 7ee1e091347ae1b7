"""The worker process: reads requests, answers with events, and ends when nobody listens any more.

Nothing but events ever reaches the real stdout; what libraries print goes to stderr, with the log.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from dlir.errors import DLIRError, notes_to
from dlir.registration.threads import use_threads
from dlir.worker.protocol import (
    SCRATCH_PREFIX,
    Bye,
    Choose,
    Done,
    Event,
    Failed,
    Finish,
    Notice,
    Progress,
    Provisional,
    Ready,
    Work,
    decode_request,
    encode_event,
    request_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlir.registration.judging.verdict import Verdict
    from dlir.registration.pipeline import Finished
    from dlir.registration.session import Session

log = logging.getLogger(__name__)

_ORPHAN_CHECK_SECONDS = 1.0


def main() -> None:
    """The entry point of `python -m dlir.worker`."""
    parser = argparse.ArgumentParser(
        prog="python -m dlir.worker",
        description="Register volumes as requests on stdin ask for, one JSON object per line; events go to stdout. "
        "Ends, whatever it is doing, when stdin is closed or the parent process is gone.",
    )
    parser.add_argument("--scratch", type=Path, help=f"folder {SCRATCH_PREFIX}... to delete then")
    scratch = parser.parse_args().scratch
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    Server(*_private_streams(), scratch).serve()


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """The real stdin and stdout, out of the reach of everyone else: 0 becomes empty, and 1 the same as stderr."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


class Server:
    """Answers requests one after the other.

    source: lines of requests; read by a thread of its own, so that its end, and the wish to finish, are noticed in the
    midst of work. sink: gets the events. scratch: folder of the client's, deleted at the end, because the client may
    have crashed.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO, scratch: Path | None = None) -> None:
        self._source, self._sink, self._scratch = source, sink, scratch
        self._asked: queue.SimpleQueue[Work | Failed] = queue.SimpleQueue()
        # The request under way, and what is set when it is to finish: one of its own, which no later one sees.
        self._under_way: tuple[str, threading.Event] | None = None
        self._writing = threading.Lock()

    def serve(self) -> NoReturn:
        """Work until there is nobody to work for. Ends the process."""
        for watch in (self._read, self._watch_parent):
            threading.Thread(target=watch, daemon=True).start()
        try:
            use_threads()  # before these import what reads it
            from dlir.registration.pipeline import run
            from dlir.registration.results.report import versions
            from dlir.registration.session import Session
        except ImportError as error:
            log.exception("a package is missing")
            self._emit(Failed(None, "error", f"'{error.name}' cannot be imported ({error}); install it and try again"))
            self._leave(1)
        except DLIRError as error:
            self._emit(Failed(None, "error", str(error)))
            self._leave(1)
        self._emit(Ready(versions(), os.getpid()))
        session = Session()
        while True:
            asked = self._asked.get()
            if isinstance(asked, Failed):
                self._emit(asked)
            else:
                self._answer(asked, session, run)

    def _answer(self, asked: Work, session: Session, run: Callable[..., Finished]) -> None:
        finish = threading.Event()
        self._under_way = asked.id, finish
        at: tuple[str, float] | None = None

        def curve(stage: str, value: float) -> None:
            nonlocal at
            at = stage, round(value, 5)

        def progress(step: str, fraction: float) -> None:
            nonlocal at
            self._emit(Progress(asked.id, step, round(fraction, 4), *(at or (None, None))))
            at = None

        def notify(message: str) -> None:
            log.warning("%s", message)
            self._emit(Notice(asked.id, message))

        def offer(verdict: Verdict) -> None:
            self._emit(Provisional(asked.id, verdict.to_dict()))

        try:
            start = time.perf_counter()
            files: dict[str, str] = {}
            if isinstance(asked, Choose):
                from dlir.registration.pipeline import model_for

                report = model_for(asked.registration)
            else:
                with notes_to(notify):
                    done = run(asked.registration, session, progress, notify, offer, finish.is_set, curve)
                files, report = done.files, done.report
            self._emit(Done(asked.id, files, report, round(time.perf_counter() - start, 4)))
        except DLIRError as error:
            self._emit(Failed(asked.id, "error", str(error)))
        except MemoryError:
            log.exception("memory")
            self._emit(Failed(asked.id, "error", "the computer's memory does not suffice; close other programs"))
        except Exception as error:  # a fault of ours must not end the process, and is told with its traceback
            log.exception("unexpected error")
            message = f"unexpected error in the worker: {type(error).__name__}: {error}"
            self._emit(Failed(asked.id, "crash", " ".join(message.split())))

    def _emit(self, event: Event) -> None:
        line = encode_event(event)
        try:
            with self._writing:
                self._sink.write(line)
        except OSError:  # nobody reads any more
            self._leave(0)

    # -- the end ---------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in self._source:
            if line.strip():
                self._take(line)
        self._emit(Bye())
        self._leave(0)

    def _take(self, line: bytes) -> None:
        try:
            asked = decode_request(line)
        except DLIRError as error:
            self._asked.put(Failed(request_id(line), "error", str(error)))
            return
        if not isinstance(asked, Finish):
            self._asked.put(asked)
        elif (under_way := self._under_way) is not None and under_way[0] == asked.id:
            under_way[1].set()

    def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(_ORPHAN_CHECK_SECONDS)
        self._leave(0)

    def _leave(self, code: int) -> NoReturn:
        """End the process at once, from whichever thread, in the midst of whatever the others do."""
        if self._scratch is not None and self._scratch.name.startswith(SCRATCH_PREFIX):
            shutil.rmtree(self._scratch, ignore_errors=True)
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
