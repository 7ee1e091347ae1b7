"""What a person reads at the end of a registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlir.cli.tables import print_report, print_table


def scores(dice: float, distance: float | None) -> dict[str, float | None]:
    return {"dice": dice, "hd_mm": distance, "hd95_mm": distance, "asd_mm": distance}


def report(labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "similarity": {"measure": "NCC", "before": 0.9, "after": 0.97},
        "labels": labels,
        "jacobian": {"folding_percent": 0.0, "mean": 1.0, "sd": 0.1, "min": 0.4, "max": 1.9},
        "fold_free_by_construction": True,
        "initialization": {"mode": "scanner positions", "center_distance_mm": 0.0, "overlap": 1.0},
        "model": {"name": "tiny"},
        "device": "cpu",
        "threads": 1,
        "verdict": {"level": "good", "reason": "Nothing folds.", "inputs": {}},
        "seconds": {"read": 1.0, "networks": 0.5},
        "outputs": {"warped": "warped.nrrd"},
    }


def test_a_label_that_only_one_map_has_is_not_scored(capfd: pytest.CaptureFixture[str]) -> None:
    labels = {
        "1": {"before": scores(0.812, 9.0), "after": scores(0.934, 4.0)},
        "2": {"before": scores(0.0, None), "after": scores(0.0, None)},
    }
    print_report(report(labels), Path("out"))
    lines = capfd.readouterr().out.splitlines()
    assert any("label 1  Dice" in line and "0.812" in line and "0.934" in line for line in lines)
    about_two = [line for line in lines if "label 2" in line]
    assert len(about_two) == 1
    assert "in one label map only" in about_two[0]
    assert "0.000" not in about_two[0]


def test_the_verdict_is_the_last_line_and_a_chosen_model_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    chosen = report({}) | {"model": {"name": "tiny", "distances": {"tiny": 0.71, "other": 3.0}}}
    print_report(chosen, Path("out"))
    *_, model, _, last = capfd.readouterr().out.splitlines()
    assert last == "verdict   good: Nothing folds."
    assert "tiny (chosen; " in model
    assert "tiny 0.7, other 3.0)" in model


def test_words_stand_left_and_figures_right(capfd: pytest.CaptureFixture[str]) -> None:
    print_table(None, ["name", "title", "size"], [["a", "Hearts", "4.0 MB"], ["b", "Hippocampi", "12.0 MB"]])
    head, _, first, second = (line.rstrip() for line in capfd.readouterr().out.splitlines())
    assert head.index("title") == first.index("Hearts") == second.index("Hippocampi")
    assert len(first) == len(second)
