"""Names that are not UTF-8, as unpacked archives of other systems have them: one line and code 2, or they are read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli_runs import Pair, make_model, refuse, snapshot, start, succeed
from dlir.cli import app
from dlir.cli.common import print_json
from dlir.transforms.files import write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from training_runs import plain_config, write_subjects

# Latin-1 of an e with an accent, which Python keeps as a lone surrogate.
ODD = os.fsdecode(b"caf\xe9")
NAMED = ("caf\\xe9", "has a name that is not UTF-8")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of this system's files are always Unicode")


def odd(path: Path) -> Path:
    """A copy of a file under a name that is not UTF-8."""
    return Path(shutil.copy(path, path.with_name(ODD + "".join(path.suffixes))))


@pytest.fixture
def transform(tmp_path: Path) -> Path:
    path = tmp_path / "t.tfm"
    write_transform(path, CompositeTransform((AffineTransform.translation([1.0, 2.0, 3.0]),)))
    return path


@pytest.mark.parametrize("option", ["fixed", "moving", "moving_label", "fixed_label", "fixed_mask", "moving_mask"])
def test_every_image_of_a_registration(pair: Pair, option: str) -> None:
    given = {"moving_label": pair.moving_label, "fixed_label": pair.fixed_label} if option == "fixed_label" else {}
    source = {"fixed": pair.fixed, "moving": pair.moving}.get(option) or getattr(pair, option.replace("mask", "label"))
    refuse(pair.register(pair.folder / "out", **{**given, option: odd(source)}), pair.folder, *NAMED, "rename the file")


def test_transform_model_and_output_of_a_registration(pair: Pair, transform: Path) -> None:
    out = pair.folder / "out"
    for changes in ({"initial_transform": odd(transform)}, {"model": odd(pair.model)}):
        refuse(pair.register(out, **changes), pair.folder, *NAMED)
    refuse(pair.register(pair.folder / ODD), pair.folder, *NAMED, "choose another name")


def test_the_process_ends_in_order(pair: Pair) -> None:
    """In a process of its own: a library that ends it takes this one along."""
    process = start(pair.register(pair.folder / "out", fixed=odd(pair.fixed)))
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.count("\n") == 1
    assert "caf\\xe9.nrrd" in stderr


def test_apply_and_jacobian(pair: Pair, transform: Path) -> None:
    fixed, moved = odd(pair.fixed), pair.folder / "moved.nrrd"
    given = ["--transform", transform, "--output", moved]
    refuse(["apply", *given, "--image", fixed, "--reference", pair.fixed], pair.folder, *NAMED)
    refuse(["apply", *given, "--label", pair.fixed_label, "--reference", fixed], pair.folder, *NAMED)
    refuse(["jacobian", *given, "--reference", fixed], pair.folder, *NAMED)
    refuse(["jacobian", *given, "--reference", pair.fixed, "--mask", fixed], pair.folder, *NAMED)
    for command in (["apply", "--image", pair.fixed], ["jacobian"]):
        wanted = ["--transform", transform, "--reference", pair.fixed, "--output", pair.folder / f"{ODD}.nrrd"]
        refuse([*command, *wanted], pair.folder, *NAMED, "choose another name")
        refuse([*command, "--transform", odd(transform), *wanted[2:4], "--output", moved], pair.folder, *NAMED)


def test_points_are_read_and_reported(pair: Pair, transform: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points = pair.folder / f"{ODD}.csv"
    points.write_text("x,y,z\n30,-80,55\n")
    moved = pair.folder / "moved.csv"
    printed = succeed(["apply", "--json", "--transform", transform, "--points", points, "--output", moved])
    assert json.loads(printed)["points"] == points.name
    print_json({"name": ODD})
    assert capfd.readouterr().out.isascii()
    succeed(pair.register(pair.folder / "out", moving_landmarks=points))
    assert (pair.folder / "out" / "report.json").read_text(encoding="utf-8")


def test_one_such_file_among_training_data(tmp_path: Path) -> None:
    folder, config = tmp_path / "data", tmp_path / "config.yaml"
    write_subjects(folder, ["first", "second", "held"])
    files = sorted((folder / "first").iterdir())
    shutil.copy(files[0], files[0].with_name(f"{ODD}_frame09.nii.gz"))
    config.write_text(yaml.safe_dump(plain_config()))
    given = ["--data", str(folder), "--config", str(config)]
    result = CliRunner().invoke(app, ["data", "check", *given, "--json"])
    assert result.exit_code == 1
    (entry,) = json.loads(result.stdout)["left_out"]
    assert all(words in entry["why"] for words in NAMED)
    result = CliRunner().invoke(app, ["data", "check", *given])
    assert result.exit_code == 1
    assert "caf\\xe9_frame09" in result.stdout
    refuse(["train", *given, "--output", tmp_path / ODD], tmp_path, *NAMED, "choose another name")


def test_one_such_file_in_an_evaluation(pair: Pair) -> None:
    folder, out = pair.folder / "data", pair.folder / "result"
    folder.mkdir()
    for name in ("a", "b", ODD):
        shutil.copy(pair.fixed, folder / f"{name}.nrrd")
        shutil.copy(pair.fixed_label, folder / f"{name}_label.nrrd")
    given = ["evaluate", make_model(pair.folder / "m.safetensors"), "--data", folder, "--dataset", "folder"]
    result = CliRunner().invoke(app, [str(argument) for argument in [*given, "--output", out]])
    assert result.exit_code == 0, result.exception
    assert all(words in result.stderr for words in NAMED)
    before = snapshot(pair.folder)
    refuse([*given, "--output", pair.folder / ODD], pair.folder, *NAMED, "choose another name")
    assert snapshot(pair.folder) == before
