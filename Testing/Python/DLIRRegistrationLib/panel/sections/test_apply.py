"""Apply, Cancel, and what may happen meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dlir.registration.judging.verdict import Level, Verdict

if TYPE_CHECKING:
    from panel_bench import Bench


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second press counts at once, however soon after the first."""
    monkeypatch.setattr("DLIRRegistrationLib.panel.parts.runner._DOUBLE_CLICK_S", -1.0)


# As of the final verdict.
_COLORS = {"good": "#2e9e4f", "check": "#d98200"}


def _names(bench: Bench) -> list[str]:
    nodes = bench.mrml.scene
    return [nodes.GetNthNode(index).GetName() for index in range(nodes.GetNumberOfNodes())]


def test_only_the_inputs_are_open_at_first(bench: Bench) -> None:
    sections = {name: w.collapsed for name, w in vars(bench.ui).items() if w.className() == "ctkCollapsibleButton"}
    assert len(sections) == 11
    assert [name for name, collapsed in sections.items() if not collapsed] == ["inputsButton"]
    of_a_result = ("resultWidget", "lookButton", "trustButton", "saveButton")
    for name in ("progressBar", "statusLabel", "installWidget", *of_a_result):
        assert not getattr(bench.ui, name).visible


def test_apply_says_what_is_missing(bench: Bench) -> None:
    assert not bench.ui.applyButton.enabled
    assert bench.ui.applyButton.toolTip == "Choose a fixed volume."
    fixed = bench.volume("diastole")
    bench.ui.fixedSelector.setCurrentNode(fixed)
    assert bench.ui.applyButton.toolTip == "Choose a moving volume."
    bench.ui.movingSelector.setCurrentNode(fixed)
    assert bench.ui.applyButton.toolTip == "Fixed and moving are the same volume; choose two different ones."
    bench.ui.movingSelector.setCurrentNode(bench.volume("systole"))
    assert bench.ui.applyButton.enabled
    assert bench.parameters.movingVolume.GetName() == "systole"


def test_the_first_two_volumes_of_the_scene_are_chosen_on_entering(bench: Bench) -> None:
    bench.exit()
    bench.mrml.add("LabelMapVolume", "no volume to register")
    first, second = bench.volume("first"), bench.volume("second")
    bench.enter()
    assert (bench.parameters.fixedVolume, bench.parameters.movingVolume) == (first, second)
    assert bench.ui.movingSelector.currentNode() is second


def test_volumes_that_are_loaded_while_it_is_open_are_proposed(bench: Bench) -> None:
    first, second = bench.volume("first"), bench.volume("second")
    bench.widget.panel._on_idle()
    assert (bench.parameters.fixedVolume, bench.parameters.movingVolume) == (first, second)
    bench.parameters.fixedVolume = bench.parameters.movingVolume = None
    bench.widget.panel._on_idle()
    assert bench.parameters.fixedVolume is None, "the user wants none"


def test_a_long_name_is_whole_in_the_tooltip(bench: Bench) -> None:
    fixed, _ = bench.pair()
    fixed.SetName("1.2.840.113619.2.55.3 short axis cine, end-diastole, second reading")
    bench.widget.panel.show()
    assert bench.ui.fixedSelector.toolTip.startswith(fixed.GetName())
    assert "stays where it is" in bench.ui.fixedSelector.toolTip
    bench.parameters.fixedVolume = None
    bench.settle()
    assert bench.ui.fixedSelector.toolTip == "The image that stays where it is."


def test_an_input_cannot_be_overwritten(bench: Bench) -> None:
    _, moving = bench.pair()
    bench.ui.warpedSelector.setCurrentNode(moving)
    assert not bench.ui.applyButton.enabled
    assert "'systole' is also an input" in bench.ui.applyButton.toolTip


