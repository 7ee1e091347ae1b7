"""Whole small runs: what they do and what they leave behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dlir.geometry import ImageGrid
from dlir.io.content import content_hash
from dlir.io.reading import Volume, read_image
from dlir.losses.choices import SIMILARITIES, Similarity
from dlir.losses.compared import Measure
from dlir.losses.similarity import ncc
from dlir.model.card import seen_images
from dlir.model.file import load_model
from dlir.registration.oneshot import Registration
from dlir.training import phases as module_of_phases
from dlir.training import trainer as module
from dlir.training.batch import Batch
from dlir.training.chain import ChainResult
from dlir.training.validation import Pictures
from trainer_runs import FINE_TUNING, Start, Weights, quiet, run, run_until, same, timeless, weights
from training_runs import SHAPE, SPACING, Blobs, bent, make_config, tensor, voxels

CPU = torch.device("cpu")


# -- a run -------------------------------------------------------------------------------------------


def test_a_run_makes_a_model_that_registers(start: Start, images: Path) -> None:
    """Two stages and fine-tuning, from image files to a pair that nobody has seen."""
    stage = {"iterations": 60, "batch_size": 2, "learning_rate": 0.01, "alpha": 0.01}
    still = {"crop": SHAPE[::-1], "shift": 0, "rotate90": False, "flip": False}
    config = make_config(
        training=[stage] * 2, fine_tuning={**stage, "iterations": 20}, augmentation=still, validation_every=20
    )
    calls: list[tuple[str, int, int]] = []
    path = run(start(config), lambda *progress: calls.append(progress[:3]))
    expected = [("stage 1/2", 60), ("stage 2/2", 60), ("fine-tuning", 20)]
    assert [call for call in calls if call[0] != "domain"] == [
        (name, i + 1, total) for name, total in expected for i in range(total)
    ]
    assert calls[-1][0] == "domain"  # of the finished model

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
    assert training["device"].startswith("cpu (")
    assert training["images"] == 6
    assert training["validation_images"] == 2
    assert training["spacing"] == {"smallest": list(SPACING), "largest": list(SPACING)}
    told = "6 images of 3 subjects to train with, 2 images of 1 subject to validate on, voxels of 1 × 1 × 4 mm"
    assert header.card["data"] == f"test; {told}"
    files = sorted(images.glob("*/*_frame??.nii.gz"))
    hashes = {file: content_hash(read_image(file).array) for file in files}
    seen = {hashed: "validation" if "held" in file.name else "training" for file, hashed in hashes.items()}
    assert seen_images(header.card) == seen
    assert training["bending_energy"] == "integral"
    assert training["pairs_drawn"] == 2 * 140
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", training["date"])
    assert training["config"]["seed"] == 0
    assert training["config"]["training"][1]["iterations"] == 60
    assert training["last_validation"]["validation_similarity"] > 0.95


def test_the_history_follows_the_held_out_subject(start: Start, tmp_path: Path) -> None:
    run(start(make_config(validation_every=4)))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [(row["phase"], row["iteration"]) for row in history] == [(0, 4), (0, 6), (1, 4), (1, 6)]
    for row in history:
        assert 0 < row["validation_similarity"] <= 1
        assert row["validation_bending"] >= 0
        assert row["loss"] == pytest.approx(row["bending"] - row["similarity"], abs=1e-5)  # bending: times alpha
        assert row["validation_folding_percent"] == 0
        assert row["gradient_norm"] > 0
        assert 0 <= row["waiting"] <= 1
    assert [row["seconds"] for row in history] == sorted(row["seconds"] for row in history)
    assert load_model(tmp_path / "run" / "model.safetensors")[1].card["training"]["last_validation"] == history[-1]


def test_a_run_needs_no_held_out_subject(start: Start) -> None:
    config = make_config(sources=[{"files": ["*/*_frame??.nii.gz"]}], training=[{"iterations": 1, "batch_size": 1}] * 2)
    trainer = start(config)
    run(trainer)
    assert "similarity" in trainer.state.history[-1]
    assert "validation_similarity" not in trainer.state.history[-1]


def test_stages_are_trained_one_after_the_other(start: Start) -> None:
    """Then all together. Each phase is seen from its first to its last iteration."""
    trainer = start(make_config(fine_tuning=FINE_TUNING))
    snapshots: dict[str, list[Weights]] = {}
    initial = weights(trainer)
    run(trainer, lambda phase, *_: snapshots.setdefault(phase, []).append(weights(trainer)))

    def changed(first: Weights, last: Weights, stage: int) -> list[bool]:
        return [not torch.equal(first[n], last[n]) for n in first if n.startswith(f"networks.{stage}.")]

    first, second, both = snapshots["stage 1/2"][-1], snapshots["stage 2/2"][-1], snapshots["fine-tuning"][-1]
    assert all(changed(initial, first, 0))
    assert not any(changed(initial, first, 1))
    assert not any(changed(first, second, 0))
    assert all(changed(first, second, 1))
    assert all(changed(second, both, 0) + changed(second, both, 1))


def test_the_learning_rate_rises_then_falls(start: Start) -> None:
    trainer, rates = start(make_config(training=[{"iterations": 80, "batch_size": 1, "learning_rate": 0.01}] * 2)), []

    def progress(*_: Any) -> None:
        assert trainer.optimizer is not None
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if len(rates) == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trainer, progress)
    peak = int(np.argmax(rates))
    assert rates[0] < 0.001
    assert 0.004 < max(rates) < 0.01
    assert 30 < peak < 60
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.0002 <= rates[-1] < 0.0004


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_run_is_for_the_similarity_that_its_configuration_names(
    start: Start, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each phase; the model's card says so by the same name."""
    measured: list[str] = []
    of_name = module_of_phases.similarity_of

    def watched(chosen: Similarity, window: int) -> Measure:
        measured.append(chosen.value)
        return of_name(chosen, window)

    monkeypatch.setattr(module_of_phases, "similarity_of", watched)
    stage = {"iterations": 1, "batch_size": 1, "similarity": name}
    trainer = start(make_config(training=[stage] * 2, fine_tuning={**FINE_TUNING, "similarity": name}))
    header = load_model(run(trainer))[1]
    assert set(measured) == {name}
    config = header.card["training"]["config"]
    assert [phase["similarity"] for phase in (*config["training"], config["fine_tuning"])] == [name] * 3
    assert all(np.isfinite(row["similarity"]) for row in trainer.state.history)


