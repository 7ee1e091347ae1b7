"""`dlir models`: the list and the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli_runs import STAGES, Pair, refuse, succeed
from dlir.cli import app
from dlir.model import catalogue
from dlir.model.file import load_model, save_model


@pytest.fixture
def folder(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of a good model and a damaged one."""
    (tmp_path / "Models").mkdir()
    (tmp_path / "Models" / "good.safetensors").write_bytes(model_file.read_bytes())
    (tmp_path / "Models" / "worse.safetensors").write_bytes(b"no")
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / kind)
    return tmp_path / "Models"


def test_list(folder: Path) -> None:
    printed = succeed(["models"])
    for word in ("good", "Untrained, for tests", "any", "CC0", "yes", "MB", "worse", "is damaged"):
        assert word in printed


def test_list_for_machines(folder: Path) -> None:
    good, worse = json.loads(succeed(["models", "--json"]))
    assert good["name"] == "good"
    assert good["licence"] == "CC0"
    assert good["fold_free"] is True
    assert good["bundled"] is True
    assert good["bytes"] == (folder / "good.safetensors").stat().st_size
    assert "damaged" in worse["problem"]


def test_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / kind)
    assert "No model" in succeed(["models"])
    assert json.loads(succeed(["models", "--json"])) == []


@pytest.mark.parametrize("by_name", [True, False])
def test_card(folder: Path, by_name: bool) -> None:
    name = "good" if by_name else folder / "good.safetensors"
    printed = succeed(["models", "show", name])
    for word in ("Untrained, for tests", "CC0", "sha256", "fold-free", "16 × 16 × 16", "bspline", "hours", "0.5"):
        assert word in printed
    assert "config" not in printed
    card = json.loads(succeed(["models", "show", name, "--json"]))
    assert card["card"]["training"]["config"] == {"seed": 1}
    assert len(card["spec"]["stages"]) == len(STAGES)


def test_card_of_what_is_no_model(folder: Path, pair: Pair) -> None:
    refuse(["models", "show", "goods"], pair.folder, "no model 'goods'", "choose one of good, worse")
    refuse(["models", "show", "worse"], pair.folder, "worse.safetensors", "damaged")
    refuse(["models", "show", folder / "no.safetensors"], pair.folder, "no.safetensors", "check the path")


def test_installed_models_can_be_used() -> None:
    """Whatever lies in Resources/Models is whole."""
    assert all(entry.problem is None for entry in catalogue.all_models())


# -- check -------------------------------------------------------------------------------------------


def _check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", "check", *map(str, arguments)])


@pytest.mark.parametrize("name", ["cardiac-cine", "hippocampus"])
def test_what_ships_is_good_from_end_to_end(name: str) -> None:
    result = _check(name)
    assert result.exit_code == 0, result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok"] * 5


def test_a_damaged_model_is_found_out(folder: Path) -> None:
    result = _check("worse")
    assert result.exit_code == 1
    assert "wrong  file, specification and checksum" in result.stdout
    assert "is damaged" in result.stdout
    found = json.loads(_check("worse", "--json").stdout)
    assert found["good"] is False
    assert found["findings"][0]["problem"]


def test_each_fault_is_found_out(folder: Path) -> None:
    """A card with gaps, weights that are not finite, and a model that cannot register."""
    model, header = load_model(folder / "good.safetensors")
    card = {key: value for key, value in header.card.items() if key not in ("licence", "training")}
    bias = model.networks[-1].output.bias
    bias.data[0] = float("nan")
    save_model(folder / "bad.safetensors", model, card)
    findings = json.loads(_check("bad", "--json").stdout)["findings"]
    problems = {finding["what"]: finding["problem"] for finding in findings}
    assert problems["file, specification and checksum"] is None
    assert "licence" in problems["card says what a user must know"]
    assert "hours" in problems["card says how it was trained"]
    assert "output.bias" in problems["weights are numbers"]
    assert "not finite" in problems["registers a pair"]


def test_a_model_that_is_not_there(pair: Pair) -> None:
    refuse(["models", "check", "no-such"], pair.folder, "no model 'no-such'")
