"""Workers for the tests of processes, which these import by name."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass

from dlir.errors import DeviceError


@dataclass(frozen=True)
class Telling:
    """Tells where it works."""

    device: str = "cpu"

    def __call__(self, task: int) -> dict[str, object]:
        return {"pid": os.getpid(), "scratch": tempfile.gettempdir(), "threads": os.environ["OMP_NUM_THREADS"]}


class Dying:
    """Ends its process before it can begin."""

    device = "cpu"

    def __init__(self) -> None:
        os._exit(7)

    def __call__(self, task: int) -> None:
        raise AssertionError


def refuse() -> Telling:
    raise DeviceError("no such device")
