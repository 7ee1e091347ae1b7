"""`dlir evaluate`: from a folder to tables and a report, again without work, and in one line where it cannot."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_runs import make_model, refuse, succeed
from dlir.cli import app
from dlir.cli.evaluate import OUTPUTS, PARQUET, DataKind, make_methods
from dlir.data.layouts import DATA_SETS, TESTED_ON
from dlir.errors import EvaluationError, OptionError, OutputError, how_to_install
from dlir.evaluation import tables
from dlir.evaluation.methods.base import settings_digest
from dlir.evaluation.report import build
from dlir.evaluation.results import Row
from dlir.registration.loading import Loaded
from evaluation_runs import write_subjects


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_subjects(tmp_path_factory.mktemp("evaluate") / "hearts", 3)


def arguments(data: Path, output: Path, *more: str | Path) -> list[str | Path]:
    given = ["--data", data, "--dataset", "folder", "--output", output, "--device", "cpu"]
    return ["evaluate", *more, *given]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_in_one_command(data: Path, tmp_path: Path, model_file: Path) -> None:
    printed = succeed(arguments(data, tmp_path / "out", model_file, "--stages"))
    assert set(OUTPUTS.values()) <= {path.name for path in (tmp_path / "out").iterdir()}
    table = read(tmp_path / "out" / OUTPUTS["pairs"])
    assert len(table) == 6 * 3
    assert {row["method"] for row in table} == {"before", "DLIR tiny DIR-1", "DLIR tiny DIR-2"}
    assert {row["pair"] for row in table} >= {"s00 out-to-in", "s02 in-to-out"}
    assert printed.startswith("| method | n | Dice label 1 |")
    assert "| DLIR tiny DIR-2 | 6 |" in printed
    assert "report.html" in printed
    comparisons = read(tmp_path / "out" / OUTPUTS["comparisons"])
    assert {(row["first"], row["second"]) for row in comparisons} >= {("before", "DLIR tiny DIR-1")}
    assert "6 pairs of 3 subjects, 3 methods" in (tmp_path / "out" / OUTPUTS["report"]).read_text()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report empty, which takes the longest."""
    monkeypatch.setattr(build, "build_report", lambda evaluated: "")


def test_json_has_what_the_tables_have(data: Path, tmp_path: Path, model_file: Path, undrawn: None) -> None:
    summary = json.loads(succeed(arguments(data, tmp_path / "out", model_file, "--limit", "2", "--json")))
    assert (summary["data"], summary["pairs"], summary["problems"]) == ("hearts", 2, [])
    dice = summary["methods"]["DLIR tiny"]["dice_label 1"]
    assert dice["count"] == 2
    line = next(r for r in read(tmp_path / "out" / OUTPUTS["summary"]) if r["method"] == "DLIR tiny")
    assert float(line["median"]) == pytest.approx(dice["median"], rel=1e-5)
    assert summary["methods"]["before"]["seconds"]["mean"] is None


