"""Compare, and Can I trust it?: what the views are asked to show, and when; the figures and the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

_SHOWN = (
    "show_pair",
    "set_fade",
    "set_checkerboard",
    "show_before",
    "show_grid",
    "show_glyphs",
    "show_jacobian",
    "show_error",
    "show_side_by_side",
    "leave_side_by_side",
    "jump_to",
)
# Those that Look knows by their own names.
_IMPORTED = ("show_grid", "show_glyphs", "leave_side_by_side")


@pytest.fixture
def asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the display is asked for, in order; jumping finds no folding."""
    calls: list[tuple[Any, ...]] = []
    for name in _SHOWN:
        monkeypatch.setattr(
            f"DLIRRegistrationLib.{'panel.sections.look' if name in _IMPORTED else 'display.views'}.{name}",
            lambda *given, _name=name, **named: calls.append((_name, *given, *named.values())),
        )
    return calls


def _register(bench: Bench) -> tuple[Any, Any, Any, Any, Any]:
    fixed, moving = bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    p = bench.parameters
    return fixed, moving, p.resultWarped, p.resultTransform, p.resultJacobian


def test_nothing_can_be_looked_at_before_there_is_a_result(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    bench.unfold("lookButton", "trustButton")
    for name in ("layoutButton", "fadeSlider", "checkerboardCheckBox", "gridCheckBox", "jacobianCheckBox"):
        assert not getattr(bench.ui, name).enabled
    bench.parameters.fade = 0.9
    assert asked == []
    assert not bench.ui.reportTable.visible
    assert not bench.ui.worstFoldButton.visible


def test_a_new_result_is_shown_over_the_fixed_volume(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    fixed, _, warped, _, _ = _register(bench)
    assert asked == [("show_pair", fixed, warped, 0.5)]
    bench.exit()
    bench.enter()
    assert len(asked) == 1, "entering again leaves the views alone"


def test_each_choice_asks_for_its_own(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    fixed, moving, warped, transform, jacobian = _register(bench)
    bench.unfold("lookButton")
    asked.clear()
    bench.ui.fadeSlider.value = 0.25
    bench.click("checkerboardCheckBox")
    bench.ui.checkerboardSpinBox.value = 35
    bench.click("checkerboardCheckBox")
    bench.click("beforeCheckBox")
    bench.click("gridCheckBox")
    bench.click("glyphsCheckBox")
    bench.click("gridCheckBox")
    bench.click("jacobianCheckBox")
    bench.ui.jacobianSlider.value = 0.8
    bench.click("jacobianCheckBox")
    assert asked == [
        ("set_fade", 0.25),
        ("set_checkerboard", True, 20.0),
        ("set_checkerboard", True, 35.0),
        ("set_checkerboard", False, 35.0),
        ("show_before", True, fixed, moving, warped),
        ("show_grid", transform, True),
        ("show_glyphs", transform, True),
        ("show_grid", transform, False),
        ("show_jacobian", fixed, jacobian, None, 0.6),
        ("show_jacobian", fixed, jacobian, None, 0.8),
        ("show_pair", fixed, warped, 0.25),
    ]


def test_jacobian_and_error_map_take_turns_over_the_fixed_volume(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    bench.unfold("outputsButton", "lookButton")
    bench.click("wantErrorMapCheckBox")
    fixed, _, warped, _, jacobian = _register(bench)
    error = bench.parameters.resultErrorMap
    asked.clear()
    bench.click("jacobianCheckBox")
    bench.click("errorMapCheckBox")
    assert not bench.ui.jacobianCheckBox.checked
    bench.click("jacobianCheckBox")
    assert not bench.ui.errorMapCheckBox.checked
    bench.click("errorMapCheckBox")
    bench.click("errorMapCheckBox")
    assert asked == [
        ("show_jacobian", fixed, jacobian, None, 0.6),
        ("show_error", fixed, error, None, 0.6),
        ("show_jacobian", fixed, jacobian, None, 0.6),
        ("show_error", fixed, error, None, 0.6),
        ("show_pair", fixed, warped, 0.5),
    ]


def test_without_an_error_map_there_is_none_to_look_at(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    _register(bench)
    bench.unfold("lookButton", "outputsButton")
    assert not bench.ui.errorMapCheckBox.enabled
    assert not bench.ui.errorMapSelector.enabled


def test_the_next_result_is_looked_at_in_the_same_way(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    _, _, _, first, _ = _register(bench)
    bench.unfold("lookButton")
    bench.click("gridCheckBox")
    bench.click("beforeCheckBox")
    asked.clear()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    second = bench.parameters.resultTransform
    assert ("show_grid", first, False) in asked
    assert asked[-1] == ("show_grid", second, True)
    assert not bench.ui.beforeCheckBox.checked, "but the result is what one wants to see"


def test_side_by_side_has_a_button(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    fixed, _, warped, _, jacobian = _register(bench)
    bench.unfold("lookButton")
    bench.click("layoutButton")
    assert asked[-1] == ("show_side_by_side", fixed, warped, jacobian)


def test_a_scene_that_is_opened_keeps_its_own_look(bench: Bench, asked: list[tuple[Any, ...]], tmp_path: Any) -> None:
    _register(bench)
    bench.unfold("lookButton")
    bench.click("gridCheckBox")
    bench.mrml.save(tmp_path / "scene.mrb")
    bench.mrml.scene.Clear(0)
    asked.clear()
    bench.mrml.load(tmp_path / "scene.mrb")
    bench.exit()
    bench.enter()
    assert bench.ui.gridCheckBox.checked
    assert asked == [("leave_side_by_side",)], "of the scene that was closed"
    assert "<b>Good.</b>" in bench.ui.verdictReasonLabel.text
    assert bench.ui.reportTable.rowCount > 0


def test_a_removed_result_cannot_be_looked_at(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    _, _, warped, _, jacobian = _register(bench)
    bench.unfold("lookButton", "trustButton")
    bench.mrml.scene.RemoveNode(jacobian)
    assert not bench.ui.jacobianCheckBox.enabled
    assert not bench.ui.worstFoldButton.visible
    assert "leave it ticked" in bench.ui.foldLabel.text
    assert bench.ui.fadeSlider.enabled
    bench.mrml.scene.RemoveNode(warped)
    assert not bench.ui.fadeSlider.enabled


def test_the_table_has_every_figure_and_the_verdict_its_reason(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    bench.script.report["jacobian"] = {**bench.script.report["jacobian"], "folding_count": 3, "folding_percent": 0.1}
    _register(bench)
    bench.unfold("trustButton")
    table = bench.ui.reportTable
    rows = {table.item(row, 0).text(): row for row in range(table.rowCount)}
    dice = rows["Dice of Left ventricle"]
    assert (table.item(dice, 1).text(), table.item(dice, 2).text()) == ("0.710", "0.920")
    assert table.item(rows["HD of Left ventricle"], 2).text() == "7.1 mm"
    assert "<b>Check.</b> Tissue folds over itself in 3 voxels" in bench.ui.verdictReasonLabel.text
    assert not bench.ui.statusLabel.visible


def test_words_across_two_columns_make_their_row_no_higher_than_they_need(
    bench: Bench, asked: list[tuple[Any, ...]]
) -> None:
    bench.script.report["initialization"] = {
        "mode": "image centers",
        "center_distance_mm": 9.0,
        "reason": "similarity of the overlap at low resolution: image centers: 0.94; scanner positions: 0.71",
    }
    _register(bench)
    bench.unfold("trustButton")
    table = bench.ui.reportTable
    row = next(row for row in range(table.rowCount) if table.item(row, 0).text() == "Why this start")
    words, width = table.item(row, 1).text(), table.columnWidth(1) + table.columnWidth(2)
    assert table.columnSpan(row, 1) == 2
    lines = table.fontMetrics().horizontalAdvance(words) / width
    assert lines > 1
    line = table.fontMetrics().lineSpacing()
    assert lines * line <= table.rowHeight(row) <= (1.5 * lines + 1.5) * line


def test_the_worst_fold_is_jumped_to(bench: Bench, asked: list[tuple[Any, ...]]) -> None:
    bench.script.report["jacobian"] = {**bench.script.report["jacobian"], "min": -0.2, "folding_count": 1}
    _, _, _, _, jacobian = _register(bench)
    bench.unfold("trustButton")
    bench.click("worstFoldButton")
    (fold,) = bench.logic.folds(jacobian)
    assert ("jump_to", fold.position) in asked
    assert asked[-2][:3] == ("show_jacobian", bench.parameters.resultFixed, jacobian)
