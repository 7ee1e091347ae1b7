"""The one exception family, and notes. A message names the input, says what is wrong and what to do, in one line."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class DLIRError(Exception):
    """Base of every error that a user can mend; the command line prints it as one line and exits with 2."""


class ImageError(DLIRError):
    """A file is missing, unreadable, not a 3D scalar image, or its content cannot be registered."""


class GeometryError(DLIRError):
    """A grid is singular, too small, or does not fit the grid it is used with."""


class ModelError(DLIRError):
    """A model file is damaged, of a newer format, or its weights do not match its specification."""


class TransformError(DLIRError):
    """A transform file cannot be read or holds transforms that DLIR does not know."""


class ConfigError(DLIRError):
    """A training configuration is not valid, or the data it names cannot be used."""


class OptionError(DLIRError):
    """Options of a command contradict each other, or one lacks another."""


class OutputError(DLIRError):
    """An output cannot be written: no permission, no space, or it would overwrite an input."""


class DiskFullError(OutputError):
    """There is no space left for an output, nor for any other of its run."""


class DeviceError(DLIRError):
    """The device asked for does not exist here or ran out of memory with no smaller step left."""


class ProtocolError(DLIRError):
    """A line between the worker and its client is not what they agreed on."""


class WorkerError(DLIRError):
    """The worker process, or the training process, cannot be started or used."""


class EvaluationError(DLIRError):
    """A data set does not hold what its layout says, or a method to compare with is missing or fails on a pair."""


class ManifestError(ConfigError, EvaluationError):
    """A table of pairs or images cannot be read or has a wrong form: training data and data set in one."""


def nearest(word: str, known: Iterable[str]) -> str:
    """For a message about an unknown word: " (did you mean '…'?)", or nothing where no known one is like it."""
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), 1, 0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def how_to_install(extra: str) -> str:
    """For a message about a package that is missing: what brings it with the others of an extra of pyproject.toml, as
    long as DLIR is in no package index.
    """
    return f"pip install '.[{extra}]' in a clone of DLIR"


def shown(text: str | os.PathLike[str]) -> str:
    r"""Text in one line that can be printed and stored anywhere; bytes that are no UTF-8 as in "caf\xe9.nrrd"."""
    text = os.fspath(text).replace("\r", "\\r").replace("\n", "\\n")
    text = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    text = re.sub("[\x00-\x1f\x7f]", lambda control: f"\\x{ord(control[0]):02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


# -- what is told although it goes on ------------------------------------------------------------------


class ImageNote(UserWarning):
    """One line about how a file was understood, which its user should know; a warning, so that nobody can miss it."""


def note(text: str) -> None:
    """Tell it: by whoever `notes_to` names, else as Python shows warnings."""
    warnings.warn(text, ImageNote, stacklevel=2)


@contextmanager
def notes_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Within, `tell` gets each note, once; other warnings are shown as before."""
    with _heard(tell, on=False):
        yield


@contextmanager
def notes_kept() -> Iterator[list[str]]:
    """Gives a list that has each note told within, once; they are told as before, too."""
    kept: list[str] = []
    with _heard(kept.append, on=True):
        yield kept


@contextmanager
def _heard(hear: Callable[[str], None], *, on: bool) -> Iterator[None]:
    """Within, `hear` gets each note, once. on: whether notes go on to where they went before."""
    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", ImageNote)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, ImageNote):
                if str(message) in told:
                    return
                told.add(str(message))
                hear(str(message))
            if on or not issubclass(category, ImageNote):
                others(message, category, *rest, **named)

        warnings.showwarning = show
        yield
