"""What a registration lets one choose from: the one list of each, for the command line, requests, panel and docs.

Standard library only.
"""

from __future__ import annotations

from enum import Enum

# Whichever installed model was made for such a pair.
AUTO_MODEL = "auto"
DEFAULT_MODEL = AUTO_MODEL


class Device(str, Enum):
    """Which processor computes; auto takes CUDA, else MPS, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Initialization(str, Enum):
    """Where the moving image starts: where it fits best, on the fixed image's centre, or as the scanner placed it."""

    auto = "auto"
    centers = "centers"
    scanner = "scanner"


class FailOn(str, Enum):
    """The verdict that a command ends with exit code 3 for; check includes failed."""

    check = "check"
    failed = "failed"


class OutputForm(str, Enum):
    """How results are kept: image files that any tool reads, or plain arrays for another process of ours."""

    files = "files"
    arrays = "arrays"


DEVICES = tuple(device.value for device in Device)
INITIALIZATIONS = tuple(mode.value for mode in Initialization)
OUTPUT_FORMS = tuple(form.value for form in OutputForm)
