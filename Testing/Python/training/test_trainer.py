"""Whole small runs: what they leave behind, that they repeat, resume and stop as they should."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dlir.errors import ConfigError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.losses.similarity import ncc
from dlir.model.file import load_model
from dlir.registration.oneshot import Registration
from dlir.training import trainer as module
from dlir.training.chain import ChainResult
from dlir.training.config import TrainingConfig
from dlir.training.trainer import Trainer
from training_runs import SHAPE, SPACING, Blobs, bent, make_config, tensor, voxels, write_subjects

CPU = torch.device("cpu")
FINE_TUNING = {"iterations": 3, "batch_size": 2, "learning_rate": 0.003, "alpha": 0.01}
Weights = dict[str, Tensor]


def quiet(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects to train with and one held out; their labels cannot be read by anything."""
    root = tmp_path_factory.mktemp("images")
    write_subjects(root, ["one", "two", "three", "held"])
    return root


@pytest.fixture
def start(images: Path, tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Makes a trainer: start(config, folder)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda config=None, folder="run": Trainer(config or make_config(), images, tmp_path / folder, CPU)
    torch.set_num_threads(threads)


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
        trainer.run(progress)


# -- a run -------------------------------------------------------------------------------------------


def test_a_run_makes_a_model_that_registers(start: Callable[..., Trainer], tmp_path: Path) -> None:
    """Two stages and fine-tuning, from image files to a pair that nobody has seen."""
    stage = {"iterations": 60, "batch_size": 2, "learning_rate": 0.01, "alpha": 0.01}
    still = {"crop": SHAPE[::-1], "shift": 0, "rotate90": False, "flip": False}
    config = make_config(
        training=[stage] * 2, fine_tuning={**stage, "iterations": 20}, augmentation=still, validation_every=20
    )
    calls: list[tuple[str, int, int]] = []
    path = start(config).run(lambda *progress: calls.append(progress[:3]))
    expected = [("stage 1/2", 60), ("stage 2/2", 60), ("fine-tuning", 20)]
    assert calls == [(name, i + 1, total) for name, total in expected for i in range(total)]

    model, header = load_model(path)
    image, grid = Blobs(0, count=30), ImageGrid(SHAPE, SPACING)
    fixed, moving = (Volume(image(bent(voxels(), s)).astype(np.float32), grid, "unseen") for s in (-1.6, 1.6))
    result = Registration(model, CPU)(fixed, moving)
    before, after = (ncc(tensor(fixed.array), tensor(array)).item() for array in (moving.array, result.warped))
    assert 1 - after < (1 - before) / 2
    assert (result.jacobian > 0).all()

    training = header.card["training"]
    assert {key: header.card[key] for key in ("name", "licence")} == {"name": "test", "licence": "test"}
    assert (training["subjects"], training["validation_subjects"], training["phases_completed"]) == (3, 1, 3)
    assert training["device"] == "cpu"
    assert training["config"]["seed"] == 0
    assert training["config"]["training"][1]["iterations"] == 60
    assert training["last_validation"]["validation_similarity"] > 0.95


def test_the_history_follows_the_held_out_subject(start: Callable[..., Trainer], tmp_path: Path) -> None:
    start(make_config(validation_every=4)).run(quiet)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [(row["phase"], row["iteration"]) for row in history] == [(0, 4), (0, 6), (1, 4), (1, 6)]
    for row in history:
        assert 0 < row["validation_similarity"] <= 1
        assert row["validation_bending"] >= 0
        assert row["loss"] == pytest.approx(0.01 * row["bending"] - row["similarity"], abs=1e-5)
    assert [row["seconds"] for row in history] == sorted(row["seconds"] for row in history)
    assert load_model(tmp_path / "run" / "model.safetensors")[1].card["training"]["last_validation"] == history[-1]


def test_a_run_needs_no_held_out_subject(start: Callable[..., Trainer]) -> None:
    config = make_config(sources=[{"files": ["*/*_frame??.nii.gz"]}], training=[{"iterations": 1, "batch_size": 1}] * 2)
    trainer = start(config)
    trainer.run(quiet)
    assert "similarity" in trainer.state.history[-1]
    assert "validation_similarity" not in trainer.state.history[-1]


def test_stages_are_trained_one_after_the_other(start: Callable[..., Trainer]) -> None:
    """Then all together. Each phase is seen from its first to its last iteration."""
    trainer = start(make_config(fine_tuning=FINE_TUNING))
    snapshots: dict[str, list[Weights]] = {}
    initial = weights(trainer)
    trainer.run(lambda phase, *_: snapshots.setdefault(phase, []).append(weights(trainer)))

    def changed(first: Weights, last: Weights, stage: int) -> list[bool]:
        return [not torch.equal(first[n], last[n]) for n in first if n.startswith(f"networks.{stage}.")]

    first, second, both = snapshots["stage 1/2"][-1], snapshots["stage 2/2"][-1], snapshots["fine-tuning"][-1]
    assert all(changed(initial, first, 0))
    assert not any(changed(initial, first, 1))
    assert not any(changed(first, second, 0))
    assert all(changed(first, second, 1))
    assert all(changed(second, both, 0) + changed(second, both, 1))


def test_the_learning_rate_rises_then_falls(start: Callable[..., Trainer]) -> None:
    trainer, rates = start(make_config(training=[{"iterations": 80, "batch_size": 1, "learning_rate": 0.01}] * 2)), []

    def progress(*_: Any) -> None:
        assert trainer.optimizer is not None
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if len(rates) == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress)
    peak = int(np.argmax(rates))
    assert rates[0] < 0.001
    assert 0.004 < max(rates) < 0.01
    assert 30 < peak < 60
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.0002 <= rates[-1] < 0.0004


