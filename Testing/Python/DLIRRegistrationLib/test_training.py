"""Training in the background with a command that only pretends: its curve, its end, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlir.errors import OutputError, WorkerError
from DLIRRegistrationLib import training
from DLIRRegistrationLib.training import TrainingRun
from fake_worker import ENVIRONMENT
from processes import is_gone, needs_proc, processes_with

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake command is a shell script")

# In place of dlir's command line. It writes a row of history every 20 ms until it is interrupted, then a checkpoint.
COMMAND = """
import json, os, signal, sys, time, types
from pathlib import Path

def interrupt(number, frame):
    raise KeyboardInterrupt

def main():
    signal.signal(signal.SIGTERM, interrupt)
    {behave}
    words = sys.argv[1:]
    assert words[0] == "train", words
    options = dict(zip(words[1::2], words[2::2]))
    folder = Path(options.get("--output") or options["--resume"])
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(options))
    history = folder / "history.json"
    rows = json.loads(history.read_text()) if "--resume" in options else []
    try:
        while len(rows) < {rows}:
            rows.append({{"phase": 0, "iteration": 10 * len(rows), "loss": 1 / (1 + len(rows))}})
            (folder / "next").write_text(json.dumps(rows))
            os.replace(folder / "next", history)
            time.sleep(0.02)
        (folder / "model.safetensors").write_bytes(b"model")
    except KeyboardInterrupt:
        (folder / "checkpoint").write_text(str(len(rows)))
        sys.exit(130)

cli = types.ModuleType("dlir.cli")
cli.main = main
sys.modules["dlir.cli"] = cli
module = sys.argv[2]
sys.argv = sys.argv[2:]
import runpy
runpy.run_module(module, run_name="__main__")
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., TrainingRun]]:
    """Makes runs of the fake command; afterwards none of them may still run."""
    runs: list[TrainingRun] = []

    def make(rows: int = 5, behave: str = "", folder: str = "run") -> TrainingRun:
        number = len(list(tmp_path.iterdir()))
        (tmp_path / f"{number}.py").write_text(COMMAND.format(rows=rows, behave=behave))
        python = tmp_path / f"{number}-python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / f"{number}.py"}" "$@"\n')
        python.chmod(0o755)
        environment = {**ENVIRONMENT, "DLIR_TEST": str(tmp_path)}
        runs.append(TrainingRun(tmp_path / folder, str(python), environment))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
    assert processes_with(f"DLIR_TEST={tmp_path}") == []


