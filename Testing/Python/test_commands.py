"""`dlir.train` and `dlir.evaluate` are the commands, called from Python."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import dlir
from cli_runs import make_model, succeed
from dlir.cli import evaluate as evaluate_command
from dlir.cli import train as train_command
from dlir.errors import EvaluationError, OptionError
from dlir.evaluation.report import build
from dlir.registration.choices import Device
from evaluation_runs import write_subjects


def test_training_hands_on_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def command(**options: Any) -> Path:
        given.update(options)
        return Path("run/model.safetensors")

    monkeypatch.setattr(train_command, "train", command)
    found = dlir.train("data", Path("run"), preset="hippocampus", device="cpu", max_iterations=2, cache="here")
    assert found == Path("run/model.safetensors")
    wanted = {"data": Path("data"), "output": Path("run"), "cache": Path("here"), "config": None, "resume": None}
    assert given | wanted == given
    assert (given["preset"], given["device"], given["max_iterations"]) == ("hippocampus", Device.cpu, 2)


def test_training_has_the_options_of_the_command_and_its_defaults() -> None:
    ours, theirs = (inspect.signature(each).parameters for each in (dlir.train, train_command.train))
    assert set(ours) <= set(theirs)
    assert {name: ours[name].default for name in ours} == {
        name: getattr(theirs[name].default, "value", theirs[name].default) for name in ours
    }


def test_a_model_is_continued_as_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(train_command, "train", lambda **options: given.update(options))
    dlir.train("data", "run", init=Path("old.safetensors"), freeze="1,2", add_stages=1)
    assert (given["init"], given["freeze"], given["add_stages"]) == ("old.safetensors", "1,2", 1)


def test_training_refuses_what_the_command_refuses(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="give --data and --output"):
        dlir.train(preset="hippocampus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["data", "output", "cache"])
def test_an_empty_path_is_not_the_current_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=f"{name} is empty; give a path, or . for the current folder"):
        dlir.train(**{"data": "d", "output": "out", "preset": "hippocampus"} | {name: ""})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build_report", lambda evaluated: "")  # which takes the longest
    data, model = write_subjects(tmp_path / "hearts", 2), make_model(tmp_path / "tiny.safetensors")
    options: dict[str, Any] = {"limit": 2, "device": "cpu", "threads": 1}
    found = dlir.evaluate(data, "folder", tmp_path / "ours", [model], **options)
    command = ["evaluate", model, "--data", data, "--dataset", "folder", "--limit", "2", "--device", "cpu", "--json"]
    theirs = json.loads(succeed([*command, "--threads", "1", "--output", tmp_path / "theirs"]))

    def without_times(summary: dict[str, Any]) -> dict[str, Any]:
        methods = {name: {**figures, "seconds": None} for name, figures in summary["methods"].items()}
        return summary | {"methods": methods}

    assert without_times(found) == without_times(theirs)
    assert found["methods"]["DLIR tiny"]["dice_label 1"]["count"] == 2
    files = {path.name for path in (tmp_path / "ours").iterdir()}
    assert set(evaluate_command.OUTPUTS.values()) <= files == {path.name for path in (tmp_path / "theirs").iterdir()}


def test_an_evaluation_refuses_what_the_command_refuses(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="does not exist"):
        dlir.evaluate(tmp_path / "nowhere", "folder", tmp_path / "out")
