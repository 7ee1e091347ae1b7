"""The models a user can choose from, add and remove."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runs import SOURCE, make_model
from dlir.errors import ModelError, OutputError
from dlir.model.catalogue import all_models, resolve_model
from DLIRRegistrationLib import models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file somewhere else."""
    return make_model(tmp_path_factory.mktemp("download") / "knee.safetensors")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which does not exist yet."""
    monkeypatch.setenv("DLIR_MODELS", str(tmp_path / "own" / "Models"))
    return tmp_path / "own" / "Models"


def names() -> list[str]:
    return [entry.name for entry in all_models()]


def test_what_comes_with_dlir_is_there_and_whole(folder: Path) -> None:
    assert "cardiac-cine" in names()
    assert all(entry.bundled and entry.problem is None for entry in all_models())


def test_add_and_remove(folder: Path, model: Path) -> None:
    before = names()
    entry = models.add(model)
    assert (entry.name, entry.path, entry.bundled) == ("knee", folder / "knee.safetensors", False)
    assert entry.path.read_bytes() == model.read_bytes()
    assert names() == [*before, "knee"]
    assert resolve_model("knee") == entry.path, "by its name on the command line too"
    models.remove("knee")
    assert names() == before
    assert list(folder.iterdir()) == []
    assert model.is_file()


def test_a_name_that_exists_is_refused(folder: Path, model: Path, tmp_path: Path) -> None:
    models.add(model)
    with pytest.raises(ModelError, match="already is a model 'knee'"):
        models.add(model)
    namesake = tmp_path / "cardiac-cine.safetensors"
    namesake.write_bytes(model.read_bytes())
    with pytest.raises(ModelError, match="already is a model 'cardiac-cine'"):
        models.add(namesake)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("auto", "The installed model that was made for such images, or optimisation."),
        ("none", "Any images: the transform is found by optimisation."),
    ],
)
def test_a_model_to_be_chosen_is_no_file_and_nor_is_none(
    folder: Path, model: Path, tmp_path: Path, name: str, line: str
) -> None:
    assert models.model_problem(name) is None
    assert models.card_line(name) == line
    own = tmp_path / f"{name}.safetensors"
    own.write_bytes(model.read_bytes())
    with pytest.raises(ModelError, match=f"'{name}' is no name for a model"):
        models.add(own)


def test_what_is_no_whole_model_is_refused(folder: Path, model: Path, tmp_path: Path) -> None:
    cut, other = tmp_path / "cut.safetensors", tmp_path / "weights.pt"
    cut.write_bytes(model.read_bytes()[:-100])
    other.write_bytes(model.read_bytes())
    for path, words in ((cut, "not complete"), (other, "must end in"), (tmp_path / "no.safetensors", "check the path")):
        with pytest.raises(ModelError, match=words):
            models.add(path)
    assert not folder.exists()


def test_a_copy_that_fails_leaves_nothing(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models.shutil, "copyfile", full)
    with pytest.raises(OutputError, match="disk is full"):
        models.add(model)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(folder: Path, model: Path) -> None:
    folder.parent.write_text("a file where a folder should be")
    with pytest.raises(ModelError, match="cannot make the folder"):
        models.add(model)


def test_only_own_models_can_be_removed(folder: Path) -> None:
    path = resolve_model("cardiac-cine")
    with pytest.raises(ModelError, match="comes with DLIR and stays"):
        models.remove("cardiac-cine")
    assert path.is_file()
    with pytest.raises(ModelError, match="no model 'elbow'"):
        models.remove("elbow")


def test_a_damaged_model_can_be_removed_and_says_what_is_wrong(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "worse.safetensors").write_bytes(b"no")
    assert "is damaged" in models.card_line("worse")
    with pytest.raises(ModelError, match="is damaged"):
        models.card_text("worse")
    models.remove("worse")
    assert "worse" not in names()


def test_a_file_put_there_by_hand_under_a_taken_name_can_be_removed(folder: Path, model: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "cardiac-cine.safetensors").write_bytes(model.read_bytes())
    models.remove("cardiac-cine")
    assert list(folder.iterdir()) == []
    assert "cardiac-cine" in names()


def test_cards(folder: Path, model: Path) -> None:
    assert models.card_line("cardiac-cine").startswith("heart, short axis · cine MR")
    assert "CC BY-NC-SA 4.0" in models.card_line("cardiac-cine")
    assert "no model 'elbow'" in models.card_line("elbow")
    assert "Untrained, for tests" in models.card_text(str(model))


def test_works_before_anything_is_installed(folder: Path, model: Path) -> None:
    """With no more than Slicer's Python has: whatever DLIR installs cannot be imported here."""
    code = (
        "import sys\n"
        "for name in ('torch', 'safetensors', 'typer', 'rich', 'SimpleITK'):\n    sys.modules[name] = None\n"
        "from DLIRRegistrationLib import models as c\n"
        f"c.add({str(model)!r}); print(len(c.all_models()), c.card_line('knee'))\n"
        "c.card_text('knee'); c.remove('knee')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("none · any · CC0")
