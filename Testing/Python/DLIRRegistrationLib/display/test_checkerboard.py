"""Checkerboards of two volumes in the slice views: what is where, and that nothing stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from grids import make_grid

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.display import views
from DLIRRegistrationLib.display.layout import WARPED_VIEW
from slice_pictures import GRID, half_bright, in_own_greys, pixel_at, world_of

if TYPE_CHECKING:
    from mrml import MRML
    from slicer_windows import Windows

GREY_FIXED, GREY_WARPED = 60, 180


def flat(scene: MRML, name: str, grey: int, grid: Any = GRID) -> Any:
    """A volume of one grey value, but for a corner that keeps it from being constant."""
    array = np.full(grid.shape, grey, np.int16)
    array[0, 0, 0] = 0
    return in_own_greys(scene.volume(array, grid, name))


def foregrounds(windows: Windows) -> list[Any]:
    return [view.logic.GetSliceCompositeNode().GetForegroundVolumeID() for view in windows.shown]


def test_fields_alternate(scene: MRML, windows: Windows, tmp_path: Path) -> None:
    fixed, warped = flat(scene, "fixed", GREY_FIXED), flat(scene, "warped", GREY_WARPED)
    views.show_side_by_side(fixed, warped, None)
    assert views.set_checkerboard(True, 10)
    view = windows.view(WARPED_VIEW)
    picture = view.pixels(tmp_path / "checkerboard.png")
    # 10 mm are 5 voxels of 2 mm, 4 of 2.5 mm, 1 of 9 mm; the middle slice is the fourth, so an odd field.
    for x, y in ((2, 1), (7, 1), (2, 6), (7, 6), (27, 22)):
        expected = (GREY_FIXED, GREY_WARPED)[(x // 5 + y // 4 + 3) % 2]
        assert pixel_at(view, picture, world_of(fixed, (x, y, 3))) == [expected] * 3


def test_nothing_stays_behind(scene: MRML, windows: Windows) -> None:
    fixed, warped = flat(scene, "fixed", GREY_FIXED), flat(scene, "warped", GREY_WARPED)
    views.show_side_by_side(fixed, warped, None)
    views.set_fade(0.3)
    before, count = foregrounds(windows), scene.scene.GetNumberOfNodes()
    for size in (10, 20):
        assert views.set_checkerboard(True, size)
        assert scene.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3
    assert views.set_checkerboard(False)
    assert foregrounds(windows) == before
    assert windows.view(WARPED_VIEW).logic.GetSliceCompositeNode().GetForegroundOpacity() == 0.3
    assert scene.scene.GetNumberOfNodes() == count
    assert not views.set_checkerboard(False)


def test_equal_tissue_looks_equal_whatever_its_grey_value(scene: MRML, windows: Windows) -> None:
    fixed, warped = flat(scene, "fixed", 100), flat(scene, "warped", 1000)
    warped.GetDisplayNode().SetWindowLevelMinMax(0, 2550)
    views.show_side_by_side(fixed, warped, None)
    views.set_checkerboard(True, 10)
    view = windows.view(WARPED_VIEW)
    picture = view.pixels()
    for x in (2, 7):
        assert pixel_at(view, picture, world_of(fixed, (x, 1, 3))) == [100] * 3


def test_volumes_of_unequal_geometry_under_a_parent(scene: MRML, windows: Windows) -> None:
    fixed = flat(scene, "fixed", GREY_FIXED)
    moving = flat(scene, "moving", GREY_WARPED, make_grid((9, 40, 40), (3.0, 3.0, 12.0), (80.0, -120.0, 70.0)))
    center = world_of(fixed, (14.5, 11.5, 3)) - world_of(moving, (19.5, 19.5, 4))
    matrix = np.eye(4)
    matrix[:3, 3] = center
    moving.SetAndObserveTransformNodeID(scene.linear_transform(matrix).GetID())
    views.show_pair(fixed, moving)
    assert views.set_checkerboard(True, 10)
    board = scene.scene.GetNodeByID(foregrounds(windows)[0])
    assert slicer.util.arrayFromVolume(board)[3, 1, 2:8:5].tolist() == [GREY_WARPED, GREY_FIXED]
    assert slicer.util.arrayFromVolume(board).shape == GRID.shape


def test_before_and_after_each_have_their_checkerboard(scene: MRML, windows: Windows) -> None:
    fixed, warped, moving = (flat(scene, name, grey) for name, grey in (("fixed", 60), ("warped", 80), ("moving", 180)))
    views.show_side_by_side(fixed, warped, None)
    views.set_checkerboard(True, 10)
    view = windows.view(WARPED_VIEW)
    for before, expected in ((True, {60, 180}), (False, {60, 80})):
        views.show_before(before, fixed, moving, warped)
        picture = view.pixels()
        fields = {pixel_at(view, picture, world_of(fixed, (x, 1, 3)))[0] for x in (2, 7)}
        assert fields == expected
    views.set_checkerboard(False)
    assert foregrounds(windows)[1] == warped.GetID()
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3


def test_it_ends_in_layouts_that_are_not_shown(scene: MRML, windows: Windows) -> None:
    fixed, warped = flat(scene, "fixed", GREY_FIXED), flat(scene, "warped", GREY_WARPED)
    views.show_pair(fixed, warped, 0.4)
    red = windows.shown[0].logic.GetSliceCompositeNode()
    views.set_checkerboard(True)
    views.show_side_by_side(fixed, warped, None)
    assert red.GetForegroundVolumeID() != warped.GetID()
    assert views.set_checkerboard(False)
    assert (red.GetForegroundVolumeID(), red.GetForegroundOpacity()) == (warped.GetID(), 0.4)
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_checkerboard_is_hidden_and_not_saved(scene: MRML, windows: Windows) -> None:
    fixed, warped = flat(scene, "fixed", GREY_FIXED), flat(scene, "warped", GREY_WARPED)
    views.show_pair(fixed, warped)
    views.set_checkerboard(True)
    board = scene.node("Checkerboard")
    assert board.GetHideFromEditors()
    assert not board.GetSaveWithScene()
    assert not board.GetDisplayNode().GetSaveWithScene()


def test_a_foreground_that_was_deleted_is_gone_afterwards(scene: MRML, windows: Windows) -> None:
    fixed, warped = flat(scene, "fixed", GREY_FIXED), flat(scene, "warped", GREY_WARPED)
    views.show_pair(fixed, warped)
    views.set_checkerboard(True)
    scene.scene.RemoveNode(warped)
    assert views.set_checkerboard(False)
    assert foregrounds(windows) == [None]


def test_a_view_that_was_linked_loses_it_too(scene: MRML, windows: Windows) -> None:
    """Slicer puts what a view shows into those linked with it; and a user may delete the board's display node."""
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    views.show_pair(fixed, warped, 0.25)
    views.set_checkerboard(True)
    shown = windows.shown[0].logic.GetSliceCompositeNode()
    other = scene.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    other.SetForegroundVolumeID(shown.GetForegroundVolumeID())
    scene.scene.RemoveNode(scene.scene.GetNodeByID(shown.GetForegroundVolumeID()).GetDisplayNode())
    views.set_checkerboard(False)
    assert other.GetForegroundVolumeID() == warped.GetID()
    assert other.GetForegroundOpacity() == 0.25
    assert scene.scene.GetFirstNodeByName("Checkerboard") is None
