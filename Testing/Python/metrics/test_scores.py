"""Scores before and after, as a report has them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dlir.metrics.labels import label_report
from dlir.metrics.scores import structure_scores
from grids import make_grid

GRID = make_grid((6, 8, 10), (1.0, 2.0, 3.0))


def bar(start: int) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[2:4, 2:5, start : start + 4] = True
    return mask


def test_before_and_after_are_those_of_the_metrics() -> None:
    scores = structure_scores(bar(2), bar(5), bar(3), GRID)
    for when, moved in (("before", bar(5)), ("after", bar(3))):
        expected = label_report(bar(2).astype(int), moved.astype(int), GRID)[1]
        assert scores[when] == {
            "dice": expected.dice,
            "hd_mm": expected.hd,
            "hd95_mm": expected.hd95,
            "asd_mm": expected.asd,
        }
    assert scores["before"]["dice"] == pytest.approx(0.25)
    assert scores["after"]["hd_mm"] == pytest.approx(1.0)


def test_what_is_not_defined_is_none_and_fits_into_json() -> None:
    scores = structure_scores(bar(2), np.zeros(GRID.shape, bool), bar(2), GRID)
    assert scores["before"] == {"dice": 0.0, "hd_mm": None, "hd95_mm": None, "asd_mm": None}
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
