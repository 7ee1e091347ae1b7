"""Which Python is started, in which environment, and how it is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from dlir.errors import WorkerError
from DLIRRegistrationLib.worker import process
from DLIRRegistrationLib.worker.process import SOURCE, ChildProcess, child_environment, find_python
from processes import is_gone, needs_proc

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell scripts and process groups")


@pytest.fixture
def in_slicer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As if this were Slicer: it has an application, and `sys.executable` is no Python. The folder of programs."""
    module = types.ModuleType("slicer")
    module.app = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer", module)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "SlicerApp-real"))
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


# -- which Python -------------------------------------------------------------------------------------


def test_outside_of_slicer_it_is_this_one() -> None:
    assert find_python() == sys.executable


def test_in_slicer_it_is_slicers_own(in_slicer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = program(in_slicer / "PythonSlicer")
    assert find_python() == str(beside)
    on_path = program(in_slicer.parent / "elsewhere" / "PythonSlicer")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_python() == str(on_path)


def test_a_slicer_without_python_says_so(in_slicer: Path) -> None:
    with pytest.raises(WorkerError, match=r"PythonSlicer.*neither.*install Slicer"):
        find_python()


# -- the environment ----------------------------------------------------------------------------------

SET = {"PYTHONHOME": "/slicer", "PYTHONPATH": "/slicer/lib", "LD_LIBRARY_PATH": "/slicer/qt", "OMP_NUM_THREADS": "3"}


@pytest.fixture
def _set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_set")
def test_slicers_python_keeps_slicers_environment(in_slicer: Path) -> None:
    found = child_environment(str(in_slicer / "PythonSlicer"), {"MORE": "1"})
    expected = {**SET, "PYTHONPATH": f"{SOURCE}{os.pathsep}/slicer/lib", "MORE": "1"}
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.usefixtures("_set", "in_slicer")
def test_another_python_gets_none_of_it() -> None:
    found = child_environment("/usr/bin/python3", {})
    assert found["PYTHONPATH"] == str(SOURCE)
    assert found["OMP_NUM_THREADS"] == "3"
    assert "PYTHONHOME" not in found
    assert "LD_LIBRARY_PATH" not in found


@pytest.mark.usefixtures("_set")
def test_this_python_keeps_its_own_environment_outside_of_slicer() -> None:
    assert child_environment(sys.executable, {})["LD_LIBRARY_PATH"] == "/slicer/qt"
    assert "LD_LIBRARY_PATH" not in child_environment("/usr/bin/another-python", {})


def test_dlir_is_found_and_nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the user's in the present folder must not be taken for a package."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    child = ChildProcess(["dlir", "--version"], tmp_path / "log", None, {}, answers=False)
    assert child.wait(60)
    assert child.exit_code == 0, child.last_words()
    assert child.last_words()


# -- the end ------------------------------------------------------------------------------------------


def start(tmp_path: Path, *lines: str) -> ChildProcess:
    return ChildProcess(["x"], tmp_path / "log", str(program(tmp_path / "python", *lines)), {}, answers=False)


def said(child: ChildProcess) -> str:
    deadline = time.monotonic() + 60
    while not child.last_words() and time.monotonic() < deadline:
        time.sleep(0.01)
    return child.last_words()


def test_endings_in_words(tmp_path: Path) -> None:
    child = start(tmp_path, "echo some last words", "exit 3")
    assert child.wait(60)
    assert (child.ending, child.last_words()) == ("exit code 3", "some last words")
    assert child.all_ended
    child = start(tmp_path, "sleep 600")
    assert child.ending == "it is still running"
    assert not child.wait(0.01)
    child.kill()
    assert child.wait(60)
    assert child.ending.startswith("signal 9; ")


def test_last_words_are_the_last(tmp_path: Path) -> None:
    child = start(tmp_path, "yes 'much said' | head -n 5000", "echo the end")
    assert child.wait(60)
    assert child.last_words().endswith("the end")
    assert len(child.last_words()) <= 4000


@needs_proc
def test_children_that_outlive_their_parent_are_noticed_and_killed(tmp_path: Path) -> None:
    child = start(tmp_path, "sleep 600 &", "echo $!")
    assert child.wait(60)
    grandchild = int(said(child))
    assert child.ended
    assert not child.all_ended
    child.kill()
    assert is_gone(grandchild)


def test_a_process_may_be_told_that_nobody_is_left(tmp_path: Path) -> None:
    child = start(tmp_path, "cat", "echo nobody", "exit 4")
    assert not child.wait(0.05)
    child.close_stdin()
    assert child.wait(60)
    assert (child.exit_code, child.last_words()) == (4, "nobody")
    child.close_stdin()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot be started: No such file"):
        ChildProcess(["x"], tmp_path / "missing" / "log", sys.executable, {}, answers=False)


def test_windows_kills_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = start(tmp_path, "sleep 600")
    run: list[list[str]] = []
    monkeypatch.setattr(process, "_WINDOWS", True)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: run.append(command))
    child.kill()
    assert run == [["taskkill", "/F", "/T", "/PID", str(child._process.pid)]]
    monkeypatch.undo()
    child.kill()
    assert child.wait(60)


def test_importing_the_client_imports_nothing_heavy() -> None:
    code = (
        "import sys, DLIRRegistrationLib.worker.client\n"
        "print({'torch', 'SimpleITK', 'typer', 'rich', 'vtk', 'qt', 'safetensors'} & set(sys.modules) or 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE, check=True)
    assert done.stdout.strip() == "nothing"
