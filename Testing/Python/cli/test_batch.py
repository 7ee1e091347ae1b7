"""`dlir batch` from end to end, with processes of its own; what it refuses before it writes anything."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

from cli_runs import Pair, read, refuse, snapshot, succeed
from dlir.cli import app
from dlir.cohort import batch as module
from dlir.cohort.batch import Batch
from dlir.cohort.figures import figures_of
from dlir.cohort.folder import Line
from dlir.cohort.rows import Row
from dlir.data.pair import Pair as ImagePair
from dlir.data.pair import Scan
from dlir.errors import DiskFullError
from fake_rows import report_of

# What is written has no say in what comes of a pair.
WRITTEN = ("--format", "nii.gz", "--error-map")
COLUMNS = "fixed,moving,fixed_label,moving_label,model\n"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_cohort(pair: Pair, tmp_path: Path) -> None:
    """What the batch makes of a pair is what `dlir register` makes of it; a second run changes nothing."""
    table, output, model = tmp_path / "pairs.csv", tmp_path / "out", str(pair.model)
    table.write_text(
        f"{COLUMNS}fixed.nrrd,moving.nrrd,fixed_label.nrrd,moving_label.nrrd,{model}\n"
        f"fixed.nrrd,lost.nrrd,,,{model}\nmoving.nrrd,fixed.nrrd,,,none\n"
    )
    options = ("--output", output, "--jobs", "1", "--device", "cpu", "--refine", "2it", *WRITTEN)
    found = invoke(table, *options)
    assert (found.exit_code, found.exception.__class__) == (1, SystemExit), found.output
    assert found.stderr.splitlines()[0].startswith("note: row 2, lost-to-fixed_tiny: moving image '")
    assert found.stderr.splitlines()[1].startswith("error: 1 of 3 rows are not registered")
    assert "rows      3: " in found.stdout
    lines = rows_of(output)
    assert [row["state"] for row in lines] == ["done", "error", "done"]
    assert [row["model"] for row in lines] == ["tiny", "", "none"]
    assert str(tmp_path) not in (output / "summary.csv").read_text() + (output / "summary.html").read_text()

    alone = tmp_path / "alone"
    succeed(
        pair.register(alone, "--refine", "2it", *WRITTEN, fixed_label=pair.fixed_label, moving_label=pair.moving_label)
    )
    own, same = (json.loads((folder / "report.json").read_text()) for folder in (output / lines[0]["pair"], alone))
    assert own.pop("batch")["options"]["refine"] == "2it"
    assert own["outputs"].pop("picture") == "preview.jpg"
    for report in (own, same):
        for key in ("seconds", "peak_memory_mb", "refinement", "threads"):
            report.pop(key)
    assert own == same
    for name in same["outputs"].values():
        if name.endswith(".nii.gz"):
            np.testing.assert_array_equal(read(output / lines[0]["pair"] / name), read(alone / name))
    assert {"warped.nii.gz", "error_map.nii.gz"} <= {*same["outputs"].values()}
    assert float(lines[0]["dice_after_1"]) == pytest.approx(same["labels"]["1"]["after"]["dice"], abs=1e-5)
    assert sitk.ReadImage(str(output / lines[0]["pair"] / "preview.jpg")).GetNumberOfComponentsPerPixel() == 3

    table.write_text("".join(line for line in table.open() if "lost" not in line))
    before = {name: content for name, content in snapshot(output).items() if "summary" not in name}
    assert invoke(table, *options).exit_code == 0
    assert {name: content for name, content in snapshot(output).items() if "summary" not in name} == before
    printed = json.loads(succeed(["batch", table, *options, "--summary", "--json"]))
    assert printed["counts"]["error"] == printed["counts"]["waiting"] == 0
    assert [row["pair"] for row in printed["rows"]] == [lines[0]["pair"], lines[2]["pair"]]


def test_what_is_refused_before_anything_is_written(pair: Pair, tmp_path: Path) -> None:
    table, output = tmp_path / "pairs.csv", tmp_path / "out"
    table.write_text("fixed,movin\na,b\n")
    refuse(["batch", table, "--output", output], tmp_path, "manifest", "'movin' is unknown (did you mean 'moving'?)")
    table.write_text("fixed,moving\nfixed.nrrd,moving.nrrd\n")
    for options, words in (
        (["--model", "hart"], ["there is no model 'hart'"]),
        (["--shard", "3/2"], ["--shard is '3/2'"]),
        (["--pairs", "all"], ["lists pairs"]),
        (["--model", "none", "--refine", "off"], ["--refine"]),
    ):
        refuse(["batch", table, "--output", output, *options], tmp_path, *words)
    refuse(["batch", tmp_path, "--output", output], tmp_path, "say which are registered by --to IMAGE or --pairs")
    refuse(["batch", tmp_path, "--output", tmp_path, "--pairs", "all"], tmp_path, "the folder of the images")
    refuse(["batch", table, "--output", pair.fixed], tmp_path, "is a file")
    output.mkdir()
    table.rename(output / "summary.csv")
    refuse(["batch", output / "summary.csv", "--output", output], tmp_path, "it would replace the table")
    (output / "summary.csv").rename(table)
    (output / "summary.html").write_text("mine")
    refuse(["batch", table, "--output", output], tmp_path, "is there already, and of no batch", "--overwrite")


@pytest.mark.parametrize(
    ("levels", "fail_on", "code"),
    [
        (["good", "check"], "", 0),
        (["good", "check"], "failed", 0),
        (["good", "check"], "check", 3),
        (["failed", "good"], "failed", 3),
        (["failed", ""], "failed", 1),
    ],
)
def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: list[str], fail_on: str, code: int
) -> None:
    def run(self: Batch, *rest: object) -> None:
        for row, level in zip(self.source.rows, levels, strict=True):
            self.lines[row.number] = Line(row, figures_of(report_of(row, level))) if level else Line(row, error="no")

    monkeypatch.setattr(module.Batch, "run", run)
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na.nii,b.nii\nb.nii,a.nii\n")
    more = ["--fail-on", fail_on] if fail_on else []
    assert invoke(table, "--output", tmp_path / "out", *more).exit_code == code


def test_an_interrupt_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Batch, *rest: object) -> None:
        row = Row(1, "x", ImagePair(Scan("a", image="a"), Scan("b", image="b")))
        self.lines = {1: Line(row, figures_of(report_of(row))), 2: Line(row)}
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Batch, "run", run)
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na.nii,b.nii\n")
    found = invoke(table, "--output", tmp_path / "out")
    assert found.exit_code == 130
    assert found.stderr == "interrupted; 1 of 2 rows are done and kept; the same command goes on from there\n"


def test_a_disk_that_is_full_is_told_once_and_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Batch, *rest: object) -> None:
        self.lines = {row.number: Line(row) for row in self.source.rows}
        raise DiskFullError("cannot write 'x': the disk is full; free some space")

    monkeypatch.setattr(module.Batch, "run", run)
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving\na.nii,b.nii\n")
    found = invoke(table, "--output", tmp_path / "out")
    assert found.exit_code == 1
    assert found.stderr.splitlines() == [
        "error: cannot write 'x': the disk is full; free some space",
        "0 of 1 rows are done and kept; the same command goes on from there",
    ]
