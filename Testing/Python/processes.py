"""Whether processes are there or gone, read from /proc."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def _is_running(pid: int) -> bool:
    """One that only waits to be buried does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether a process ends within some time."""
    deadline = time.monotonic() + seconds
    while _is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_with(variable: str) -> list[int]:
    """The running processes that have `NAME=value` in their environment; none where there is no /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or somebody else's
            continue
        if variable.encode() in environment and _is_running(int(folder.name)):
            found.append(int(folder.name))
    return found
