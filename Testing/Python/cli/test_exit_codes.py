"""The table of exit codes in docs/scripting.md: every code and every command that it names for it is tried here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cli_runs import Pair, make_model
from dlir import api
from dlir.cli import app
from dlir.cli import cine as cine_module
from dlir.cli import evaluate as evaluate_module
from dlir.cohort.batch import Batch
from dlir.cohort.figures import figures_of
from dlir.cohort.folder import Line
from dlir.registration.judging import verdict as verdict_module
from dlir.registration.judging.verdict import Verdict
from fake_rows import report_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "scripting.md"
Case = Callable[[Pair, Path, pytest.MonkeyPatch], list[str]]


def told() -> dict[int, list[str]]:
    """The codes of the table, each with the commands that it names."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(code): re.findall(r"`([\w ]+)`", commands) or [commands.strip()] for code, commands in rows}


def _register(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return pair.register(folder / "out")


def _refused(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return pair.register(folder / "out", fixed=folder / "nowhere.nrrd")


def _misspelt(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return pair.register(folder / "out", "--kind", "elastic")


def _interrupted(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def stop(*images: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "register", stop)
    return pair.register(folder / "out")


def _bad_verdict(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(verdict_module, "verdict_on", lambda *known: Verdict("check", "It is odd.", {}))
    return pair.register(folder / "out", "--fail-on", "check")


def _bad_phase(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    report = {"verdict": {"level": "failed", "reason": "It folds.", "inputs": {}}}
    finished = SimpleNamespace(report=report)
    monkeypatch.setattr("dlir.cohort.cine.register.register_cine", lambda *request, **options: finished)
    monkeypatch.setattr(cine_module, "_print", lambda *told: None)
    return ["cine", "cine.nrrd", "--output", str(folder / "out"), "--fail-on", "failed"]


def _rows(*levels: str) -> Case:
    """A batch whose rows end so; "" for one that is not registered."""

    def case(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        def run(self: Batch, *rest: object) -> None:
            for row, level in zip(self.source.rows, levels, strict=True):
                known = Line(row, figures_of(report_of(row, level))) if level else Line(row, error="no")
                self.lines[row.number] = known

        monkeypatch.setattr(Batch, "run", run)
        table = folder / "pairs.csv"
        table.write_text("fixed,moving\n" + "".join(f"{number}.nii,a.nii\n" for number in range(len(levels))))
        return ["batch", str(table), "--output", str(folder / "out"), "--fail-on", "failed"]

    return case


def _method_failed(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(evaluate_module, "carry_out", lambda *asked: None)
    monkeypatch.setattr(evaluate_module, "write_outputs", lambda *written: {})
    monkeypatch.setattr(evaluate_module, "without_paths", lambda evaluated: evaluated)
    monkeypatch.setattr(evaluate_module, "failures", lambda evaluated: ["SyN failed on 1 of 2 pairs"])
    more = ["--data", str(folder), "--dataset", "folder", "--output", str(folder / "out")]
    return ["evaluate", "tiny", *more, "--json"]


def _unusable_images(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    data = folder / "data"
    data.mkdir()
    for name in ("a", "b", "c"):
        (data / f"{name}.nrrd").write_bytes(pair.fixed.read_bytes())
    (data / "damaged.nrrd").write_text("NRRD0004\n")
    return ["data", "check", "--data", str(data), "--config", str(_configuration(folder))]


def _configuration(folder: Path) -> Path:
    from dlir.training.config_file import preset_file

    file = folder / "config.yaml"
    file.write_text(preset_file("hippocampus").read_text(encoding="utf-8"))
    return file


def _faulty_model(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    path = make_model(folder / "faulty.safetensors")
    return ["models", "check", str(path)]


CASES: dict[int, dict[str, Case]] = {
    0: {"all": _register},
    1: {
        "batch": _rows("good", ""),
        "evaluate": _method_failed,
        "data check": _unusable_images,
        "models check": _faulty_model,
    },
    2: {"all": _refused, "misspelt": _misspelt},
    3: {"register": _bad_verdict, "cine": _bad_phase, "batch": _rows("good", "failed")},
    130: {"all": _interrupted},
}


def test_the_table_tells_of_each() -> None:
    # Cross-validation ends as an evaluation does, by the same function.
    known = {code: sorted(set(commands) - {"crossvalidate"}) for code, commands in told().items()}
    assert known == {code: sorted(set(cases) - {"misspelt"}) for code, cases in CASES.items()}
    assert "crossvalidate" in told()[1]


@pytest.mark.parametrize(
    ("code", "command"), [(code, command) for code, cases in CASES.items() for command in cases], ids=str
)
def test_a_code_is_what_the_table_says(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, command: str
) -> None:
    found = CliRunner().invoke(app, CASES[code][command](pair, tmp_path, monkeypatch))
    assert found.exit_code == code, (found.stdout, found.stderr, found.exception)
    assert (tmp_path / "out" / "report.json").exists() == (command in ("all", "register") and code in (0, 3))
