"""What the panel lets a user choose from in lists; each choice knows its text.

The values are those that the Logic takes; the names are kept in saved scenes and must not change.
"""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _

from dlir.registration import choices

DEFAULT_MODEL = choices.DEFAULT_MODEL


def no_model() -> str:
    """What the list of models calls optimisation without one."""
    return _("None: optimise")


class Start(Enum):
    """Where the images lie at the start; values as for `register`."""

    AUTO = choices.Initialization.auto.value
    CENTERS = choices.Initialization.centers.value
    SCANNER = choices.Initialization.scanner.value
    SECOND = choices.Beginning.second.value

    def label(self) -> str:
        return {
            Start.AUTO: _("Where they fit best"),
            Start.CENTERS: _("Centres on each other"),
            Start.SCANNER: _("As in the scanner"),
            Start.SECOND: _("Second best"),
        }[self]

    def hint(self) -> str:
        return {
            Start.AUTO: _("All of the following are compared, looked at coarsely, and the most alike is taken."),
            Start.CENTERS: _("The middle of the moving image on the middle of the fixed one."),
            Start.SCANNER: _("Each where its scanner placed it: right if the patient has not moved in between."),
            Start.SECOND: _("The next best position that the optimisation has found."),
        }[self]


class Refinement(Enum):
    """How long the pair is optimised; values as for `register`, where the default is None."""

    DEFAULT = None
    OFF, SECONDS_5, SECONDS_10, SECONDS_30, CONVERGED = choices.REFINEMENTS

    def label(self) -> str:
        return {
            Refinement.DEFAULT: _("If no model fits"),
            Refinement.OFF: _("Off"),
            Refinement.SECONDS_5: _("5 s"),
            Refinement.SECONDS_10: _("10 s"),
            Refinement.SECONDS_30: _("30 s"),
            Refinement.CONVERGED: _("Until converged"),
        }[self]


class Kind(Enum):
    """How far the transform may go; values as for `register`."""

    DEFORMABLE = choices.Kind.deformable.value
    AFFINE = choices.Kind.affine.value
    RIGID = choices.Kind.rigid.value

    def label(self) -> str:
        return {
            Kind.DEFORMABLE: _("Deformable"),
            Kind.AFFINE: _("Affine: no bending"),
            Kind.RIGID: _("Rigid: turn and shift only"),
        }[self]


class Device(Enum):
    """What computes; values as for `register`."""

    AUTO = choices.Device.auto.value
    CPU = choices.Device.cpu.value
    CUDA = choices.Device.cuda.value
    MPS = choices.Device.mps.value

    def label(self) -> str:
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("NVIDIA graphics card (CUDA)"),
            Device.MPS: _("Apple graphics (MPS)"),
        }[self]


class TransformKind(Enum):
    """How the transform is kept; values as in OutputSelection.transform_kind."""

    NATIVE = "native"
    GRID = "grid"

    def label(self) -> str:
        return {TransformKind.NATIVE: _("B-splines, exact"), TransformKind.GRID: _("Displacement grid")}[self]
