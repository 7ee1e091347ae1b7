"""What Look can show: before, checkerboard, Jacobian, grid and arrows, outlines; alone and side by side."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import Bench, play
from scene_state import check_scene, checkerboards, drawn_legends, layers, nodes, shown_views

WARPED, JACOBIAN = "moving_es registered to fixed_ed", "moving_es registered to fixed_ed Jacobian"


def registered(bench: Bench) -> None:
    bench.open()
    bench.choose_sample()
    bench.apply()


def before_and_after(bench: Bench) -> None:
    assert _above(bench) == {WARPED}
    _choose(bench, "showBefore", True)
    assert _above(bench) == {"moving_es"}
    _choose(bench, "showBefore", False)
    assert _above(bench) == {WARPED}


def checkerboard(bench: Bench) -> None:
    _choose(bench, "checkerboard", True)
    assert len(checkerboards()) == 1
    assert _above(bench) == {checkerboards()[0].GetName()}
    _choose(bench, "checkerboard", False)
    assert checkerboards() == []
    assert _above(bench) == {WARPED}


def jacobian(bench: Bench) -> None:
    """With its legend; and without one where it is not shown, such as in the further views of another layout."""
    _choose(bench, "showJacobian", True)
    assert _above(bench) == {JACOBIAN}
    assert drawn_legends() == set(shown_views()), f"each view has its legend: {drawn_legends()}"
    manager, former = slicer.app.layoutManager(), slicer.app.layoutManager().layout
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView)
    bench.spin(0.5)
    shown = {view for view in shown_views() if layers(view)[1] == JACOBIAN}
    assert drawn_legends() == shown, f"each view of it has its legend: {drawn_legends()}, not {shown}"
    manager.setLayout(former)
    bench.spin(0.3)
    _choose(bench, "showJacobian", False)
    assert _above(bench) == {WARPED}


def grid_and_arrows(bench: Bench) -> None:
    for name, mark in (("showGrid", "grid"), ("showGlyphs", "glyphs")):
        _choose(bench, name, True)
        assert _drawn() == [mark]
        _choose(bench, name, False)
        assert _drawn() == []


def side_by_side(bench: Bench) -> None:
    _choose(bench, "showGrid", True)
    for _ in range(2):
        bench.ui.layoutButton.click()
        bench.spin(0.5)
        check_scene(bench)
    assert _drawn() == ["grid"], "the grid is drawn in whatever layout"
    bench.ui.layoutButton.click()
    bench.spin(0.5)
    assert [layers(view) for view in shown_views()] == [
        ("fixed_ed", None),
        ("fixed_ed", WARPED),
        ("fixed_ed", JACOBIAN),
    ]
    assert drawn_legends() == {"DLIRJacobian"}
    _choose(bench, "showGrid", False)


def outlines(bench: Bench) -> None:
    carried = bench.parameters.resultPropagated[0].GetDisplayNode()
    assert carried.GetVisibility()
    _choose(bench, "showOutlines", False)
    assert not carried.GetVisibility()
    _choose(bench, "showOutlines", True)
    assert carried.GetVisibility()
    assert not carried.GetVisibility2DFill()


def _choose(bench: Bench, name: str, value: bool) -> None:
    setattr(bench.parameters, name, value)
    bench.spin(0.3)
    check_scene(bench)


def _above(bench: Bench) -> set[str | None]:
    """What lies over the fixed volume."""
    found = [layers(view) for view in shown_views()]
    assert {below for below, above in found} == {"fixed_ed"}, f"the fixed volume is below: {found}"
    return {above for below, above in found}


def _drawn() -> list[str]:
    displays = nodes("vtkMRMLTransformDisplayNode")
    return [node.GetAttribute("DLIR.Shows") for node in displays if node.GetVisibility() and node.GetVisibility2D()]


play(registered, before_and_after, checkerboard, jacobian, grid_and_arrows, side_by_side, outlines)
