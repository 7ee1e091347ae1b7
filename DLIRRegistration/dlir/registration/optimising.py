"""A request's pair, optimised: alone, or on top of what a model made of it; see `dlir.optimization`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from dlir.errors import TransformError, note
from dlir.losses.choices import Similarity
from dlir.model.memory import require_credible_size
from dlir.optimization.affine import FoundAffine
from dlir.optimization.objective import Steering
from dlir.optimization.optimise import Aim, Optimisation, Optimised
from dlir.optimization.watch import Progressed
from dlir.registration.choices import (
    AUTO_SIMILARITY,
    DEFAULT_REFINEMENT,
    Beginning,
    Budget,
    Initialization,
    Kind,
    budget_of,
)
from dlir.registration.loading import Loaded
from dlir.registration.progress import Clock, Curve, Progress, silent
from dlir.registration.request import RegistrationRequest
from dlir.registration.results.resampled import resampled
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.spatial import CompositeTransform

# Parts of a registration's progress: the networks come before, resampling after.
_FROM, _TO = 0.05, 0.65


@dataclass(frozen=True, eq=False)
class Optimising:
    """A pair that has been optimised.

    start: how it lay before, whatever the optimisation began with. stop: asked in the course of what follows, too.
    """

    optimisation: Optimisation
    found: Optimised
    budget: Budget
    aim: Aim
    start: CompositeTransform
    stop: Callable[[], bool]

    @cached_property
    def back(self) -> CompositeTransform | None:
        """What is found with the roles of the images exchanged, moving point -> fixed point, LPS mm; None where it was
        ended before.
        """
        with torch.enable_grad():
            return self.optimisation.turned(self.found, self.budget, self.aim, self.stop)

    def to_dict(self) -> dict[str, Any]:
        """For a report."""
        found = self.found
        return {
            "budget": str(self.budget),
            "kind": self.aim.kind.value,
            "similarity": found.similarity.value,
            "landmark_weight": self.aim.steering and self.aim.steering.weight,
            "same_contrast": found.alike,
            "steps": found.steps,
            "seconds": round(found.seconds, 3),
            "stopped": found.stopped,
            "planned_stages": found.planned,
            "stages": [{"before": round(before, 5), "after": round(after, 5)} for before, after in found.stages],
            "affine": [_affine(one) for one in found.affines],
        }


def _affine(one: FoundAffine) -> dict[str, Any]:
    return {"start": one.start, "value": round(one.value, 5)}


@dataclass(frozen=True)
class Refinement:
    """What a request says of the optimisation.

    stop: asked in its course whether to end it with the best so far. curve: told the objective, before the progress.
    """

    budget: Budget | None
    kind: Kind
    similarity: Similarity | None
    landmark_weight: float
    second: bool
    stop: Callable[[], bool]
    curve: Curve = silent

    @classmethod
    def of(
        cls, request: RegistrationRequest, *, model: bool, stop: Callable[[], bool], curve: Curve = silent
    ) -> Refinement:
        """model: whether there is one."""
        text = request.refine or ("off" if model else DEFAULT_REFINEMENT)
        similarity = None if request.similarity == AUTO_SIMILARITY else Similarity(request.similarity)
        second = request.initialize == Beginning.second.value
        return cls(budget_of(text), Kind(request.kind), similarity, request.landmark_weight, second, stop, curve)

    def on_top(self, transform: CompositeTransform, loaded: Loaded, device: torch.device, clock: Clock) -> Optimising:
        """Of what a model has made of a pair."""
        return self._run(transform, loaded, device, clock)

    def alone(self, loaded: Loaded, device: torch.device, progress: Progress = silent) -> RegistrationResult:
        """Without a model. Raises GeometryError where the images do not overlap from where they are told to begin, and
        for sizes that no body has; TransformError for a start that bends where the result may not.
        """
        for volume in (loaded.fixed, loaded.moving):
            require_credible_size(volume.grid, f"'{volume.source}'")
        clock = Clock(progress, partial(torch.cuda.synchronize, device) if device.type == "cuda" else silent)
        start = _told(loaded)
        if self.kind is not Kind.deformable and start is not None and not start.linear:
            raise TransformError(
                f"the initial transform bends, which --kind {self.kind.value} rules out; give one that is linear, or "
                "leave --kind out"
            )
        done = self._run(start, loaded, device, clock)
        new = resampled(done.found.transform, loaded.fixed, loaded.moving, device, clock)
        described = dict(loaded.started.description)
        if done.found.affines:
            described["affine"] = done.found.affines[0].start
        return RegistrationResult(
            done.found.transform,
            new.warped,
            new.jacobian,
            new.inside,
            described,
            str(device),
            clock.seconds,
            optimising=done,
        )

    @torch.inference_mode(False)  # a model's result is made in that mode, in which nothing can be optimised
    @torch.enable_grad()
    def _run(self, start: CompositeTransform | None, loaded: Loaded, device: torch.device, clock: Clock) -> Optimising:
        assert self.budget is not None

        def tell(now: Progressed) -> None:
            if now.value is not None:
                self.curve(now.step, now.value)
            value = "" if now.value is None else f", similarity {now.value:.4f}"
            clock.progress(f"refining, {now.step}{value}", _FROM + (_TO - _FROM) * now.done)

        aim = Aim(self.kind, self.similarity, _steering(loaded, self.landmark_weight), self.second)
        with clock.step("prepare", _FROM):
            pair = Optimisation(loaded.fixed, loaded.moving, loaded.fixed_mask, loaded.moving_mask, device)
        with clock.step("refine"):
            found = pair.run(self.budget, aim, start, self.stop, tell)
        if self.second and len(found.affines) < 2:
            note("there is no second best position; the result begins from the only one that was found")
        return Optimising(pair, found, self.budget, aim, loaded.start, self.stop)


def _told(loaded: Loaded) -> CompositeTransform | None:
    """The start that a user has given; None where it is to be looked for."""
    if loaded.initial is None and loaded.mode == Initialization.auto.value:
        return None
    return loaded.start


def _steering(loaded: Loaded, weight: float) -> Steering | None:
    """The landmarks that both images have, where they count."""
    fixed, moving = loaded.fixed_landmarks, loaded.moving_landmarks
    if not weight or fixed is None or moving is None:
        return None
    known = np.isfinite(fixed.points).all(1) & np.isfinite(moving.points).all(1)
    return Steering(fixed.points[known], moving.points[known], weight) if known.any() else None
