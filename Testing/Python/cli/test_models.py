"""`dlir models`: the list and the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runs import STAGES, Pair, refuse, succeed
from dlir.model import catalogue


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
