"""Headers that were changed at random end in a line that says what is wrong, or in an image, and stop nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dlir.cohort.batch import Batch, Workers
from dlir.cohort.folder import BatchFolder
from dlir.cohort.rows import Options, Source
from mutated_headers import Reader, write_mutated


@pytest.mark.slow
def test_rows_of_changed_headers(tmp_path: Path) -> None:
    images, output, options = tmp_path / "images", tmp_path / "out", Options(model="none")
    images.mkdir()
    batch = Batch(Source(write_mutated(images, 500)), BatchFolder(output, options), options, enter=Reader)
    told: list[str] = []
    batch.run(Workers(1), tell=told.append)
    with (output / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    failed = [row["error"] for row in rows if row["state"] == "error"]
    assert {row["state"] for row in rows} == {"done", "error"}
    assert 100 < len(failed) < 400
    assert len(told) == len(failed)
    assert [error for error in failed if not error.startswith("fixed image 'seed")] == []
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out"}
    assert {path.name for path in output.iterdir()} == {".dlir-batch", "summary.csv", "summary.html"}
