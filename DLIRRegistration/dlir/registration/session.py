"""Pair after pair through models that stay in memory: what the command line and the worker have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from dlir.io.reading import Volume
from dlir.model.file import ModelHeader, load_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.devices import Outcome, choose_device, run_with_fallback
from dlir.registration.oneshot import Progress, Registration
from dlir.registration.report import Request
from dlir.registration.result import RegistrationResult
from dlir.transforms.resample import resample

Notify = Callable[[str], None]


@dataclass(frozen=True)
class _Loaded:
    """A model in memory, and the state of the file that it came from."""

    path: Path
    state: tuple[int, int]
    model: MultiStageModel
    header: ModelHeader


class Session:
    """Registers any number of pairs, and keeps the last model that was used."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def load(self, path: Path) -> ModelHeader:
        """Have the model of a file in memory; read again where the file has changed. Raises ModelError."""
        return self._load(path).header

    def register(
        self,
        request: Request,
        model: Path,
        device_name: str = "auto",
        progress: Progress = lambda name, fraction: None,
        notify: Notify = lambda message: None,
    ) -> Outcome[RegistrationResult]:
        """Register a pair with the model of a file, on the device of that name.

        progress: gets the step, in words, and the fraction done. notify: told, in one line, where a graphics card
        did not suffice and the CPU takes over. Raises DeviceError, ModelError, and GeometryError for images that
        do not overlap or are too small for the model.
        """
        device, network = choose_device(device_name), self._load(model).model

        def run(device: torch.device) -> RegistrationResult:
            steps = _in_words(progress, len(network.spec.stages))
            return Registration(network, device)(request.fixed, request.moving, request.initial, request.mode, steps)

        return run_with_fallback(run, device, notify)

    def _load(self, path: Path) -> _Loaded:
        loaded, state = self._loaded, _state(path)
        if loaded is None or (loaded.path, loaded.state) != (path, state):
            self._loaded = None  # two models at once may be more than the memory holds
            model, header = load_model(path)
            self._loaded = loaded = _Loaded(path, state, model, header)
        return loaded


def propagate(labels: Volume, request: Request, result: RegistrationResult) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels of the moving image on the fixed grid, by nearest neighbour, moved by the start alone and by it all.

    labels: on any grid. Both come in the labels' own type, 0 where they map outside.
    """
    before, after = (
        resample(labels.array, labels.grid, transform, request.fixed.grid, "nearest")
        for transform in (request.start, result.transform)
    )
    return before, after


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0  # reading the file will say what is wrong with it
    return found.st_mtime_ns, found.st_size


def _in_words(progress: Progress, stages: int) -> Progress:
    """`progress` told the steps of a registration as people call them, stage by stage."""
    predicted = 0

    def tell(name: str, fraction: float) -> None:
        nonlocal predicted
        predicted += name == "networks"
        if predicted == stages and name != "networks":
            words = "resampling"
        elif predicted == 0 and name == "preprocess":
            words = "preparing"
        else:
            words = f"stage {predicted + (name != 'networks')} of {stages}"
        progress(words, fraction)

    return tell
