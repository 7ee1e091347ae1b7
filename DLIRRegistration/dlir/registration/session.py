"""Pair after pair through models that stay in memory: what the command line and the worker have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import torch

from dlir.errors import ModelError
from dlir.model.file import ModelHeader, load_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.devices import Outcome, choose_device, run_with_fallback
from dlir.registration.judging.assessment import Assessment, assess, refined
from dlir.registration.judging.error_map import Signs, signs_of
from dlir.registration.judging.optimised_assessment import assess_optimised
from dlir.registration.loading import Loaded
from dlir.registration.oneshot import Registration
from dlir.registration.optimising import Optimising, Refinement
from dlir.registration.progress import Clock, Notify, Progress, silent
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.spatial import CompositeTransform


@dataclass(frozen=True)
class _Kept:
    """A model in memory, and the state of the file that it came from."""

    path: Path
    state: tuple[int, int]
    model: MultiStageModel
    header: ModelHeader


class Session:
    """Registers any number of pairs, and keeps the last model that was used. Several threads may use one: it computes
    for one after the other.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._busy = RLock()

    def load(self, path: Path) -> ModelHeader:
        """Have the model of a file in memory; read again where the file has changed. Raises ModelError."""
        return self._load(path).header

    def network(self, path: Path) -> MultiStageModel:
        """The same model, as what computes: on whichever device it was used last."""
        return self._load(path).model

    def register(
        self,
        loaded: Loaded,
        model: Path | None,
        device_name: str = "auto",
        progress: Progress = silent,
        notify: Notify = silent,
        refinement: Refinement | None = None,
    ) -> Outcome[RegistrationResult]:
        """Register a pair with the model of a file, or without one, on the device of that name.

        refinement: how the pair is optimised; None for not at all, which needs a model.
        progress: gets the step, in words, and the fraction done. notify: told, in one line, where a graphics card
        did not suffice and the CPU takes over. Raises DeviceError, ModelError, and GeometryError for images that
        do not overlap or are too small for the model.
        """
        with self._busy:
            return self._register(loaded, model, choose_device(device_name), progress, notify, refinement)

    def _register(
        self,
        loaded: Loaded,
        model: Path | None,
        device: torch.device,
        progress: Progress,
        notify: Notify,
        refinement: Refinement | None,
    ) -> Outcome[RegistrationResult]:
        if model is None:
            if refinement is None:
                raise ModelError("without a model and without refinement there is nothing to register with")
            return run_with_fallback(lambda device: refinement.alone(loaded, device, progress), device, notify)
        network = self._load(model).model

        def on_top(transform: CompositeTransform, device: torch.device, clock: Clock) -> Optimising:
            assert refinement is not None
            return refinement.on_top(transform, loaded, device, clock)

        refine = on_top if refinement is not None and refinement.budget is not None else None

        def run(device: torch.device) -> RegistrationResult:
            steps = _in_words(progress, len(network.spec.stages))
            registration = Registration(network, device)
            registration.check(loaded.fixed, loaded.moving)  # before their start is looked for
            return registration(loaded.fixed, loaded.moving, loaded.started, progress=steps, refine=refine)

        return run_with_fallback(run, device, notify)

    def assess(
        self,
        result: RegistrationResult,
        model: Path | None,
        device_name: str = "auto",
        offer: Callable[[Assessment], None] = silent,
        clock: Clock | None = None,
    ) -> Assessment | None:
        """Figures for the verdict on a result of `register`; None where it keeps nothing of the networks.

        offer: told those that are known before the pair is registered the other way round. clock: times that, where
        it takes long. Raises DeviceError and ModelError.
        """
        with self._busy:
            return self._assess(result, model, choose_device(device_name), offer, clock)

    def _assess(
        self,
        result: RegistrationResult,
        model: Path | None,
        device: torch.device,
        offer: Callable[[Assessment], None],
        clock: Clock | None,
    ) -> Assessment | None:
        found, optimising = result.prediction, result.optimising
        if model is None or found is None:
            if optimising is None:
                return None
            return run_with_fallback(lambda device: assess_optimised(optimising, offer, clock), device).value
        kept = self._load(model)

        def run(device: torch.device) -> Assessment:
            known = assess(Registration(kept.model, device), found, kept.header.domain, offer)
            if optimising is None:
                return known
            return refined(known, kept.model.spec, found, optimising.found.transform)

        return run_with_fallback(run, device).value

    def error_signs(
        self, loaded: Loaded, result: RegistrationResult, model: Path | None, device_name: str = "auto"
    ) -> Signs:
        """What tells of the error of a result of `register`, voxel by voxel. Raises DeviceError and ModelError."""
        with self._busy:
            kept = None if model is None else self._load(model)

            def run(device: torch.device) -> Signs:
                return signs_of(loaded, result, None if kept is None else Registration(kept.model, device))

            return run_with_fallback(run, choose_device(device_name)).value

    def _load(self, path: Path) -> _Kept:
        with self._busy:
            kept, state = self._kept, _state(path)
            if kept is None or (kept.path, kept.state) != (path, state):
                self._kept = None  # two models at once may be more than the memory holds
                model, header = load_model(path)
                self._kept = kept = _Kept(path, state, model, header)
            return kept


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
        if name.startswith("refining"):
            words = name
        elif predicted == stages and name != "networks":
            words = "resampling"
        elif predicted == 0 and name == "preprocess":
            words = "preparing"
        else:
            words = f"stage {predicted + (name != 'networks')} of {stages}"
        progress(words, fraction)

    return tell
