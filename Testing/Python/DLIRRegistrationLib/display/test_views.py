"""What the views show of a registration, judged by the pixels that Slicer's own views draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from dlir.registration.judging.verdict import judge
from DLIRRegistrationLib.display import deformation, views
from DLIRRegistrationLib.display.layout import FIXED_VIEW, JACOBIAN_VIEW, VIEW_NAMES, WARPED_VIEW, look_along_slices
from DLIRRegistrationLib.registration.afterwards.folds import folds
from sample_registration import register_sample, sample_nodes
from slice_pictures import BRIGHT, DARK, GRID, half_bright, pixel_at, world_of

if TYPE_CHECKING:
    from mrml import MRML
    from slicer_windows import Windows

LEFT, RIGHT = (7, 12, 3), (22, 12, 3)
FOLD = (20, 5, 3)
RED = [255, 0, 0]


def jump_to_worst_fold(jacobian: Any) -> tuple[float, float, float] | None:
    """As the panel's list of folds does for its first one."""
    found = folds(jacobian)
    if not found:
        return None
    views.jump_to(found[0].position)
    return found[0].position


def jacobian_volume(scene: MRML, fold: float = 1.0, index: tuple[int, int, int] = FOLD) -> Any:
    """Determinants of 1, but for one voxel (x, y, z)."""
    values = np.ones(GRID.shape, np.float32)
    values[index[::-1]] = fold
    return scene.volume(values, GRID, "Jacobian")


def greys(windows: Windows, name: str, volume: Any) -> list[int]:
    """What a view draws left and right in the middle slice."""
    view = windows.view(name)
    look_along_slices(view.logic, volume)
    picture = view.pixels()
    pixels = [pixel_at(view, picture, world_of(volume, place)) for place in (LEFT, RIGHT)]
    assert all(np.ptp(pixel) <= 2 for pixel in pixels), f"not grey: {pixels}"
    return [pixel[0] for pixel in pixels]


def is_color(picture: NDArray[np.uint8], color: tuple[int, int, int], tolerance: int = 12) -> NDArray[np.bool_]:
    return (np.abs(picture.astype(int) - color) <= tolerance).all(-1)


# -- side by side -------------------------------------------------------------------------------------


