"""The files of a registered cine: what they are called, and those that are written phase by phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.io.sequence_writing import NIFTI_SUFFIX, SLICER_SUFFIX, Add, sequence_writer
from dlir.registration.choices import ImageFormat

if TYPE_CHECKING:
    from dlir.cohort.cine.label import DrawnLabel
    from dlir.io import OutputFolder
    from dlir.io.sequences import ImageSequence
    from dlir.transforms.spatial import CompositeTransform

FIGURE = "volumes.png"
_NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")


def output_names(sequence: ImageSequence, label: DrawnLabel | None, format: str | None = None) -> dict[str, str]:
    """By what they are. "warped", "jacobian" and "labels" (numbered from 1 where the label has several layers) are 4D:
    as the format says, or with None NIfTI where the cine is, else NRRD as Slicer saves sequences. "transform_N" of each
    phase, N from 0. "volumes", "ejection" and "figure" with a label, and "report".
    """
    nifti = sequence.source.lower().endswith(_NIFTI) if format is None else format == ImageFormat.nifti.value
    suffix = NIFTI_SUFFIX if nifti else SLICER_SUFFIX
    names = {key: f"{key}{suffix}" for key in ("warped", "jacobian", *label_keys(label))}
    digits = max(2, len(str(len(sequence) - 1)))
    names |= {f"transform_{phase}": f"transform_{phase:0{digits}d}.h5" for phase in range(len(sequence))}
    if label is not None:
        names |= {"volumes": "volumes.csv", "ejection": "ejection.csv", "figure": FIGURE}
    return names | {"report": "report.json"}


def label_keys(label: DrawnLabel | None) -> list[str]:
    count = 0 if label is None else len(label.layers)
    return ["labels"] if count == 1 else [f"labels_{number}" for number in range(1, count + 1)]


@dataclass(frozen=True, eq=False)
class PhaseFiles:
    """What takes the phases one by one, the first one first."""

    outputs: OutputFolder
    names: dict[str, str]
    adding: dict[str, Add]

    def add(
        self,
        phase: int,
        warped: NDArray[np.float32],
        jacobian: NDArray[np.float32],
        transform: CompositeTransform,
        labels: Sequence[NDArray[Any]],
    ) -> None:
        """Raises OutputError."""
        from dlir.transforms.files import write_transform

        arrays = zip(self.adding.values(), (warped, jacobian, *labels), strict=True)
        for put, array in arrays:
            put(array)
        write_transform(self.outputs.file(self.names[f"transform_{phase}"]), transform)


@contextmanager
def phase_files(
    outputs: OutputFolder, names: dict[str, str], sequence: ImageSequence, label: DrawnLabel | None
) -> Iterator[PhaseFiles]:
    """Within, all phases are handed over; then the files are whole. Raises OutputError."""
    types: dict[str, Any] = {"warped": np.float32, "jacobian": np.float32}
    if label is not None:
        types |= {key: layer.array.dtype for key, layer in zip(label_keys(label), label.layers, strict=True)}
    with ExitStack() as stack:
        adding = {}
        for key, dtype in types.items():
            path: Path = outputs.file(names[key])
            writer = sequence_writer(path, len(sequence), sequence.grid, dtype, sequence.seconds)
            adding[key] = stack.enter_context(writer)
        yield PhaseFiles(outputs, names, adding)
