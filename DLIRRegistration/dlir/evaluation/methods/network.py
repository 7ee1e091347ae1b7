"""A DLIR model, whole or up to one of its stages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlir import __version__
from dlir.evaluation.methods.base import Registered
from dlir.model.card import seen_images, trained_for
from dlir.model.file import load_model
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec
from dlir.registration.devices import run_with_fallback
from dlir.registration.loading import Loaded
from dlir.registration.oneshot import Registration
from dlir.registration.results.result import RegistrationResult


class NetworkMethod:
    """One-shot registration by a model file.

    stages: how many of its stages are used, all by default; afterwards, their names ("AIR", "DIR-1", …). name: in
    tables; by default the model's own. With `stages`, the one it stops at is added. Raises ModelError for a file that
    is no model. title: the whole model, whatever it stops at. digest: of its weights. seen_images,
    trained_for: as its card knows them, see there.
    """

    def __init__(self, path: Path, device: torch.device, *, stages: int | None = None, name: str = "") -> None:
        model, header = load_model(path)
        names = stage_names(model.spec)
        self.stages = names[:stages]
        self.path, self.spec, self._device = path, model.spec, device
        self._model = model if self.stages == names else first_stages(model, len(self.stages))
        self._warm = False
        self.title = name or f"DLIR {header.card.get('name', path.stem)}"
        self.digest, self.seen_images = header.digest, seen_images(header.card)
        self.trained_for = trained_for(header.card)
        self.name = self.title if stages is None else f"{self.title} {self.stages[-1]}"
        if device.type != "cpu":
            self.name += f" on {device.type}"
        self.settings: Mapping[str, Any] = {
            "method": "dlir",
            "weights": header.digest,
            "stages": len(self.stages),
            "version": __version__,
            "device": device.type,
        }

    def register(self, pair: Loaded) -> Registered:
        """The first pair is registered twice, so that no time includes what happens only once in a process."""
        if not self._warm:
            self._run(pair, self._device)
            self._warm = True
        start = time.perf_counter()
        outcome = run_with_fallback(lambda device: self._run(pair, device), self._device)
        return Registered(outcome.value.transform, time.perf_counter() - start, outcome.device)

    def _run(self, pair: Loaded, device: torch.device) -> RegistrationResult:
        return Registration(self._model, device)(pair.fixed, pair.moving, pair.start)


def stage_names(spec: ModelSpec) -> list[str]:
    """The paper's names of a model's stages: AIR, and DIR-1, DIR-2, … for the deformable ones."""
    affine = [stage.kind == "affine" for stage in spec.stages]
    return ["AIR" if is_affine else f"DIR-{k + 1 - sum(affine)}" for k, is_affine in enumerate(affine)]


def first_stages(model: MultiStageModel, count: int) -> MultiStageModel:
    """A model of the first `count` stages, sharing its networks with `model`."""
    part = MultiStageModel.__new__(MultiStageModel)
    nn.Module.__init__(part)
    part.spec = replace(model.spec, stages=model.spec.stages[:count])
    part.precision = model.precision
    part.networks = nn.ModuleList(model.networks[:count])
    return part
