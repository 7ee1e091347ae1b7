"""The table and the verdict of a registered sequence."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.registration.sequence_report import frame_table, worst_verdict


def report(before: float | None = 0.8, after: float = 0.95, folded: int = 0, percent: float = 0.0) -> dict[str, Any]:
    return {
        "similarity": {"measure": "NCC", "before": before, "after": after},
        "jacobian": {
            "folding_count": folded,
            "folding_percent": percent,
            "mean": 1.0,
            "sd": 0.1,
            "min": 0.5,
            "max": 2.0,
        },
    }


def column(table: Any, name: str) -> list[Any]:
    values = table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(table.GetNumberOfRows())]


def test_a_row_for_each_frame_and_neutral_figures_for_the_reference() -> None:
    volumes = [{"cavity": 90.0}, {"cavity": 120.0}, {"cavity": 60.0}]
    table = frame_table(["0", "40", "80"], [report(), None, report(None, 0.9, 3)], volumes)
    assert column(table, "Frame") == [1, 2, 3]
    assert column(table, "Index") == ["0", "40", "80"]
    assert column(table, "NCC after") == [0.95, 1, 0.9]
    assert column(table, "Folded voxels") == [0, 0, 3]
    assert column(table, "cavity (ml)") == [90, 120, 60]
    before = column(table, "NCC before")
    assert before[:2] == [0.8, 1]
    assert math.isnan(before[2])


def test_good_frames_make_a_good_sequence() -> None:
    verdict = worst_verdict([None, report(), report()])
    assert verdict.level == "good"
    assert "All 2 registered frames" in verdict.reason


def test_the_worst_frame_decides_and_is_named() -> None:
    verdict = worst_verdict([report(), None, report(folded=2, percent=0.01), report(folded=900, percent=5.0)])
    assert verdict.level == "failed"
    assert verdict.reason.startswith("Frame 4: ")
    assert "more" not in verdict.reason


def test_further_frames_of_the_worst_level_are_counted() -> None:
    verdict = worst_verdict([report(folded=2, percent=0.01), None, report(folded=1, percent=0.01), report()])
    assert verdict.level == "check"
    assert verdict.reason.startswith("Frame 1: ")
    assert verdict.reason.endswith("The same level: 1 more.")
