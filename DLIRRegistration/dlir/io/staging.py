"""Where files of a run wait until all are written, and what becomes of them when its process is killed.

A hidden subfolder of the folder that they are for, with a lock that the system opens when the process ends, however it
does. Standard library and filelock only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

HIDDEN = ".dlir-"
# In the subfolder: files that are being written, the same once all are, and those of a former run.
NEW, READY, OLD = "new", "ready", "old"
# Beside these: the lock, on which computer it is held, and in which order files go to their places.
_LOCK, _HOST, _ORDER = "lock", "host", "order"
# As tempfile calls them, and `replacing` single files; the folder of a batch has another name.
_STAGE, _FILE = re.compile(r"\.dlir-[a-z0-9_]{8}"), re.compile(r"\.dlir-[0-9a-f]{8}(\..*)?")
# Seconds without a change after which nobody is taken to be writing there, where that cannot be known.
_ABANDONED = 7 * 86_400.0


class Stage:
    """The hidden subfolder of one run in `folder`, made by `begin`."""

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self.folder = folder
        self._path = path
        self._lock: BaseFileLock | None = None

    @property
    def path(self) -> Path:
        assert self._path is not None  # begun, or found
        return self._path

    def begin(self) -> None:
        """Make it and hold its lock. Raises OSError."""
        self._path = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=self.folder))
        try:
            self._lock = _taken(self.path / _LOCK)
        except (OSError, NotImplementedError):
            pass  # a disk that knows no locks: who finds this later goes by its age
        else:  # only once it is held, so that nobody takes a run that begins for one that has ended
            (self.path / _HOST).write_text(platform.node(), encoding="utf-8")
        for part in (NEW, OLD):
            (self.path / part).mkdir()

    def keep_order(self, names: Sequence[str]) -> None:
        """In which order the files go to their places, for `settle`. Raises OSError."""
        (self.path / _ORDER).write_text(json.dumps(list(names)), encoding="utf-8")

    def end(self) -> None:
        """Remove it. What cannot be removed is left for `tidy`."""
        if self._path is None:
            return
        for entry in self._entries():
            if entry.name != _LOCK:  # held until nothing is left that another could put somewhere
                _remove(entry)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        shutil.rmtree(self._path, ignore_errors=True)

    # -- of a run that has ended ------------------------------------------------------------------

    @contextmanager
    def is_left(self) -> Iterator[bool]:
        """Whether the run has ended without removing it; within, nobody else finds the same.

        A run of this computer has ended where its lock is free. Of one on another computer, as on a network drive, and
        of one without a lock nothing is known; half-written files of theirs are left when nothing has changed for a
        week, and whatever else lies there is not touched.
        """
        try:
            here = (self.path / _HOST).read_text(encoding="utf-8") == platform.node()
        except OSError:
            here = False
        if not here:
            yield self._is_abandoned()
            return
        try:
            self._lock = _taken(self.path / _LOCK)
        except (OSError, NotImplementedError):  # it goes on, or is somebody else's
            yield False
            return
        try:
            yield True
        finally:
            if self._lock is not None:
                self._lock.release()

    def _is_abandoned(self) -> bool:
        try:
            inside = list(self.path.rglob("*"))
            last = max(path.lstat().st_mtime for path in (self.path, *inside))
        except OSError:  # it is just being removed
            return False
        nothing_ready = not (self.path / READY).exists() and not any((self.path / OLD).glob("*"))
        return nothing_ready and time.time() - last > _ABANDONED

    def settle(self) -> None:
        """Put the files in their places where all were written, else those of the former run back. Raises OSError."""
        ready = (self.path / READY).is_dir()
        try:
            order = json.loads((self.path / _ORDER).read_bytes()) if ready else []
        except (OSError, ValueError):  # as an earlier version left it
            order = []
        place = {name: number for number, name in enumerate(order)}
        files = (self.path / (READY if ready else OLD)).glob("*")
        for file in sorted(files, key=lambda path: (place.get(path.name, -1), path.name)):
            os.replace(file, self.folder / file.name)
        self.end()

    def _entries(self) -> list[Path]:
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []


def tidy(folder: Path, *, alone: bool) -> bool:
    """Settle each stage in `folder` whose run has ended, and remove single files that nobody goes on writing; whether
    there were any. alone: nobody writes there at all. Raises OSError.
    """
    found = False
    for path in sorted(folder.glob(f"{HIDDEN}*")):
        if not path.is_dir() or path.is_symlink():
            with suppress(FileNotFoundError):
                if alone or (_FILE.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _ABANDONED):
                    path.unlink()
                    found = True
        elif _STAGE.fullmatch(path.name):
            stage = Stage(folder, path)
            if alone:
                stage.settle()
                found = True
                continue
            with stage.is_left() as left:
                if left:
                    stage.settle()
                    found = True
    return found


def _taken(file: Path) -> BaseFileLock:
    """Its lock, held. Raises OSError where another holds it, and, as NotImplementedError, where there are none."""
    from filelock import FileLock

    lock = FileLock(file, thread_local=False)  # a folder may be opened in one thread and closed in another
    lock.acquire(timeout=0)
    return lock


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()
