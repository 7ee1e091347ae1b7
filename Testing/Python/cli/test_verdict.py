"""The verdict at the end of `dlir register`, and the exit codes that it can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli_runs import Pair
from dlir.cli import app
from dlir.registration.judging import verdict as module
from dlir.registration.judging.verdict import Verdict


@pytest.fixture(params=["good", "check", "failed"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the verdict will be."""
    found = Verdict(request.param, f"A reason to be {request.param}.", {"covered": 1.0})
    monkeypatch.setattr(module, "verdict_on", lambda *known: found)
    return str(request.param)


@pytest.mark.parametrize("fail_on", [None, "check", "failed"])
def test_exit_codes(pair: Pair, tmp_path: Path, level: str, fail_on: str | None) -> None:
    more = ["--fail-on", fail_on] if fail_on else []
    found = CliRunner().invoke(app, pair.register(tmp_path / "out", *more))
    worse = {"good": 0, "check": 1, "failed": 2}
    assert found.exit_code == (3 if fail_on and worse[level] >= worse[fail_on] else 0)
    assert found.stdout.rstrip().endswith(f"verdict   {level}: A reason to be {level}.")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == {
        "level": level,
        "reason": f"A reason to be {level}.",
        "inputs": {"covered": 1.0},
    }
    assert set(report["outputs"].values()) <= {path.name for path in (tmp_path / "out").iterdir()}


def test_the_report_has_the_figures_that_decided(pair: Pair, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, pair.register(tmp_path / "out", "--json"))
    verdict = json.loads(found.stdout)["verdict"]
    assert verdict["level"] in ("check", "failed")  # a model by chance, that says nothing of its training
    assert {"inverse_consistency_mm", "displacement_mm", "local_after", "similarity_after"} <= set(verdict["inputs"])


def test_a_model_that_does_not_say_what_it_was_made_for_is_never_good(pair: Pair, tmp_path: Path) -> None:
    same = pair.register(tmp_path / "out", moving=pair.fixed)
    found = CliRunner().invoke(app, same)
    assert found.exit_code == 0
    assert "verdict   good" not in found.stdout