def test_apply_shows_the_steps_and_then_the_verdict(bench: Bench) -> None:
    fixed, moving = bench.pair()
    seen: list[str] = []
    bench.ui.progressBar.valueChanged.connect(lambda: seen.append(bench.ui.progressBar.format))
    bench.script.hold = True
    bench.click("applyButton")
    bench.wait(lambda: bench.ui.progressBar.value == 90)
    assert [step for step in seen if step != "Starting"] == [
        "Reading the images",
        "Stage 2 of 3",
        "Measuring the result",
    ]
    assert bench.ui.progressBar.visible
    assert bench.ui.progressBar.value == 90
    assert bench.ui.applyButton.text == "Cancel"
    assert bench.ui.applyButton.enabled

    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert bench.ui.applyButton.text == "Apply"
    assert not bench.ui.progressBar.visible
    assert "<b>Good.</b>" in bench.ui.verdictReasonLabel.text
    assert not bench.ui.statusLabel.visible
    parameters = bench.parameters
    assert (parameters.resultFixed, parameters.resultMoving) == (fixed, moving)
    assert parameters.resultWarped.GetName() == "warped"
    assert bench.ui.reportTable.rowCount == parameters.resultTable.GetTable().GetNumberOfRows()
    assert bench.ui.warpedSelector.currentNode() is None, "a result is overwritten only where it has been chosen"


@pytest.mark.parametrize(
    ("level", "told"), [("good", "<b>Good so far.</b> Checking"), ("check", "<b>Check.</b> Look at it. Checking")]
)
def test_the_verdict_so_far_is_shown_before_the_last_check(bench: Bench, level: Level, told: str) -> None:
    bench.pair()
    bench.script.hold, bench.script.offer = True, Verdict(level, "Look at it.")
    bench.click("applyButton")
    bench.wait(lambda: bench.ui.statusLabel.visible)
    assert bench.busy
    assert f"{told} there and back …" in bench.ui.statusLabel.text
    assert _COLORS[level] in bench.ui.statusLabel.text
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert "<b>Good.</b>" in bench.ui.verdictReasonLabel.text
    assert "Checking" not in bench.ui.statusLabel.text


def test_a_model_that_was_chosen_is_named_and_one_that_was_asked_for_is_not(bench: Bench) -> None:
    bench.pair()
    for model, named in (({}, False), ({"distances": {"cardiac-cine": 0.8, "hippocampus": 31.2}}, True)):
        bench.script.report["model"] = {"name": "cardiac-cine", "title": "Hearts", **model}
        bench.click("applyButton")
        bench.wait(lambda: not bench.busy)
        assert ("Model chosen for these images: cardiac-cine." in bench.ui.changesLabel.text) is named
        measures = [bench.ui.reportTable.item(row, 0).text() for row in range(bench.ui.reportTable.rowCount)]
        assert ("Chosen by distance" in measures) is named


def test_results_go_where_they_are_wanted(bench: Bench) -> None:
    bench.pair()
    before = bench.mrml.add("ScalarVolume", "earlier")
    bench.unfold("outputsButton")
    bench.ui.warpedSelector.setCurrentNode(before)
    bench.click("wantJacobianCheckBox")
    assert not bench.ui.jacobianSelector.enabled
    bench.ui.transformKindSelector.currentIndex = 1
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    outputs = bench.runs[0].outputs
    assert outputs.warped is before
    assert (outputs.want_warped, outputs.want_transform, outputs.want_jacobian) == (True, True, False)
    assert outputs.transform_kind == "grid"


def test_cancel_ends_it_and_changes_nothing(bench: Bench, impatient: None) -> None:
    bench.pair()
    bench.script.hold = True
    before = _names(bench)
    bench.click("applyButton")
    bench.click("applyButton")
    assert not bench.busy
    assert bench.ui.statusLabel.text == "The registration was cancelled; nothing was changed."
    assert _names(bench) == before
    assert bench.parameters.resultWarped is None

    bench.script.hold = False
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None


def test_a_double_click_on_apply_does_not_cancel(bench: Bench) -> None:
    bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.click("applyButton")
    assert bench.busy
    assert len(bench.runs) == 1
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None


def test_inputs_may_change_while_it_runs(bench: Bench) -> None:
    fixed, moving = bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.ui.fixedSelector.setCurrentNode(moving)
    bench.ui.movingSelector.setCurrentNode(None)
    assert bench.ui.applyButton.text == "Cancel"
    assert bench.ui.applyButton.enabled
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert (bench.parameters.resultFixed, bench.parameters.resultMoving) == (fixed, moving)
    assert bench.ui.applyButton.toolTip == "Choose a moving volume."


def test_an_error_is_said_in_the_panel(bench: Bench) -> None:
    bench.pair()
    bench.script.failure = ("The model file is damaged; add it again.", "error")
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert "The model file is damaged; add it again." in bench.ui.statusLabel.text
    assert bench.ui.applyButton.enabled


