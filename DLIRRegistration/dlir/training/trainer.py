"""The training loop: stage after stage, the earlier ones frozen, then optionally all together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dlir.errors import ConfigError
from dlir.io.writing import write_json
from dlir.model.file import load_model, save_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.progress import silent
from dlir.training.batch import Batch, collate
from dlir.training.card import make_card
from dlir.training.chain import run_chain
from dlir.training.config import TrainingConfig
from dlir.training.config_file import differences
from dlir.training.continuing import begin_as
from dlir.training.domain import learn_domain
from dlir.training.draws import Draw, fingerprint
from dlir.training.engine import summed, usable_precision
from dlir.training.initial_weights import adapt_to, recorded_inputs
from dlir.training.loading import Loader
from dlir.training.pairs import HeldOutPairs, PairDataset
from dlir.training.phases import Phase, phases
from dlir.training.run_folder import BEST, CHECKPOINT, HISTORY, MODEL, PARENT, RunFolder, listed
from dlir.training.validation import Pictures, Validation, validate

# The gradient norm beyond which a step is shortened: one odd pair must not undo a stage.
_MAX_GRADIENT_NORM = 1.0
# Pairs that a stage's initial weights are adapted to.
_INITIAL_PAIRS = 16

# How runs computed bending energy while their checkpoints did not say how.
_FORMER_BENDING_ENERGY = "midpoint rule, then integral"

# (phase name, iterations done, in all, figures): called after every iteration.
Progress = Callable[[str, int, int, dict[str, float]], None]
# Hears of every row of the history, as `Board.record`.
Watch = Callable[[str, int, dict[str, float], Pictures | None], None]


@dataclass
class RunState:
    """Where a run stands.

    phase counts stages, one more for fine-tuning; iteration, within it; pairs, those drawn so far. sums: figures since
    the last row of the history, over `since` iterations that took `lapsed` seconds. best: highest validation similarity
    of the phase, which is `stale` validations ago. precisions: of the convolutions, one after the other: they change
    with the device. bending_energy: how it has been computed, for the card.
    """

    phase: int = 0
    iteration: int = 0
    pairs: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    since: int = 0
    lapsed: float = 0.0
    best: float | None = None
    stale: int = 0
    precisions: list[str] = field(default_factory=list)
    bending_energy: str = "integral"
    history: list[dict[str, float]] = field(default_factory=list)


class _Objective(nn.Module):
    """The loss of a batch as a module, so that several processes can average its gradients."""

    def __init__(self, model: MultiStageModel, phase: Phase) -> None:
        super().__init__()
        self.model = model
        self.phase = phase

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, similarity and weighted bending energy, means over the batch."""
        phase = self.phase
        result = run_chain(
            self.model,
            batch,
            phase.stage,
            end_to_end=phase.end_to_end,
            measure=phase.measure,
            checkpointing=phase.checkpointing,
        )
        bending = torch.stack([a * e for a, e in zip(phase.alphas, result.energies, strict=True)]).sum(0)
        return (bending - result.similarity).mean(), result.similarity.mean(), bending.mean()