def test_the_same_command_again_computes_nothing(
    data: Path, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    from dlir.evaluation.methods.network import NetworkMethod

    first = succeed(arguments(data, tmp_path / "out", model_file, "--subjects", "s0[01]"))
    records = (tmp_path / "out" / "results.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(NetworkMethod, "register", lambda *_: pytest.fail("registered again"))
        assert succeed(arguments(data, tmp_path / "out", model_file, "--subjects", "s0[01]")) == first
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == records
    succeed(arguments(data, tmp_path / "out", model_file))
    assert (tmp_path / "out" / "results.jsonl").read_bytes().startswith(records)
    assert len(read(tmp_path / "out" / OUTPUTS["pairs"])) == 12


def test_a_wrong_pair_is_reported_and_the_rest_completes(
    tmp_path: Path, model_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_subjects(tmp_path / "hearts", 2)
    (folder / "s00" / "in.nrrd").write_bytes(b"NRRD0004\nnonsense")
    (folder / "s01" / "in_label.nrrd").write_bytes((folder / "s01" / "in.nrrd").read_bytes())
    third = write_subjects(tmp_path / "more", 1)
    (third / "s00").rename(folder / "s02")
    done = CliRunner().invoke(app, [str(a) for a in arguments(folder, tmp_path / "out", model_file)])
    assert done.exit_code == 0, done.stderr
    unchecked, *lines = done.stderr.splitlines()
    assert "cannot be checked" in unchecked
    assert len(lines) == 4
    assert all(line.startswith("left out: s0") for line in lines)
    assert all(line.count("-to-") == 1 for line in lines)
    assert "in.nrrd" in lines[0]
    assert "not whole numbers" in lines[2]
    assert "| DLIR tiny | 2 |" in done.stdout
    assert "4 of 6 pairs are missing" in (tmp_path / "out" / OUTPUTS["report"]).read_text()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["no-such-model"], ["no model 'no-such-model'"]),
        (["--subjects", "nobody"], ["no pair has subjects that match nobody"]),
        (["--baseline", "elastix"], ["copies the stages of the first model"]),
    ],
    ids=["model", "subject", "baseline without a model"],
)
def test_what_cannot_be_is_refused_before_any_work(
    data: Path, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    refuse(arguments(data, tmp_path / "out", *more), tmp_path, *words)


def test_nothing_evaluated_at_all_is_an_error(tmp_path: Path, model_file: Path) -> None:
    folder = write_subjects(tmp_path / "hearts", 1)
    for name in ("in", "out"):
        (folder / "s00" / f"{name}.nrrd").write_bytes(b"")
    done = CliRunner().invoke(app, [str(a) for a in arguments(folder, tmp_path / "out", model_file)])
    assert done.exit_code == 2
    assert "error: none of 2 pairs could be evaluated: " in done.stderr


@pytest.mark.parametrize(("failing", "words"), [("in", "are missing"), ("", "it is missing")])
@pytest.mark.parametrize("method", ["elastix", "DLIR tiny"])
def test_a_method_that_fails_is_an_error_and_the_rest_is_written(
    data: Path, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None,
    failing: str, words: str, method: str,
) -> None:  # fmt: skip
    """Whoever looks at the exit code alone took tables without it for the whole."""
    from dlir.evaluation.methods.base import Registered
    from dlir.evaluation.methods.elastix import ElastixMethod
    from dlir.evaluation.methods.network import NetworkMethod

    def register(self: ElastixMethod | NetworkMethod, pair: Loaded) -> Registered:
        if self.name == method and Path(pair.fixed.source).stem.startswith(failing):
            raise EvaluationError(f"gave up on '{pair.fixed.source}'")
        return Registered(pair.start, 0.5)

    for kind in (ElastixMethod, NetworkMethod):
        monkeypatch.setattr(kind, "register", register)
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "itk" else find(name))
    typed = arguments(data, tmp_path / "out", model_file, "--baseline", "elastix")
    done = CliRunner().invoke(app, [str(a) for a in typed])
    assert done.exit_code == 1, done.exception
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {method} failed on {3 if failing else 6} of 6 pairs")
    assert words in last
    rows = read(tmp_path / "out" / OUTPUTS["pairs"])
    assert len([row for row in rows if row["method"] == method]) == (3 if failing else 0)
    assert len(rows) == (15 if failing else 12)


@pytest.mark.parametrize("package", ["pandas", "matplotlib"])
def test_a_missing_package_is_named_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    refuse(arguments(data, tmp_path / "out"), tmp_path, package, how_to_install("eval"))


@pytest.mark.parametrize(("baseline", "package"), [("elastix", "itk"), ("elastix-bending", "itk"), ("syn", "ants")])
def test_a_baseline_that_is_not_installed_is_refused_before_any_work(
    data: Path, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch, baseline: str, package: str
) -> None:
    """Each pair was left out of the table, one after the other."""
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    words = (f"--baseline {baseline} needs '{package}'", how_to_install("bench"))
    refuse(arguments(data, tmp_path / "out", model_file, "--baseline", baseline), tmp_path, *words)


# -- methods -----------------------------------------------------------------------------------------


