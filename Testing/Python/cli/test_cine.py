"""`dlir cine` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cine_files as tiny
from cli_runs import refuse, succeed
from dlir.cli import app
from dlir.io import write_image


@pytest.fixture
def cine(tmp_path: Path) -> Path:
    return tiny.write_sequence(tmp_path / "cine.nii.gz", tiny.images((1.0, 0.9)), seconds=(0.0, 0.05))


@pytest.fixture
def label(tmp_path: Path) -> Path:
    return tiny.write_label(tmp_path / "label.nii.gz", tiny.labels((1.0, 0.9))[0])


def typed(cine: Path, output: Path, model: Path, *more: str | Path) -> list[str]:
    return ["cine", str(cine), "--output", str(output), "--model", str(model), "--device", "cpu", *map(str, more)]


def test_what_is_printed(cine: Path, label: Path, model_file: Path, tmp_path: Path) -> None:
    told = succeed(typed(cine, tmp_path / "result", model_file, "--label", label))
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    for one in report["ejection"]:
        assert f"ejection  {one['name']}: {one['ed_to_es_percent']:.1f} %, {one['ed_ml']:.1f} ml at phase" in told
    assert f"points of the label come back to {report['cycle']['mean_mm']:.2f} mm on average" in told
    assert "warped.nii.gz, jacobian.nii.gz, labels.nii.gz, volumes.csv" in told
    assert "transform_00.h5 to transform_01.h5" in told
    assert f"verdict   {report['verdict']['level']}: Phase 1: " in told
    assert report["cine"]["file"] == "cine.nii.gz"


def test_json_is_the_report_and_the_verdict_an_exit_code(
    cine: Path, label: Path, model_file: Path, tmp_path: Path
) -> None:
    options = ("--label", label, "--no-cycle", "--json", "--full-paths", "--fail-on", "check")
    result = CliRunner().invoke(app, typed(cine, tmp_path / "result", model_file, *options))
    assert result.exit_code == 3  # its networks are random
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "result" / "report.json").read_text())
    assert report["cine"]["file"] == str(cine)
    assert report["cycle"] is None


def test_refusals_leave_everything_as_it_is(cine: Path, label: Path, model_file: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.nrrd"
    write_image(image, np.asarray(tiny.images()[0]), tiny.GRID)
    output = tmp_path / "result"
    for arguments, words in (
        (typed(image, output, model_file), ("image.nrrd' is 3D and has no time points", "give a 4D file")),
        (typed(cine, output, model_file, "--reference", "first"), ("--reference is 'first'", "or ed")),
        (typed(cine, output, model_file, "--reference", "2"), ("--reference is 2", "phases 0 to 1")),
        (typed(Path(f"{cine}#1"), output, model_file), ("names one time point", "leave out '#1'")),
        (typed(cine, output, model_file, "--label-phase", "1"), ("give --label too",)),
        (typed(tmp_path / "none.nii.gz", output, model_file), ("does not exist",)),
    ):
        refuse(arguments, tmp_path, *words)


def test_an_input_is_not_replaced(cine: Path, model_file: Path, tmp_path: Path) -> None:
    cine.rename(tmp_path / "warped.nii.gz")
    refuse(
        typed(tmp_path / "warped.nii.gz", tmp_path, model_file, "--overwrite"),
        tmp_path,
        "it would replace the input",
    )