def test_a_message_reads_as_it_was_written(bench: Bench) -> None:
    from PySide6.QtCore import Qt
    from PySide6.QtGui import QTextDocument

    bench.widget.panel.host.status.note("'/data/R&D <old>' is missing.")
    assert bench.ui.statusLabel.textFormat == Qt.TextFormat.RichText  # left to guess, Qt would show "R&amp;D"
    shown = QTextDocument()
    shown.setHtml(bench.ui.statusLabel.text)
    assert shown.toPlainText() == "'/data/R&D <old>' is missing."


@pytest.mark.parametrize(("testing", "main_window", "shown"), [(False, True, 1), (True, True, 0), (False, False, 0)])
def test_an_error_opens_a_window_only_for_a_user(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, testing: bool, main_window: bool, shown: int
) -> None:
    import slicer

    texts: list[str] = []
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: object() if main_window else None)
    monkeypatch.setattr(slicer.util, "errorDisplay", texts.append)
    # The model's licence is asked for first, and agreed to.
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, windowTitle: True, raising=False)
    slicer.app.testing = testing
    bench.pair()
    bench.script.failure = ("No.", "error")
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    bench.linger(0.05)
    assert texts == ["No."] * shown


def test_an_input_may_be_removed_while_it_runs(bench: Bench) -> None:
    fixed, _ = bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.mrml.scene.RemoveNode(fixed)
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert "An input has left the scene" in bench.ui.statusLabel.text
    assert bench.ui.applyButton.toolTip == "Choose a fixed volume."
    bench.ui.fixedSelector.setCurrentNode(bench.volume("another"))
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultFixed.GetName() == "another"


def test_a_removed_node_is_not_replaced_by_its_neighbour(bench: Bench) -> None:
    fixed, _ = bench.pair()
    earlier = bench.volume("earlier result")
    bench.ui.warpedSelector.setCurrentNode(earlier)
    bench.mrml.scene.RemoveNode(earlier)
    assert bench.parameters.warpedVolume is None
    assert bench.ui.warpedSelector.currentNode() is None
    bench.mrml.scene.RemoveNode(fixed)
    assert bench.ui.fixedSelector.currentNode() is None


def test_the_scene_may_be_closed_while_it_runs(bench: Bench) -> None:
    bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.mrml.scene.Clear(0)
    bench.settle()
    assert not bench.busy
    assert bench.ui.applyButton.text == "Apply"
    assert bench.ui.applyButton.toolTip == "Choose a fixed volume."
    bench.script.hold = False
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None


def test_nothing_said_of_a_scene_stays_when_it_is_closed(bench: Bench) -> None:
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.ui.resultWidget.visible
    bench.mrml.scene.Clear(0)
    bench.settle()
    assert not bench.ui.statusLabel.visible
    assert bench.ui.statusLabel.text == bench.ui.statusLabel.toolTip == ""
    for name in ("resultWidget", "lookButton", "trustButton", "saveButton"):
        assert not getattr(bench.ui, name).visible


def test_a_result_that_came_while_another_module_was_shown_is_found(bench: Bench) -> None:
    bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.exit()
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    bench.enter()
    assert "<b>Good.</b>" in bench.ui.verdictReasonLabel.text
    assert bench.ui.reportTable.rowCount > 0


def test_nothing_is_called_after_unloading(bench: Bench) -> None:
    import slicer

    fixed, _ = bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    run, worker = bench.runs[0], bench.logic.worker
    slicer.app.moduleManager().unload("DLIRRegistration")
    assert not run.active
    assert worker.closes == 1
    text = bench.ui.applyButton.text
    polls = worker.polls
    bench.mrml.scene.RemoveNode(fixed)
    bench.volume("later")
    bench.settle()
    assert (bench.ui.applyButton.text, worker.polls) == (text, polls)


def test_choices_survive_in_a_saved_scene(bench: Bench, tmp_path: Any) -> None:
    bench.pair()
    bench.ui.deviceSelector.currentIndex = 1
    bench.ui.fadeSlider.value = 0.25
    bench.mrml.save(tmp_path / "scene.mrb")
    bench.mrml.scene.Clear(0)
    bench.mrml.load(tmp_path / "scene.mrb")
    bench.exit()
    bench.enter()
    assert bench.ui.fixedSelector.currentNode().GetName() == "diastole"
    assert bench.ui.deviceSelector.currentText == "Processor (CPU)"
    assert bench.ui.fadeSlider.value == 0.25
