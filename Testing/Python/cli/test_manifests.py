"""One manifest for every command: they agree on its rows, and each does its own with those that cannot be used."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli_runs import refuse, succeed
from dlir.cli import app
from dlir.cli.evaluate import OUTPUTS
from dlir.data.manifest import read_manifest
from dlir.data.pair import Pair
from dlir.evaluation.report import build
from dlir.training.cache import DryCache
from dlir.training.data import load_data
from training_runs import make_config, plain_config, write_subjects

SUBJECTS = {"one": "train", "two": "", "held": "validation", "broken": "train", "last": "test"}


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report empty, which takes the longest."""
    monkeypatch.setattr(build, "build_report", lambda evaluated: "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_subjects(tmp_path / "data", list(SUBJECTS))
    (tmp_path / "data" / "broken" / "broken_frame12.nii.gz").write_bytes(b"no image")
    for kind in ("intra", "inter", "listed"):
        sources = [{"files": ["nothing"], "pairs": kind}]
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(plain_config(sources=sources)))
    return tmp_path


def write(folder: Path, ending: str, rows: list[dict[str, str]]) -> Path:
    path = folder / f"study.{ending}"
    text = io.StringIO()
    if ending == "json":
        json.dump(rows, text)
    else:
        writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if ending == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def pairs_of(**changes: str) -> list[dict[str, str]]:
    files = {name: [f"data/{name}/{name}_frame{frame}.nii.gz" for frame in ("01", "12")] for name in SUBJECTS}
    return [
        {"fixed": fixed, "moving": moving, "subject": name, "split": split, **changes}
        for name, (fixed, moving) in files.items()
        for split in [SUBJECTS[name]]
    ]


def images_of() -> list[dict[str, str]]:
    return [
        {"image": pair[role], "subject": pair["subject"], "split": pair["split"]}
        for pair in pairs_of()
        for role in ("fixed", "moving")
    ]


def check(manifest: Path, kind: str) -> tuple[int, dict[str, Any]]:
    config = manifest.parent / f"{kind}.yaml"
    result = CliRunner().invoke(app, ["data", "check", "--json", "--data", str(manifest), "--config", str(config)])
    return result.exit_code, json.loads(result.stdout)


def evaluate(manifest: Path) -> tuple[dict[str, Any], set[str], str]:
    """What --json prints, the pairs in the table, and what was said."""
    out = manifest.parent / "out"
    given = ["--data", str(manifest), "--dataset", "manifest", "--output", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, ["evaluate", *given, "--json"])
    assert result.exit_code == 0, (result.stderr, result.exception)
    with (out / OUTPUTS["pairs"]).open(encoding="utf-8", newline="") as file:
        return json.loads(result.stdout), {row["pair"] for row in csv.DictReader(file)}, result.stderr


@pytest.mark.parametrize("ending", ["csv", "tsv", "json"])
def test_training_check_and_evaluation_read_the_same_pairs(folder: Path, ending: str) -> None:
    manifest = write(folder, ending, pairs_of())
    rows = [row for row in read_manifest(manifest) if isinstance(row, Pair)]
    told: list[str] = []
    config = make_config(sources=[{"files": ["nothing"]}])
    (draw,) = load_data(config, manifest, DryCache(Path(), config.spec), lambda what, why: told.append(what))
    trained = {(image.fixed.name, image.moving.name) for image in (*draw.training, *draw.validation)}  # type: ignore[attr-defined]
    assert trained == {(row.fixed.image, row.moving.image) for row in rows if row.subject in ("one", "two", "held")}
    assert told == [row.moving.image for row in rows if row.subject == "broken"]

    code, report = check(manifest, "intra")
    assert (code, report["error"]) == (1, None)
    assert [entry["what"] for entry in report["left_out"]] == told
    assert [(s["pairs"], s["training"], s["validation"]) for s in report["sources"]] == [("listed", *draw.counts())]

    summary, evaluated, said = evaluate(manifest)
    assert evaluated == {row.name for row in rows if row.split == "test"} == {"last last_frame12-to-last_frame01"}
    assert summary["problems"] == []
    assert "taking 1 of 5 pairs: those marked with split test" in said


