"""What a command tells of an input that it reads nevertheless: one line on stderr for each, in every command."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli_runs import Pair, read
from dlir.cli import app
from dlir.io.reading import read_grid
from dlir.io.writing import write_image
from dlir.transforms.files import write_transform
from dlir.transforms.spatial import CompositeTransform
from training_runs import plain_config, write_subjects

PIXDIM, CODES = 80, 252


def without_pixdim(path: Path, source: Path) -> Path:
    """An image as NIfTI whose pixdim is 1 1 1 and whose sform alone says how large its voxels are."""
    write_image(path, read(source), read_grid(source))
    data = bytearray(path.read_bytes())
    struct.pack_into("<3f", data, PIXDIM, 1, 1, 1)
    struct.pack_into("<2h", data, CODES, 0, 1)
    path.write_bytes(data)
    return path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), (result.stderr, result.exception)
    return result


SEVERAL = "mask has several values other than 0, all of which count"


def told(result: Result) -> list[str]:
    """Which files are named by notes, once each; labels that serve as a mask have one note more, without a name."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("note: ") and SEVERAL not in line]
    assert all("by its sform, which is taken; its pixdim says 1 x 1 x 1 mm" in line for line in lines)
    return sorted(Path(line.split("'")[1]).name for line in lines)


@pytest.fixture
def files(pair: Pair) -> dict[str, Path]:
    """The pair and its labels in such files, and a transform that changes nothing."""
    names = ("fixed", "moving", "fixed_label", "moving_label")
    found = {name: without_pixdim(pair.folder / f"{name}.nii", getattr(pair, name)) for name in names}
    found["transform"] = pair.folder / "t.tfm"
    write_transform(found["transform"], CompositeTransform(()))
    return found


def test_register_is_told_of_each_file_and_finds_the_same(pair: Pair, files: dict[str, Path]) -> None:
    named: dict[str, Any] = {name: path for name, path in files.items() if name != "transform"}
    result = run(*pair.register(pair.folder / "out", "--fixed-mask", named["fixed_label"], **named))
    assert told(result) == ["fixed.nii", "fixed_label.nii", "fixed_label.nii", "moving.nii", "moving_label.nii"]
    run(*pair.register(pair.folder / "right", moving_label=pair.moving_label, fixed_label=pair.fixed_label))
    lines = [line.removeprefix("note: ") for line in result.stderr.splitlines() if line.startswith("note: ")]
    reports = [json.loads((pair.folder / name / "report.json").read_text()) for name in ("out", "right")]
    assert reports[0]["notes"] == [line.replace(f"{pair.folder}{os.sep}", "") for line in lines]
    assert reports[1]["notes"] == []
    dice = [report["labels"]["1"]["after"]["dice"] for report in reports]
    assert dice[0] == pytest.approx(dice[1], abs=1e-3)


def test_apply_and_jacobian(pair: Pair, files: dict[str, Path]) -> None:
    given = ["--transform", files["transform"], "--reference", files["fixed"], "--output", pair.folder / "a.nrrd"]
    assert told(run("apply", *given, "--image", files["moving"])) == ["fixed.nii", "moving.nii"]
    assert "fixed.nii" in told(run("apply", *given, "--label", files["moving_label"]))
    assert told(run("jacobian", *given, "--mask", files["fixed_label"])) == ["fixed.nii", "fixed_label.nii"]


def test_evaluate(pair: Pair, files: dict[str, Path]) -> None:
    folder = pair.folder / "data"
    folder.mkdir()
    for name in ("fixed", "moving", "fixed_label", "moving_label"):
        files[name].rename(folder / files[name].name)
    result = run("evaluate", pair.model, "--data", folder, "--dataset", "folder", "--output", pair.folder / "study")
    assert told(result) == ["fixed.nii", "fixed_label.nii", "moving.nii", "moving_label.nii"]


def test_training_data(tmp_path: Path) -> None:
    write_subjects(tmp_path / "data", ["first", "second", "held"])
    folder = tmp_path / "data" / "first"
    without_pixdim(folder / "first_frame77.nii", folder / "first_frame01.nii.gz")
    config = plain_config(sources=[{"files": ["*/*_frame??.nii*"], "validation": ["held*"]}])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = run("data", "check", "--data", tmp_path / "data", "--config", tmp_path / "config.yaml")
    assert told(result) == ["first_frame77.nii"]
