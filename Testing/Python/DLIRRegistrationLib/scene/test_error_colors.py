"""Colours, window and legend of an error map, through Slicer's own display pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from grids import make_grid

pytest.importorskip("slicer", reason="needs slicer-core")

from vtk.util.numpy_support import vtk_to_numpy

from DLIRRegistrationLib.scene import error_colors as colors
from DLIRRegistrationLib.scene.jacobian_colors import apply_jacobian_colors, has_jacobian_colors

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((4, 5, 6), (1.3, 1.1, 6.0))


def error_volume(scene: MRML, values: list[float]) -> Any:
    array = np.zeros(GRID.shape, np.float32)
    array.reshape(-1)[: len(values)] = values
    return scene.volume(array, GRID, "error")


def test_each_error_has_its_colour_and_more_than_the_most_has_the_last(scene: MRML) -> None:
    errors = [0.0, 1.0, 3.0, 5.0, 7.9, 8.0, 40.0]
    volume = error_volume(scene, errors)
    colors.apply_error_colors(volume)
    algorithm = volume.GetDisplayNode().GetImageDataConnection().GetProducer()
    algorithm.Update()
    pixels = vtk_to_numpy(algorithm.GetOutputDataObject(0).GetPointData().GetScalars())[: len(errors), :3] / 255
    np.testing.assert_allclose(pixels, [colors.color_of(error) for error in errors], atol=0.03)
    np.testing.assert_array_equal(pixels[-1], pixels[-2])


def test_it_is_told_from_a_jacobian(scene: MRML) -> None:
    error, jacobian = error_volume(scene, [1.0]), error_volume(scene, [1.0])
    colors.apply_error_colors(error)
    apply_jacobian_colors(jacobian)
    assert (colors.has_error_colors(error), has_jacobian_colors(error)) == (True, False)
    assert (colors.has_error_colors(jacobian), has_jacobian_colors(jacobian)) == (False, True)


def test_legend_says_what_the_colours_mean(scene: MRML) -> None:
    volume = error_volume(scene, [1.0])
    colors.apply_error_colors(volume)
    legend = colors.show_error_legend(volume)
    assert "mm" in legend.GetTitleText()
    count = legend.GetNumberOfLabels()
    labels = [legend.GetLabelFormat() % (i * colors.MOST / (count - 1)) for i in range(count)]
    assert labels == ["0", "2", "4", "6", "8"]