def test_reduced_precision_runs(start: Callable[..., Trainer]) -> None:
    results = {}
    for precision in ("float32", "bfloat16"):
        trainer = start(make_config(precision=precision, fine_tuning=FINE_TUNING), precision)
        initial = weights(trainer)
        path = trainer.run(quiet)
        results[precision] = load_model(path)[0].state_dict()
        assert not same(initial, results[precision])
    full, reduced = results["float32"], results["bfloat16"]
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in reduced.values())
    assert not same(full, reduced)
    for name, value in full.items():
        torch.testing.assert_close(reduced[name], value, rtol=0, atol=0.1)


def test_convolutions_keep_channels_last(start: Callable[..., Trainer], tmp_path: Path) -> None:
    """In memory order that both oneDNN and cuDNN prefer, also after a checkpoint or a model file was read."""
    trainer = start()
    run_until(trainer, 4)
    again = start()
    again.resume()
    for model in (trainer.model, again.model, load_model(tmp_path / "run" / "model.safetensors")[0]):
        kernels = [p for p in model.parameters() if p.dim() == 5 and p.shape[2] > 1 and p.shape[1] > 1]
        assert kernels
        assert all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels)
    assert again.optimizer is not None
    moments = [values["exp_avg"] for values in again.optimizer.state.values()]
    moments = [m for m in moments if m.dim() == 5 and m.shape[2] > 1 and m.shape[1] > 1]
    assert moments
    assert all(moment.is_contiguous(memory_format=torch.channels_last_3d) for moment in moments)


# -- again and again ---------------------------------------------------------------------------------


def test_the_seed_decides_everything(start: Callable[..., Trainer]) -> None:
    runs = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer = start(make_config(seed=seed, fine_tuning=FINE_TUNING), folder)
        torch.manual_seed(len(runs))  # what else happens in the process must not matter
        trainer.run(quiet)
        runs.append(weights(trainer))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("count", [2, 5, 6, 11, 14])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    start: Callable[..., Trainer], uninterrupted: tuple[Weights, list[dict[str, float]]], count: int
) -> None:
    """Before and after the first checkpoint, at the end of a stage, in the second one, and in fine-tuning."""
    config = make_config(fine_tuning=FINE_TUNING)
    run_until(start(config), count)
    trainer = start(config)
    if count > 2:
        trainer.resume()
        assert (trainer.state.phase, trainer.state.iteration) == {5: (0, 3), 6: (0, 6), 11: (1, 3), 14: (2, 0)}[count]
    trainer.run(quiet)
    expected, history = uninterrupted
    assert same(weights(trainer), expected)
    assert [{**row, "seconds": 0} for row in trainer.state.history] == history


