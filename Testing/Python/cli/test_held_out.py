"""`dlir evaluate` and `crossvalidate` on what a model has seen: left out with a line, or scored and marked."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from cli_runs import CARD, make_model, refuse
from dlir.cli import app, crossvalidate
from dlir.cli.evaluate import OUTPUTS
from dlir.evaluation.report import build
from dlir.io.content import content_hash
from dlir.io.reading import read_image
from dlir.model.card import content_entry
from evaluation_runs import CONFIG, write_subjects


def run(*arguments: str | Path) -> tuple[str, str]:
    """Standard output and standard error of a command that succeeds."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done.stdout, done.stderr


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report empty, which takes the longest."""
    monkeypatch.setattr(build, "build_report", lambda evaluated: "")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three subjects; s02 is s00 once more, as another program would have written it."""
    folder = write_subjects(tmp_path / "hearts", 2)
    shutil.copytree(folder / "s00", folder / "s02")
    for name in ("in", "out"):
        image = sitk.ReadImage(str(folder / "s02" / f"{name}.nrrd"))
        (folder / "s02" / f"{name}.nrrd").unlink()
        sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat64), str(folder / "s02" / f"{name}.nii.gz"))
    return folder


@pytest.fixture
def model(data: Path, tmp_path: Path) -> Path:
    """Trained on one of the two images of s00."""
    seen = content_hash(read_image(data / "s00" / "in.nrrd").array)
    return make_model(tmp_path / "tiny.safetensors", card={**CARD, "content": content_entry([seen], [])})


def evaluate(data: Path, model: Path, output: Path, *more: str, kind: str = "folder") -> list[str | Path]:
    return ["evaluate", model, "--data", data, "--dataset", kind, "--output", output, "--device", "cpu", *more]


def rows(output: Path, name: str) -> list[dict[str, str]]:
    with (output / OUTPUTS[name]).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_seen_subject_and_its_copy_are_left_out_with_a_line(
    data: Path, model: Path, tmp_path: Path, undrawn: None
) -> None:
    printed, said = run(*evaluate(data, model, tmp_path / "out", "--limit", "2"))
    assert "left out: 4 of 6 pairs (of s00, s02): DLIR tiny was trained on, or chosen by, their images" in said
    assert {row["pair"] for row in rows(tmp_path / "out", "pairs")} == {"s01 out-to-in", "s01 in-to-out"}
    assert {row["seen"] for row in rows(tmp_path / "out", "pairs")} == {""}
    assert "| DLIR tiny | 2 |" in printed
    assert (printed + said).count("left out: ") == 1
    # Whoever reads the tables alone knows what is missing.
    assert "left out: 4 of 6 pairs" in (tmp_path / "out" / OUTPUTS["tables"]).read_text()


