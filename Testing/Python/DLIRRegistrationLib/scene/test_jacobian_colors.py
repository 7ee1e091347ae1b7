"""Colours, window, folding layer and legend of a Jacobian volume, through Slicer's own display pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grids import make_grid

pytest.importorskip("slicer", reason="needs slicer-core")

from vtk.util.numpy_support import vtk_to_numpy

from DLIRRegistrationLib.scene import jacobian_colors as colors

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((4, 5, 6), (1.3, 1.1, 6.0), (20.0, -30.0, 50.0), (0.4, -0.2, 0.7))


def jacobian_volume(scene: MRML, values: list[float] | None = None) -> Any:
    """A volume whose first voxels have these determinants, and the others 1."""
    array = np.ones(GRID.shape, np.float32)
    array.reshape(-1)[: len(values or [])] = values or []
    return scene.volume(array, GRID, "Jacobian")


def drawn_colors(volume: Any, count: int) -> NDArray[np.float64]:
    """(count, 3), 0 to 1: what Slicer's pipeline makes of the first voxels."""
    algorithm = volume.GetDisplayNode().GetImageDataConnection().GetProducer()
    algorithm.Update()
    pixels = vtk_to_numpy(algorithm.GetOutputDataObject(0).GetPointData().GetScalars())
    return pixels[:count, :3] / 255


def test_red_ends_exactly_where_folding_does(scene: MRML) -> None:
    volume = jacobian_volume(scene, [-50.0, -0.4, -1e-6, 0.0, 1e-4, 0.02, 0.5, 2.0, 9.0])
    colors.apply_jacobian_colors(volume)
    drawn = drawn_colors(volume, 9)
    assert np.array_equal(drawn[:4], np.tile(colors.FOLDING, (4, 1)))
    assert np.linalg.norm(drawn[4:] - colors.FOLDING, axis=1).min() > 0.6


def test_contraction_is_blue_expansion_orange_and_no_change_grey(scene: MRML) -> None:
    volume = jacobian_volume(scene, [0.25, 0.5, 1.0, 2.0, 2.4])
    colors.apply_jacobian_colors(volume)
    quarter, half, same, double, more = drawn_colors(volume, 5)
    for red, _, blue in (quarter, half):
        assert blue > red + 0.5
    for red, green, blue in (double, more):
        assert red > green > blue + 0.4
    assert np.ptp(same) < 0.03


@pytest.mark.parametrize("factor", [1.2, 1.5, 2.0, 3.0, 4.0])
def test_a_factor_is_as_far_from_grey_either_way(factor: float) -> None:
    grey = np.array(colors.color_of(1.0))
    smaller, larger = (np.array(colors.color_of(value)) - grey for value in (1 / factor, factor))
    assert np.linalg.norm(smaller) == pytest.approx(np.linalg.norm(larger), rel=0.25)


def test_far_out_determinants_keep_the_last_colour() -> None:
    assert colors.color_of(1e-9) == colors.color_of(1 / 8)
    assert colors.color_of(1e9) == colors.color_of(8.0)


def test_the_window_stays_when_voxels_change(scene: MRML) -> None:
    volume = jacobian_volume(scene)
    colors.apply_jacobian_colors(volume)
    import slicer

    slicer.util.arrayFromVolume(volume)[:] = 300
    slicer.util.arrayFromVolumeModified(volume)
    display = volume.GetDisplayNode()
    assert (display.GetAutoWindowLevel(), display.GetWindow(), display.GetLevel()) == (0, colors.WINDOW, colors.LEVEL)
    assert not display.GetInterpolate()


def test_volumes_share_one_table(scene: MRML) -> None:
    first, second = jacobian_volume(scene), jacobian_volume(scene)
    before = scene.scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")
    assert not colors.has_jacobian_colors(first)
    for volume in (first, second, first):
        colors.apply_jacobian_colors(volume)
        assert colors.has_jacobian_colors(volume)
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == before + 1


