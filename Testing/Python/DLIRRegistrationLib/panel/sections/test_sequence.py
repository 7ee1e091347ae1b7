"""Sequence: which frame, and what can be registered at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench


def _cine(bench: Bench, frames: int) -> Any:
    sequence = bench.mrml.add("Sequence", "cine")
    frame = bench.volume("frame")
    for number in range(frames):
        sequence.SetDataNodeAtValue(frame, str(number))
    bench.mrml.scene.RemoveNode(frame)
    return sequence


def test_every_frame_is_registered_to_the_chosen_one(bench: Bench) -> None:
    bench.unfold("sequenceButton")
    button = bench.ui.registerSequenceButton
    assert not button.enabled
    assert button.toolTip == "Choose a sequence."
    sequence, drawn = _cine(bench, 5), bench.segmentation("heart", "LV")
    bench.ui.sequenceSelector.setCurrentNode(sequence)
    bench.ui.sequenceSegmentationSelector.setCurrentNode(drawn)
    assert button.enabled
    assert (bench.ui.referenceFrameSpinBox.maximum, bench.ui.referenceFrameSpinBox.suffix) == (5, " of 5")
    bench.ui.referenceFrameSpinBox.value = 3

    bench.script.hold = True
    bench.click("registerSequenceButton")
    assert button.text == "Cancel"
    assert bench.ui.progressBar.visible
    assert not bench.ui.applyButton.enabled
    assert bench.ui.applyButton.toolTip == "Wait for the end of what is running, or cancel it."
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    inputs = bench.runs[0].inputs
    assert (inputs.sequence, inputs.reference, inputs.segmentation) == (sequence, 2, drawn)
    assert button.text == "Register sequence"
    assert "<b>Good.</b>" in bench.ui.statusLabel.text


def test_refinement_and_kind_count_for_frames_too(bench: Bench) -> None:
    bench.unfold("sequenceButton", "moreInputsButton")
    bench.ui.sequenceSelector.setCurrentNode(_cine(bench, 2))
    bench.ui.refinementSelector.currentIndex = 2
    bench.ui.kindSelector.currentIndex = 1
    bench.script.refine = True
    bench.click("registerSequenceButton")
    bench.wait(lambda: bench.ui.keepButton.visible)
    bench.click("keepButton")
    bench.wait(lambda: not bench.busy)
    assert (bench.runs[0].inputs.refine, bench.runs[0].inputs.kind) == ("5s", "affine")


def test_the_model_that_was_chosen_is_named(bench: Bench) -> None:
    bench.unfold("sequenceButton")
    bench.ui.sequenceSelector.setCurrentNode(_cine(bench, 2))
    bench.script.report["model"] = {"name": "hearts", "title": "Hearts", "distances": {"hearts": 0.8}}
    bench.click("registerSequenceButton")
    bench.wait(lambda: not bench.busy)
    assert bench.runs[0].inputs.model == "auto"
    assert "Chosen for these images: <b>hearts</b>." in bench.ui.statusLabel.text


def test_a_script_may_choose_the_frame_before_the_sequence(bench: Bench) -> None:
    bench.parameters.referenceFrame = 3
    assert bench.ui.referenceFrameSpinBox.value == 1, "without a sequence there is no other"
    import slicer

    with slicer.util.NodeModify(bench.parameters):
        bench.parameters.referenceFrame = 3
        bench.parameters.sequence = _cine(bench, 5)
    assert (bench.ui.referenceFrameSpinBox.value, bench.parameters.referenceFrame) == (3, 3)


def test_a_sequence_needs_two_frames(bench: Bench) -> None:
    bench.ui.sequenceSelector.setCurrentNode(_cine(bench, 1))
    assert not bench.ui.registerSequenceButton.enabled
    assert "less than two frames" in bench.ui.registerSequenceButton.toolTip


def test_a_sequence_run_can_be_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("DLIRRegistrationLib.panel.parts.runner._DOUBLE_CLICK_S", -1.0)
    bench.unfold("sequenceButton")
    bench.ui.sequenceSelector.setCurrentNode(_cine(bench, 3))
    bench.script.hold = True
    bench.click("registerSequenceButton")
    bench.click("registerSequenceButton")
    assert not bench.busy
    assert "cancelled" in bench.ui.statusLabel.text
    assert bench.ui.registerSequenceButton.enabled
