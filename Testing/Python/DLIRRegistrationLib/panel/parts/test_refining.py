"""While a pair is optimised: the curve and Keep the best so far; afterwards Refine further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second press counts, however soon, and every point of the curve is drawn."""
    monkeypatch.setattr("DLIRRegistrationLib.panel.parts.runner._DOUBLE_CLICK_S", -1.0)
    monkeypatch.setattr("DLIRRegistrationLib.panel.parts.refining._PAUSE", -1.0)


def _choose(box: Any, text: str) -> None:
    index = box.findText(text)
    assert index >= 0, text
    box.currentIndex = index


def _apply(bench: Bench) -> None:
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)


def test_the_objective_is_drawn_stage_by_stage(bench: Bench, at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import DLIRRegistrationLib.panel.parts.refining as refining

    drawn: list[Any] = []
    picture = refining.curve_picture

    def draw(width: int, height: int, curves: Any) -> Any:
        drawn.append([(name, list(points)) for name, _, points in curves])
        return picture(width, height, curves)

    monkeypatch.setattr(refining, "curve_picture", draw)
    bench.pair()
    assert not bench.ui.refiningLabel.visible
    bench.script.values, bench.script.refine, bench.script.hold = [0.25, 0.5], True, True
    bench.click("applyButton")
    bench.wait(lambda: len(drawn) > 3)
    assert drawn[1] == [("similarity, stage 1 of 2:", [(0, 0.25), (1, 0.5)])]
    assert drawn[3] == [("similarity, stage 2 of 2:", [(0, 0.75), (1, 0.75)])]
    assert bench.ui.refiningLabel.visible
    assert bench.ui.refiningLabel.width <= bench.ui.progressBar.width
    bench.click("keepButton")
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert not bench.ui.refiningLabel.visible


def test_the_best_so_far_is_kept(bench: Bench) -> None:
    bench.pair()
    bench.script.refine = bench.script.hold = True
    bench.click("applyButton")
    bench.wait(lambda: bench.ui.keepButton.visible)
    assert bench.ui.applyButton.text == "Cancel"
    bench.click("keepButton")
    assert bench.runs[0].finished
    bench.wait(lambda: not bench.ui.keepButton.visible)
    assert bench.busy, "what has been found is still to be resampled, and so on"
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None

    bench.click("applyButton")
    bench.wait(lambda: bench.ui.keepButton.visible)
    assert bench.ui.keepButton.enabled, "the next one can be ended too"
    bench.script.refine = False
    bench.wait(lambda: not bench.busy)
    assert not bench.ui.keepButton.visible


def test_without_optimisation_there_is_nothing_to_keep(bench: Bench) -> None:
    bench.pair()
    bench.script.hold = True
    bench.click("applyButton")
    bench.wait(lambda: bench.ui.progressBar.value == 90)
    assert not bench.ui.keepButton.visible
    assert not bench.ui.refiningLabel.visible
    bench.script.hold = False
    bench.wait(lambda: not bench.busy)


def test_what_is_chosen_is_asked_for(bench: Bench) -> None:
    bench.pair()
    _apply(bench)
    bench.unfold("moreInputsButton")
    _choose(bench.ui.modelSelector, "None: optimise")
    _choose(bench.ui.refinementSelector, "Until converged")
    _choose(bench.ui.kindSelector, "Rigid: turn and shift only")
    _apply(bench)
    asked = [(run.inputs.model, run.inputs.refine, run.inputs.kind) for run in bench.runs]
    assert asked == [("auto", None, "deformable"), ("none", "converged", "rigid")]


def test_what_does_not_go_together_is_said_in_the_words_of_the_panel(bench: Bench) -> None:
    bench.pair()
    bench.parameters.model = "cardiac-cine"
    _choose(bench.ui.kindSelector, "Rigid: turn and shift only")
    assert not bench.ui.applyButton.enabled
    assert "“Kind: Rigid: turn and shift only” is found without a model" in bench.ui.applyButton.toolTip
    assert "give “Model: None: optimise”" in bench.ui.applyButton.toolTip
    bench.parameters.model = "none"
    assert bench.ui.applyButton.enabled
    _choose(bench.ui.refinementSelector, "Off")
    assert not bench.ui.applyButton.enabled
    assert "give “Refinement” a budget" in bench.ui.applyButton.toolTip


def test_that_no_model_was_made_for_such_images_is_said(bench: Bench) -> None:
    bench.pair()
    bench.script.report["model"] = {"name": "none", "title": "no network", "distances": {"hippocampus": None}}
    _apply(bench)
    assert "No model was made for such images, so this pair was optimised." in bench.ui.changesLabel.text


def test_a_result_is_refined_further_with_what_it_was_made_of(bench: Bench, at_once: None) -> None:
    fixed, moving = bench.pair()
    drawn = bench.segmentation("heart", "LV")
    bench.parameters.segmentations = [drawn]
    assert not bench.ui.refineFurtherButton.visible
    _apply(bench)
    assert bench.ui.refineFurtherButton.enabled
    parameters, found = bench.parameters, bench.parameters.resultTransform
    parameters.fixedVolume, parameters.segmentations = bench.volume("another"), []
    _choose(bench.ui.refinementSelector, "Off")

    bench.script.hold = True
    bench.click("refineFurtherButton")
    bench.wait(lambda: bench.ui.progressBar.value == 90)
    inputs, outputs = bench.runs[1].inputs, bench.runs[1].outputs
    assert (inputs.fixed, inputs.moving, inputs.model, inputs.refine) == (fixed, moving, "none", None)
    assert (inputs.initial_transform, inputs.continues, inputs.segmentations) == (found, True, (drawn,))
    assert (outputs.warped, outputs.transform) == (parameters.resultWarped, found)
    assert (outputs.jacobian, outputs.segmentations) == (parameters.resultJacobian, tuple(parameters.resultPropagated))

    assert bench.ui.refineFurtherButton.text == "Cancel"
    assert not bench.ui.applyButton.visible
    bench.click("refineFurtherButton")
    assert not bench.busy
    assert (bench.ui.refineFurtherButton.text, bench.ui.applyButton.visible) == ("Refine further", True)
    assert parameters.resultTransform is found

    bench.script.hold = False
    bench.click("refineFurtherButton")
    bench.wait(lambda: not bench.busy)
    assert parameters.resultTransform is bench.runs[2].result.transform


def test_a_result_without_its_transform_cannot_be_refined(bench: Bench) -> None:
    bench.pair()
    _apply(bench)
    bench.mrml.scene.RemoveNode(bench.parameters.resultTransform)
    bench.settle()
    assert not bench.ui.refineFurtherButton.enabled
    assert "There is no transform to go on from" in bench.ui.refineFurtherButton.toolTip
