"""Small runs of the trainer, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlir.training.trainer import Progress, Trainer

FINE_TUNING = {"iterations": 3, "batch_size": 2, "learning_rate": 0.003, "alpha": 0.01}
Weights = dict[str, Tensor]
Start = Callable[..., Trainer]
# What differs between two runs that are the same.
CLOCKS = ("seconds", "waiting")


def quiet(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Progress that nobody watches."""


def run(trainer: Trainer, progress: Progress = quiet) -> Path:
    return trainer.run(progress)


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in history]


def weights(trainer: Trainer) -> Weights:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a | b)


def run_until(trainer: Trainer, count: int) -> None:
    """Run, and be interrupted after `count` iterations."""
    seen = 0

    def progress(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trainer, progress)
