"""How a model is named: by what comes with DLIR, or by its file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dlir
from cli_runs import SOURCE, make_model
from dlir.errors import ModelError
from dlir.model import catalogue
from dlir.model.catalogue import bundled_models, resolve_model, resource_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of two models."""
    models = tmp_path / "Models"
    models.mkdir()
    make_model(models / "brain-mr.safetensors")
    (models / "cardiac-cine.safetensors").write_bytes((models / "brain-mr.safetensors").read_bytes())
    (models / "notes.txt").write_text("not a model")
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / kind)
    return models


def test_names_lead_to_files(folder: Path) -> None:
    assert resolve_model("brain-mr") == folder / "brain-mr.safetensors"
    assert [entry.name for entry in bundled_models()] == ["brain-mr", "cardiac-cine"]
    assert all(entry.header is not None and entry.problem is None for entry in bundled_models())


def test_files_are_taken_as_they_are(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own.safetensors", f"some{os.sep}where", str(tmp_path / "absent.safetensors")):
        assert resolve_model(name) == Path(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "renamed").write_bytes(b"")
    assert resolve_model("renamed") == Path("renamed")


def test_an_unknown_name_lists_the_nearest_first(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no model 'cardiac'; choose one of cardiac-cine, brain-mr, or give"):
        resolve_model("cardiac")
    with pytest.raises(ModelError, match="choose one of brain-mr, cardiac-cine"):
        resolve_model("Brain")


def test_without_any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "resource_folder", lambda kind: tmp_path / kind)
    assert bundled_models() == []
    with pytest.raises(ModelError, match="none comes with this DLIR; give a model file"):
        resolve_model("cardiac-cine")


def test_a_damaged_model_does_not_hide_the_others(folder: Path) -> None:
    (folder / "cardiac-cine.safetensors").write_bytes(b"no")
    good, bad = bundled_models()
    assert good.header is not None
    assert bad.header is None
    assert "damaged" in str(bad.problem)


def test_resources_lie_in_the_repository_or_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "root" / "DLIRRegistration" / "dlir"
    package.mkdir(parents=True)
    monkeypatch.setattr(dlir, "__file__", str(package / "__init__.py"))
    assert resource_folder("Models") == tmp_path / "root" / "Resources" / "Models"
    (package / "resources" / "Models").mkdir(parents=True)
    assert resource_folder("Models") == package / "resources" / "Models"


def test_looking_for_models_needs_no_torch() -> None:
    code = (
        "import sys; from dlir.model.catalogue import bundled_models; bundled_models(); "
        "sys.exit(bool({'torch', 'SimpleITK', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
