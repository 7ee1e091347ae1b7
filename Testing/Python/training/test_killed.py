"""A run that is killed outright, at any moment, ends as if it had not been."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlir.io import writing
from dlir.training.config import TrainingConfig
from dlir.training.trainer import Trainer
from trainer_runs import FINE_TUNING, run, same, timeless, weights
from training_runs import make_config

# Where each of the processes dies: in a given iteration, counted over all phases, or amid a given file, counted from 0.
# A checkpoint writes history.json, model.safetensors and last.pt; the best model so far comes before them.
DEATHS = [("iteration", 2), ("file", 0), ("file", 1), ("iteration", 4), ("file", 2), ("file", 3), ("iteration", 11)]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train_and_die(make: Callable[[], Trainer], kind: str, number: int) -> None:
    """In a process of its own."""
    trainer = make()
    trainer.resume()
    files, reach_disk = 0, writing._reach_disk

    def reach_or_die(path: Path) -> None:
        nonlocal files
        if (kind, number) == ("file", files):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # torn
            _die()
        files += 1
        reach_disk(path)

    def progress(*_: Any) -> None:
        if kind == "iteration" and trainer.total_iterations() == number:
            _die()

    writing._reach_disk = reach_or_die
    run(trainer, progress)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_killed_run_ends_as_if_it_had_not_been(
    make_trainer: Callable[[TrainingConfig, Path], Trainer], tmp_path: Path, one_thread: None
) -> None:
    config = make_config(fine_tuning=FINE_TUNING)
    whole = make_trainer(config, tmp_path / "whole")
    run(whole)
    folder = tmp_path / "killed"
    make_trainer(config, folder)  # makes the folder
    for kind, number in DEATHS:
        process = multiprocessing.get_context("fork").Process(
            target=_train_and_die, args=(lambda: make_trainer(config, folder), kind, number)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, (kind, number)
    assert list(folder.glob(".dlir-*"))  # torn files lie about
    last = make_trainer(config, folder)
    last.resume()
    assert last.state.iteration > 0  # something was kept
    run(last)
    assert same(weights(last), weights(whole))
    assert timeless(last.state.history) == timeless(whole.state.history)
