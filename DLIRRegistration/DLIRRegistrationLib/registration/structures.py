"""The anatomical structures of a registration: which segment lies in which layer, and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlir.registration.request import Comparison, structure_name
from DLIRRegistrationLib.scene.segmentations import SegmentLayer


@dataclass(frozen=True)
class Structure:
    """One segment. name: as it is called in Slicer. title: the same, made unique. layer: number among all layers that
    are handed over. value: its label there."""

    name: str
    title: str
    segment_id: str
    layer: int
    value: int


def structures(nodes: Sequence[Any], layers: Sequence[Sequence[SegmentLayer]]) -> list[list[Structure]]:
    """The segments of each segmentation node; its layers are handed over after those of the nodes before it."""
    found: list[list[Structure]] = []
    taken: set[str] = set()
    first = 0
    for node, own in zip(nodes, layers, strict=True):
        found.append([])
        for number, layer in enumerate(own, first):
            for segment_id, value in layer.segments.items():
                name = node.GetSegmentation().GetSegment(segment_id).GetName()
                choice = (name, f"{name} ({node.GetName()})", f"{name} ({segment_id})")
                title = next((title for title in choice if title not in taken), choice[-1])
                taken.add(title)
                found[-1].append(Structure(name, title, segment_id, number, value))
        first += len(own)
    return found


def comparisons(moving: Sequence[Structure], fixed: Sequence[Structure]) -> tuple[Comparison, ...]:
    """Which propagated structures are scored by which: those of one name, however it is capitalized."""
    wanted = {_key(structure.name): structure for structure in fixed}
    pairs = [(structure, wanted.get(_key(structure.name))) for structure in moving]
    return tuple(Comparison(a.title, a.layer, a.value, b.layer, b.value) for a, b in pairs if b is not None)


def with_titles(report: dict[str, Any], moving: Sequence[Structure]) -> dict[str, Any]:
    """A report whose errors to expect, where there are some, are those of structures by their titles."""
    if "error_map" not in report:
        return report
    told, several = report["error_map"], len({structure.layer for structure in moving}) > 1
    titles = {structure_name(one.layer, one.value, several=several): one.title for one in moving}
    renamed = {titles.get(name, name): error for name, error in told["structures"].items()}
    return {**report, "error_map": {**told, "structures": renamed}}


def _key(name: str) -> str:
    return name.strip().casefold()