def test_without_rows_for_testing_all_are_evaluated_but_the_broken(folder: Path) -> None:
    manifest = write(folder, "csv", pairs_of(split=""))
    summary, evaluated, said = evaluate(manifest)
    assert len(evaluated) == 4
    (problem,) = summary["problems"]
    assert problem["pair"] == "broken broken_frame12-to-broken_frame01"
    assert "left out: broken broken_frame12-to-broken_frame01: " in said
    assert "taking" not in said


def test_a_table_of_images_serves_all_too(folder: Path) -> None:
    manifest = write(folder, "csv", images_of())
    code, report = check(manifest, "intra")
    assert (code, report["error"]) == (1, None)
    assert [(s["pairs"], s["training"], s["validation"]) for s in report["sources"]] == [("intra", 2, 1)]
    assert {Path(entry["what"]).parts[-1] for entry in report["left_out"]} == {"broken_frame12.nii.gz", "broken"}
    _, evaluated, said = evaluate(manifest)
    assert evaluated == {"last last_frame12-to-last_frame01", "last last_frame01-to-last_frame12"}
    assert "taking 2 of 10 pairs" in said


@pytest.mark.parametrize("kind", ["intra", "inter", "listed"])
def test_a_table_of_pairs_is_one_whatever_the_configuration_says(folder: Path, kind: str) -> None:
    code, report = check(write(folder, "csv", pairs_of()), kind)
    assert (code, report["error"]) == (1, None)
    assert [(s["pairs"], s["training"], s["validation"]) for s in report["sources"]] == [("listed", 2, 1)]


def test_wrong_forms_are_refused_alike(folder: Path) -> None:
    manifest = write(folder, "csv", pairs_of(split="tests"))
    words = [str(manifest), "line 2: split 'tests' is neither train nor", "did you mean 'test'?"]
    output = folder / "out"
    config = ["--config", folder / "inter.yaml", "--output", output]
    result = CliRunner().invoke(app, [str(a) for a in ("train", "--data", manifest, *config, "--device", "cpu")])
    assert result.exit_code == 2
    assert all(word in result.stderr.splitlines()[-1] for word in words)
    refuse(["evaluate", "--data", manifest, "--dataset", "manifest", "--output", output], folder, *words)
    refuse(["crossvalidate", "--data", manifest, "--dataset", "manifest", *config], folder, *words)
    code, report = check(manifest, "inter")
    assert code == 2
    assert all(word in report["error"] for word in words)


def test_a_table_without_rows_to_train_with_is_refused(folder: Path) -> None:
    code, report = check(write(folder, "csv", pairs_of(split="test")), "intra")
    assert code == 2
    assert "keeps all its rows for testing; mark some with split train" in report["error"]
    code, report = check(write(folder, "csv", images_of()), "listed")
    assert code == 2
    assert "lists images, not pairs; leave out" in report["error"]


def test_rows_for_testing_are_not_opened_by_training(folder: Path) -> None:
    for file in (folder / "data" / "last").iterdir():
        file.unlink()
    for rows in (pairs_of(), images_of()):
        _, report = check(write(folder, "csv", rows), "intra")
        assert not any("last" in entry["what"] for entry in report["left_out"])


def test_rows_for_testing_stay_out_of_cross_validation(folder: Path) -> None:
    manifest = write(folder, "csv", [row for row in pairs_of() if row["subject"] != "broken"])
    given = [
        "--data",
        manifest,
        "--dataset",
        "manifest",
        "--training-data",
        folder / "data",
        "--output",
        folder / "out",
    ]
    config = ["--config", folder / "intra.yaml", "--device", "cpu", "--folds", "5"]
    result = CliRunner().invoke(app, [str(a) for a in ("crossvalidate", *given, *config)])
    assert "taking 3 of 4 pairs: those not marked with split test" in result.stderr
    assert "3 subjects cannot be dealt to 5 folds" in result.stderr


@pytest.mark.slow
def test_a_run_that_was_begun_with_listed_pairs_goes_on(folder: Path) -> None:
    manifest = write(folder, "csv", pairs_of())
    run = folder / "run"
    stages = [{"iterations": 1, "batch_size": 1}] * 2
    sources = [{"files": ["nothing"], "pairs": "listed"}]
    config = plain_config(sources=sources, training=stages)
    run.mkdir()
    options = {"data": str(manifest), "cache": str(folder / "cache"), "config": config}
    (run / "run.json").write_text(json.dumps(options))  # as an older DLIR left it, before its first checkpoint
    assert "model.safetensors" in succeed(["train", "--resume", run, "--device", "cpu"])