def test_reduced_precision_runs(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the processor only emulates it and a run would not choose it."""
    monkeypatch.setattr(module, "usable_precision", lambda wanted, device: getattr(torch, wanted))
    results = {}
    for precision in ("float32", "bfloat16"):
        trainer = start(make_config(precision=precision, fine_tuning=FINE_TUNING), precision)
        initial = weights(trainer)
        model, header = load_model(run(trainer))
        results[precision] = model.state_dict()
        assert header.card["training"]["precision"] == precision
        assert not same(initial, results[precision])
    full, reduced = results["float32"], results["bfloat16"]
    assert all(value.dtype == torch.float32 and torch.isfinite(value).all() for value in reduced.values())
    assert not same(full, reduced)
    for name, value in full.items():
        torch.testing.assert_close(reduced[name], value, rtol=0, atol=0.1)


def test_the_card_says_what_was_computed_in_not_what_was_asked_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_precision", lambda wanted, device: torch.float32)
    training = load_model(run(start(make_config(precision="bfloat16"))))[1].card["training"]
    assert training["precision"] == "float32"
    assert training["config"]["precision"] == "bfloat16"


def test_convolutions_keep_channels_last(start: Start, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_accumulated_gradients_are_those_of_the_whole_batch(start: Start, micro_batch: int) -> None:
    stage = {"iterations": 6, "batch_size": 4, "learning_rate": 0.01, "alpha": 0.01}
    rows = []
    for micro in (None, micro_batch):
        trainer = start(make_config(training=[{**stage, "micro_batch": micro}] * 2), str(micro))
        run(trainer)
        rows.append(timeless(trainer.state.history))
    for whole, parts in zip(*rows, strict=True):
        for name, value in whole.items():
            assert parts[name] == pytest.approx(value, abs=1e-4), name


def test_each_micro_batch_is_used_before_the_next_is_taken(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no more than one is held, and the next are prepared meanwhile."""
    events: list[str] = []
    batches, chain = module.Loader.__iter__, module.run_chain

    def taken(loader: module.Loader) -> Iterator[Batch]:
        with closing(batches(loader)) as given:
            for batch in given:
                events.append("taken")
                yield batch

    def used(*arguments: Any, **settings: Any) -> ChainResult:
        if torch.is_grad_enabled():  # not for the initial weights
            events.append("used")
        return chain(*arguments, **settings)

    monkeypatch.setattr(module.Loader, "__iter__", taken)
    monkeypatch.setattr(module, "run_chain", used)
    stage = {"iterations": 2, "batch_size": 4, "micro_batch": 1, "learning_rate": 0.01, "alpha": 0.01}
    run(start(make_config(training=[stage] * 2)))
    assert events == ["taken", "used"] * 4 * 2 * 2


def test_recomputed_activations_change_nothing(start: Start) -> None:
    results = []
    for again in (False, True):
        tuning = {**FINE_TUNING, "activation_checkpointing": again}
        trainer = start(make_config(fine_tuning=tuning), str(again))
        run(trainer)
        results.append(weights(trainer))
    assert same(*results)


# -- each stage's own bending energy -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({}, (0.25, 0.5)),
        ({"alpha_factor": 4.0}, (1.0, 2.0)),
        ({"alpha": 3.0}, (3.0, 3.0)),
        ({"alpha": 0.0}, (0.0, 0.0)),
    ],
)
def test_fine_tuning_weighs_each_stages_bending_energy_by_its_own_alpha(
    start: Start, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, float], expected: tuple[float, float]
) -> None:
    stages = [{"iterations": 1, "batch_size": 2, "alpha": alpha} for alpha in (0.25, 0.5)]
    trainer = start(make_config(training=stages, fine_tuning={"iterations": 1, "batch_size": 2, **tuning}))
    seen: list[Any] = []
    original = module.run_chain

    def run_chain(*arguments: Any, **settings: Any) -> ChainResult:
        result = original(*arguments, **settings)
        if settings["end_to_end"]:
            seen.append(result)
        return result

    monkeypatch.setattr(module, "run_chain", run_chain)
    run(trainer)
    (result,) = seen
    weighted = sum(a * energy.mean().item() for a, energy in zip(expected, result.energies, strict=True))
    assert trainer.state.history[-1]["bending"] == pytest.approx(weighted, rel=1e-5)