@pytest.fixture(scope="session")
def uninterrupted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, list[dict[str, float]]]:
    """Weights and history, but for the time it took, of a run to its end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = Trainer(make_config(fine_tuning=FINE_TUNING), images, tmp_path_factory.mktemp("run"), CPU)
    trainer.run(quiet)
    torch.set_num_threads(threads)
    return weights(trainer), [{**row, "seconds": 0} for row in trainer.state.history]


def test_a_finished_run_stays_finished(start: Callable[..., Trainer], tmp_path: Path) -> None:
    start().run(quiet)
    content = (tmp_path / "run" / "model.safetensors").read_bytes()
    trainer = start()
    trainer.resume()
    assert trainer.run(quiet).read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"training": [{"iterations": 7}] * 2}, "training"),
        ({"precision": "bfloat16", "validation_every": 4}, "validation_every, precision"),
    ],
)
def test_another_configuration_is_refused(
    start: Callable[..., Trainer], tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    run_until(start(), 4)
    content = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match=rf"last\.pt.*another configuration.*\({named}\)"):
        start(make_config(**changes)).resume()
    assert (tmp_path / "run" / "last.pt").read_bytes() == content


def test_a_checkpoint_from_before_a_setting_existed_is_accepted(start: Callable[..., Trainer], tmp_path: Path) -> None:
    run_until(start(), 4)
    path = tmp_path / "run" / "last.pt"
    content = torch.load(path, weights_only=True)
    config = json.loads(content["config"])
    del config["precision"]
    torch.save({**content, "config": json.dumps(config)}, path)
    trainer = start()
    trainer.resume()
    assert trainer.state.iteration == 3


@pytest.mark.parametrize("keep", [0, 0.3, 0.99])
def test_a_damaged_checkpoint_is_refused(start: Callable[..., Trainer], tmp_path: Path, keep: float) -> None:
    run_until(start(), 4)
    path = tmp_path / "run" / "last.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ConfigError, match=r"checkpoint '.*last\.pt' is damaged"):
        start().resume()


def test_a_checkpoint_of_something_else_is_refused(start: Callable[..., Trainer], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torch.save({"weights": torch.zeros(3)}, tmp_path / "run" / "last.pt")
    with pytest.raises(ConfigError, match=r"checkpoint '.*last\.pt' is damaged"):
        start().resume()


def test_no_checkpoint_is_refused(start: Callable[..., Trainer]) -> None:
    with pytest.raises(ConfigError, match=r"cannot read checkpoint '.*last\.pt': No such file"):
        start().resume()


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
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]
) -> None:
    trainer = start()
    names = [trainer.pairs[i][2] for i in (8, 9)]
    spoil(monkeypatch, 5, change)
    before: list[Weights] = []
    with pytest.raises(ConfigError) as caught:
        trainer.run(lambda *_: before.append(weights(trainer)))
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


@pytest.mark.parametrize("where", ["loss", "progress", "worker"])
def test_no_process_is_left_behind(start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """While whoever caught the exception still holds it."""
    trainer = start()
    if where == "loss":
        spoil(monkeypatch, 2, lambda s: s * math.nan)
    if where == "worker":
        monkeypatch.setattr(trainer.pairs, "transforms", None)

    def progress(*_: Any) -> None:
        assert multiprocessing.active_children()
        if where == "progress":
            raise KeyboardInterrupt

    with pytest.raises((ConfigError, KeyboardInterrupt, AttributeError)) as caught:
        trainer.run(progress)
    assert multiprocessing.active_children() == []
    assert caught.value.__traceback__ is not None


def test_a_large_gradient_is_shortened(start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
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
        trainer.run(progress)


def test_a_run_from_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config: TrainingConfig = make_config()
    with pytest.raises(ConfigError, match="no file matches"):
        Trainer(config, tmp_path, tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()
