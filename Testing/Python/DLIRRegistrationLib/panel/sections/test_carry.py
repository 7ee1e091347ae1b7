"""Carry over: segmentations, landmarks and surfaces, with Apply or afterwards by the transform that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

SHIFT = np.array([3.0, -2.0, 5.0])


@pytest.fixture
def done(bench: Bench) -> Bench:
    """A pair has been registered; the transform moves everything of the moving image by SHIFT, RAS mm."""
    import slicer

    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    bench.parameters.resultTransform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    bench.unfold("carryButton")
    return bench


def _surface(bench: Bench, name: str = "valve") -> Any:
    import vtk

    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(1.0, 2.0, 3.0)
    sphere.Update()
    node = bench.mrml.add("Model", name)
    node.SetAndObservePolyData(sphere.GetOutput())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetColor(0.1, 0.2, 0.3)
    return node


def _middle(node: Any) -> Any:
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return np.array(bounds).reshape(3, 2).mean(1)


def test_it_says_what_is_missing(bench: Bench) -> None:
    bench.unfold("carryButton")
    assert not bench.ui.carryNowButton.enabled
    assert "press Apply" in bench.ui.carryNowButton.toolTip
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.ui.carryNowButton.toolTip == "Choose a segmentation, landmarks or a surface of the moving image."


def test_a_surface_is_carried_by_the_transform_and_looks_the_same(done: Bench) -> None:
    surface = _surface(done)
    done.parameters.surfaces = [surface]
    done.click("carryNowButton")
    carried = done.mrml.node("valve propagated")
    assert _middle(carried) == pytest.approx(_middle(surface) + SHIFT, abs=1e-4)
    assert carried.GetDisplayNode().GetColor() == (0.1, 0.2, 0.3)
    assert carried.GetParentTransformNode() is None, "hardened: it stays where it is without the transform"
    assert "Carried over to the fixed image: valve propagated" in done.ui.statusLabel.text
    assert len(done.runs) == 1, "nothing is registered again"


def test_carried_again_it_takes_the_same_node(done: Bench) -> None:
    done.parameters.surfaces = [_surface(done)]
    before = None
    for _ in range(2):
        done.click("carryNowButton")
        count = done.mrml.scene.GetNumberOfNodesByClass("vtkMRMLModelNode")
        assert before in (None, count)
        before = count


def test_landmarks_are_carried(done: Bench) -> None:
    points = done.mrml.add("MarkupsFiducial", "apex")
    points.AddControlPoint(1.0, 2.0, 3.0)
    done.parameters.movingLandmarks = points
    done.click("carryNowButton")
    carried = done.parameters.resultLandmarks
    assert carried.GetNthControlPointPosition(0) == pytest.approx(np.array([1.0, 2.0, 3.0]) + SHIFT)


def test_a_segmentation_is_carried_and_outlined(done: Bench) -> None:
    import slicer

    from panel_bench import GRID
    from segments import ball, segmentation

    drawn = segmentation(done.mrml, {"LV": ball(GRID, (0.5, 0.5, 0.5), 3.0)}, GRID)
    done.parameters.segmentations = [drawn]
    done.click("carryNowButton")
    (carried,) = done.parameters.resultPropagated
    assert done.parameters.resultDrawn == [drawn]
    assert carried.GetSegmentation().GetNthSegment(0).GetName() == "LV"
    assert slicer.mrmlScene.GetNodeByID(carried.GetID()) is carried
    assert done.ui.outlinesCheckBox.enabled


def test_what_cannot_be_carried_is_told(done: Bench) -> None:
    done.parameters.surfaces = [done.mrml.add("Model", "nothing")]
    done.click("carryNowButton")
    assert "'nothing' has no surface" in done.ui.statusLabel.text


def test_apply_carries_surfaces_too(bench: Bench) -> None:
    bench.pair()
    bench.parameters.surfaces = [_surface(bench)]
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.mrml.node("valve propagated") is not None


def test_surfaces_are_ticked_in_a_list(done: Bench) -> None:
    import qt

    surface = _surface(done)
    done.settle()
    done.ui.surfacesSelector.setCheckState(surface, qt.Qt.Checked)
    assert list(done.parameters.surfaces) == [surface]
    assert "valve" in done.ui.surfacesSelector.toolTip