def test_fixed_warped_and_jacobian_each_in_its_view(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    assert views.show_side_by_side(fixed, warped, jacobian_volume(scene))
    assert greys(windows, FIXED_VIEW, fixed) == [BRIGHT, DARK]
    assert greys(windows, WARPED_VIEW, fixed) == [DARK, BRIGHT]
    mixed = [round(0.4 * value + 0.6 * 0.35 * 255) for value in (BRIGHT, DARK)]
    assert greys(windows, JACOBIAN_VIEW, fixed) == pytest.approx(mixed, abs=3)
    assert set(windows.rendered) == set(VIEW_NAMES)


def test_side_by_side_without_a_jacobian(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    views.show_side_by_side(fixed, warped, jacobian_volume(scene))
    assert views.show_side_by_side(fixed, warped, None)
    assert greys(windows, JACOBIAN_VIEW, fixed) == [BRIGHT, DARK]


def test_an_error_map_takes_the_jacobians_view_and_is_not_faded(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    views.show_side_by_side(fixed, warped, jacobian_volume(scene))
    error = half_bright(scene, "error", left=True)
    view = windows.view(JACOBIAN_VIEW).logic
    assert views.show_error(fixed, error, [view])
    composite = view.GetSliceCompositeNode()
    assert (composite.GetForegroundVolumeID(), composite.GetLabelVolumeID()) == (error.GetID(), None)
    before = composite.GetForegroundOpacity()
    assert views.set_fade(0.1)
    assert composite.GetForegroundOpacity() == before


def test_without_windows_nothing_happens(scene: MRML) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    jacobian = jacobian_volume(scene, -1.0)
    assert not views.show_side_by_side(fixed, warped, jacobian)
    assert not views.show_pair(fixed, warped)
    assert not views.show_jacobian(fixed, jacobian)
    assert not views.set_fade(0.5)
    assert not views.set_checkerboard(True)
    assert not views.show_before(True, fixed, fixed, warped)
    assert jump_to_worst_fold(jacobian) == pytest.approx(tuple(world_of(jacobian, FOLD)))


# -- fade and before/after ----------------------------------------------------------------------------


def test_fading_from_fixed_to_warped(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=False)
    views.show_side_by_side(fixed, warped, jacobian_volume(scene))
    before = greys(windows, JACOBIAN_VIEW, fixed)
    for fraction, expected in ((0, [BRIGHT, DARK]), (1, [DARK, BRIGHT]), (0.5, [120, 120]), (-3, [BRIGHT, DARK])):
        assert views.set_fade(fraction)
        assert greys(windows, WARPED_VIEW, fixed) == pytest.approx(expected, abs=1)
    assert greys(windows, FIXED_VIEW, fixed) == [BRIGHT, DARK]
    assert greys(windows, JACOBIAN_VIEW, fixed) == before


def test_there_is_nothing_to_fade_with_one_volume(scene: MRML, windows: Windows) -> None:
    fixed = half_bright(scene, "fixed", left=True)
    view = windows.view("Red").logic
    view.GetSliceCompositeNode().SetBackgroundVolumeID(fixed.GetID())
    assert not views.set_fade(0.5, [view])
    assert not views.set_checkerboard(True, views=[view])


def test_before_shows_the_moving_volume_in_the_same_view(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=True)
    moving = half_bright(scene, "moving", left=False)
    views.show_side_by_side(fixed, warped, None)
    assert views.show_before(True, fixed, moving, warped)
    assert greys(windows, WARPED_VIEW, fixed) == [DARK, BRIGHT]
    assert views.show_before(False, fixed, moving, warped)
    assert greys(windows, WARPED_VIEW, fixed) == [BRIGHT, DARK]
    assert greys(windows, FIXED_VIEW, fixed) == [BRIGHT, DARK]


def test_before_where_neither_volume_was_shown(scene: MRML, windows: Windows) -> None:
    fixed, warped = half_bright(scene, "fixed", left=True), half_bright(scene, "warped", left=True)
    moving = half_bright(scene, "moving", left=False)
    assert views.show_before(True, fixed, moving, warped)
    assert greys(windows, "Red", fixed) == [DARK, BRIGHT]


def test_before_and_after_each_have_their_contours(scene: MRML, windows: Windows) -> None:
    volumes = [half_bright(scene, name, left=True) for name in ("fixed", "moving", "warped")]
    drawn, propagated = scene.add("Segmentation"), scene.add("Segmentation")
    for node in (drawn, propagated):
        node.CreateDefaultDisplayNodes()
    for before in (True, False):
        views.show_before(before, *volumes, [drawn], [propagated])
        assert (bool(drawn.GetDisplayVisibility()), bool(propagated.GetDisplayVisibility())) == (before, not before)


# -- Jacobian -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("determinant", [0.0, -0.001, -5.0, float("nan")])
def test_one_folded_voxel_is_bright_red_and_jumped_to(
    scene: MRML, windows: Windows, tmp_path: Path, determinant: float
) -> None:
    fixed, jacobian = half_bright(scene, "fixed", left=False), jacobian_volume(scene, determinant)
    views.show_side_by_side(fixed, fixed, jacobian)
    place = jump_to_worst_fold(jacobian)
    assert place == pytest.approx(tuple(world_of(jacobian, FOLD)))
    view = windows.view(JACOBIAN_VIEW)
    picture = view.pixels(tmp_path / "fold.png")
    rows, columns = picture.shape[:2]
    assert picture[rows // 2, columns // 2].tolist() == RED
    neighbours = [(FOLD[0] + 1, *FOLD[1:]), (FOLD[0], FOLD[1] - 1, FOLD[2])]
    for neighbour in neighbours:
        assert np.ptp(pixel_at(view, picture, world_of(jacobian, neighbour))) <= 2, "not grey"
    # As large as the voxel, not more: 2 by 2.5 mm in a view that is as wide as its field of view.
    per_mm = columns / view.node.GetFieldOfView()[0]
    above_legend = is_color(picture, (255, 0, 0))[: 2 * rows // 3]
    assert above_legend.sum() == pytest.approx(2 * 2.5 * per_mm**2, rel=0.15)


def test_what_hardly_does_not_fold_is_not_red(scene: MRML, windows: Windows) -> None:
    fixed, jacobian = half_bright(scene, "fixed", left=False), jacobian_volume(scene, 0.001)
    views.show_side_by_side(fixed, fixed, jacobian)
    view = windows.view(JACOBIAN_VIEW)
    red, _, blue = pixel_at(view, view.pixels(), world_of(jacobian, FOLD))
    assert blue > red + 30
    assert jump_to_worst_fold(jacobian) is None


def test_a_new_result_without_folding_takes_the_red_away(scene: MRML, windows: Windows) -> None:
    fixed, jacobian = half_bright(scene, "fixed", left=False), jacobian_volume(scene, -1.0)
    views.show_side_by_side(fixed, fixed, jacobian)
    slicer.util.arrayFromVolume(jacobian)[:] = 1
    slicer.util.arrayFromVolumeModified(jacobian)
    views.show_jacobian(fixed, jacobian, [windows.view(JACOBIAN_VIEW).logic])
    view = windows.view(JACOBIAN_VIEW)
    assert np.ptp(pixel_at(view, view.pixels(), world_of(jacobian, FOLD))) <= 2, "not grey"


def test_legend_is_drawn_where_the_map_is(scene: MRML, windows: Windows, tmp_path: Path) -> None:
    fixed, jacobian = half_bright(scene, "fixed", left=False), jacobian_volume(scene)
    for _ in range(2):  # the second time the views are older than the legend
        views.show_side_by_side(fixed, fixed, jacobian)
        picture = windows.view(JACOBIAN_VIEW).pixels(tmp_path / "legend.png")
        bottom = picture[2 * len(picture) // 3 :]
        for color in ((255, 0, 0), (41, 143, 255), (255, 173, 13)):
            assert is_color(bottom, color).sum() > 40, f"no {color} in the legend"
        assert is_color(bottom, (255, 255, 255), 5).sum() > 100, "no text beside the legend"
        for name in (FIXED_VIEW, WARPED_VIEW):
            assert not is_color(windows.view(name).pixels(), (255, 0, 0)).any()


def test_a_legend_is_drawn_as_it_is_in_views_that_are_younger(scene: MRML, windows: Windows) -> None:
    fixed, jacobian = half_bright(scene, "fixed", left=False), jacobian_volume(scene)
    views.show_jacobian(fixed, jacobian)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(jacobian)
    legend.SetPosition(0.5, 0.4)
    windows.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpYellowSliceView)
    views.show_pair(fixed, jacobian, 1.0)
    view = windows.shown[0]
    assert not is_color(view.pixels(), (255, 255, 255), 5).any(), "else this is not needed any more"
    views.renew_legends()
    assert is_color(view.pixels(), (255, 255, 255), 5).sum() > 100
    (found,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert found.GetDisplayableNode() is jacobian
    assert tuple(found.GetPosition()) == (0.5, 0.4)


def test_jump_marks_the_worst_of_several_folds_under_a_parent(scene: MRML, windows: Windows) -> None:
    jacobian = jacobian_volume(scene, -0.2)
    slicer.util.arrayFromVolume(jacobian)[1, 2, 3] = -0.3
    matrix = np.diag([1.0, 1.0, -1.0, 1.0])
    matrix[:3, 3] = 5, -20, 7
    jacobian.SetAndObserveTransformNodeID(scene.linear_transform(matrix).GetID())
    crosshair = scene.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode") or scene.add("Crosshair")
    place = jump_to_worst_fold(jacobian)
    assert place == pytest.approx(tuple(world_of(jacobian, (3, 2, 1))))
    assert tuple(crosshair.GetCrosshairRAS()) == pytest.approx(place)
    assert crosshair.GetCrosshairMode() == crosshair.ShowSmallBasic
    for view in windows.shown:
        rows, columns = view.size[1], view.size[0]
        to_world = slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS())
        assert (to_world @ [columns / 2, rows / 2, 0, 1])[:3] == pytest.approx(place, abs=1)


# -- a real registration ------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_of_the_sample(scene: MRML, windows: Windows, tmp_path: Path) -> None:
    """To look at them, run this test with --basetemp=FOLDER, or render_screenshots.py."""
    sample = register_sample()
    assert judge(sample.report).level == "good"
    nodes = sample_nodes(scene, sample, tmp_path)
    nodes.moving_contour.SetDisplayVisibility(False)
    assert views.show_side_by_side(nodes.fixed, nodes.warped, nodes.jacobian)
    plain = windows.picture(tmp_path / "side-by-side.png")
    # The cavity, which is larger in the fixed image, is blue; nothing but the legend is red.
    blue = (plain[..., 2].astype(int) - plain[..., 0] > 60)[:, 2 * plain.shape[1] // 3 :]
    assert blue.mean() > 0.02
    assert not is_color(plain[: len(plain) * 2 // 3], (255, 0, 0), 40).any()
    # The propagated contour is drawn in all three.
    for part in np.split(plain, 3, axis=1):
        assert is_color(part, (77, 255, 128), 40).sum() > 50
    deformation.show_grid(nodes.transform, True)
    gridded = windows.picture(tmp_path / "grid.png")
    assert (gridded != plain).any(-1).mean() > 0.02
    deformation.show_grid(nodes.transform, False)
    assert np.array_equal(windows.picture(), plain)
    views.set_checkerboard(True)
    windows.picture(tmp_path / "checkerboard.png")
    views.set_checkerboard(False)
    views.show_before(True, nodes.fixed, nodes.moving, nodes.warped, [nodes.moving_contour], [nodes.propagated])
    before = windows.picture(tmp_path / "before.png")
    left, middle = np.split(plain, 3, axis=1)[:2], np.split(before, 3, axis=1)[1]
    difference = [np.abs(left[0].astype(int) - picture).mean() for picture in (left[1], middle)]
    assert difference[0] < 0.8 * difference[1]
