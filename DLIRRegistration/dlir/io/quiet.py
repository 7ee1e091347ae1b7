"""Keeps what SimpleITK and its C libraries print off the terminal: what the user should know of it becomes a note."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from typing import IO

from dlir.errors import note

_WARNING = re.compile(r"^WARNING: In .*\n(?:\w+ \(\w+\): )?(.+(?:\n.+)*)", re.M)
# About what DLIR decides and tells in its own words: see `dlir.io.placing`.
_SETTLED = ("has unexpected scales in sform", "is Analyze file and it's deprecated")


class _Quiet:
    """A context that takes what the process writes to standard error, and tells ITK's warnings as notes.

    The C libraries under ITK (nifti, MetaIO, HDF5, VNL) write to file descriptor 2 and have no switch; what they say
    of a file comes out as an error too. Nothing is told where the block raises. Users are counted: of readers in
    several threads the first one mutes and the last one restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stderr: int | None = None
        self._taken: IO[bytes] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._mute()
            self._users += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._users -= 1
            taken = self._restore() if self._users == 0 else ""
        if kind is None:
            for text in dict.fromkeys(" ".join(found.split()) for found in _WARNING.findall(taken)):
                if not any(words in text for words in _SETTLED):
                    note(f"ITK warns: {text}")

    def _mute(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            self._stderr = os.dup(2)
        except OSError:  # a process without a terminal has no descriptor 2, so nothing to keep quiet
            self._stderr = None
            return
        try:
            self._taken = tempfile.TemporaryFile()  # noqa: SIM115 - `_restore` closes it
        except OSError:  # no room to keep it
            self._taken = open(os.devnull, "w+b")  # noqa: SIM115
        os.dup2(self._taken.fileno(), 2)

    def _restore(self) -> str:
        """What was written meanwhile."""
        if self._stderr is None or self._taken is None:
            return ""
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        with self._taken as file:
            file.seek(0)
            return file.read().decode("utf-8", "replace")


quiet = _Quiet()
