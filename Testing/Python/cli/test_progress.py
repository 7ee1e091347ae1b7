"""What a command tells of its progress where there is no terminal: a line now and then; of what is quick, nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import cine_files as tiny
from cli_runs import stopped_clock
from dlir.cli import app
from dlir.cli.common import progress_bar
from dlir.cohort.cine import register as cohort_register


def test_a_line_each_half_minute(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    now = stopped_clock(monkeypatch)
    with progress_bar() as progress:
        for second in range(0, 95, 5):
            now.seconds = 100.0 + second
            progress(f"phase {second}", second / 100)
    out, err = capfd.readouterr()
    assert [line[8:] for line in err.splitlines()] == [f"  phase {k}  {k} %" for k in (30, 60, 90)]
    assert out == ""
    with progress_bar(wanted=False) as progress:
        now.seconds += 1000
        progress("phase", 0.5)
    assert capfd.readouterr() == ("", "")


def test_a_long_cine_is_not_silent(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cine = tiny.write_sequence(tmp_path / "cine.nii.gz", tiny.images((1.0, 0.9)), seconds=(0.0, 0.05))
    now, run = stopped_clock(monkeypatch), cohort_register.run

    def slow(*given: object, **more: object) -> object:
        now.seconds += 31  # each phase
        return run(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cohort_register, "run", slow)
    typed = ["cine", cine, "--output", tmp_path / "out", "--model", model_file, "--device", "cpu", "--no-cycle"]
    result = CliRunner().invoke(app, list(map(str, typed)))
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.endswith("%")]
    assert "phase 1 of 2: " in line
    assert "%" not in CliRunner().invoke(app, [*map(str, typed), "--json"]).stderr
