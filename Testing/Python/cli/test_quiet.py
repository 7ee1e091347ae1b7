"""--quiet: errors only, and what was asked for; nothing of it is left for the next command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli_runs import Pair, snapshot
from dlir.cli import app, common
from dlir.cli.common import progress_bar, say
from dlir.errors import note
from dlir.registration.judging import verdict as module
from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import silent


@pytest.fixture(autouse=True)
def _noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verdict is a bad one, and tells a note."""

    def verdict(*known: object) -> Verdict:
        note("the headers are odd")
        return Verdict("failed", "It folds.", {})

    monkeypatch.setattr(module, "verdict_on", verdict)


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_nothing_is_told_and_the_files_are_the_same(pair: Pair, tmp_path: Path, option: str) -> None:
    loud = CliRunner().invoke(app, pair.register(tmp_path / "loud"))
    assert "note: the headers are odd" in loud.stderr
    assert "verdict   failed" in loud.stdout
    quiet = CliRunner().invoke(app, pair.register(tmp_path / "quiet", option))
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert snapshot(tmp_path / "loud").keys() == snapshot(tmp_path / "quiet").keys()
    report = json.loads((tmp_path / "quiet" / "report.json").read_text())
    assert "the headers are odd" in report["notes"]


def test_what_is_asked_for_is_printed(pair: Pair, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, pair.register(tmp_path / "out", "--quiet", "--json"))
    assert json.loads(found.stdout)["verdict"]["level"] == "failed"
    assert found.stderr == ""


def test_an_error_is_told(pair: Pair, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, pair.register(tmp_path / "out", "--quiet", fixed=tmp_path / "nowhere.nrrd"))
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ")


def test_a_verdict_that_ends_the_command_is_told(pair: Pair, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, pair.register(tmp_path / "out", "--quiet", "--fail-on", "check"))
    assert (found.exit_code, found.stdout) == (3, "")
    assert found.stderr == "error: the verdict is failed: It folds.\n"


def test_the_next_command_tells_again(pair: Pair, tmp_path: Path) -> None:
    CliRunner().invoke(app, pair.register(tmp_path / "out", "--quiet", fixed=tmp_path / "nowhere.nrrd"))
    assert not common.is_quiet()
    assert "note: the headers are odd" in CliRunner().invoke(app, pair.register(tmp_path / "out")).stderr


def test_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with common.silence(stdout=False), progress_bar() as progress:
        assert progress is silent


def test_a_planned_configuration_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlir.cli import train

    def plan(data: Path) -> None:
        say("1 image of 1 subject")
        print("card: {}")

    monkeypatch.setattr(train, "print_plan", plan)
    found = CliRunner().invoke(app, ["train", "--init-config", str(tmp_path), "--quiet"])
    assert (found.exit_code, found.stdout, found.stderr) == (0, "card: {}\n", "")
