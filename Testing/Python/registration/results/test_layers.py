"""Segmentations in a request: every layer is propagated, and structures are matched by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlir.errors import ImageError, ProtocolError, notes_to
from dlir.registration.request import Comparison, Outputs, RegistrationRequest
from dlir.registration.results.layers import by_layers
from grids import make_grid
from segment_files import save_segmentation

GRID = make_grid((4, 5, 6))
LAYERS = np.stack([np.ones(GRID.shape), 2 * np.ones(GRID.shape)]).astype(np.uint8)


def asked(folder: Path, moving: list[tuple[str, int, int]], fixed: list[tuple[str, int, int]]) -> RegistrationRequest:
    """A request with label files of these segments; none where there are none."""
    files = []
    for name, segments in (("moving", moving), ("fixed", fixed)):
        count = max((layer for _, layer, _ in segments), default=0) + 1
        path = save_segmentation(folder / f"{name}.seg.nrrd", LAYERS[:count], GRID, segments)
        files.append((str(path),))
    return RegistrationRequest("a.nrrd", "b.nrrd", Outputs("out"), moving_labels=files[0], fixed_labels=files[1])


def test_layers_are_taken_apart(tmp_path: Path) -> None:
    request = asked(tmp_path, [("a", 0, 1), ("b", 1, 1)], [("b", 0, 1), ("a", 1, 2)])
    request = replace(request, backward_labels=request.fixed_labels)
    layered, segments = by_layers(request)
    (moving,), (fixed,) = request.moving_labels, request.fixed_labels
    assert layered.moving_labels == (f"{moving}#0", f"{moving}#1")
    assert layered.fixed_labels == layered.backward_labels == (f"{fixed}#0", f"{fixed}#1")
    assert layered.comparisons == (Comparison("b", 1, 1, 0, 1), Comparison("a", 0, 1, 1, 2))
    assert [(segment.name, segment.layer, segment.value) for segment in segments] == [("a", 0, 1), ("b", 1, 1)]
    assert by_layers(layered) == (layered, segments)


def test_values_count_where_they_say_the_same_as_names(tmp_path: Path) -> None:
    for moving, fixed in (
        ([("a", 0, 1), ("b", 0, 2)], [("a", 0, 1), ("b", 0, 2), ("c", 0, 3)]),
        ([("a", 0, 1)], []),
        ([], []),
    ):
        request = asked(tmp_path, moving, fixed)
        assert by_layers(request)[0] == request


def test_names_count_where_values_say_something_else(tmp_path: Path) -> None:
    told: list[str] = []
    request = asked(tmp_path, [("a", 0, 1), ("b", 0, 2), ("d", 0, 4)], [("b", 0, 1), ("a", 0, 2), ("c", 0, 3)])
    with notes_to(told.append):
        layered, _ = by_layers(request)
    assert layered.comparisons == (Comparison("b", 0, 2, 0, 1), Comparison("a", 0, 1, 0, 2))
    (note,) = told
    assert note.endswith("segments of only one of them are not compared: c, d")


def test_names_that_have_nothing_in_common(tmp_path: Path) -> None:
    told: list[str] = []
    request = asked(tmp_path, [("LV in systole", 0, 1)], [("LV in diastole", 0, 1)])
    with notes_to(told.append):
        assert by_layers(request)[0] == request
    assert "no segment name in common; their values are compared by number" in told[0]
    for moving, fixed in (([("a", 0, 1), ("b", 1, 1)], [("c", 0, 1)]), ([("a", 0, 1), ("b", 1, 1)], [])):
        with pytest.raises(ImageError, match=r"no segment name in common.*give them the same names"):
            by_layers(asked(tmp_path, moving, fixed))


def test_names_that_come_twice(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="name two segments 'a'; give each a name of its own"):
        by_layers(asked(tmp_path, [("a", 0, 1), ("a", 1, 1)], [("a", 0, 2)]))


def test_comparisons_that_count_other_layers(tmp_path: Path) -> None:
    request = asked(tmp_path, [("a", 0, 1), ("b", 1, 1)], [("a", 0, 1)])
    with pytest.raises(ProtocolError, match="name each layer by '#'"):
        by_layers(replace(request, comparisons=(Comparison("a", 0, 1, 0, 1),)))
