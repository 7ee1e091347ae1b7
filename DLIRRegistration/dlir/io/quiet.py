"""Keeps what SimpleITK and its C libraries print off the terminal; DLIR says the same in its own words."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Quiet:
    """A context that sends the process's standard error to nowhere and turns ITK's warnings off.

    The C libraries under ITK (nifti, MetaIO, HDF5, VNL) write to file descriptor 2 and have no switch. Users
    are counted: of readers in several threads the first one mutes and the last one restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stderr: int | None = None
        self._warnings = True

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._mute()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._restore()

    def _mute(self) -> None:
        import SimpleITK as sitk

        self._warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            self._stderr = os.dup(2)
        except OSError:  # a process without a terminal has no descriptor 2, so nothing to keep quiet
            self._stderr = None
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def _restore(self) -> None:
        import SimpleITK as sitk

        if self._stderr is not None:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
        sitk.ProcessObject.SetGlobalWarningDisplay(self._warnings)


quiet = _Quiet()


@contextmanager
def warnings_of_sitk() -> Iterator[list[str]]:
    """What SimpleITK warns of in this block, instead of on the terminal and also where `quiet` is entered."""
    import SimpleITK as sitk

    heard: list[str] = []

    class Listener(sitk.LoggerBase):
        def DisplayText(self, text: str) -> None:  # noqa: N802  # SimpleITK's name; warnings come here too
            heard.append(text)

    listener: Any = Listener()  # type: ignore[no-untyped-call]
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    former = listener.SetAsGlobalITKLogger()
    sitk.ProcessObject.SetGlobalWarningDisplay(True)
    try:
        yield heard
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
        former.SetAsGlobalITKLogger()
