"""Look's buttons change what Slicer's own slice views show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench
    from slicer_windows import Windows


@pytest.fixture
def seen(windows: Windows, bench: Bench) -> Bench:
    """The panel after a registration of the sample, with Look and Trust open."""
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    bench.unfold("lookButton", "trustButton")
    return bench


def _layers(windows: Windows, name: str = "Red") -> tuple[Any, Any, float]:
    import slicer

    composite = windows.view(name).logic.GetSliceCompositeNode()
    nodes = [composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()]
    below, above = (slicer.mrmlScene.GetNodeByID(node or "") for node in nodes)
    return below, above, composite.GetForegroundOpacity()


def test_fade_before_and_checkerboard(windows: Windows, seen: Bench) -> None:
    p = seen.parameters
    assert _layers(windows) == (p.resultFixed, p.resultWarped, 0.5)
    seen.ui.fadeSlider.value = 1.0
    assert _layers(windows)[2] == 1.0
    seen.click("beforeCheckBox")
    assert _layers(windows)[1] is p.resultMoving
    seen.click("beforeCheckBox")
    assert _layers(windows)[1] is p.resultWarped
    seen.click("checkerboardCheckBox")
    assert _layers(windows)[1].GetName() == "Checkerboard"
    seen.click("checkerboardCheckBox")
    assert _layers(windows)[1] is p.resultWarped


def test_the_jacobian_over_the_fixed_volume(windows: Windows, seen: Bench) -> None:
    p = seen.parameters
    seen.click("jacobianCheckBox")
    assert _layers(windows) == (p.resultFixed, p.resultJacobian, 0.6)
    seen.click("jacobianCheckBox")
    assert _layers(windows)[1] is p.resultWarped


def test_grid_and_arrows(windows: Windows, seen: Bench) -> None:
    transform = seen.parameters.resultTransform
    seen.click("gridCheckBox")
    seen.click("glyphsCheckBox")
    displays = [transform.GetNthDisplayNode(index) for index in range(transform.GetNumberOfDisplayNodes())]
    assert sum(display.GetVisibility2D() for display in displays) == 2
    seen.click("gridCheckBox")
    assert sum(display.GetVisibility2D() for display in displays) == 1


def test_side_by_side_and_back(windows: Windows, seen: Bench) -> None:
    from DLIRRegistrationLib.display.layout import JACOBIAN_VIEW, WARPED_VIEW

    p = seen.parameters
    button = seen.ui.layoutButton
    assert button.text == "Show side by side"
    seen.click("layoutButton")
    assert len(windows.shown) == 3
    assert 3 * max(windows.narrowest.values()) < 1280 - 420, "they fit beside the panel on a small screen"
    assert _layers(windows, JACOBIAN_VIEW)[1] is p.resultJacobian
    assert button.text == "Back to the former layout"
    seen.ui.jacobianSlider.value = 0.9
    assert _layers(windows, JACOBIAN_VIEW)[2] == 0.9
    assert _layers(windows, WARPED_VIEW)[1] is p.resultWarped, "only its own view is coloured"

    seen.click("applyButton")
    seen.wait(lambda: not seen.busy)
    assert _layers(windows, JACOBIAN_VIEW)[1] is seen.parameters.resultJacobian
    assert seen.parameters.resultJacobian is not p.resultWarped
    seen.click("layoutButton")
    assert len(windows.shown) == 1


def test_after_side_by_side_the_panel_is_as_before(windows: Windows, seen: Bench) -> None:
    seen.ui.fadeSlider.value = 0.4
    seen.click("layoutButton")
    box = seen.ui.jacobianCheckBox
    assert (box.checked, box.enabled) == (True, False), "it is seen, in its own view"
    assert not seen.parameters.showJacobian
    assert seen.ui.fadeSlider.value == 1.0
    seen.click("layoutButton")
    assert (box.checked, box.enabled) == (False, True)
    assert seen.ui.fadeSlider.value == 0.4
    assert _layers(windows)[2] == 0.4


def test_closing_the_scene_leaves_side_by_side(windows: Windows, seen: Bench) -> None:
    seen.click("layoutButton")
    assert len(windows.shown) == 3
    seen.mrml.scene.Clear(0)
    seen.settle()
    assert len(windows.shown) == 1
    assert seen.ui.layoutButton.text == "Show side by side"


def test_the_layout_is_known_before_a_scene_is_opened(windows: Windows, bench: Bench) -> None:
    from DLIRRegistrationLib.display.layout import LAYOUT_ID

    assert windows.layoutLogic().GetLayoutNode().IsLayoutDescription(LAYOUT_ID)


def test_side_by_side_shows_what_is_chosen(windows: Windows, seen: Bench) -> None:
    from DLIRRegistrationLib.display.layout import FIXED_VIEW, JACOBIAN_VIEW, WARPED_VIEW

    p = seen.parameters
    seen.click("layoutButton")
    assert _layers(windows, WARPED_VIEW) == (p.resultFixed, p.resultWarped, 1.0)
    assert seen.ui.fadeSlider.value == 1.0, "the panel says what is seen"
    seen.ui.fadeSlider.value = 0.25
    seen.ui.jacobianSlider.value = 0.9
    seen.click("applyButton")
    seen.wait(lambda: not seen.busy)
    assert _layers(windows, WARPED_VIEW) == (p.resultFixed, p.resultWarped, 1.0), "a new result is seen whole"
    assert _layers(windows, JACOBIAN_VIEW) == (p.resultFixed, p.resultJacobian, 0.9)
    seen.click("layoutButton")
    assert _layers(windows) == (p.resultFixed, p.resultWarped, 0.5), "the new result, as the slider says"

    seen.click("beforeCheckBox")
    seen.click("checkerboardCheckBox")
    seen.click("layoutButton")
    for shown in (WARPED_VIEW, "Red"):
        board = _layers(windows, shown)[1]
        assert board.GetName() == "Checkerboard"
        seen.click("checkerboardCheckBox")
        assert _layers(windows, shown)[1] is p.resultMoving
        seen.click("checkerboardCheckBox")
        seen.click("layoutButton")
    assert _layers(windows, FIXED_VIEW)[1] is None


def test_side_by_side_without_a_jacobian(windows: Windows, seen: Bench) -> None:
    from DLIRRegistrationLib.display.layout import FIXED_VIEW, JACOBIAN_VIEW

    p = seen.parameters
    seen.mrml.scene.RemoveNode(p.resultJacobian)
    seen.click("layoutButton")
    for name in (FIXED_VIEW, JACOBIAN_VIEW):
        assert _layers(windows, name)[:2] == (p.resultFixed, None)


@pytest.mark.parametrize("with_segmentation", [False, True], ids=["images", "segmentation"])
def test_a_registered_sequence_can_be_played_at_once(windows: Windows, bench: Bench, with_segmentation: bool) -> None:
    cine, drawn = bench.mrml.add("Sequence", "cine"), bench.segmentation("heart", "LV")
    drawn.CreateDefaultDisplayNodes()
    for number in range(3):
        cine.SetDataNodeAtValue(bench.volume("frame"), str(number))
    bench.parameters.sequence = cine
    bench.parameters.sequenceSegmentation = drawn if with_segmentation else None
    if with_segmentation:  # and the views show something else
        bench.pair()
        bench.click("applyButton")
        bench.wait(lambda: not bench.busy)
        bench.parameters.checkerboard = bench.parameters.showBefore = True
    bench.unfold("sequenceButton", "lookButton")
    bench.click("registerSequenceButton")
    bench.wait(lambda: not bench.busy)
    browser = windows.playing
    assert browser.GetMasterSequenceNode() is cine
    assert windows.tool_bar
    found = bench.mrml.scene.GetNodesByClass("vtkMRMLSequenceNode")
    sequences = {node.GetName(): node for node in map(found.GetItemAsObject, range(found.GetNumberOfItems()))}
    frames, warped, carried = (
        browser.GetProxyNode(sequences[name]) if name in sequences else None for name in ("cine", "warped", "carried")
    )
    fade = 0.0 if with_segmentation else 0.5
    assert _layers(windows) == (frames, warped, fade)
    assert bench.ui.fadeSlider.value == fade
    assert not bench.ui.checkerboardCheckBox.checked
    assert not bench.ui.beforeCheckBox.checked
    assert drawn.GetDisplayVisibility() == int(not with_segmentation), "what moves with the frames takes its place"
    if with_segmentation:
        assert carried.GetDisplayVisibility() == 1


def test_the_worst_place_is_found(windows: Windows, seen: Bench) -> None:
    seen.script.report["jacobian"] = {**seen.script.report["jacobian"], "min": -0.2, "folding_count": 1}
    seen.click("applyButton")
    seen.wait(lambda: not seen.busy)
    before = windows.view("Red").node.GetSliceOffset()
    seen.click("worstFoldButton")
    assert windows.view("Red").node.GetSliceOffset() != before


def test_a_result_is_shown_side_by_side_where_there_is_room(windows: Windows, bench: Bench) -> None:
    windows.width = 940
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert len(windows.shown) == 3
    assert bench.ui.fadeSlider.value == 1.0
    bench.click("layoutButton")
    assert bench.ui.fadeSlider.value == 0.5, "no value is left that belonged to another layout"
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert len(windows.shown) == 1, "who has gone back is not brought there again"


def test_the_fade_of_a_former_result_or_sequence_does_not_stay(windows: Windows, seen: Bench) -> None:
    for left in (0.37, 0.0):
        seen.parameters.fade = left
        seen.click("applyButton")
        seen.wait(lambda: not seen.busy)
        assert seen.ui.fadeSlider.value == 0.5
        assert _layers(windows)[2] == 0.5


def test_leaving_side_by_side_by_slicers_own_menu_is_noticed(windows: Windows, seen: Bench) -> None:
    seen.click("layoutButton")
    assert not seen.ui.jacobianCheckBox.enabled
    layout = windows.layoutLogic().GetLayoutNode()
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    seen.widget.panel.look.follow()
    assert seen.ui.layoutButton.text == "Show side by side"
    assert seen.ui.fadeSlider.value == 0.5
    assert (seen.ui.jacobianCheckBox.checked, seen.ui.jacobianCheckBox.enabled) == (False, True)
