"""When a run goes wrong, it says so in one line, and nothing is lost."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dlir.errors import ConfigError
from dlir.training import trainer as module
from dlir.training.chain import ChainResult
from dlir.training.trainer import Trainer
from trainer_runs import Start, Weights, run, same, weights
from training_runs import make_config

CPU = torch.device("cpu")


# -- when it goes wrong ------------------------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch, iteration: int, change: Callable[[Tensor], Tensor]) -> None:
    """Let `change` alter the similarity of one training iteration, counted from 1."""
    original, seen = module.run_chain, 0

    def run_chain(*arguments: Any, **settings: Any) -> ChainResult:
        nonlocal seen
        result = original(*arguments, **settings)
        seen += torch.is_grad_enabled()
        spoiled = seen == iteration and torch.is_grad_enabled()
        return replace(result, similarity=change(result.similarity)) if spoiled else result

    monkeypatch.setattr(module, "run_chain", run_chain)


@pytest.mark.parametrize(
    "change",
    [lambda s: s * math.nan, lambda s: s / 0, lambda s: s + 0 * torch.sqrt(s - s.detach())],
    ids=["nan loss", "infinite loss", "nan gradient"],
)
def test_what_is_not_finite_stops_the_run_and_names_the_pairs(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Callable[[Tensor], Tensor]
) -> None:
    trainer = start()
    names = [trainer.pairs[i].name for i in (8, 9)]
    spoil(monkeypatch, 5, change)
    before: list[Weights] = []
    with pytest.raises(ConfigError) as caught:
        run(trainer, lambda *_: before.append(weights(trainer)))
    message = str(caught.value)
    assert "not finite" in message
    assert "stage 1/2, iteration 5" in message
    assert "\n" not in message
    assert all(name in message for name in names)
    # The weights are those of the last good step, and what was checkpointed can be used.
    assert len(before) == 4
    assert same(weights(trainer), before[-1])
    again = start()
    again.resume()
    assert again.state.iteration == 3
    # The pairs are kept for whoever looks for the reason.
    (kept,) = torch.load(tmp_path / "run" / "not_finite_0.pt", weights_only=True)
    assert list(kept["names"]) == names
    assert torch.equal(kept["fixed"][0], trainer.pairs[8].fixed)


def test_what_is_not_finite_is_kept_in_its_micro_batches(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of the iteration's, whichever of them it was: the gradient is that of all together."""
    stage = {"iterations": 6, "batch_size": 4, "micro_batch": 2, "learning_rate": 0.01, "alpha": 0.01}
    trainer = start(make_config(training=[stage] * 2))
    spoil(monkeypatch, 3, lambda s: s * math.nan)  # the first half of the second iteration
    with pytest.raises(ConfigError, match="stage 1/2, iteration 2,") as caught:
        run(trainer)
    expected = [[trainer.pairs[i] for i in numbers] for numbers in ((4, 5), (6, 7))]
    kept = torch.load(tmp_path / "run" / "not_finite_0.pt", weights_only=True)
    assert len(kept) == 2
    for batch, pairs in zip(kept, expected, strict=True):
        assert list(batch["names"]) == [pair.name for pair in pairs]
        assert torch.equal(batch["moving"], torch.stack([pair.moving for pair in pairs]))
        assert all(pair.name in str(caught.value) for pair in pairs)


@pytest.mark.parametrize("where", ["loss", "progress", "worker"])
def test_no_process_is_left_behind(start: Start, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """While whoever caught the exception still holds it."""
    trainer = start()
    if where == "loss":
        spoil(monkeypatch, 2, lambda s: s * math.nan)
    if where == "worker":
        monkeypatch.setattr(trainer.pairs, "draws", None)

    def progress(*_: Any) -> None:
        assert multiprocessing.active_children()
        if where == "progress":
            raise KeyboardInterrupt

    with pytest.raises((ConfigError, KeyboardInterrupt, TypeError)) as caught:
        run(trainer, progress)
    assert multiprocessing.active_children() == []
    assert caught.value.__traceback__ is not None


def test_a_large_gradient_is_shortened(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One odd pair must not undo a stage: a million times the gradient moves the weights no further."""
    moved = []
    for folder, factor in (("plain", 1.0), ("steep", 1e6)):
        trainer = start(None, folder)
        with monkeypatch.context() as patch:
            spoil(patch, 4, lambda s, factor=factor: s * factor)  # type: ignore[misc]
            snapshots: list[Weights] = []
            run_until_recorded(trainer, snapshots, 6)
        moved.append(max((snapshots[5][n] - snapshots[2][n]).abs().max().item() for n in snapshots[0]))
    assert moved[1] < 3 * moved[0]
    assert moved[1] != moved[0]


def run_until_recorded(trainer: Trainer, snapshots: list[Weights], count: int) -> None:
    def progress(*_: Any) -> None:
        snapshots.append(weights(trainer))
        if len(snapshots) == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trainer, progress)


def test_a_batch_that_cannot_be_dealt_out_is_refused(start: Start) -> None:
    trainer = start()
    trainer.fabric = replace_size(trainer.fabric, 4)
    with pytest.raises(ConfigError, match="batch_size 2 of stage 1/2 cannot be dealt out to 4 processes"):
        trainer._check_shares(trainer.phases[0])


def replace_size(fabric: Any, size: int) -> Any:
    """A stand-in that says that there are so many processes."""

    class Several:
        world_size = size

    return Several()
