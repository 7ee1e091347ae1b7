"""The one exception family, and notes. A message names the input, says what is wrong and what to do, in one line."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


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
    """For a message about a package that is missing: what brings it with the others of an extra of pyproject.toml, for
    DLIR as it is installed here: from a clone, from a wheel, or by its name.
    """
    import json
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        stated = json.loads(metadata.distribution("dlir").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        return f"pip install '.[{extra}]' in a clone of DLIR"
    url = stated.get("url", "")
    if not url.startswith("file:"):
        return f"pip install 'dlir[{extra}]{url and f' @ {url}'}'"
    path = url2pathname(urlsplit(url).path)
    editable = "-e " if stated.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}'{path if os.path.exists(path) else os.path.basename(path)}[{extra}]'"


def shown(text: str | os.PathLike[str]) -> str:
    r"""Text in one line that can be printed and stored anywhere; bytes that are no UTF-8 as in "caf\xe9.nrrd"."""
    text = os.fspath(text).replace("\r", "\\r").replace("\n", "\\n")
    text = re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    text = re.sub("[\x00-\x1f\x7f]", lambda control: f"\\x{ord(control[0]):02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


# -- what is told although it goes on ------------------------------------------------------------------


class ImageNote(UserWarning):
    """One line about how a file was understood, which its user should know; a warning, so that nobody can miss it."""


# Each time, not once for each line of ours; what the user says of warnings comes first.
warnings.simplefilter("always", ImageNote, append=True)


@dataclass(frozen=True, eq=False)
class _Listener:
    """hear: gets each note once. on: whether notes go on to who listens further out."""

    hear: Callable[[str], None]
    on: bool
    told: set[str] = field(default_factory=set)


# Those who listen, the innermost last: of this thread, and of those that run in a copy of its context.
_listeners: ContextVar[tuple[_Listener, ...]] = ContextVar("listeners", default=())


def note(text: str) -> None:
    """Tell it: by whoever `notes_to` names, else as Python shows warnings."""
    for listener in reversed(_listeners.get()):
        if text in listener.told:
            return
        listener.told.add(text)
        listener.hear(text)
        if not listener.on:
            return
    warnings.warn(text, ImageNote, stacklevel=2)


@contextmanager
def notes_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Within, `tell` gets each note, once; other warnings are shown as before. What other threads note meanwhile is not
    told, unless they run in a copy of this context.
    """
    with _heard(_Listener(tell, on=False)):
        yield


@contextmanager
def notes_kept() -> Iterator[list[str]]:
    """Gives a list that has each note told within, once; they are told as before, too."""
    kept: list[str] = []
    with _heard(_Listener(kept.append, on=True)):
        yield kept


@contextmanager
def _heard(listener: _Listener) -> Iterator[None]:
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)
