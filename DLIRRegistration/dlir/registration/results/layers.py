"""Segmentations of several layers, taken apart into these, and structures matched by the names in the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dlir.errors import ImageError, ProtocolError, note, shown
from dlir.io.formats.segments import Segment, read_segments
from dlir.registration.request import ArrayFile, Comparison, ImageSource, RegistrationRequest


@dataclass(frozen=True)
class Layers:
    """The layers of label maps, and the segments in them, which count the layers of all."""

    sources: tuple[ImageSource, ...]
    segments: tuple[Segment, ...]


def by_layers(request: RegistrationRequest) -> tuple[RegistrationRequest, list[Segment]]:
    """The request with each layer of a segmentation for itself, and the segments of its moving labels.

    Where comparisons are not given and both sides name segments, these are matched by name unless their values say
    the same; a note tells what is not compared. Raises the errors of `read_segments`, ImageError where
    segments cannot be matched, and ProtocolError where given comparisons no longer name the right layers.
    """
    moving, fixed, backward = (
        layers_of(sources, role)
        for sources, role in (
            (request.moving_labels, "moving label"),
            (request.fixed_labels, "fixed label"),
            (request.backward_labels, "fixed label"),
        )
    )
    comparisons = request.comparisons
    if comparisons is None and request.fixed_labels:
        comparisons = _by_name(fixed, moving, request)
    elif comparisons and (len(moving.sources), len(fixed.sources)) != (
        len(request.moving_labels),
        len(request.fixed_labels),
    ):
        raise ProtocolError("'comparisons' count layers, but a label file holds several; name each layer by '#'")
    layered = replace(
        request,
        moving_labels=moving.sources,
        fixed_labels=fixed.sources,
        backward_labels=backward.sources,
        comparisons=comparisons,
    )
    return layered, list(moving.segments)


def layers_of(sources: Sequence[ImageSource], role: str) -> Layers:
    """Each layer of the segmentations for itself. role: how messages call them. Raises as `read_segments`."""
    layers: list[ImageSource] = []
    segments: list[Segment] = []
    for source in sources:
        found = read_segments(source, role) if isinstance(source, str) else getattr(source, "segments", ())
        chosen = sorted({segment.layer for segment in found})
        for layer in chosen or [0]:
            segments += [replace(segment, layer=len(layers)) for segment in found if segment.layer == layer]
            layers.append(f"{source}#{layer}" if len(chosen) > 1 else source)
    return Layers(tuple(layers), tuple(segments))


def _by_name(fixed: Layers, moving: Layers, request: RegistrationRequest) -> tuple[Comparison, ...] | None:
    """What to compare; None where values say it."""
    names = [{segment.name: segment for segment in side.segments} for side in (fixed, moving)]
    common = [name for name in names[0] if name in names[1]]
    values = [{segment.value: segment.name for segment in side.segments} for side in (fixed, moving)]
    alike = all(values[0][value] == values[1][value] for value in values[0] if value in values[1])
    alike = alike and all(names[0][name].value == names[1][name].value for name in common)
    files = " and ".join(
        f"{role} '{_named(source)}'"
        for role, source in (("fixed label", request.fixed_labels[0]), ("moving label", request.moving_labels[0]))
    )
    if len(fixed.sources) == len(moving.sources) == 1 and (alike or not common):
        if not alike:
            note(f"{files} have no segment name in common; their values are compared by number")
        return None
    if not common:
        raise ImageError(
            f"{files} have no segment name in common, so that segments in layers cannot be compared; "
            "give them the same names"
        )
    for side in (fixed, moving):
        twice = [name for name in common if sum(segment.name == name for segment in side.segments) > 1]
        if twice:
            raise ImageError(f"{files} name two segments '{twice[0]}'; give each a name of its own")
    alone = sorted({*names[0], *names[1]} - set(common))
    if alone:
        note(f"{files}: segments of only one of them are not compared: {', '.join(alone)}")
    pairs = ((names[1][name], names[0][name]) for name in common)
    return tuple(Comparison(m.name, m.layer, m.value, f.layer, f.value) for m, f in pairs)


def _named(source: ImageSource) -> str:
    if isinstance(source, str):
        return shown(source)
    return source.name if isinstance(source, ArrayFile) else source.source
