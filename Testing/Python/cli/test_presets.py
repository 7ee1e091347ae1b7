"""`dlir presets`: listed, shown, written, and trained with as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cli_runs import refuse, succeed
from dlir.model.catalogue import resource_folder
from dlir.training.config import ANY_IMAGE
from dlir.training.config_file import load_config, presets


def test_they_are_listed() -> None:
    told = succeed(["presets"])
    assert all(name in told for name in presets())
    found = {entry["name"]: entry for entry in json.loads(succeed(["presets", "--json"]))}
    assert set(found) == set(presets())
    assert found["hippocampus"]["pairs"] == "inter"
    assert found["hippocampus"]["stages"] == ["affine", "bspline", "bspline"]


def test_one_is_shown_and_written_as_it_is(tmp_path: Path) -> None:
    text = presets()["cardiac-cine"].read_text(encoding="utf-8")
    assert succeed(["presets", "show", "cardiac-cine"]) == text
    shown = json.loads(succeed(["presets", "show", "cardiac-cine", "--json"]))
    assert shown["training"][0]["similarity"] == "ncc"  # a default, too
    file = tmp_path / "mine.yaml"
    assert str(file) in succeed(["presets", "write", "cardiac-cine", file])
    assert file.read_text(encoding="utf-8") == text
    refuse(["presets", "write", "cardiac-cine", file], tmp_path, "is there already", "--overwrite")
    succeed(["presets", "write", "cardiac-cine-paper-single", file, "--overwrite"])
    assert load_config(file).card.name == "cardiac-cine-paper-single"  # it extends another one, by its name
    refuse(["presets", "show", "cardiac"], tmp_path, "no preset 'cardiac'", "did you mean 'cardiac-cine'?")


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_takes_anybodys_images(name: str) -> None:
    """No file, folder or person is named, and nobody is counted."""
    for source in load_config(presets()[name]).sources:
        assert source.files == list(ANY_IMAGE)
        assert source.validation == []
        assert (source.validation_last, source.test_last) == (0, 0)
        assert source.subject is None


@pytest.mark.parametrize("path", sorted(resource_folder("Models").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_a_model_was_trained_on_is_its_preset_but_for_the_images(path: Path) -> None:
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == {"extends", "sources"}
    config, preset = load_config(path), load_config(presets()[path.stem])
    assert config.model_copy(update={"sources": preset.sources}) == preset
