"""Outlines: the segmentations of a result are drawn so that the images can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panel_bench import Bench


def _register(bench: Bench) -> tuple[Any, Any, Any]:
    """Segmentations of the fixed image, of the moving one, and the latter as it was carried to the fixed one."""
    bench.pair()
    fixed, moving = bench.segmentation("ED", "LV"), bench.segmentation("ES", "LV")
    bench.parameters.segmentations, bench.parameters.fixedSegmentation = [moving], fixed
    for node in (fixed, moving):
        node.CreateDefaultDisplayNodes()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    return fixed, moving, bench.parameters.resultPropagated[0]


def _in_sight(*nodes: Any) -> list[bool]:
    return [bool(node.GetDisplayVisibility()) for node in nodes]


def test_a_result_is_outlined_and_the_legend_says_in_which_colour(bench: Bench) -> None:
    bench.unfold("lookButton")
    assert not bench.ui.outlinesCheckBox.enabled
    nodes = _register(bench)
    assert _in_sight(*nodes) == [True, False, True]
    assert not nodes[0].GetDisplayNode().GetVisibility2DFill()
    assert not nodes[2].GetDisplayNode().GetVisibility2DFill()
    legend = bench.ui.outlinesLegendLabel
    assert legend.visible
    assert legend.toolTip == "fixed: ED\nwarped: ES propagated"
    assert legend.text.count("■") == 2

    bench.click("beforeCheckBox")
    assert _in_sight(*nodes) == [True, True, False]
    assert not nodes[1].GetDisplayNode().GetVisibility2DFill()
    assert legend.toolTip == "fixed: ED\nmoving: ES"
    bench.click("outlinesCheckBox")
    assert _in_sight(*nodes) == [False, False, False]
    assert not legend.visible
    bench.click("beforeCheckBox")
    assert _in_sight(*nodes) == [False, False, False]
    bench.click("outlinesCheckBox")
    assert _in_sight(*nodes) == [True, False, True]


def test_what_an_earlier_result_carried_over_is_hidden(bench: Bench) -> None:
    _, _, former = _register(bench)
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert _in_sight(former, bench.parameters.resultPropagated[0]) == [False, True]


def test_a_scene_that_is_opened_keeps_its_own_look(bench: Bench, tmp_path: Any) -> None:
    _, moving, _ = _register(bench)
    moving.SetDisplayVisibility(True)
    bench.mrml.save(tmp_path / "scene.mrb")
    bench.mrml.scene.Clear(0)
    bench.mrml.load(tmp_path / "scene.mrb")
    bench.exit()
    bench.enter()
    assert _in_sight(bench.mrml.node("ES")) == [True]
