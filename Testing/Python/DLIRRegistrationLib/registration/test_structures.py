"""Segments become structures of a registration, and find what they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from dlir.registration.request import Comparison
from DLIRRegistrationLib.registration.structures import Structure, comparisons, structures, with_titles
from DLIRRegistrationLib.scene.segmentations import export_layers
from grids import make_grid
from segments import overlapping, segmentation

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((12, 12, 12))


def test_layers_are_counted_through_all_segmentations(scene: MRML) -> None:
    nodes = [segmentation(scene, overlapping(GRID), GRID, name) for name in ("one", "two")]
    layers = [export_layers(node) for node in nodes]
    first, second = structures(nodes, layers)
    assert {one.layer for one in first} | {one.layer for one in second} == set(range(len(layers[0]) + len(layers[1])))
    for own, parts, offset in ((first, layers[0], 0), (second, layers[1], len(layers[0]))):
        assert {(one.segment_id, one.layer - offset, one.value) for one in own} == {
            (segment, number, value) for number, layer in enumerate(parts) for segment, value in layer.segments.items()
        }


def test_titles_are_unique(scene: MRML) -> None:
    nodes = [segmentation(scene, overlapping(GRID), GRID, name) for name in ("one", "two", "two")]
    titles = [one.title for own in structures(nodes, [export_layers(node) for node in nodes]) for one in own]
    assert len(set(titles)) == len(titles) == 9
    assert {"scar", "scar (two)"} <= set(titles)


def test_structures_of_one_name_are_compared_however_they_are_written(scene: MRML) -> None:
    moving, fixed = (segmentation(scene, overlapping(GRID), GRID, name) for name in ("moving", "fixed"))
    fixed.GetSegmentation().GetSegment("scar").SetName(" SCAR ")
    fixed.GetSegmentation().GetSegment("muscle").SetName("something else")
    ours, theirs = (structures([node], [export_layers(node)])[0] for node in (moving, fixed))
    found = comparisons(ours, theirs)
    assert {pair.name for pair in found} == {"scar", "ventricle"}
    of_ours, of_theirs = ({one.segment_id: one for one in some} for some in (ours, theirs))
    scar = next(pair for pair in found if pair.name == "scar")
    one, other = of_ours["scar"], of_theirs["scar"]
    assert scar == Comparison("scar", one.layer, one.value, other.layer, other.value)


@pytest.mark.parametrize(("layers", "names"), [((0, 0), ("1", "2")), ((0, 1), ("0/1", "1/2"))])
def test_errors_to_expect_are_told_by_titles(layers: tuple[int, int], names: tuple[str, str]) -> None:
    known = [Structure(name, name, name, layer, value) for name, layer, value in zip("ab", layers, (1, 2), strict=True)]
    told = {"median_mm": 1.0, "p95_mm": 2.0, "structures": {names[0]: 0.5, names[1]: 0.7}}
    found = with_titles({"error_map": told}, known)
    assert found["error_map"] == {**told, "structures": {"a": 0.5, "b": 0.7}}
    assert with_titles({}, known) == {}
