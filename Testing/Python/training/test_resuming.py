"""Runs repeat, and resume as if nothing had happened; what does not belong together is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from disks import small_disk
from dlir.errors import ConfigError, OutputError
from dlir.model.file import load_model
from dlir.training import trainer as module
from dlir.training.config import TrainingConfig
from dlir.training.run import train
from dlir.training.run_folder import RunFolder, RunOptions
from dlir.training.trainer import Trainer
from trainer_runs import FINE_TUNING, Start, Weights, quiet, run, run_until, same, timeless, weights
from training_runs import make_config

CPU = torch.device("cpu")


# -- again and again ---------------------------------------------------------------------------------


def test_the_seed_decides_everything(start: Start) -> None:
    runs = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer = start(make_config(seed=seed, fine_tuning=FINE_TUNING), folder)
        torch.manual_seed(len(runs))  # what else happens in the process must not matter
        run(trainer)
        runs.append(weights(trainer))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("count", [1, 3, 5, 6, 11, 14])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    start: Start, uninterrupted: tuple[Weights, list[dict[str, float]]], count: int
) -> None:
    """Between rows of the history, where there is one, at the end of a stage, in the second one, and in fine-tuning."""
    config = make_config(fine_tuning=FINE_TUNING)
    run_until(start(config), count)
    trainer = start(config)
    trainer.resume()
    phase, iteration = divmod(count, 6) if count % 6 else (count // 6 - 1, 6)
    assert (trainer.state.phase, trainer.state.iteration) == (phase, iteration)
    run(trainer)
    expected, history = uninterrupted
    assert same(weights(trainer), expected)
    assert timeless(trainer.state.history) == history


def test_the_time_before_an_interruption_counts(start: Start) -> None:
    config = make_config()
    interrupted = start(config)
    run_until(interrupted, 2)  # amid the iterations of the first row
    trainer = start(config)
    trainer.resume()
    assert trainer.state.lapsed == interrupted.state.lapsed > 0
    trainer.state.lapsed += 1000
    run(trainer)
    assert 1000 < trainer.state.history[0]["seconds"] < 1100
    assert trainer.state.lapsed == 0


def test_a_run_ended_before_its_first_checkpoint_begins_anew(
    start: Start, uninterrupted: tuple[Weights, list[dict[str, float]]]
) -> None:
    trainer = start(make_config(fine_tuning=FINE_TUNING))
    trainer.resume()
    run(trainer)
    assert same(weights(trainer), uninterrupted[0])


@pytest.fixture(scope="module")
def uninterrupted(
    make_trainer: Callable[[TrainingConfig, Path], Trainer], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Weights, list[dict[str, float]]]:
    """Weights and history, but for the time it took, of a run to its end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = make_trainer(make_config(fine_tuning=FINE_TUNING), tmp_path_factory.mktemp("whole") / "run")
    run(trainer)
    torch.set_num_threads(threads)
    return weights(trainer), timeless(trainer.state.history)


def test_a_finished_run_stays_finished(start: Start, tmp_path: Path) -> None:
    run(start())
    content = (tmp_path / "run" / "model.safetensors").read_bytes()
    trainer = start()
    trainer.resume()
    assert run(trainer).read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"training": [{"iterations": 7}] * 2}, "training.0.iterations: 6 -> 7"),
        ({"precision": "bfloat16", "validation_every": 4}, "validation_every: 3 -> 4; precision: float32 -> bfloat16"),
    ],
)
def test_another_configuration_is_refused(start: Start, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    run_until(start(), 4)
    content = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match="was made with another configuration") as caught:
        start(make_config(**changes)).resume()
    assert named in str(caught.value)
    assert (tmp_path / "run" / "last.pt").read_bytes() == content


def test_other_images_are_refused(start: Start) -> None:
    run_until(start(), 4)
    fewer = make_config()
    trainer = start(fewer)
    trainer.draws = [replace(trainer.draws[0], training=trainer.draws[0].training[:1])]  # type: ignore[type-var]
    with pytest.raises(ConfigError, match=r"made with other images \(6 images, .* then, 2 images, .* now\)"):
        trainer.resume()