class Trainer:
    """Trains one model into a run folder.

    fabric: launched. draws: what pairs are drawn from. folder: held by this process, where it is the first one.
    Raises ConfigError for settings that the pairs or the number of processes do not allow.
    """

    def __init__(
        self, config: TrainingConfig, draws: Sequence[Draw], folder: RunFolder, fabric: Fabric, workers: int = 1
    ) -> None:
        self.config, self.draws, self.folder, self.fabric, self.workers = config, draws, folder, fabric, workers
        torch.manual_seed(config.seed)
        model, self.parent = MultiStageModel(config.spec), None
        if config.init is not None:
            parent, self.parent = load_model(folder.file(PARENT))
            if self.parent.digest != config.init.sha256:
                raise ConfigError(f"'{folder.file(PARENT)}' is not the model that the run began with; start it afresh")
            begin_as(model, parent)
        self.model = model.to(fabric.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.model.precision = usable_precision(config.precision, fabric.device)
        weights = [source.weight for source in config.sources]
        self.pairs = PairDataset(draws, weights, config.augmentation, config.seed, config.spec.smallest)
        self.phases = phases(config)
        for phase in self.phases:
            self._check_shares(phase)
        self.state = RunState()
        self.optimizer: torch.optim.Optimizer | None = None
        self.held_out = HeldOutPairs((), None)
        self._objective: Any = None
        self._best: dict[str, Tensor] | None = None
        self._whole = True

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.state.phase]

    @property
    def precision(self) -> str:
        """What the convolutions are computed in here, which is not always what the configuration asks for."""
        return str(self.model.precision).removeprefix("torch.")

    def _check_shares(self, phase: Phase) -> None:
        size, processes = phase.settings.batch_size, self.fabric.world_size
        if size % processes or (size // processes) % (phase.settings.micro_batch or 1):
            raise ConfigError(
                f"batch_size {size} of {phase.name} cannot be dealt out to {processes} processes"
                + (f" in micro batches of {phase.settings.micro_batch}" if phase.settings.micro_batch else "")
                + "; choose a multiple"
            )

    def _trained(self) -> nn.Module:
        trained: nn.Module = self.model if self.phase.end_to_end else self.model.networks[self.phase.stage]
        return trained

    def _start_phase(self) -> None:
        self.model.requires_grad_(False)
        for stage in self.phase.trained:
            self.model.networks[stage].requires_grad_(True)
        crop = self.phase.settings.crop or self.config.augmentation.crop
        self.pairs.begin(crop, self.phase.settings.random_affine)
        self.held_out = HeldOutPairs(self.draws, crop)
        learning = [parameter for parameter in self._trained().parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=self.phase.settings.learning_rate)
        self._objective, self.optimizer = self.fabric.setup(_Objective(self.model, self.phase), optimizer)

    def _adapt_weights(self) -> None:
        """Initial weights of the phase's stage. From the same pairs in all processes, so that these agree.

        None for a stage that has learned already, as those of a model that is continued.
        """
        if self.phase.end_to_end or self.parent is not None:
            return
        network = self.model.networks[self.phase.stage]
        size = self.phase.settings.micro_batch or self.phase.settings.batch_size
        numbers = range(self.state.pairs, self.state.pairs + _INITIAL_PAIRS)
        several = [numbers[k : k + size] for k in range(0, _INITIAL_PAIRS, size)]

        def run() -> None:
            for some in several:
                batch = collate([self.pairs[k] for k in some]).to(self.fabric.device)
                run_chain(self.model, batch, self.phase.stage, end_to_end=False)

        with torch.no_grad():
            calls = recorded_inputs(network, run)
        self._whole = False
        adapt_to(network, calls)
        self._whole = True

    # -- the whole run ---------------------------------------------------------------------------

    def run(self, progress: Progress, watch: Watch = silent) -> Path:
        """Train what is left and return the model file. An interrupt leaves a checkpoint where it came."""
        try:
            while self.state.phase < len(self.phases):
                if self.optimizer is None:
                    self._start_phase()
                    self._adapt_weights()
                self._run_phase(progress, watch)
                self._end_phase()
            self._learn_domain(progress)
        except KeyboardInterrupt:
            # Not amid a step, and not where other processes have figures of their own.
            if self._whole and self.fabric.world_size == 1:
                self.save()
            raise
        return self.folder.file(MODEL)

    def _learn_domain(self, progress: Progress) -> None:
        """What the finished model was made for goes into its file."""

        def tell(step: str, fraction: float) -> None:
            progress(step, round(100 * fraction), 100, {})

        if self.fabric.is_global_zero:
            weights = [source.weight for source in self.config.sources]
            self.model.eval()
            domain = learn_domain(self.model, self.draws, weights, self.config.seed, self.fabric.device, tell)
            save_model(self.folder.file(MODEL), self.model, self.card(), domain)
        self.fabric.barrier()

    def _end_phase(self) -> None:
        self._whole = False
        if self._best is not None and self.config.patience:
            self._trained().load_state_dict(self._best)
        self.state.phase, self.state.iteration, self.optimizer = self.state.phase + 1, 0, None
        self.state.best, self.state.stale, self._best = None, 0, None
        self._whole = True
        self.save()

    def _run_phase(self, progress: Progress, watch: Watch) -> None:
        phase, state, loader = self.phase, self.state, self._loader()
        if state.precisions[-1:] != [self.precision]:
            state.precisions.append(self.precision)
        figures: dict[str, float] = {}
        clock, waited = time.perf_counter(), 0.0
        # Closed by whatever ends the phase: with it go the processes that prepare batches.
        with closing(iter(loader)) as batches:
            while True:
                if self._is_row_due():
                    row, pictures = self._record()
                    clock = time.perf_counter()
                    watch(phase.name, self.total_iterations(), row, pictures)
                    figures |= row
                    self.save()
                if figures:
                    progress(phase.name, state.iteration, phase.settings.iterations, figures)
                if self._is_phase_over():
                    break
                figures = self._step(batches)
                figures["waiting"], waited = loader.seconds - waited, loader.seconds
                self._count(figures, time.perf_counter() - clock)
                clock = time.perf_counter()

    def _is_row_due(self) -> bool:
        state, total = self.state, self.phase.settings.iterations
        return state.since > 0 and (state.iteration == total or state.iteration % self.config.validation_every == 0)

    def _is_phase_over(self) -> bool:
        """Whether all is done, or nothing has got better for as long as the configuration has patience."""
        return self.state.iteration >= self.phase.settings.iterations or 0 < self.config.patience <= self.state.stale

    def total_iterations(self) -> int:
        """Iterations done so far in all phases."""
        rows = self.state.history
        return self.state.iteration + sum(
            max((int(row["iteration"]) for row in rows if row["phase"] == k), default=0)
            for k in range(self.state.phase)
        )

    # -- one iteration ---------------------------------------------------------------------------

    @property
    def _share(self) -> int:
        """Pairs per iteration of this process."""
        return self.phase.settings.batch_size // self.fabric.world_size

    @property
    def _micro_batches(self) -> int:
        """Backward passes per iteration."""
        return self._share // (self.phase.settings.micro_batch or self._share)

    def _numbers(self, ahead: int) -> list[list[int]]:
        """Numbers of the pairs of each micro batch of this process, so many iterations after the next."""
        share = self._share
        first = self.state.pairs + ahead * self.phase.settings.batch_size + self.fabric.global_rank * share
        micro = share // self._micro_batches
        return [list(range(k, k + micro)) for k in range(first, first + share, micro)]

    def _loader(self) -> Loader:
        left = self.phase.settings.iterations - self.state.iteration
        return Loader(self.pairs, [numbers for k in range(left) for numbers in self._numbers(k)], self.workers)

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One iteration. Its micro batches are taken one by one: no more than one is held, and others are prepared
        while it is computed.
        """
        assert self.optimizer is not None
        rate = self.phase.learning_rate(self.state.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        figures: dict[str, float] = {"loss": 0.0, "similarity": 0.0, "bending": 0.0}
        count = self._micro_batches
        for k in range(count):
            several = self.fabric.world_size > 1 and k + 1 < count
            with self.fabric.no_backward_sync(self._objective) if several else nullcontext():
                parts = self._objective(next(batches).to(self.fabric.device))
                self.fabric.backward(parts[0] / count)
            for name, part in zip(("loss", "similarity", "bending"), parts, strict=True):
                figures[name] += part.item() / count
        norm = nn.utils.clip_grad_norm_(self._trained().parameters(), _MAX_GRADIENT_NORM)
        self._check_finite(figures["loss"], norm.item())
        self._whole = False
        self.optimizer.step()
        return {**figures, "gradient_norm": norm.item(), "learning_rate": rate}

    def _count(self, figures: dict[str, float], seconds: float) -> None:
        state = self.state
        state.pairs += self.phase.settings.batch_size
        state.iteration += 1
        state.since += 1
        state.lapsed += seconds
        state.sums = {name: state.sums.get(name, 0.0) + value for name, value in figures.items()}
        self._whole = True

    def _check_finite(self, loss: float, norm: float) -> None:
        """Stops before the weights are touched, so that the last checkpoint and the model stay good.

        The norm is that of all processes together, so all stop; each keeps its own pairs.
        """
        if torch.isfinite(torch.tensor([loss, norm])).all():
            return
        # Not held until now, but what a pair is follows from its number.
        batches = [collate([self.pairs[number] for number in numbers]) for numbers in self._numbers(0)]
        what = "gradient" if torch.isfinite(torch.tensor(loss)) else "loss"
        kept = self.folder.write_tensors(f"not_finite_{self.fabric.global_rank}.pt", [vars(batch) for batch in batches])
        names = ", ".join(name for batch in batches for name in batch.names)
        raise ConfigError(
            f"the {what} is not finite in {self.phase.name}, iteration {self.state.iteration + 1}, for the pairs "
            f"{names}; they are kept in '{kept}': look at these images, or lower the learning rate"
        )

    # -- validation and checkpoints --------------------------------------------------------------

    def _record(self) -> tuple[dict[str, float], Pictures | None]:
        """A row of the history: means since the last one, over all processes, and the validation's figures."""
        state = self.state
        sums = summed(self.fabric, list(state.sums.values()))
        count = state.since * self.fabric.world_size
        means = {name: value / count for name, value in zip(state.sums, sums, strict=True)}
        # A share of the time that these iterations took.
        means["waiting"] = min(1.0, means["waiting"] * state.since / max(state.lapsed, 1e-9))
        clock = time.perf_counter()
        found = self.validate()
        # Not to be torn apart by an interrupt.
        self._whole = False
        state.seconds += state.lapsed + time.perf_counter() - clock
        row = {"phase": state.phase, "iteration": state.iteration, "seconds": state.seconds, **means, **found.figures}
        state.history.append(row)
        state.sums, state.since, state.lapsed = {}, 0, 0.0
        self._keep_best(row)
        self._whole = True
        return row, found.pictures

    def validate(self) -> Validation:
        """Figures of the current last stage over the held-out pairs, and pictures of the first of them."""
        return validate(self.model, self.held_out, self.phase.stage, self.fabric)

    def _keep_best(self, row: dict[str, float]) -> None:
        """Keeps the phase's weights where they are the best so far, or counts how long they have not been."""
        state, similarity = self.state, row.get("validation_similarity")
        if similarity is None:
            return
        if state.best is not None and similarity <= state.best:
            state.stale += 1
            return
        state.best, state.stale = similarity, 0
        self._best = {name: value.clone() for name, value in self._trained().state_dict().items()}
        if self.fabric.is_global_zero:
            save_model(self.folder.file(BEST), self.model, self.card())

    def save(self) -> None:
        """Write `history.json`, `model.safetensors` and `last.pt`, each whole or not at all."""
        if self.fabric.is_global_zero:
            write_json(self.folder.file(HISTORY), self.state.history)
            save_model(self.folder.file(MODEL), self.model, self.card())
            # Last: a run that is killed before it does all of this again, and then its files belong together.
            self.folder.write_tensors(
                CHECKPOINT,
                {
                    "config": self.config.model_dump_json(),
                    "data": fingerprint(self.draws),
                    "model": self.model.state_dict(),
                    "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
                    "state": json.dumps(vars(self.state)),
                    "best": self._best,
                },
            )
        self.fabric.barrier()

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one yet.

        Raises ConfigError where it is damaged or belongs to another configuration or other images.
        """
        content = self.folder.read_checkpoint(self.fabric.device)
        if content is None:
            return
        found = differences(TrainingConfig.model_validate_json(content["config"]), self.config)
        if found:
            raise ConfigError(
                f"the checkpoint in '{self.folder.path}' was made with another configuration: {listed(found)}; use "
                "that one or a new folder"
            )
        if content["data"] != fingerprint(self.draws):
            raise ConfigError(
                f"the checkpoint in '{self.folder.path}' was made with other images ({content['data']} then, "
                f"{fingerprint(self.draws)} now); restore them or use a new folder"
            )
        self.model.load_state_dict(content["model"])
        state = {"bending_energy": _FORMER_BENDING_ENERGY, **json.loads(content["state"])}
        self.state, self._best = RunState(**state), content["best"]
        if content["optimizer"] is not None:
            self._start_phase()
            assert self.optimizer is not None
            self.optimizer.load_state_dict(content["optimizer"])

    def card(self) -> dict[str, Any]:
        """What the model file says of its making."""
        return make_card(self.config, self.draws, self.state, self.fabric, self.parent)
