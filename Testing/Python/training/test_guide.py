"""The guide's commands run as they are printed, on images that DLIR has no preset for; its YAML is a configuration."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
import yaml
from typer.testing import CliRunner

from dlir.cli import app
from dlir.model.file import read_header
from dlir.training.config_file import parse_config

PAGE = Path(__file__).resolve().parents[3] / "docs" / "training.md"


def section(title: str) -> str:
    """What stands below a heading of the page."""
    return PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(title: str) -> list[str]:
    """The commands of a section, in order."""
    blocks = re.findall(r"^```\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def run(command: str) -> str:
    """As a shell does, in the current folder; what went to standard error."""
    words = shlex.split(command)
    assert words[0] == "dlir"
    target = words[-1] if words[-2:-1] == [">"] else None
    result = CliRunner().invoke(app, words[1:-2] if target else words[1:])
    assert result.exit_code == 0, (command, result.stderr, result.exception)
    if target:
        Path(target).write_text(result.stdout)
    return result.stderr


def half(image: Path, target: Path) -> None:
    """At half the resolution, so that it takes seconds."""
    read = sitk.ReadImage(str(image))
    target.parent.mkdir(parents=True, exist_ok=True)
    shrink = sitk.Shrink if "lobes" in image.name else sitk.BinShrink
    sitk.WriteImage(shrink(read, [2, 2, 2]), str(target))


@pytest.fixture
def here(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the page speaks of, and nothing else."""
    if not all((shared_data / group).is_dir() for group in ("lung_mr", "breast_dce")):
        pytest.skip("no lung_mr or breast_dce")
    for image in (shared_data / "lung_mr").glob("*.nii.gz"):
        half(image, tmp_path / "lung_mr" / image.name)
    shutil.copytree(shared_data / "breast_dce", tmp_path / "breast_dce")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.data
@pytest.mark.slow
def test_a_new_model_from_images_to_a_registration(here: Path) -> None:
    plan, check, train, register = commands("A new model")
    assert "between persons" in run(plan)
    run(check)
    run(train)
    header = read_header(here / "lung-run" / "model.safetensors")
    assert header.between_persons
    assert header.domain is not None  # just enough pairs
    assert header.card["licence"] == "not stated"
    run(register)
    report = json.loads((here / "lung" / "report.json").read_text())
    assert report["model"]["name"] == "lung_mr"
    assert report["jacobian"]["folding_percent"] == 0


@pytest.mark.data
@pytest.mark.slow
def test_a_model_continued_from_images_to_a_registration(here: Path) -> None:
    train, register = commands("Continue a model")
    run(train)
    header = read_header(here / "breast-run" / "model.safetensors")
    assert header.card["parent"]["frozen_stages"] == [1, 2]
    assert "of 'cardiac-cine', which it continues: CC BY-NC-SA" in header.card["licence"]
    run(register)
    report = json.loads((here / "breast" / "report.json").read_text())
    assert report["model"]["name"] == "cardiac-cine-continued"


def test_the_configuration_of_the_page_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", section("Continue a model"), re.MULTILINE | re.DOTALL)
    config = parse_config(yaml.safe_load(text), "page")
    assert config.trained_alone == [3]
    assert config.trained_together == [2, 3]


def test_the_commands_about_presets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands("Configurations and presets"):
        run(command)
    assert (tmp_path / "mine.yaml").is_file()
