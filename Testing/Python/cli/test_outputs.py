"""What a run leaves behind where it cannot finish: nothing, whether the disk, the user or the code is the cause."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli_runs import Pair, refuse, snapshot, start, succeed
from dlir.cli import app
from dlir.io import writing

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


# -- where nothing can be written ---------------------------------------------------------------------


def test_output_below_a_file(pair: Pair) -> None:
    refuse(pair.register(pair.fixed / "out"), pair.folder, str(pair.fixed / "out"), "choose another output folder")


def test_output_that_is_a_file(pair: Pair) -> None:
    refuse(pair.register(pair.fixed), pair.folder, str(pair.fixed), "is a file", "choose another name")


def test_an_empty_output_is_not_the_current_folder(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pair.folder)
    asked = pair.register(Path("out"))
    at = asked.index("--output")
    for empty in (["--output", ""], ["--output="]):
        refuse([*asked[:at], *empty, *asked[at + 2 :]], pair.folder, "--output is empty; give a value, or leave it out")


@pytest.mark.parametrize(
    "command",
    [
        ["batch", "pairs.csv", "--output", ""],
        ["batch", "images", "--output", "out", "--to", ""],
        ["cine", "cine.nii.gz", "--output", ""],
        ["register", "--fixed", "a.nrrd", "--moving", "b.nrrd", "--output", "out", "--moving-label", ""],
        ["apply", "transform.h5", "--output", ""],
        ["jacobian", "transform.h5", "--output", ""],
        ["train", "--data", "d", "--output", "", "--preset", "hippocampus"],
        ["train", "--data", "d", "--output", "out", "--preset", "hippocampus", "--cache", ""],
        ["train", "--resume", ""],
        ["evaluate", "model", "--data", "d", "--dataset", "folder", "--output", ""],
        ["crossvalidate", "--data", "", "--dataset", "folder", "--output", "out"],
        ["demo", "--output", ""],
        ["data", "check", "--data", "", "--preset", "hippocampus"],
        ["presets", "plan", ""],
    ],
)
def test_no_path_may_be_empty(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a script forgot to set."""
    monkeypatch.chdir(tmp_path)
    before = command[command.index("") - 1]
    refuse(command, tmp_path, f"{before if before.startswith('--') else 'an argument'} is empty; give a value")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_output_where_nobody_may_write(pair: Pair) -> None:
    refuse(pair.register(Path("/proc/dlir-out")), pair.folder, "/proc/dlir-out", "choose another output folder")


def test_output_without_permission(pair: Pair, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", deny)
    refuse(pair.register(output), pair.folder, str(output), "no permission", "choose another output folder")


def test_output_that_would_replace_an_input(pair: Pair) -> None:
    own = pair.folder / "warped.nrrd"
    own.write_bytes(pair.moving.read_bytes())
    refuse(pair.register(pair.folder, moving=own), pair.folder, str(own), "would replace the input", "another")


# -- the disk is full ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transform.h5", "warped.nrrd", "jacobian.nrrd", "report.json"])
def test_full_disk_at_any_file(pair: Pair, output: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reach_disk = writing._reach_disk

    def full(path: Path) -> None:
        # In the order of writing; names are hidden until the end, so the suffix and a count tell the file.
        written.append(path.name.partition(".")[2].partition(".")[2])
        if len(written) > ["transform.h5", "warped.nrrd", "jacobian.nrrd", "report.json"].index(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reach_disk(path)

    written: list[str] = []
    monkeypatch.setattr(writing, "_reach_disk", full)
    line = refuse(pair.register(output), pair.folder, "the disk is full", "free some space")
    assert f"'{output / name}'" in line


@needs_posix
@pytest.mark.parametrize("size", [200, 3000, 20000])
def test_files_that_may_not_grow(pair: Pair, output: Path, size: int) -> None:
    before = snapshot(pair.folder)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    process = start(pair.register(output), limit)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert printed == ""
    assert errors.startswith(f"error: cannot write '{output}")
    assert errors.count("\n") == 1
    assert "disk is full" in errors
    assert snapshot(pair.folder) == before


# -- interrupts ---------------------------------------------------------------------------------------

# The real program, held up at one place; "ready" tells that it is there.
HELD = """
import time
import {module} as place
original = place.{name}
def held(*arguments, **named):
    result = original(*arguments, **named)
    print("ready", flush=True)
    time.sleep(60)
    return result
place.{name} = held
"""


@needs_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("dlir.io", "read_image"),
        ("dlir.registration.oneshot", "initialize"),
        ("dlir.transforms.files", "write_transform"),
    ],
    ids=["reading", "registering", "writing"],
)
def test_interrupt_leaves_nothing(pair: Pair, output: Path, module: str, name: str, number: int) -> None:
    before = snapshot(pair.folder)
    process = start(pair.register(output), HELD.format(module=module, name=name))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed, errors) == (130, "", "interrupted; nothing was written\n")
    assert snapshot(pair.folder) == before


@needs_posix
def test_interrupt_keeps_the_files_of_a_former_run(pair: Pair, output: Path) -> None:
    succeed(pair.register(output))
    before = snapshot(pair.folder)
    process = start(pair.register(output), HELD.format(module="dlir.transforms.files", name="write_transform"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert snapshot(pair.folder) == before


@needs_posix
def test_interrupt_after_the_last_file_says_so(pair: Pair, output: Path) -> None:
    process = start(pair.register(output), HELD.format(module="dlir.cli.register", name="print_report"))
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted; the files are complete\n")
    assert (output / "report.json").exists()


# -- a fault of ours ----------------------------------------------------------------------------------


def test_unexpected_error_leaves_nothing(pair: Pair, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dlir.registration.results.report

    def fail(*_: object) -> None:
        raise RuntimeError("a fault in the code")

    monkeypatch.setattr(dlir.registration.results.report, "build_report", fail)
    before = snapshot(pair.folder)
    result = CliRunner().invoke(app, pair.register(output))
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)
    assert snapshot(pair.folder) == before


def test_out_of_memory_is_one_line(pair: Pair, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlir.registration.oneshot import Registration

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")

    monkeypatch.setattr(Registration, "__call__", fail)
    refuse(pair.register(output), pair.folder, "memory does not suffice", "smaller image")


def test_a_closed_pipe_is_no_traceback(pair: Pair) -> None:
    process = start(["models", "show", pair.model])
    assert isinstance(process, subprocess.Popen)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.wait(timeout=60)
    assert "Traceback" not in errors