def test_every_table_marks_what_is_scored_nevertheless(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed, said = run(*evaluate(data, model, out, "--allow-seen", "--stages"))
    assert "not held out: 4 of 6 pairs (of s00, s02) are scored and marked as seen" in said
    marks = {(row["pair"], row["method"]): row["seen"] for row in rows(out, "pairs")}
    assert {pair for (pair, method), seen in marks.items() if seen} == {
        f"{s} {p}" for s in ("s00", "s02") for p in ("out-to-in", "in-to-out")
    }
    assert {method for (_, method), seen in marks.items() if seen} == {"DLIR tiny DIR-1", "DLIR tiny DIR-2"}
    for stage in (1, 2):
        assert f"| DLIR tiny DIR-{stage} (seen: 4 of 6) | 6 |" in printed
    assert "| before | 6 |" in printed
    seen = {(row["method"], row["seen"]) for row in rows(out, "summary")}
    assert seen == {("before", "0"), ("DLIR tiny DIR-1", "4"), ("DLIR tiny DIR-2", "4")}
    assert {row["seen"] for row in rows(out, "comparisons")} == {"4"}
    page = (out / OUTPUTS["report"]).read_text(encoding="utf-8")
    assert page.count("DLIR tiny DIR-2 (seen: 4 of 6)") >= 4  # results, means, landmarks
    assert "s00 out-to-in (seen)" in page
    assert "not held out: 4 of 6 pairs" in page


def test_json_says_it_too(data: Path, model: Path, tmp_path: Path, undrawn: None) -> None:
    printed, _ = run(*evaluate(data, model, tmp_path / "out", "--allow-seen", "--json"))
    summary = json.loads(printed)
    assert [summary["methods"][name]["seen"] for name in ("before", "DLIR tiny")] == [0, 4]
    assert summary["notes"][0].startswith("not held out: 4 of 6 pairs")


def test_what_was_scored_before_is_not_taken_from_the_records(
    data: Path, model: Path, tmp_path: Path, undrawn: None
) -> None:
    run(*evaluate(data, model, tmp_path / "out", "--allow-seen"))
    run(*evaluate(data, model, tmp_path / "out"))
    assert {row["fixed_subject"] for row in rows(tmp_path / "out", "pairs")} == {"s01"}


def test_all_seen_is_refused(data: Path, model: Path, tmp_path: Path) -> None:
    more = ["--subjects", "s00"]
    refuse(
        evaluate(data, model, tmp_path / "out", *more),
        tmp_path,
        "nothing is left to evaluate: left out: 2 of 2 pairs",
        "--allow-seen",
    )


@pytest.mark.parametrize("of_pairs", [True, False])
def test_the_other_side_of_a_person_is_seen(
    data: Path, model: Path, tmp_path: Path, undrawn: None, of_pairs: bool
) -> None:
    """The column `subject` says so: s01 was never seen, but one more image of its person was."""
    table = tmp_path / "table.csv"
    columns = "image,label,subject"
    if of_pairs:
        columns = "fixed,moving,fixed_label,moving_label,fixed_subject,moving_subject"
    files = {"a": "hearts/s00/in", "b": "hearts/s01/in", "c": "hearts/s01/out"}
    write_subjects(tmp_path / "more", 4)
    files |= {"d": "more/s03/in", "e": "more/s03/out"}

    def line(fixed: str, moving: str, *people: str) -> str:
        images = [f"{files[name]}{end}.nrrd" for end in ("", "_label") for name in (fixed, moving)]
        return ",".join([*images, *people]) + "\n"

    if of_pairs:
        named = (("a", "c", "P", "R"), ("b", "e", "P", "Q"), ("e", "b", "Q", "P"), ("d", "e", "Q", "Q"))
        listed = "".join(line(*row) for row in named)
    else:
        people = {"a": "P", "b": "P", "d": "Q", "e": "Q"}
        listed = "".join(f"{files[k]}.nrrd,{files[k]}_label.nrrd,{person}\n" for k, person in people.items())
    table.write_text(f"{columns}\n{listed}")
    _, said = run(*evaluate(table, model, tmp_path / "out", kind="manifest"))
    assert "left out: 3 of 4 pairs" in said if of_pairs else "left out: 2 of 4 pairs" in said
    assert {(row["fixed_subject"], row["moving_subject"]) for row in rows(tmp_path / "out", "pairs")} == {("Q", "Q")}


def test_a_model_that_cannot_be_checked_says_so(data: Path, model_file: Path, tmp_path: Path, undrawn: None) -> None:
    _, said = run(*evaluate(data, model_file, tmp_path / "out", "--limit", "2"))
    assert "DLIR tiny does not say which images it was trained on" in said
    assert "cannot be checked" in (tmp_path / "out" / OUTPUTS["tables"]).read_text()


# -- cross-validation --------------------------------------------------------------------------------


def test_copies_are_tested_together_and_a_fold_that_has_seen_its_subjects_is_left_out(
    tmp_path: Path, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    """The stand-in for training gives every fold a model that has seen s00, and so s02."""
    import yaml

    trained: list[set[str]] = []

    def train(given: object, device: str, folder: Path) -> None:
        (folder / "run").mkdir(exist_ok=True)
        shutil.copy(model, folder / "run" / "model.safetensors")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        trained.append({file.split("/")[0] for source in config["sources"] for file in source["files"]})

    monkeypatch.setattr(crossvalidate, "_dlir_train", train)
    sources = [{"files": ["*/in.*", "*/out.*"]}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "sources": sources}))
    where = ["--data", data, "--dataset", "folder", "--output", tmp_path / "out", "--config", tmp_path / "config.yaml"]
    _, said = run("crossvalidate", *where, "--device", "cpu", "--leave-one-out")
    assert "in one fold, because they share an image: s00, s02" in said
    assert sorted(map(sorted, trained)) == [["s00", "s02"], ["s01"]]
    assert "left out: 4 of 4 pairs (of s00, s02)" in said
    assert {row["fixed_subject"] for row in rows(tmp_path / "out", "pairs")} == {"s01"}
