"""Child processes that run Python with `dlir`, and that never outlive their use: found, started, and killed whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlir.errors import WorkerError

# The folder that holds `dlir` and this package.
SOURCE = Path(__file__).resolve().parents[2]

_WINDOWS = os.name == "nt"
_LAUNCHER = "PythonSlicer"
# What Slicer's launcher sets for the Python that comes with it, and what breaks every other Python.
_SLICER_ONLY = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_LOG_TAIL_BYTES = 4000


def application() -> Any | None:
    """Slicer's application object; None outside of Slicer."""
    return getattr(sys.modules.get("slicer"), "app", None)


def find_python() -> str:
    """The interpreter for child processes: Slicer's own, or the present one outside of Slicer. Raises WorkerError.

    In Slicer `sys.executable` will not do: it is Slicer itself, or some other Python.
    """
    if application() is None:
        if not sys.executable:
            raise WorkerError("the Python interpreter cannot be found; name one")
        return sys.executable
    name = f"{_LAUNCHER}.exe" if _WINDOWS else _LAUNCHER
    beside = Path(sys.exec_prefix, "bin", name)
    found = shutil.which(_LAUNCHER) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise WorkerError(f"Slicer's {_LAUNCHER} is neither on the path nor at '{beside}'; install Slicer again")
    return found


def child_environment(python: str, more: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: the present one, fit for that interpreter, with `dlir` on its path, and `more`."""
    environment = dict(os.environ)
    if Path(python).stem != _LAUNCHER and not _is_this_interpreter(python):
        for name in _SLICER_ONLY:
            environment.pop(name, None)
    paths = [str(SOURCE), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def _is_this_interpreter(python: str) -> bool:
    return application() is None and bool(sys.executable) and os.path.abspath(python) == os.path.abspath(sys.executable)


class ChildProcess:
    """`python -m ...` in a process group of its own, with what it prints in a log file.

    Its `stdin` stays open as long as this process lives. answers: what it prints on `stdout` is for the caller.
    Raises WorkerError where it cannot be started.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, python: str | None, more: Mapping[str, str], *, answers: bool
    ) -> None:
        self.log = log
        python = python or find_python()
        try:
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    [python, "-m", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if answers else file,
                    stderr=file,
                    env=child_environment(python, more),
                    cwd=SOURCE,  # -m puts this on the path: no file of the user's may be taken for a package
                    **_own_group(),
                )
        except OSError as error:
            reason = error.strerror or str(error)
            raise WorkerError(f"'{python}' cannot be started: {reason}; check the installation") from error
        assert self._process.stdin is not None  # a pipe
        self.stdin, self.stdout = self._process.stdin, self._process.stdout

    @property
    def ended(self) -> bool:
        """Whether the process is gone, its children perhaps not."""
        return self._process.poll() is not None

    @property
    def all_ended(self) -> bool:
        """Whether its children are gone too. Where the system cannot tell (Windows), whether the process is."""
        if not self.ended or _WINDOWS:
            return self.ended
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        return False

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End the process and its children at once. Does not wait for the end."""
        if _WINDOWS:
            command = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, creationflags=_no_window())
            return
        # The first process may be gone and its children not: Slicer's Python is a launcher and its child. On macOS
        # the group of a process that is gone is refused.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close_stdin(self) -> None:
        """Tell the process that nobody is left, upon which it ends; and tidy up when it has ended."""
        with contextlib.suppress(OSError):  # what a process left unread cannot be flushed
            self.stdin.close()

    def wait(self, timeout: float) -> bool:
        """Wait for the end; False if it has not come after `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        if code is None:
            return "it is still running"
        if code >= 0:
            return f"exit code {code}"
        hint = "; the computer's memory may not suffice" if -code == getattr(signal, "SIGKILL", None) else ""
        return f"signal {-code}{hint}"

    def last_words(self) -> str:
        """The end of what it printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""


def _own_group() -> dict[str, Any]:
    if _WINDOWS:
        return {"creationflags": _no_window() | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def _no_window() -> int:
    return getattr(subprocess, "CREATE_NO_WINDOW", 0)