def test_a_checkpoint_from_before_a_setting_existed_is_accepted(start: Start, tmp_path: Path) -> None:
    run_until(start(), 4)
    path = tmp_path / "run" / "last.pt"
    content = torch.load(path, weights_only=True)
    config = json.loads(content["config"])
    del config["precision"]
    torch.save({**content, "config": json.dumps(config)}, path)
    trainer = start()
    trainer.resume()
    assert trainer.state.iteration == 4


def test_a_run_that_ends_amid_its_last_files_makes_them_all_again(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a finished run could keep a model from before its end."""
    trainer = start()
    write_model = module.save_model

    def fail_at_the_end(path: Path, *rest: Any) -> None:
        if trainer.state.phase == 2:
            raise OutputError("the power went out")
        write_model(path, *rest)

    monkeypatch.setattr(module, "save_model", fail_at_the_end)
    with pytest.raises(OutputError, match="power"):
        run(trainer)
    monkeypatch.setattr(module, "save_model", write_model)
    again = start()
    again.resume()
    model, header = load_model(run(again))
    assert header.card["training"]["phases_completed"] == 2
    assert same(weights(again), model.state_dict())


def test_a_change_of_precision_is_told_and_kept(
    images: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on where the device computes in something else."""
    folder = RunFolder(tmp_path / "run")
    stage = {"iterations": 2, "batch_size": 1}
    options = RunOptions(make_config(precision="bfloat16", training=[stage] * 2), images, shared_cache)
    folder.begin(options)
    told: list[str] = []
    arguments = (folder, options, "cpu", 1, 1, lambda what, why: None)

    def interrupt(phase: str, done: int, total: int, figures: dict[str, float]) -> None:
        if phase != "images":
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "usable_precision", lambda wanted, device: torch.bfloat16)
    for _ in range(2):  # as long as nothing changes, nothing is said
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, interrupt, told.append)
    assert told == []
    monkeypatch.setattr(module, "usable_precision", lambda wanted, device: torch.float32)
    training = load_model(train(*arguments, quiet, told.append))[1].card["training"]
    assert told == ["until now the run was computed in bfloat16; this device goes on in float32"]
    assert training["precision"] == "bfloat16, then float32"


@pytest.mark.parametrize("keep", [0, 0.3, 0.99])
def test_a_damaged_checkpoint_is_refused(start: Start, tmp_path: Path, keep: float) -> None:
    run_until(start(), 4)
    path = tmp_path / "run" / "last.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ConfigError, match=r"checkpoint '.*last\.pt' is damaged"):
        start().resume()


def test_a_checkpoint_of_something_else_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torch.save({"weights": torch.zeros(3)}, tmp_path / "run" / "last.pt")
    with pytest.raises(ConfigError, match=r"checkpoint '.*last\.pt' is damaged"):
        start().resume()


@pytest.mark.parametrize("name", ["model.safetensors", "last.pt"])
def test_a_full_disk_at_a_checkpoint_is_named_and_costs_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = make_config(validation_every=2)
    run_until(start(config), 2)
    content = (tmp_path / "run" / "last.pt").read_bytes()
    trainer = start(config)
    trainer.resume()
    save = trainer.save

    def save_on_a_small_disk() -> None:
        # Not for longer: the processes that prepare batches need memory that counts as files.
        with small_disk((tmp_path / "run" / name).stat().st_size * 3 // 4):
            save()

    monkeypatch.setattr(trainer, "save", save_on_a_small_disk)
    with pytest.raises(OutputError, match=rf"cannot write '.*{name}': the disk is full"):
        run(trainer)
    assert (tmp_path / "run" / "last.pt").read_bytes() == content
    assert not list((tmp_path / "run").glob(".dlir-*"))
    again = start(config)
    again.resume()
    assert again.state.iteration == 2
