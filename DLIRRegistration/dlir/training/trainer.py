"""The training loop: stage after stage, the earlier ones frozen, then optionally all together."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from dlir.errors import ConfigError
from dlir.io.writing import replacing, write_json
from dlir.model.file import save_model
from dlir.model.multistage import MultiStageModel
from dlir.training.chain import run_chain
from dlir.training.config import StageTraining, TrainingConfig
from dlir.training.data import Batch, PairDataset, load_batches, load_source, validation_batches

log = logging.getLogger(__name__)

# The gradient norm beyond which a step is shortened: one odd pair must not undo a stage.
_MAX_GRADIENT_NORM = 1.0
# The learning rate falls along a half cosine to this fraction of its start.
_FINAL_LEARNING_RATE = 0.02
# Iterations over which it rises at the start of a stage, while Adam's moments settle.
_WARM_UP = 50

Progress = Callable[[str, int, int, dict[str, float]], None]


@dataclass
class _State:
    """Where a run stands: phase counts stages, one more for fine-tuning; pairs, those drawn so far."""

    phase: int = 0
    iteration: int = 0
    pairs: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains one model from a configuration and a data folder into a run folder.

    The run folder holds `last.pt` (everything needed to continue), `model.safetensors` (the model as it
    stands after the last validation) and `history.json`. Raises ConfigError for unusable data.
    """

    def __init__(self, config: TrainingConfig, data: Path, output: Path, device: torch.device) -> None:
        self.config, self.output, self.device = config, output, device
        torch.manual_seed(config.seed)
        self.model = MultiStageModel(config.spec).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.model.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        loaded = [(source, *load_source(source, data, config.spec.preprocessing)) for source in config.sources]
        self.pairs = PairDataset([(s, train) for s, train, _ in loaded], config.augmentation, config.seed)
        held_out = [subject for _, _, subjects in loaded for subject in subjects]
        self.validation = validation_batches(held_out, config.augmentation)
        self.state = _State()
        self.optimizer: torch.optim.Adam | None = None

    # -- one phase -------------------------------------------------------------------------------

    def _settings(self) -> StageTraining:
        phase, stages = self.state.phase, self.config.training
        if phase < len(stages):
            return stages[phase]
        assert self.config.fine_tuning is not None
        return self.config.fine_tuning

    @property
    def _phases(self) -> int:
        return len(self.config.training) + (self.config.fine_tuning is not None)

    @property
    def _end_to_end(self) -> bool:
        return self.state.phase == len(self.config.training)

    @property
    def _last_stage(self) -> int:
        return min(self.state.phase, len(self.config.training) - 1)

    @property
    def _phase_name(self) -> str:
        return "fine-tuning" if self._end_to_end else f"stage {self.state.phase + 1}/{len(self.config.training)}"

    def _trained(self) -> nn.Module:
        trained: nn.Module = self.model if self._end_to_end else self.model.networks[self._last_stage]
        return trained

    def _start_phase(self) -> None:
        self.model.requires_grad_(False)
        self._trained().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self._trained().parameters(), lr=self._settings().learning_rate)

    def _step(self, batch: Batch) -> dict[str, float]:
        settings = self._settings()
        assert self.optimizer is not None
        progress = self.state.iteration / settings.iterations
        falling = _FINAL_LEARNING_RATE + (1 - _FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * falling * min(1.0, (self.state.iteration + 1) / _WARM_UP)
        result = run_chain(self.model, batch, self._last_stage, end_to_end=self._end_to_end)
        loss = (settings.alpha * result.bending - result.similarity).mean()
        self._check_finite("loss", loss, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._trained().parameters(), _MAX_GRADIENT_NORM)
        self._check_finite("gradient", norm, batch)
        self.optimizer.step()
        return {
            "loss": loss.item(),
            "similarity": result.similarity.mean().item(),
            "bending": result.bending.mean().item(),
        }

    def _check_finite(self, what: str, value: Tensor, batch: Batch) -> None:
        """Stops before the weights are touched, so that the last checkpoint and the model stay good."""
        if not torch.isfinite(value):
            raise ConfigError(
                f"the {what} is not finite in {self._phase_name}, iteration {self.state.iteration + 1}, for the pairs "
                f"{', '.join(batch.names)}; look at these images, or lower the learning rate"
            )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean similarity and bending energy of the current last stage over the validation pairs."""
        results = [
            run_chain(self.model, batch.to(self.device), self._last_stage, end_to_end=False)
            for batch in self.validation
        ]
        if not results:
            return {}
        return {
            "validation_similarity": torch.cat([r.similarity for r in results]).mean().item(),
            "validation_bending": torch.cat([r.bending for r in results]).mean().item(),
        }

    # -- the whole run ---------------------------------------------------------------------------

    def run(self, progress: Progress) -> Path:
        """Train what is left and return the model file. `progress` gets (phase name, done, total, figures)."""
        self.output.mkdir(parents=True, exist_ok=True)
        while self.state.phase < self._phases:
            if self.optimizer is None:
                self._start_phase()
            self._run_phase(progress)
            self.state.phase, self.state.iteration, self.optimizer = self.state.phase + 1, 0, None
            self.save_checkpoint()
        return self.output / "model.safetensors"

    def _run_phase(self, progress: Progress) -> None:
        settings = self._settings()
        sums: dict[str, float] = {}
        since, clock = 0, time.perf_counter()
        count = settings.iterations - self.state.iteration
        for batch in load_batches(self.pairs, settings.batch_size, self.state.pairs, count):
            figures = self._step(batch.to(self.device))
            self.state.pairs += settings.batch_size
            self.state.iteration += 1
            since += 1
            sums = {key: sums.get(key, 0.0) + value for key, value in figures.items()}
            done = self.state.iteration == settings.iterations
            if done or self.state.iteration % self.config.validation_every == 0:
                figures = {key: value / since for key, value in sums.items()} | self.validate()
                now = time.perf_counter()
                self.state.seconds += now - clock
                self._record(figures)
                self.save_checkpoint()
                sums, since, clock = {}, 0, now
            progress(self._phase_name, self.state.iteration, settings.iterations, figures)

    def _record(self, figures: dict[str, float]) -> None:
        row = {"phase": self.state.phase, "iteration": self.state.iteration, "seconds": self.state.seconds, **figures}
        self.state.history.append(row)
        log.info("%s", json.dumps(row))

    # -- checkpoints -----------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Write `last.pt`, `history.json` and `model.safetensors`, each whole or not at all."""
        content = {
            "config": self.config.model_dump_json(),
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "state": json.dumps(vars(self.state)),
        }
        with replacing(self.output / "last.pt") as temporary:
            torch.save(content, temporary)
        write_json(self.output / "history.json", self.state.history)
        save_model(self.output / "model.safetensors", self.model, self.card())

    def resume(self) -> None:
        """Continue from `last.pt` of the run folder.

        Raises ConfigError where it is missing, damaged or belongs to another configuration.
        """
        path = self.output / "last.pt"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read checkpoint '{path}': {error.strerror}; start the run afresh") from None
        try:
            content = torch.load(BytesIO(data), map_location=self.device, weights_only=True)
            config = TrainingConfig.model_validate_json(content["config"])
            state = _State(**json.loads(content["state"]))
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, UnpicklingError):
            raise ConfigError(f"checkpoint '{path}' is damaged or no checkpoint; start the run afresh") from None
        changed = [name for name in TrainingConfig.model_fields if getattr(config, name) != getattr(self.config, name)]
        if changed:
            raise ConfigError(
                f"checkpoint '{path}' was made with another configuration ({', '.join(changed)}); "
                "use that one or a new folder"
            )
        self.model.load_state_dict(content["model"])
        self.state = state
        if content["optimizer"] is not None:
            self._start_phase()
            assert self.optimizer is not None
            self.optimizer.load_state_dict(content["optimizer"])

    def card(self) -> dict[str, Any]:
        """What the model file says of its making."""
        return {
            **self.config.card.model_dump(),
            "training": {
                "hours": round(self.state.seconds / 3600, 2),
                "device": str(self.device),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "subjects": sum(len(subjects) for _, subjects in self.pairs.sources),
                "validation_subjects": len(self.validation),
                "phases_completed": self.state.phase,
                "config": json.loads(self.config.model_dump_json(exclude={"card", "model"})),
                "last_validation": self.state.history[-1] if self.state.history else {},
            },
        }
