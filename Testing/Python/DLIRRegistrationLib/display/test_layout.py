"""The layout of three linked views, through Slicer's real layout, slice and link logics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grids import make_grid

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.display import layout
from slice_pictures import GRID, half_bright

if TYPE_CHECKING:
    from mrml import MRML
    from slicer_windows import Windows


def layout_node(windows: Windows) -> Any:
    return windows.layoutLogic().GetLayoutNode()


def normal(view: Any) -> NDArray[np.float64]:
    return np.array(slicer.util.arrayFromVTKMatrix(view.GetSliceNode().GetSliceToRAS())[:3, 2])


def test_three_views_side_by_side(windows: Windows) -> None:
    views = layout.side_by_side_views()
    assert views is not None
    assert tuple(views) == layout.VIEW_NAMES
    assert [view.node.GetLayoutName() for view in windows.shown] == list(layout.VIEW_NAMES)
    labels = [view.GetSliceNode().GetLayoutLabel() for view in views.values()]
    assert labels == ["Fixed", "Warped", "Volume"]
    assert {view.GetSliceNode().GetViewGroup() for view in views.values()} == {layout.VIEW_GROUP}
    assert layout.current_views() == list(views.values())


def test_layout_is_registered_once(windows: Windows) -> None:
    node = layout_node(windows)
    before = node.GetLayoutIndices()
    for _ in range(2):
        layout.side_by_side_views()
        layout.leave_side_by_side()
    layout.register_layout(node)
    assert node.IsLayoutDescription(layout.LAYOUT_ID)
    assert len(node.GetLayoutIndices()) == len(before) + 1


def test_leaving_goes_back_to_the_former_layout(windows: Windows) -> None:
    node = layout_node(windows)
    for _ in range(2):  # showing it twice does not make it its own predecessor
        layout.side_by_side_views()
    layout.leave_side_by_side()
    assert node.GetViewArrangement() == node.SlicerLayoutOneUpRedSliceView
    node.SetViewArrangement(node.SlicerLayoutOneUpGreenSliceView)
    layout.leave_side_by_side()
    assert node.GetViewArrangement() == node.SlicerLayoutOneUpGreenSliceView


def test_a_scene_that_shows_the_layout_before_it_is_known(windows: Windows) -> None:
    layout_node(windows).SetViewArrangement(layout.LAYOUT_ID)
    views = layout.side_by_side_views()
    assert views is not None
    assert tuple(views) == layout.VIEW_NAMES


@pytest.mark.parametrize("known_before", [True, False], ids=["at the start", "after the scene"])
def test_a_scene_saved_in_the_layout_opens_in_it(windows: Windows, known_before: bool) -> None:
    if known_before:
        layout.make_layout_known()
    layout_node(windows).SetViewArrangement(layout.LAYOUT_ID)  # as reading the scene does
    layout.make_layout_known()
    assert [view.node.GetLayoutName() for view in windows.shown] == list(layout.VIEW_NAMES)


def test_without_windows_nothing_happens(scene: MRML) -> None:
    assert layout.layout_manager() is None
    assert layout.side_by_side_views() is None
    assert layout.current_views() == []
    layout.leave_side_by_side()
    layout.make_layout_known()
    layout.request_render([])
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 0


def test_only_the_three_views_are_linked(scene: MRML, windows: Windows) -> None:
    links = slicer.vtkMRMLSliceLinkLogic()
    links.SetMRMLApplicationLogic(scene.application)
    links.SetMRMLScene(scene.scene)
    red = windows.view("Red").node
    volume = half_bright(scene, "fixed", left=True)
    views = layout.side_by_side_views()
    assert views is not None
    for view in views.values():
        view.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        layout.look_along_slices(view, volume)
    first, *others = views.values()
    unlinked = red.GetSliceOffset()
    first.StartSliceOffsetInteraction()
    first.SetSliceOffset(first.GetSliceNode().GetSliceOffset() + 9)
    first.EndSliceOffsetInteraction()
    for other in others:
        assert other.GetSliceNode().GetSliceOffset() == pytest.approx(first.GetSliceNode().GetSliceOffset())
    assert red.GetSliceOffset() == unlinked
    links.SetMRMLScene(None)


def test_linked_views_keep_what_each_one_shows(scene: MRML, windows: Windows) -> None:
    links = slicer.vtkMRMLSliceLinkLogic()
    links.SetMRMLApplicationLogic(scene.application)
    links.SetMRMLScene(scene.scene)
    volume = half_bright(scene, "fixed", left=True)
    views = layout.side_by_side_views()
    assert views is not None
    first, *others = views.values()
    composite = first.GetSliceCompositeNode()
    first.StartSliceCompositeNodeInteraction(composite.BackgroundVolumeFlag)
    composite.SetBackgroundVolumeID(volume.GetID())
    first.EndSliceCompositeNodeInteraction()
    assert [other.GetSliceCompositeNode().GetBackgroundVolumeID() for other in others] == [None, None]
    links.SetMRMLScene(None)


@pytest.mark.parametrize("turned", [False, True])
def test_views_look_along_the_slices_of_a_coarse_image(scene: MRML, windows: Windows, turned: bool) -> None:
    volume, axis = half_bright(scene, "fixed", left=True), GRID.direction_matrix[:, 2] * (-1, -1, 1)
    if turned:
        matrix = np.eye(4)
        matrix[:3, :3] = make_grid((2, 2, 2), angles=(0.2, 1.1, -0.4)).direction_matrix
        volume.SetAndObserveTransformNodeID(scene.linear_transform(matrix).GetID())
        axis = matrix[:3, :3] @ axis
    view = windows.view("Red").logic
    view.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    layout.look_along_slices(view, volume)
    assert abs(normal(view) @ axis) == pytest.approx(1, abs=1e-5)


def test_a_fine_image_is_looked_at_closest_to_axial(scene: MRML, windows: Windows) -> None:
    grid = make_grid((9, 10, 11), (1.0, 1.1, 1.2), angles=(0.3, 0.1, 0.2))
    view = windows.view("Red").logic
    volume = half_bright(scene, "fixed", left=True, grid=grid)
    view.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    layout.look_along_slices(view, volume)
    assert abs(normal(view) @ (grid.direction_matrix[:, 2] * (-1, -1, 1))) == pytest.approx(1, abs=1e-5)


def test_image_fills_the_view(scene: MRML, windows: Windows) -> None:
    volume = half_bright(scene, "fixed", left=True)
    view = windows.view("Red").logic
    view.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    layout.look_along_slices(view, volume)
    width, height, _ = view.GetSliceNode().GetFieldOfView()
    assert min(width / 60, height / 60) == pytest.approx(1, abs=0.02)  # 30 x 2 mm and 24 x 2.5 mm
