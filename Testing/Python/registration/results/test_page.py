"""The page of one pair: what it tells, and where its slices lie."""

from __future__ import annotations

import numpy as np
import pytest

from cli_runs import make_model, succeed, write_pair
from dlir.geometry import ImageGrid
from dlir.registration.results.page import Plane, pair_page, slices, worst_fold
from dlir.registration.results.rows import Row, changes
from grids import make_grid

GRID = make_grid((11, 20, 30), (1.0, 2.0, 8.0), (-20.0, 30.0, 12.0), (0.2, -0.1, 0.3))


def _value(grid: ImageGrid, at: tuple[int, int, int]) -> np.ndarray:
    place: np.ndarray = grid.to_physical(np.array([at], float))[0]
    return place


def test_slices_lie_across_the_thickest_axis_with_square_pixels() -> None:
    found = slices(GRID)
    assert list(found) == ["Slice 4 of 11", "Slice 6 of 11", "Slice 8 of 11"]
    for plane in found.values():
        assert plane.shape[0] == 1
        assert plane.spacing[0] == pytest.approx(plane.spacing[1])
        assert max(plane.shape) == 220
        index = GRID.to_index(plane.to_physical(np.array([[0.0, 0, 0], [plane.size[0] - 1, plane.size[1] - 1, 0]])))
        assert index[:, 2] == pytest.approx([index[0, 2]] * 2), "one slice of the image"
        assert np.all((index > -0.5) & (index < np.array(GRID.size) - 0.5))


def test_where_it_folds_most_comes_first() -> None:
    jacobian = np.ones(GRID.shape, np.float32)
    assert worst_fold(jacobian, GRID) is None
    jacobian[2, 5, 7], jacobian[9, 1, 1] = -0.1, -0.5
    worst = worst_fold(jacobian, GRID)
    assert worst is not None
    assert worst == pytest.approx(_value(GRID, (1, 1, 9)))
    first, *_ = slices(GRID, worst)
    assert first == "Where it folds most, slice 10 of 11"


@pytest.mark.parametrize("jacobian", [None, np.full((4, 5), -1.0)], ids=["without", "folded"])
def test_a_page_needs_nothing_else(jacobian: np.ndarray | None) -> None:
    image = np.arange(20.0).reshape(4, 5)
    page = pair_page(
        ("b <c>", "a"),
        "check",
        "Look at it.",
        ["It moved."],
        [Row("Dice", "0.1", "0.2", "")],
        [Plane("Slice 1 of 2", image, image, image, jacobian)],
    )
    assert "b &lt;c&gt; registered to a" in page
    assert "Check. Look at it." in page
    assert "It moved." in page
    assert "<td>Dice</td><td>0.1</td><td>0.2</td>" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "http" not in page.replace("http-equiv", "")


def test_the_command_writes_it(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    pair = write_pair(folder, make_model(folder / "tiny.safetensors"))
    printed = succeed(pair.register(folder / "out", "--html", moving_label=pair.moving_label))
    assert "report.html" in printed
    page = (folder / "out" / "report.html").read_text("utf-8")
    assert "moving.nrrd registered to fixed.nrrd" in page
    assert page.count("data:image/jpeg;base64,") >= 3
    assert str(folder) not in page


def test_changes_are_told_in_short_sentences() -> None:
    scores = {"before": {"dice": 0.5, "asd_mm": 1.0}, "after": {"dice": 0.75, "asd_mm": 0.5}}
    report = {
        "verdict": {"inputs": {"displacement_mm": 7.53}},
        "volumes": {"left ventricle": {"before_ml": 60.0, "after_ml": 140.2}, "b": {"before_ml": 0.0, "after_ml": 1.0}},
        "labels": {"left ventricle": scores, "c": scores},
        "landmarks": {"before": {"mean_mm": 5.0}, "after": {"mean_mm": 1.25}},
        "error_map": {"median_mm": 0.84},
        "model": {"name": "none", "distances": {"a": 9.0}},
    }
    assert changes(report) == [
        "95 % of the image moves by less than 7.5 mm.",
        "Left ventricle: 60.0 → 140 ml, Dice 0.50 → 0.75.",
        "B: 0.0 → 1.0 ml.",
        "Landmarks: 5.0 → 1.2 mm apart on average.",
        "Error to expect: 0.8 mm (median).",
        "No model was made for such images, so this pair was optimised.",
    ]
    assert changes({}) == []
