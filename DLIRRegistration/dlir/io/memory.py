"""How much memory there is for this process, before anything is asked of it."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> float:
    """Bytes that this process may use at most: the machine's, or less where a limit is set; infinity if unknown."""
    return min(_machine(), _own_limit(), *map(_number, _CGROUP))


def _machine() -> float:
    if sys.platform == "win32":
        return math.inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _own_limit() -> float:
    """As `ulimit -v` sets it."""
    if sys.platform == "win32":
        return math.inf
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if soft == resource.RLIM_INFINITY else float(soft)


def _number(file: str) -> float:
    try:
        return float(Path(file).read_text())
    except (OSError, ValueError):  # no such limit, which may also be written as "max"
        return math.inf
