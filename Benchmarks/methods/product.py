"""DLIR as its users have it: the command, with any options."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from truth.pair import TruthPair
from truth.store import ROOT

from dlir.io.writing import write_image
from dlir.transforms.files import read_transform
from methods.base import Found, read_json, run_alone

# Steps of a report that are no registration: before it, and what is told of the result.
_AROUND = frozenset({"read", "load", "labels", "figures", "verdict", "way back", "write"})


class Product:
    """`dlir register` of this checkout, whatever is installed.

    options: what is added to the command line.
    """

    def __init__(self, name: str, options: str = "") -> None:
        self.name, self._options = name, shlex.split(options)

    @classmethod
    def from_text(cls, text: str) -> Product:
        """NAME=OPTIONS."""
        name, _, options = text.partition("=")
        return cls(name.strip(), options)

    def settings(self, pair: TruthPair) -> Any:
        return {"options": self._options}

    def register(self, pair: TruthPair, folder: Path, threads: int) -> Found:
        results = folder / "results"
        fixed, moving = _files(pair, folder)
        command = [sys.executable, "-m", "dlir", "register", "--fixed", fixed, "--moving", moving]
        command += ["--output", str(results), "--device", "cpu", "--threads", str(threads), *self._options]
        used = run_alone(command, threads, [ROOT / "DLIRRegistration"])
        report = read_json(results / "report.json")
        seconds = sum(value for step, value in report["seconds"].items() if step not in _AROUND)
        told = {"verdict": report["verdict"]["level"], "steps": report["seconds"]}
        return Found(read_transform(results / "transform.h5"), seconds, used, told)


def _files(pair: TruthPair, folder: Path) -> tuple[str, str]:
    """The pair's own files; a moving image that was moved for the sake of its truth is written."""
    fixed, moving = (str(pair.data / scan.image) for scan in (pair.pair.fixed, pair.pair.moving))
    if pair.truth in ("motion", "slight"):
        image = pair.load()[1]
        moving = str(folder / "moving.nrrd")
        write_image(Path(moving), image.array, image.grid, compress=False)
    return fixed, moving
