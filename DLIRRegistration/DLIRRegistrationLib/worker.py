"""The client of the worker process: starts it, hands it requests, delivers its events, and always gets rid of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from dlir.worker.protocol import Event, RegisterRequest

State = Literal["stopped", "starting", "ready", "busy"]


class WorkerClient:
    """Requests to a warm `python -m dlir.worker`. To be used from one thread, which calls `poll` often.

        client = WorkerClient()
        client.start()
        folder = client.reserve()
        ...  # write the arrays below `folder`, for example with dlir.worker.arrays.write_array
        client.submit(RegisterRequest(id=folder.name, folder=str(folder), ...), on_event)
        ...  # poll() by a timer, until on_event gets Done or Failed; read the files
        client.release(folder.name)

    python: the interpreter; by default Slicer's own or, outside of Slicer, the present one. environment: variables
    for the process besides the present ones.
    """

    def __init__(self, python: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError

    @property
    def state(self) -> State:
        """ "stopped", "starting" (importing torch), "ready" or "busy" (with a request)."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the process if there is none, and return at once; it imports torch meanwhile.

        Raises WorkerError where it cannot be started.
        """
        raise NotImplementedError

    def reserve(self) -> Path:
        """A new empty folder for the arrays of one request, whose id is to be the folder's name.

        Raises OutputError where there is no place for it.
        """
        raise NotImplementedError

    def submit(self, request: RegisterRequest, on_event: Callable[[Event], None]) -> str:
        """Hand in a request; several wait for each other. Starts the process where there is none.

        on_event: called by `poll` with each Progress and Notice and, last, with Done or Failed. Returns the id.
        Raises WorkerError where the process cannot be started.
        """
        raise NotImplementedError

    def poll(self) -> None:
        """Deliver what has come in since; see to a process that died. Takes a few milliseconds."""
        raise NotImplementedError

    def wait(self, request_id: str, timeout: float | None = None) -> bool:
        """Poll until the request has ended; False if it has not after `timeout` seconds."""
        raise NotImplementedError

    def cancel(self, request_id: str) -> None:
        """End a request now: Failed(kind="cancelled") is delivered before this returns.

        The process is killed with its children, and a new one started; other requests go to that.
        """
        raise NotImplementedError

    def release(self, request_id: str) -> None:
        """Delete the folder of a request that has ended, or of a reserved one that was never handed in."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill the process and delete every temporary file. Requests that have not ended are forgotten."""
        raise NotImplementedError