def until(run: TrainingRun, condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (run.state, run.error, run.log.read_text())
        run.poll()
        time.sleep(0.005)


def options(run: TrainingRun) -> dict[str, str]:
    found: dict[str, str] = json.loads((run.output / "run.json").read_text())
    return found


def test_a_run_from_start_to_model(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = make()
    assert (run.state, run.history, run.model, run.resumable) == ("idle", [], None, False)
    run.start(tmp_path / "images", "cardiac-cine", "cpu")
    assert run.state == "running"
    assert run.active
    seen: list[int] = []
    until(run, lambda: seen.append(len(run.history)) or run.state != "running")
    assert (run.state, run.error) == ("finished", None)
    assert [row["iteration"] for row in run.history] == [0, 10, 20, 30, 40]
    assert len(set(seen)) > 2  # it grew while we watched
    assert run.model == run.output / "model.safetensors"
    assert not run.resumable
    expected = {"--data": str(tmp_path / "images"), "--output": str(run.output), "--device": "cpu"}
    assert options(run) == {**expected, "--preset": "cardiac-cine"}


@pytest.mark.parametrize("configuration", ["my.yaml", Path("my.yaml"), Path("of-no-suffix")])
def test_a_configuration_file(make: Callable[..., TrainingRun], tmp_path: Path, configuration: str | Path) -> None:
    run = make(rows=1)
    run.start(tmp_path, configuration)
    until(run, lambda: not run.active)
    assert options(run)["--config"] == os.path.abspath(configuration)
    assert options(run)["--device"] == "auto"


def test_stop_lets_it_write_a_checkpoint_and_resume_goes_on(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = make(rows=10_000)
    run.start(tmp_path, "cardiac-cine")
    until(run, lambda: len(run.history) >= 3)
    run.stop()
    assert run.state == "stopping"
    run.stop()
    until(run, lambda: not run.active)
    assert (run.state, run.error, run.resumable) == ("stopped", None, True)
    reached = int((run.output / "checkpoint").read_text())
    assert reached == len(run.history)
    again = make(rows=reached + 2)  # as after a restart of the program
    assert (again.state, len(again.history), again.resumable) == ("idle", reached, True)
    again.resume("cpu")
    until(again, lambda: not again.active)
    assert again.state == "finished"
    assert len(again.history) == reached + 2
    assert options(again) == {"--resume": str(run.output), "--device": "cpu"}


def test_a_process_that_will_not_stop_is_killed(
    make: Callable[..., TrainingRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_GRACE", 0.2)
    run = make(rows=10_000, behave="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    run.start(tmp_path, "cardiac-cine")
    until(run, lambda: run.history)
    run.stop()
    until(run, lambda: not run.active)
    assert run.state == "stopped"


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (
            "sys.stderr.write('reading\\nerror: there are no images; look there\\n'); sys.exit(2)",
            "there are no images; look there",
        ),
        ("print('a last line'); sys.exit(4)", "a last line (exit code 4)"),
        ("os._exit(5)", "it said nothing (exit code 5)"),
    ],
)
def test_a_failure_says_why(make: Callable[..., TrainingRun], tmp_path: Path, behave: str, error: str) -> None:
    run = make(behave=behave)
    run.start(tmp_path, "cardiac-cine")
    until(run, lambda: not run.active)
    assert (run.state, run.error) == ("failed", error)
    run.start(tmp_path, "cardiac-cine")
    assert run.error is None
    until(run, lambda: not run.active)


def test_a_process_that_is_killed_by_somebody(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = make(rows=10_000)
    run.start(tmp_path, "cardiac-cine")
    until(run, lambda: run.history)
    (pid,) = processes_with(f"DLIR_TEST={tmp_path}") or pytest.skip("needs /proc")
    os.kill(pid, signal.SIGKILL)
    until(run, lambda: not run.active)
    assert run.state == "failed"
    assert run.error is not None
    assert "signal 9" in run.error
    assert run.resumable


@needs_proc
def test_close_leaves_nothing(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = make(rows=10_000)
    run.start(tmp_path, "cardiac-cine")
    until(run, lambda: run.history)
    run.close()
    run.close()
    assert run.state == "stopped"
    assert (run.output / "checkpoint").is_file()
    assert processes_with(f"DLIR_TEST={tmp_path}") == []


@needs_proc
@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["exit", "kill"])
def test_it_ends_with_the_program_and_keeps_its_checkpoint(
    make: Callable[..., TrainingRun], tmp_path: Path, end: str
) -> None:
    run = make(rows=10_000)
    code = f"""
    import os, signal, time
    from pathlib import Path
    from DLIRRegistrationLib.training import TrainingRun
    run = TrainingRun(Path({str(run.output)!r}), {run._python!r}, {run._environment!r})
    run.start(Path("."), "cardiac-cine")
    while not run.history:
        run.poll()
        time.sleep(0.01)
    {end}
    """
    environment = {**os.environ, **ENVIRONMENT}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, timeout=60, check=False)
    for pid in processes_with(f"DLIR_TEST={tmp_path}"):
        assert is_gone(pid)
    assert (run.output / "checkpoint").is_file()


def test_only_one_at_a_time(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = make(rows=10_000)
    run.start(tmp_path, "cardiac-cine")
    with pytest.raises(ValueError, match="under way"):
        run.resume()
    assert run.model is None


def test_a_history_that_cannot_be_read_changes_nothing(make: Callable[..., TrainingRun]) -> None:
    run = make()
    run.output.mkdir()
    for text in ('[{"loss": 1}]', '[{"loss"', '{"loss": 1}', "[1]"):
        (run.output / "history.json").write_text(text)
        run.poll()
        assert run.history == [{"loss": 1}]


def test_where_it_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="no-python' cannot be started"):
        TrainingRun(tmp_path / "run", str(tmp_path / "no-python")).start(tmp_path, "cardiac-cine")
    (tmp_path / "file").touch()
    run = TrainingRun(tmp_path / "file" / "run", sys.executable)
    with pytest.raises(OutputError, match="cannot make the folder"):
        run.start(tmp_path, "cardiac-cine")
    assert run.state == "idle"
    assert not run.active


def test_starting_takes_no_time(make: Callable[..., TrainingRun], tmp_path: Path) -> None:
    took = []
    for number in range(3):
        run = make(rows=1, folder=f"run{number}")
        start = time.perf_counter()
        run.start(tmp_path, "cardiac-cine")
        took.append(time.perf_counter() - start)
        until(run, lambda run=run: not run.active)
    assert min(took) < 0.1


@pytest.mark.slow
def test_the_real_command_line_is_run(tmp_path: Path) -> None:
    """Without data it fails, in the command's own words."""
    run = TrainingRun(tmp_path / "run")
    run.start(tmp_path / "missing", "no-such-preset")
    until(run, lambda: not run.active, 300)  # it imports what it needs, for which a busy machine takes long
    assert run.state == "failed"
    assert run.error is not None
    assert "no-such-preset" in run.error
