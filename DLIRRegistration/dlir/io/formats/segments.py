"""Segmentations as Slicer saves them (.seg.nrrd), or DICOM has them: which value of which layer has which name.

Segments that overlap lie in layers, in a file that else looks like one of several time points.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from itertools import groupby

from dlir.errors import ImageError, shown
from dlir.io.formats.files import read_metadata
from dlir.io.source import Source, parse_source

_NAMES_SHOWN = 200
_ENDINGS = (".nrrd", ".nhdr")


@dataclass(frozen=True)
class Segment:
    """A structure: the voxels of one value in one layer, counted from 0, of a file."""

    name: str
    layer: int
    value: int


def read_segments(spec: str | os.PathLike[str], role: str = "label") -> tuple[Segment, ...]:
    """The segments that a file's header names, ordered by layer; of one layer where `spec` chooses one by '#'.

    None where it names none. Reads the header only, of an NRRD file. Raises ImageError for a header that contradicts
    itself, and as `is_segmentation` and `read_segmentation`.
    """
    source = parse_source(spec, role)
    found = _segments(source)
    return found if source.phase is None else tuple(segment for segment in found if segment.layer == source.phase)


def segments_of_layer(source: Source) -> tuple[Segment, ...]:
    """The segments of the one layer that is meant, as layer 0 of what is read.

    Raises ImageError, naming the segments, where there are several layers and none, or no such, is chosen.
    """
    segments = _segments(source)
    layers = {segment.layer for segment in segments}
    if not segments or (source.phase is None and len(layers) == 1) or source.phase in layers:
        return tuple(replace(segment, layer=0) for segment in segments if source.phase in (None, segment.layer))
    described = "; ".join(
        f"#{layer}: " + ", ".join(segment.name for segment in group)
        for layer, group in groupby(segments, lambda segment: segment.layer)
    )
    chosen = f"no layer {source.phase}" if source.phase is not None else f"{len(layers)} layers of overlapping segments"
    raise ImageError(
        f"{source.name} holds {chosen}; choose one by its number, for example '{shown(source.path)}#{min(layers)}' "
        f"({described if len(described) < _NAMES_SHOWN else described[:_NAMES_SHOWN] + '…'})"
    )


def _segments(source: Source) -> tuple[Segment, ...]:
    from dlir.io.dicom.segmentation import is_segmentation, read_segmentation  # which has segments, too

    if is_segmentation(source):
        return read_segmentation(source).segments
    if not source.path.name.lower().endswith(_ENDINGS) or source.path.is_dir():
        return ()
    stated = read_metadata(source)
    numbers = sorted(int(match[1]) for key in stated if (match := re.fullmatch(r"Segment(\d+)_ID", key)))
    found = []
    for number in numbers:
        # Before layers were stated (Slicer 4.10 and older) each segment had its own, with the value 1.
        texts = [
            stated.get(f"Segment{number}_{key}", old) for key, old in (("Layer", str(number)), ("LabelValue", "1"))
        ]
        if not all(map(str.isdecimal, texts)):
            raise ImageError(f"{source.name}: segment {number} has no layer and label value; save it from Slicer again")
        name = stated.get(f"Segment{number}_Name") or stated[f"Segment{number}_ID"]
        found.append(Segment(" ".join(name.split()), *map(int, texts)))
    return tuple(sorted(found, key=lambda segment: (segment.layer, segment.value)))
