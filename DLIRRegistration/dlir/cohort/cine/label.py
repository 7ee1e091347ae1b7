"""The label of a cine: on which phase it was drawn, its structures, and their volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.cohort.cine.request import CineRequest
from dlir.errors import ImageError, OptionError, note
from dlir.io import read_label
from dlir.io.formats.segments import Segment, read_segments
from dlir.io.reading import Volume, count_phases, require_labels
from dlir.io.sequences import ImageSequence, read_sequence
from dlir.io.source import parse_source

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid

_ROLE = "label"


@dataclass(frozen=True, eq=False)
class DrawnLabel:
    """layers: integers (z, y, x) on the grid of the cine, as drawn on `phase`. structures: in them, by name."""

    layers: tuple[Volume, ...]
    structures: tuple[Segment, ...]
    phase: int


def read_drawn(request: CineRequest, sequence: ImageSequence) -> DrawnLabel | None:
    """The label that is asked for; None where there is none.

    Raises OptionError where nothing says on which phase it was drawn, or two things do, and for a phase that the cine
    lacks; ImageError and GeometryError as `read_label`, and for an empty label.
    """
    if request.label is None:
        return None
    layers, number = _layers(request.label, sequence)
    structures = tuple(
        segment for k, layer in enumerate(layers) for segment in _structures(layer, k, alone=len(layers) == 1)
    )
    if not structures:
        raise ImageError(f"{_ROLE} '{layers[0].source}' is empty; give one that marks at least one voxel")
    twice = [name for name, count in Counter(one.name for one in structures).items() if count > 1]
    if twice:
        raise ImageError(f"{_ROLE} '{layers[0].source}' names two structures '{twice[0]}'; give each a name of its own")
    return DrawnLabel(layers, structures, _phase(request, number, sequence))


def volumes_ml(arrays: Sequence[NDArray[Any]], grid: ImageGrid, structures: Sequence[Segment]) -> dict[str, float]:
    """The volume in ml of each structure, by name, in labels (z, y, x) on `grid`, layer by layer."""
    voxel = float(np.prod(grid.spacing)) / 1000
    return {one.name: voxel * int(np.count_nonzero(arrays[one.layer] == one.value)) for one in structures}


def _layers(label: str | Volume, sequence: ImageSequence) -> tuple[tuple[Volume, ...], int | None]:
    """Each for itself, on the grid of the cine, and the phase that the name of the label states."""
    if isinstance(label, Volume):
        from dlir.registration.loading import in_place  # torch, which reading does not need

        require_labels(label.array, f"{_ROLE} '{label.source}'")
        return (replace(label, array=in_place(label, sequence.grid), grid=sequence.grid),), None
    if read_segments(label, _ROLE):
        from dlir.registration.results.layers import layers_of

        sources = [str(source) for source in layers_of((label,), _ROLE).sources]
        return tuple(read_label(source, sequence.grid, _ROLE) for source in sources), None
    source = parse_source(label, _ROLE)
    number = source.phase
    if number is None and count_phases(label, _ROLE) > 1:
        number = _only_marked(label)
        label = f"{label}#{number}"
    fits = number is not None and count_phases(source.path, _ROLE) == len(sequence)
    return (read_label(label, sequence.grid, _ROLE),), number if fits else None


def _only_marked(label: str) -> int:
    """The one time point of a 4D label that marks something."""
    marked = [k for k, array in enumerate(read_sequence(label, _ROLE).arrays) if (array != 0).any()]
    if not marked:
        raise ImageError(f"{_ROLE} '{label}' is empty at all its time points; give one that marks at least one voxel")
    if len(marked) > 1:
        raise ImageError(
            f"{_ROLE} '{label}' is 4D, and {len(marked)} of its time points are drawn on; choose one, for example "
            f"'{label}#{marked[0]}'"
        )
    note(f"{_ROLE} '{label}' is 4D; the only time point that is drawn on is #{marked[0]}")
    return marked[0]


def _structures(layer: Volume, number: int, *, alone: bool) -> list[Segment]:
    """By the names that the file gives them; else by their values, and in one of several layers by its number, too."""
    names = {segment.value: segment.name for segment in layer.segments}
    values = [int(value) for value in np.unique(layer.array) if value != 0]
    return [Segment(names.get(value, f"{value}" if alone else f"{number}.{value}"), number, value) for value in values]


def _phase(request: CineRequest, number: int | None, sequence: ImageSequence) -> int:
    stated = request.label_phase
    if None not in (stated, number) and stated != number:
        raise OptionError(f"the label is that of phase {number}, and --label-phase says {stated}; leave one out")
    phase = number if stated is None else stated
    if phase is None:
        if isinstance(request.reference, str):
            raise OptionError(f"--reference {request.reference} needs to know where the label lies; give --label-phase")
        phase = request.reference
    if not 0 <= phase < len(sequence):
        raise OptionError(f"--label-phase is {phase}, and the cine has phases 0 to {len(sequence) - 1}")
    return phase