# -- when to stop ------------------------------------------------------------------------------------


def test_a_phase_ends_when_nothing_gets_better_with_its_best_weights(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {"iterations": 40, "batch_size": 1, "learning_rate": 0.01}
    trainer = start(make_config(training=[stage] * 2, validation_every=2, patience=2))
    found = iter([0.5, 0.7, 0.6, 0.65, *[0.9 - 0.1 * k for k in range(20)]])
    original, snapshots = module.validate, []

    def validate(*arguments: Any) -> Any:
        result = original(*arguments)
        snapshots.append(weights(trainer))
        return replace(result, figures={**result.figures, "validation_similarity": next(found)})

    monkeypatch.setattr(module, "validate", validate)
    run(trainer)
    rows = [(row["phase"], row["iteration"]) for row in trainer.state.history]
    assert rows == [(0, 2), (0, 4), (0, 6), (0, 8), (1, 2), (1, 4), (1, 6)]
    best = {**snapshots[1], **{name: w for name, w in snapshots[4].items() if name.startswith("networks.1.")}}
    assert same(weights(trainer), best)
    assert trainer.total_iterations() == 14


def test_the_best_model_of_a_phase_is_kept_beside_the_last(start: Start, tmp_path: Path) -> None:
    trainer = start(make_config(validation_every=2))
    run(trainer)
    model, header = load_model(tmp_path / "run" / "best.safetensors")
    second = [row["validation_similarity"] for row in trainer.state.history if row["phase"] == 1]
    assert header.card["training"]["last_validation"]["validation_similarity"] == max(second)
    assert set(model.state_dict()) == set(weights(trainer))


def test_whoever_watches_hears_of_every_row_and_sees_the_first_pair(start: Start) -> None:
    heard: list[tuple[str, int, float, Pictures | None]] = []

    def listen(phase: str, iteration: int, row: dict[str, float], pictures: Pictures | None) -> None:
        heard.append((phase, iteration, row["loss"], pictures))

    trainer = start()
    trainer.run(quiet, listen)
    assert [(phase, iteration) for phase, iteration, _, _ in heard] == [
        ("stage 1/2", 3),
        ("stage 1/2", 6),
        ("stage 2/2", 9),
        ("stage 2/2", 12),
    ]
    pictures = heard[-1][3]
    assert pictures is not None
    assert pictures.fixed.shape == pictures.warped.shape == pictures.jacobian.shape == (24, 24)
    assert 0.5 < pictures.jacobian.mean() < 1.5
    assert np.abs(pictures.fixed - pictures.warped).max() < 1
