"""`dlir crossvalidate`: a model per fold, trained without whom it is tested on, and stopped whenever one likes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_runs import refuse, succeed
from dlir.cli import crossvalidate
from dlir.cli.evaluate import OUTPUTS
from dlir.evaluation.report import build
from evaluation_runs import CONFIG, write_subjects


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_subjects(tmp_path / "data", 4)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def arguments(study: Path, *more: str) -> list[str | Path]:
    where = ["--data", study / "data", "--dataset", "folder", "--output", study / "out", "--config"]
    return ["crossvalidate", *where, study / "config.yaml", "--device", "cpu", *more]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, model_file: Path) -> list[list[str]]:
    """Stands in for training: notes what was asked for, and puts a model where it should be."""
    calls: list[list[str]] = []

    def train(given: list[Any], device: str, folder: Path) -> None:
        calls.append([str(a) for a in given])
        run = folder / "run"
        run.mkdir(exist_ok=True)
        (run / "model.safetensors").write_bytes(model_file.read_bytes())

    monkeypatch.setattr(crossvalidate, "_dlir_train", train)
    monkeypatch.setattr(
        build, "build_report", lambda evaluated: ""
    )  # drawing takes the longest and is tested elsewhere
    return calls


def files_of(study: Path, fold: str) -> set[str]:
    config = yaml.safe_load((study / "out" / fold / "config.yaml").read_text())
    return {file for source in config["sources"] for file in source["files"]}


def scored(study: Path) -> dict[str, str]:
    with (study / "out" / OUTPUTS["pairs"]).open(newline="") as file:
        return {row["pair"]: row["method"] for row in csv.DictReader(file) if row["method"] != "before"}


def test_no_model_sees_whom_it_is_tested_on(study: Path, trained: list[list[str]]) -> None:
    summary = json.loads(succeed(arguments(study, "--folds", "2", "--json")))
    assert summary["pairs"] == 8
    assert set(summary["methods"]) == {"before", "DLIR tiny"}
    folds = [files_of(study, f"fold-{k}-of-2") for k in (1, 2)]
    assert not folds[0] & folds[1]
    assert len(folds[0] | folds[1]) == 8
    assert len(trained) == 2
    assert len(scored(study)) == 8


def test_leave_one_out_is_a_fold_each(study: Path, trained: list[list[str]]) -> None:
    succeed(arguments(study, "--leave-one-out", "--subjects", "s0[012]"))
    assert len(trained) == 3
    assert files_of(study, "fold-2-of-3") == {f"{s}/{p}.nrrd" for s in ("s00", "s02", "s03") for p in ("in", "out")}
    assert len(scored(study)) == 6


def test_the_same_command_again_trains_nothing(study: Path, trained: list[list[str]]) -> None:
    first = succeed(arguments(study, "--folds", "2"))
    assert succeed(arguments(study, "--folds", "2")) == first
    assert len(trained) == 2


def test_a_fold_that_was_stopped_is_resumed(study: Path, trained: list[list[str]]) -> None:
    run = study / "out" / "fold-1-of-2" / "run"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    succeed(arguments(study, "--folds", "2"))
    assert trained[0] == ["--resume", str(run)]
    assert "--resume" not in trained[1]


def test_another_configuration_is_another_cross_validation(study: Path, trained: list[list[str]]) -> None:
    succeed(arguments(study, "--folds", "2"))
    (study / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "validation_every": 2}))
    refuse(arguments(study, "--folds", "2"), study, "another cross-validation", "choose another output folder")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--folds", "5"], ["4 subjects cannot be dealt to 5 folds"]),
        (["--folds", "2", "--training-data", "."], ["cannot be kept from training"]),
    ],
)
def test_what_cannot_be_is_refused_before_any_training(
    study: Path, trained: list[list[str]], more: list[str], words: list[str]
) -> None:
    refuse(arguments(study, *more), study, *words)
    assert trained == []


@pytest.mark.slow
def test_with_real_training(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed = succeed(arguments(study, "--folds", "2", "--stages"))
    assert "| DLIR tiny DIR-1 | 8 |" in printed
    page = (study / "out" / OUTPUTS["report"]).read_text()
    assert "Learning curves" in page
    assert "n = 2 training runs" in page
    models = [study / "out" / f"fold-{k}-of-2" / "run" / "model.safetensors" for k in (1, 2)]
    assert models[0].read_bytes() != models[1].read_bytes()
    assert "2/2" in capfd.readouterr().err  # what training says of itself reaches the terminal
