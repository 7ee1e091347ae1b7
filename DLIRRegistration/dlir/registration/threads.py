"""How many threads a process computes with: as many as asked for, or as it has cores for itself.

Standard library only: most libraries read their number once, as they are loaded, so it is set before that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dlir.errors import OptionError, note

VARIABLE = "DLIR_THREADS"

_OPENMP = "OMP_NUM_THREADS"
# What torch (OpenMP, MKL), numpy (OpenBLAS), and SimpleITK, elastix and ANTs (ITK) read.
_READ = (_OPENMP, "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
# What the user says to all programs, before it is written here.
_STATED = os.environ.get(_OPENMP, "")
_CPUS = "sys/devices/system/cpu"
_GROUPS = "sys/fs/cgroup"


def use_threads(asked: int | None = None, processes: int = 1) -> int:
    """Have all libraries of this process, and the processes it starts, compute with so many threads; returns how many.

    asked: else what the environment variable DLIR_THREADS says, else OMP_NUM_THREADS, else this process's share of
    `available_cores`, which so many `processes` divide. No more than `processors`, as most libraries have it anyway; a
    note tells who asked for more. Raises OptionError for what is no number of threads.
    """
    count = _chosen(asked, processes)
    os.environ |= dict.fromkeys(_READ, str(count))
    # Threads that wait for each other in a loop take the time of those that they wait for. Measured with four other
    # programs on two cores: the first registration of a process took 6.3 s with such waiting, and 1.4 s without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What convolutions prepare for a size of image would be kept for 1024 of them. A pair needs some dozens, and in a
    # cohort each may have sizes of its own: they were half of what a process grew by over 100 such pairs.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if sitk := sys.modules.get("SimpleITK"):
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    return count


def _chosen(asked: int | None, processes: int) -> int:
    if asked is not None:
        return _possible(_number(str(asked), "--threads"), "--threads")
    if text := os.environ.get(VARIABLE, ""):
        stated = f"the environment variable {VARIABLE}"
        return _possible(_number(text, stated), stated)
    first = _STATED.partition(",")[0].strip()  # one for each level of nested loops
    if first.isdecimal() and int(first) > 0:
        return min(int(first), processors())
    return max(1, available_cores() // processes)


def _number(text: str, what: str) -> int:
    if not (text.strip().isdecimal() and int(text) > 0):
        raise OptionError(f"{what} is '{text}', no number of threads; give 1 or more, or leave it out")
    return int(text)


def _possible(count: int, what: str) -> int:
    most = processors()
    if count > most:
        threads = f"{most} thread{'s' * (most > 1)}"
        note(f"{what} asks for {count} threads, more than this process has processors; it computes with {threads}")
    return min(count, most)


# -- what this process may use ------------------------------------------------------------------------


def available_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: by its CPU affinity, and by the quota of its control group, as in a container.

    Two hardware threads of one core count once where the system tells (Linux). A quota of 2.5 cores is two: one more
    thread would stop all of them for part of the time. root: where the system's files are.
    """
    count = processors()
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
        siblings = (root / _CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list" for cpu in cpus)
        count = min(count, len({_text(file) or file for file in siblings}))
    return max(1, min(count, *(int(quota) for quota in _quotas(root)), count))


def processors() -> int:
    """Hardware threads that this process may run on, by its CPU affinity."""
    # From Python 3.13 on process_cpu_count knows what the user tells Python of the machine.
    count: int = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min(count, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else count


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that each control group around this process allows it; none where there is no limit."""
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:  # version 2
            mounts = [_GROUPS, f"{_GROUPS}/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [f"{_GROUPS}/{name}" for name in dict.fromkeys((controllers, "cpu", "cpu,cpuacct"))]
        else:
            continue
        # A container sees its own group where it would expect the root, under a path that it may not see.
        parts = PurePosixPath(path).parts[1:]
        depths = range(len(parts) + 1 if ".." not in parts else 1)
        folders = (root.joinpath(mount, *parts[:depth]) for mount in mounts for depth in depths)
        yield from (quota for folder in folders if (quota := _quota(folder)) is not None)


def _quota(folder: Path) -> float | None:
    """Of one control group: time per period, in version 2 in one file and in version 1 in two."""
    written = _text(folder / "cpu.max").split()
    quota, period = written if len(written) == 2 else (_text(folder / f"cpu.cfs_{x}_us") for x in ("quota", "period"))
    if not (quota.isdecimal() and period.isdecimal() and int(period)):  # "max" or -1: no limit
        return None
    return int(quota) / int(period)


def _text(file: Path) -> str:
    """What a system file says; nothing where there is none."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