def test_colours_and_legend_survive_a_saved_scene(scene: MRML, tmp_path: Path) -> None:
    volume = jacobian_volume(scene, [0.0, 1e-4, 0.5, 2.0])
    colors.apply_jacobian_colors(volume)
    assert colors.folding_label(volume) is not None
    colors.show_legend(volume)
    drawn = drawn_colors(volume, 4)
    scene.save(tmp_path / "scene.mrb")
    scene.load(tmp_path / "scene.mrb")
    read = scene.node("Jacobian")
    assert colors.has_jacobian_colors(read)
    assert np.array_equal(drawn_colors(read, 4), drawn)
    assert scene.scene.GetFirstNodeByClass("vtkMRMLColorLegendDisplayNode").GetTitleText() == colors.LEGEND_TITLE
    assert scene.scene.GetFirstNodeByClass("vtkMRMLLabelMapVolumeNode") is None


def test_no_folding_layer_without_folding(scene: MRML) -> None:
    assert colors.folding_label(jacobian_volume(scene, [1e-3])) is None
    assert scene.scene.GetFirstNodeByClass("vtkMRMLLabelMapVolumeNode") is None


def test_folding_layer_marks_what_folds_and_what_is_no_number(scene: MRML) -> None:
    import slicer

    volume = jacobian_volume(scene, [-0.5, 0.0, np.nan, 0.01])
    parent = scene.linear_transform(np.diag([1.0, -1.0, 1.0, 1.0]))
    volume.SetAndObserveTransformNodeID(parent.GetID())
    label = colors.folding_label(volume)
    assert slicer.util.arrayFromVolume(label).reshape(-1).tolist() == [1, 1, 1] + [0] * (4 * 5 * 6 - 3)
    assert label.GetTransformNodeID() == parent.GetID()
    assert label.GetHideFromEditors()
    assert np.array_equal(drawn_colors(label, 2)[0], colors.FOLDING)
    assert label.GetDisplayNode().GetColorNode().GetLookupTable().GetOpacity(0) == 0


def test_folding_layer_follows_its_volume(scene: MRML) -> None:
    import slicer

    volume = jacobian_volume(scene, [-1.0])
    first = colors.folding_label(volume)
    slicer.util.arrayFromVolume(volume).reshape(-1)[:3] = (1, 1, -1)
    assert colors.folding_label(volume) is first
    assert np.flatnonzero(slicer.util.arrayFromVolume(first)).tolist() == [2]
    slicer.util.arrayFromVolume(volume)[:] = 1
    assert colors.folding_label(volume) is None
    assert scene.scene.GetFirstNodeByClass("vtkMRMLLabelMapVolumeNode") is None


def test_legend_says_what_the_colours_mean(scene: MRML) -> None:
    volume = jacobian_volume(scene)
    colors.apply_jacobian_colors(volume)
    legend = colors.show_legend(volume)
    assert legend.GetPrimaryDisplayNode() is volume.GetDisplayNode()
    assert "0.5 halved" in legend.GetTitleText()
    low, step = colors.LEVEL - colors.WINDOW / 2, colors.WINDOW / (legend.GetNumberOfLabels() - 1)
    labels = [legend.GetLabelFormat() % (low + i * step) for i in range(legend.GetNumberOfLabels())]
    assert labels == ["-0.5", "0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
    colors.show_legend(volume)
    assert scene.scene.GetNumberOfNodesByClass("vtkMRMLColorLegendDisplayNode") == 1


def test_a_display_that_was_deleted_is_made_anew_and_leaves_no_legend_behind(scene: MRML) -> None:
    volume = jacobian_volume(scene)
    colors.apply_jacobian_colors(volume)
    legend = scene.scene.AddNewNodeByClass("vtkMRMLColorLegendDisplayNode")
    volume.AddAndObserveDisplayNodeID(legend.GetID())
    scene.scene.RemoveNode(volume.GetDisplayNode())
    assert volume.GetDisplayNode() is legend
    colors.apply_jacobian_colors(volume)
    assert volume.GetDisplayNode().GetWindow() == colors.WINDOW
    assert not scene.scene.IsNodePresent(legend)
