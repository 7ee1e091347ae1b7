"""The one exception family. A message names the input, says what is wrong and what to do, in one line."""

from __future__ import annotations

from collections.abc import Iterable


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
