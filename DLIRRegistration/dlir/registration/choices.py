"""What a registration lets one choose from: the one list of each, for the command line, requests, panel and docs.

Standard library only.
"""

from __future__ import annotations

from enum import Enum

from dlir.losses.choices import Similarity
from dlir.optimization.budget import CONVERGED, OFF, Budget, budget_of
from dlir.optimization.choices import Kind

__all__ = [
    "AUTO_MODEL",
    "AUTO_SIMILARITY",
    "DEFAULT_FORMAT",
    "DEFAULT_MODEL",
    "DEFAULT_REFINEMENT",
    "DEVICES",
    "IMAGE_FORMATS",
    "INITIALIZATIONS",
    "KINDS",
    "NO_MODEL",
    "OUTPUT_FORMS",
    "REFINEMENTS",
    "SIMILARITIES",
    "Beginning",
    "Budget",
    "Device",
    "FailOn",
    "ImageFormat",
    "Initialization",
    "Kind",
    "OutputForm",
    "budget_of",
    "half_a_cycle_away",
]

# Whichever installed model was made for such a pair.
AUTO_MODEL = "auto"
# No network: the pair is optimised.
NO_MODEL = "none"
DEFAULT_MODEL = AUTO_MODEL
# What `--refine` is where no model fits, or none is wanted.
DEFAULT_REFINEMENT = "10s"
# What `--refine` may be, for lists to choose from; it takes other numbers too.
REFINEMENTS = (OFF, "5s", DEFAULT_REFINEMENT, "30s", CONVERGED)
# Local correlation as long as the contrast is the same.
AUTO_SIMILARITY = "auto"


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


class Beginning(str, Enum):
    """The same for one pair, where the second best position of an optimisation can be asked for."""

    auto = Initialization.auto.value
    centers = Initialization.centers.value
    scanner = Initialization.scanner.value
    second = "2"


class FailOn(str, Enum):
    """The verdict that a command ends with exit code 3 for; check includes failed."""

    check = "check"
    failed = "failed"


class OutputForm(str, Enum):
    """How results are kept: image files that any tool reads, or plain arrays for another process of ours."""

    files = "files"
    arrays = "arrays"


class ImageFormat(str, Enum):
    """What the names of the images that a registration writes end in, and so what they are written as."""

    nrrd = "nrrd"
    nifti = "nii.gz"
    mha = "mha"


DEFAULT_FORMAT = ImageFormat.nrrd.value
IMAGE_FORMATS = tuple(format.value for format in ImageFormat)
DEVICES = tuple(device.value for device in Device)
INITIALIZATIONS = tuple(mode.value for mode in Beginning)
SIMILARITIES = (AUTO_SIMILARITY, *(similarity.value for similarity in Similarity))
KINDS = tuple(kind.value for kind in Kind)
OUTPUT_FORMS = tuple(form.value for form in OutputForm)


def half_a_cycle_away(phase: int, count: int) -> int:
    """The one of `count` time points, from 0, that is likely to look least like `phase`, as of a beating heart.

    A model that is to be chosen for a whole sequence is so for these two: neighbours look alike to any.
    """
    return (phase + count // 2) % count
