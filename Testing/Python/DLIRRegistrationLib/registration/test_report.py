"""The report as rows for people and as a table node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from dlir.registration.results.rows import Row, chosen_model, report_rows
from DLIRRegistrationLib.registration.report import COLUMNS, fill_table, volume_figures

if TYPE_CHECKING:
    from mrml import MRML

LEAST: dict[str, Any] = {
    "similarity": {"measure": "NCC", "before": 0.91764, "after": 0.96508},
    "jacobian": {"folding_count": 0, "folding_percent": 0.0, "mean": 1.0, "sd": 0.1564, "min": 0.0742, "max": 2.934},
}
FULL: dict[str, Any] = {
    **LEAST,
    "error_map": {"median_mm": 1.23, "p95_mm": 4.56, "structures": {"LV": 2.04}},
    "volumes": volume_figures({"LV": 184.26, "RV": 40.0, "MYO": 90.0}, {"LV": 231.9, "RV": 38.02}),
    "labels": {
        "LV": {
            "before": {"dice": 0.7712, "hd_mm": 12.34, "hd95_mm": 9.0, "asd_mm": 4.321},
            "after": {"dice": 0.93, "hd_mm": 8.0, "hd95_mm": 4.0, "asd_mm": 0.0},
        },
        "one-sided": {
            "before": {"dice": 0.0, "hd_mm": None, "hd95_mm": None, "asd_mm": None},
            "after": {"dice": 0.0, "hd_mm": None, "hd95_mm": None, "asd_mm": None},
        },
    },
    "landmarks": {
        "count": 2,
        "before": {"mean_mm": 4.0, "sd_mm": 1.0, "median_mm": 4.0, "max_mm": 5.0},
        "after": {"mean_mm": 1.25, "sd_mm": 0.25, "median_mm": 1.25, "max_mm": 1.5},
    },
    "initialization": {
        "mode": "image centers",
        "center_distance_mm": 12.4,
        "overlap": 0.97,
        "reason": "centers: 0.91 alike, scanner: 0.52",
    },
    "seconds": {"networks": 0.2, "resample": 0.314},
    "device": "cpu",
    "model": {
        "name": "cardiac-cine",
        "title": "Cardiac cine MR",
        "distances": {"cardiac-cine": 0.876, "hippocampus": 31.2},
    },
    "verdict": {
        "level": "good",
        "reason": "The images match.",
        "inputs": {
            "inverse_consistency_mm": 0.4321,
            "inverse_consistency_mm_limit": 1.5,
            "displacement_mm": 12.345,
            "displacement_mm_limit": 22.0,
            "local_before": 0.31,
            "local_after": 0.62,
            "images_distance": 0.94,
            "images_distance_limit": 1.35,
            "networks_distance": 1.1,
            "networks_distance_limit": 2.2,
        },
    },
}


def test_rows_from_top_to_bottom() -> None:
    assert report_rows(FULL) == [
        Row("Similarity (NCC)", "0.918", "0.965", ""),
        Row("Folding", "", "0", "voxels (0 %)"),
        Row("Jacobian, smallest", "", "0.07", "× volume"),
        Row("Jacobian, largest", "", "2.93", "× volume"),
        Row("Jacobian, SD", "", "0.16", "× volume"),
        Row("Error there and back", "", "0.43", "mm (≤ 1.50)"),
        Row("Displacement", "", "12.3", "mm (≤ 22.0)"),
        Row("Distance from the model's images", "", "0.94", "(≤ 1.35)"),
        Row("Distance to its networks", "", "1.10", "(≤ 2.20)"),
        Row("Local similarity", "0.310", "0.620", ""),
        Row("Error to expect, median", "", "1.2", "mm"),
        Row("Error to expect, 95 % are below", "", "4.6", "mm"),
        Row("Error to expect in LV", "", "2.0", "mm"),
        Row("Volume of LV", "184", "232", "ml"),
        Row("Volume change of LV", "", "+26", "%"),
        Row("Volume of RV", "40.0", "38.0", "ml"),
        Row("Volume change of RV", "", "-5", "%"),
        Row("Dice of LV", "0.771", "0.930", ""),
        Row("HD of LV", "12.3", "8.0", "mm"),
        Row("ASD of LV", "4.32", "0.00", "mm"),
        Row("TRE, mean of 2", "4.00", "1.25", "mm"),
        Row("TRE, SD", "1.00", "0.25", "mm"),
        Row("TRE, largest", "5.00", "1.50", "mm"),
        Row("Time", "", "0.5", "s"),
        Row("Device", "", "cpu", ""),
        Row("Model", "", "Cardiac cine MR", ""),
        Row("Chosen by distance", "", "cardiac-cine 0.9, hippocampus 31.2", ""),
        Row("Start", "", "image centers, 12 mm between the centres", ""),
        Row("Why this start", "", "centers: 0.91 alike, scanner: 0.52", ""),
    ]


def test_a_figure_without_a_limit_and_one_that_is_not_known() -> None:
    inputs = {"inverse_consistency_mm": None, "inverse_consistency_mm_limit": 1.5, "displacement_mm": 3.0}
    rows = report_rows({**LEAST, "verdict": {"level": "check", "reason": "No.", "inputs": inputs}})
    assert rows[5:] == [Row("Displacement", "", "3.0", "mm")]


def test_a_model_is_chosen_or_asked_for() -> None:
    assert chosen_model(FULL) == "cardiac-cine"
    assert chosen_model({**FULL, "model": {"name": "cardiac-cine", "title": None}}) is None
    assert chosen_model(LEAST) is None


def test_a_pair_that_was_optimised_says_how_and_why() -> None:
    model = {"name": "none", "title": "no network: optimised for this pair", "distances": {"hippocampus": None}}
    report = {**LEAST, "model": {**model, "reason": "no installed model was made for such images"}}
    done = {"budget": "10s", "kind": "deformable", "steps": 141, "seconds": 9.84, "stopped": True}
    assert report_rows({**report, "refinement": done})[5:] == [
        Row("Model", "", "no network: optimised for this pair", ""),
        Row("Chosen by distance", "", "hippocampus of another size", ""),
        Row("Why no model", "", "no installed model was made for such images", ""),
        Row("Refinement", "", "deformable, 10s: 141 steps in 9.8 s", ""),
    ]
    early = report_rows({**LEAST, "refinement": {**done, "budget": "converged"}})
    assert early[5:] == [Row("Refinement", "", "deformable, converged: 141 steps in 9.8 s, ended early", "")]
    assert report_rows({**LEAST, "refinement": None}) == report_rows(LEAST)
    assert chosen_model(report) == "none"


def test_what_has_no_value_has_no_row() -> None:
    undefined = {
        "similarity": {"measure": "NCC", "before": None, "after": None},
        "jacobian": {"folding_count": 7, "folding_percent": None, "mean": None, "sd": None, "min": None, "max": None},
    }
    assert report_rows(undefined) == [Row("Folding", "", "7", "voxels")]
    assert len(report_rows(LEAST)) == 5


def test_a_figure_that_is_known_afterwards_only() -> None:
    report = {**LEAST, "similarity": {"measure": "NCC", "before": None, "after": 0.5}}
    assert report_rows(report)[0] == Row("Similarity (NCC)", "", "0.500", "")


def test_little_folding_is_not_rounded_away() -> None:
    report = {**LEAST, "jacobian": {**LEAST["jacobian"], "folding_count": 1, "folding_percent": 0.000390625}}
    assert report_rows(report)[1].unit == "voxels (0.000391 %)"


def test_a_segment_that_was_empty_has_no_change() -> None:
    report = {**LEAST, "volumes": volume_figures({"LV": 0.0}, {"LV": 0.0})}
    assert report_rows(report)[-1] == Row("Volume of LV", "0.0", "0.0", "ml")


def test_table_node_holds_the_rows_and_nothing_else(scene: MRML) -> None:
    node = scene.add("Table", "report")
    for report in (FULL, LEAST):
        rows = report_rows(report)
        fill_table(node, rows)
        assert node.GetNumberOfRows() == len(rows)
        assert tuple(node.GetColumnName(i) for i in range(node.GetNumberOfColumns())) == COLUMNS
        assert COLUMNS == ("Measure", "Before", "After", "Unit")
        cells = [[node.GetCellText(row, column) for column in range(4)] for row in range(len(rows))]
        assert [Row(*line) for line in cells] == rows
