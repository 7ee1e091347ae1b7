"""`dlir data check`: what is usable, what is not and why, before hours are spent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from cli_runs import refuse, succeed
from dlir.cli import app
from training_runs import SHAPE, plain_config, write_subjects, write_volume


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_subjects(tmp_path / "data", ["first", "second", "held"])
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain_config()))
    return path


def check(data: Path, config: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["data", "check", "--data", str(data), "--config", str(config), *more])


def test_good_data(data: Path, config: Path) -> None:
    printed = succeed(["data", "check", "--data", data, "--config", config])
    assert printed.split()[-9:] == ["intra", "2", "1", "4", "32", "×", "32", "×", "4"]


def test_bad_files_among_good_ones(data: Path, config: Path) -> None:
    write_volume(data / "first" / "first_frame31.nii.gz", np.zeros(SHAPE))
    (data / "second" / "second_frame32.nii.gz").write_bytes(b"no image")
    result = check(data, config)
    assert result.exit_code == 1
    for words in ("first_frame31.nii.gz", "has the value 0 in every voxel", "second_frame32.nii.gz", "cannot be read"):
        assert words in result.stdout
    report = json.loads(check(data, config, "--json").stdout)
    assert report["images"] == 4
    assert report["error"] is None
    assert [Path(entry["what"]).name[-10:-7] for entry in report["left_out"]] == ["e32", "e31"]
    assert report["sources"] == [
        {
            "pairs": "intra",
            "training": 2,
            "validation": 1,
            "images": 4,
            "smallest": [32, 32, 4],
            "largest": [32, 32, 4],
        }
    ]


def test_what_is_left_out_of_one_folder_for_one_reason_is_one_line(data: Path, config: Path) -> None:
    for frame in ("31", "32", "33"):
        write_volume(data / "first" / f"first_frame{frame}.nii.gz", np.zeros(SHAPE))
    result = check(data, config)
    assert result.stdout.count("has the value 0 in every voxel") == 1
    assert "first_frame31.nii.gz and 2 more there" in result.stdout
    assert len(json.loads(check(data, config, "--json").stdout)["left_out"]) == 3


def test_data_that_make_no_training(data: Path, config: Path, tmp_path: Path) -> None:
    for file in data.rglob("*frame12.nii.gz"):
        file.unlink()
    result = check(data, config)
    assert result.exit_code == 2
    assert result.stdout.count("has one usable volume") == 3
    assert result.stderr.splitlines()[-1].startswith("error: no usable subjects")
    report = json.loads(check(data, config, "--json").stdout)
    assert report["error"].startswith("no usable subjects")
    assert len(report["left_out"]) == 3


def test_nothing_is_kept_unless_asked_for(data: Path, config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check(data, config)
    assert sorted(tmp_path.rglob("*")) == before
    check(data, config, "--cache", str(tmp_path / "kept"))
    assert len(list((tmp_path / "kept").glob("*.npy"))) == 6


def test_options_that_do_not_fit(data: Path, config: Path, tmp_path: Path) -> None:
    refuse(["data", "check", "--data", data], tmp_path, "either --config or --preset")
    refuse(["data", "check", "--data", data, "--preset", "hippo"], tmp_path, "no preset 'hippo'", "hippocampus")
