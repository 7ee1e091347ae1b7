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
from dlir.model.catalogue import SUFFIX, all_models, resolve_model, resource_folder, user_folder


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
    assert [entry.name for entry in all_models()] == ["brain-mr", "cardiac-cine"]
    assert all(entry.header is not None and entry.problem is None for entry in all_models())


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
    assert all_models() == []
    with pytest.raises(ModelError, match="none comes with this DLIR; give a model file"):
        resolve_model("cardiac-cine")


def test_a_damaged_model_does_not_hide_the_others(folder: Path) -> None:
    (folder / "cardiac-cine.safetensors").write_bytes(b"no")
    good, bad = all_models()
    assert good.header is not None
    assert bad.header is None
    assert "damaged" in str(bad.problem)


@pytest.fixture
def own(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a model beside the catalogue of two."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "knee.safetensors").write_bytes((folder / "brain-mr.safetensors").read_bytes())
    monkeypatch.setenv("DLIR_MODELS", str(own))
    return own


def test_models_of_the_user_come_after_the_others(own: Path) -> None:
    assert [(entry.name, entry.bundled) for entry in all_models()] == [
        ("brain-mr", True),
        ("cardiac-cine", True),
        ("knee", False),
    ]
    assert resolve_model("knee") == own / "knee.safetensors"
    with pytest.raises(ModelError, match="choose one of knee, "):
        resolve_model("kneee")


def test_a_model_of_the_user_never_stands_in_for_one_that_comes_with_dlir(own: Path, folder: Path) -> None:
    (own / "brain-mr.safetensors").write_bytes((own / "knee.safetensors").read_bytes())
    assert resolve_model("brain-mr") == folder / "brain-mr.safetensors"
    entry = all_models()[2]
    assert (entry.name, entry.bundled, entry.header) == ("brain-mr", False, None)
    assert "rename it" in str(entry.problem)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.local/share/DLIR/Models"),
        ("linux", {"XDG_DATA_HOME": "data"}, "data/DLIR/Models"),
        ("darwin", {}, "home/Library/Application Support/DLIR/Models"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/DLIR/Models"),
        ("linux", {"DLIR_MODELS": "here"}, "here"),
    ],
)
def test_where_the_user_keeps_models(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DLIR_MODELS", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert user_folder() == Path(expected)


def test_a_folder_that_does_not_exist_holds_no_models(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLIR_MODELS", str(tmp_path / "absent"))
    assert [entry.path.name for entry in all_models()] == [f"brain-mr{SUFFIX}", f"cardiac-cine{SUFFIX}"]


def test_resources_lie_in_the_repository_or_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "root" / "DLIRRegistration" / "dlir"
    package.mkdir(parents=True)
    monkeypatch.setattr(dlir, "__file__", str(package / "__init__.py"))
    assert resource_folder("Models") == tmp_path / "root" / "Resources" / "Models"
    (package / "resources" / "Models").mkdir(parents=True)
    assert resource_folder("Models") == package / "resources" / "Models"


def test_looking_for_models_needs_no_torch() -> None:
    code = (
        "import sys; from dlir.model.catalogue import all_models; all_models(); "
        "sys.exit(bool({'torch', 'SimpleITK', 'safetensors'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
