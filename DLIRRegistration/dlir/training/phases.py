"""What a run does one after the other: each stage by itself, then, if asked for, all of them together (§2.3, §9)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlir.losses.compared import Measure, similarity_of
from dlir.training.config import FineTuning, StageTraining, TrainingConfig

# The learning rate falls along a half cosine to this fraction of its start.
_FINAL_LEARNING_RATE = 0.02
# Iterations over which it rises at the start of a phase, while Adam's moments settle.
_WARM_UP = 50


@dataclass(frozen=True)
class Phase:
    """One phase of a run.

    name: for people. stage: the last stage that runs. alphas: weight of the bending energy of each stage up to it.
    trained: the stages whose weights change.
    """

    name: str
    stage: int
    settings: StageTraining
    alphas: tuple[float, ...]
    trained: tuple[int, ...]

    @property
    def end_to_end(self) -> bool:
        """Whether stages are trained together, not the last one alone."""
        return isinstance(self.settings, FineTuning)

    @property
    def checkpointing(self) -> bool:
        """Whether the backward pass computes activations again instead of keeping them."""
        return isinstance(self.settings, FineTuning) and self.settings.activation_checkpointing

    @property
    def measure(self) -> Measure:
        """The similarity that is trained for."""
        return similarity_of(self.settings.similarity, self.settings.window)

    def learning_rate(self, iteration: int) -> float:
        """Of an iteration, counted from 0."""
        progress = iteration / self.settings.iterations
        falling = _FINAL_LEARNING_RATE + (1 - _FINAL_LEARNING_RATE) * (1 + math.cos(math.pi * progress)) / 2
        return self.settings.learning_rate * falling * min(1.0, (iteration + 1) / _WARM_UP)


def phases(config: TrainingConfig) -> list[Phase]:
    """All phases of a run, in order: those in which something is trained."""
    count = len(config.training)
    found = [
        Phase(f"stage {k + 1}/{count}", k, config.training[k], (*[0.0] * k, config.training[k].alpha), (k,))
        for k in config.trained_alone
    ]
    if config.fine_tuning is not None and (trained := tuple(config.trained_together)):
        found.append(Phase("fine-tuning", count - 1, config.fine_tuning, tuple(config.alphas), trained))
    return found