def test_methods_come_in_order_and_under_names_of_their_own(model_file: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other.safetensors", seed=1)
    methods = make_methods([str(model_file), f"mine={other}"], ["syn", "elastix"], False, False, "cpu")
    assert [method.name for method in methods] == ["before", "SyN", "elastix", "DLIR tiny", "mine"]
    with pytest.raises(OptionError, match="two methods are called 'DLIR tiny'"):
        make_methods([str(model_file), str(other)], [], False, False, "cpu")


def test_elastix_goes_stage_by_stage_with_the_model(model_file: Path) -> None:
    methods = make_methods([str(model_file)], ["elastix", "elastix-bending"], True, False, "cpu")
    assert [method.name for method in methods[1:5]] == [
        "elastix DIR-1",
        "elastix DIR-2",
        "elastix + bending DIR-1",
        "elastix + bending DIR-2",
    ]
    parameters = [method.settings["parameters"][-1]["NumberOfResolutions"] for method in methods[1:5]]
    assert parameters == [["1"], ["2"], ["1"], ["2"]]
    masked = make_methods([str(model_file)], ["elastix"], False, True, "cpu")
    assert settings_digest(masked[1]) != settings_digest(methods[2])


def test_the_command_line_knows_every_data_set() -> None:
    assert [kind.value for kind in DataKind] == list(DATA_SETS) == list(TESTED_ON)


def test_parquet_is_written_where_it_can_be(
    data: Path, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    def write(path: Path, rows: Sequence[Row]) -> None:
        path.write_text(str(len(rows)))

    monkeypatch.setattr(tables, "write_pairs_parquet", write)
    monkeypatch.setattr(tables, "can_write_parquet", lambda: True)
    summary = json.loads(succeed(arguments(data, tmp_path / "out", "--limit", "2", "--json")))
    assert summary["outputs"]["parquet"] == PARQUET
    assert (tmp_path / "out" / PARQUET).read_text() == "2"
    monkeypatch.setattr(tables, "can_write_parquet", lambda: False)
    summary = json.loads(succeed(arguments(data, tmp_path / "out", "--json")))
    assert "parquet" not in summary["outputs"]
    assert not (tmp_path / "out" / PARQUET).exists()  # it would lack four of the six pairs


# -- what is there already, and what is passed on -----------------------------------------------------


@pytest.mark.parametrize("name", ["summary.csv", "report.html", "pairs.parquet"])
def test_files_of_no_evaluation_are_kept_unless_asked(
    data: Path, tmp_path: Path, model_file: Path, undrawn: None, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    typed = arguments(data, tmp_path / "out", model_file, "--limit", "2")
    refuse(typed, tmp_path, f"'{tmp_path / 'out' / name}'", "--overwrite")
    succeed([*typed, "--overwrite"])
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    succeed(typed)  # now they are of an evaluation


def test_tables_and_report_appear_together(
    data: Path, tmp_path: Path, model_file: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped between two tables left those of different runs side by side."""
    succeed(arguments(data, tmp_path / "out", model_file, "--limit", "2"))
    before = {name: (tmp_path / "out" / name).read_bytes() for name in OUTPUTS.values()}

    def fail(evaluated: Any) -> str:
        raise OutputError("the disk is full")

    monkeypatch.setattr(build, "build_report", fail)
    done = CliRunner().invoke(app, [str(a) for a in arguments(data, tmp_path / "out", model_file)])
    assert done.exit_code == 2
    assert {name: (tmp_path / "out" / name).read_bytes() for name in OUTPUTS.values()} == before


def test_what_is_passed_on_names_no_folder(tmp_path: Path, model_file: Path) -> None:
    """Nor where a message names a file that cannot be used."""
    folder = write_subjects(tmp_path / "SMITH^JOHN" / "hearts", 2)
    (folder / "s00" / "in.nrrd").write_bytes(b"NRRD0004\nnonsense")
    typed = [str(a) for a in arguments(folder, tmp_path / "out", model_file, "--json")]
    done = CliRunner().invoke(app, typed)
    assert str(folder) in done.stderr  # for whoever has to find the file
    texts = [done.stdout, *((tmp_path / "out" / name).read_text() for name in (*OUTPUTS.values(), "results.jsonl"))]
    for text in texts:
        assert "SMITH" not in text
        assert str(tmp_path) not in text
    assert "in.nrrd" in texts[0]
    full = CliRunner().invoke(app, [*typed, "--full-paths"])
    assert str(folder) in full.stdout
    assert "SMITH" in (tmp_path / "out" / OUTPUTS["report"]).read_text()
