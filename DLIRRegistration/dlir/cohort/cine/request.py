"""What `register_cine` is asked for. Standard library only, as `dlir.registration.request`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlir.errors import OptionError
from dlir.registration.choices import DEFAULT_MODEL, NO_MODEL, ImageFormat, Kind, budget_of

if TYPE_CHECKING:
    from dlir.io.reading import Volume
    from dlir.io.sequences import ImageSequence

# The reference that is looked for: the phase at which the label is largest.
END_DIASTOLE = "ed"
# Of those that images are written in, the ones that keep a sequence as other programs read it.
FORMATS = (ImageFormat.nrrd.value, ImageFormat.nifti.value)


@dataclass(frozen=True)
class CineRequest:
    """Register every phase of a cine to one of them. Phases are counted from 0.

    cine: a 4D file, or a folder or .zip of one DICOM series, or a sequence in memory. folder: for the files.
    reference: the phase that stays, or "ed": that at which the structure whose volume changes most is largest.
    label: drawn on one phase, to be carried to all: a file as for `read_label`, or of one label map per phase with '#'
    and the one that is meant; or labels in memory. label_phase: where it was drawn; None is the phase after its '#',
    else the reference.
    model, refine, kind, initialize, device: as in `RegistrationRequest`, for each phase. A model that is chosen, or
    none, is so for the phase half a cycle from the reference, and serves all.
    cycle: whether each phase is registered to the one before it, too, to measure what is left after a full cycle; None
    for wherever no pair is optimised, which takes long.
    full_paths, overwrite: as in `Outputs`.
    format: what is 4D is written as, one of FORMATS; None is as the cine is.
    Raises OptionError for values that contradict each other.
    """

    cine: str | ImageSequence
    folder: str
    reference: int | str = 0
    label: str | Volume | None = None
    label_phase: int | None = None
    model: str = DEFAULT_MODEL
    refine: str | None = None
    kind: str = Kind.deformable.value
    initialize: str | None = None
    device: str = "auto"
    cycle: bool | None = None
    full_paths: bool = False
    overwrite: bool = False
    format: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.reference, str) and self.reference != END_DIASTOLE:
            raise OptionError(f"the reference is '{self.reference}'; give the number of a phase, or {END_DIASTOLE}")
        if self.looks_for_reference and self.label is None:
            raise OptionError(f"--reference {END_DIASTOLE} is the phase at which a label is largest; give --label too")
        if self.label_phase is not None and self.label is None:
            raise OptionError("--label-phase is where a label was drawn; give --label too")
        if self.refine is not None:
            budget_of(self.refine)
        if self.format not in (None, *FORMATS):
            raise OptionError(f"a cine is not written as {self.format}; use --format {' or '.join(FORMATS)}")

    @property
    def looks_for_reference(self) -> bool:
        return self.reference == END_DIASTOLE

    def measures_cycle(self, model: str) -> bool:
        """model: the name of the one that is used, or "none"."""
        if self.cycle is not None:
            return self.cycle
        return model != NO_MODEL and (self.refine is None or budget_of(self.refine) is None)
