"""What a compared method is: a name, its settings for a pair, and a registration in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from truth.pair import TruthPair

from dlir.errors import EvaluationError
from dlir.io.source import without_folders
from dlir.transforms.spatial import CompositeTransform

# A registration that takes longer, in seconds, is given up.
PATIENCE = 1800
# Of what a process said so many letters are told.
_WORDS = 300
# What OpenMP, MKL, OpenBLAS, and ITK with all that is made of it read.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


@dataclass(frozen=True)
class Used:
    """Seconds that a process took, and of processors, which other work on the machine hardly changes."""

    wall: float
    cpu: float


@dataclass(frozen=True, eq=False)
class Found:
    """What a method made of a pair.

    transform: fixed point -> moving point, LPS mm. seconds: as the method took them, without reading and writing; None
    where nothing was done. used: by the whole process. told: what else is worth a record.
    """

    transform: CompositeTransform
    seconds: float | None = None
    used: Used | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


class Compared(Protocol):
    """A method. name: how tables call it."""

    name: str

    def settings(self, pair: TruthPair) -> Any:
        """Plain values on which the result depends, besides the pair."""
        ...

    def register(self, pair: TruthPair, folder: Path, threads: int) -> Found:
        """folder: empty, for whatever the method writes. Raises DLIRError where it cannot."""
        ...


class Nothing:
    """The images as the scanner placed them."""

    name = "nothing"

    def settings(self, pair: TruthPair) -> Any:
        return None

    def register(self, pair: TruthPair, folder: Path, threads: int) -> Found:
        return Found(CompositeTransform(()))


def run_alone(command: Sequence[str | Path], threads: int, paths: Sequence[Path] = ()) -> Used:
    """Runs a command with so many threads.

    paths: where Python looks for modules first. Raises EvaluationError with what it says where it fails.
    """
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    name, started, before = Path(command[0]).name, time.perf_counter(), _of_children()
    try:
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, timeout=PATIENCE)
    except OSError as error:
        raise EvaluationError(f"'{name}' cannot be run ({error.strerror}); give the path of a Python") from None
    except subprocess.TimeoutExpired:
        raise EvaluationError(f"gave up after {PATIENCE} s") from None
    if done.returncode:
        raise EvaluationError(without_folders(_said(done.stderr or done.stdout) or f"exit code {done.returncode}"))
    return Used(time.perf_counter() - started, _of_children() - before)


def _of_children() -> float:
    """Seconds of processors of all that this process has started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _said(output: bytes) -> str:
    """What went wrong: the message, or the last line where Python tells where it happened."""
    text = output.decode(errors="replace").strip()
    told = text.splitlines()[-1] if "Traceback" in text else text
    return " ".join(told.split())[:_WORDS]


def read_json(path: Path) -> Any:
    """Raises EvaluationError where a process has not left what it should have."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EvaluationError(f"the process ended without a usable '{path.name}'") from None
