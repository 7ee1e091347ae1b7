"""Small volumes that are easy to recognise in a picture of a slice view, and where to look in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grids import make_grid

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid
    from mrml import MRML, SliceView

# Oblique, off-centre, and only good to look at along its slices.
GRID = make_grid((7, 24, 30), (2.0, 2.5, 9.0), (30.0, -80.0, 120.0), (0.5, -0.3, 0.8))
BRIGHT, DARK = 200, 40


def half_bright(scene: MRML, name: str, left: bool, grid: ImageGrid = GRID) -> Any:
    """A volume that is bright in the half with low x indices (left) or in the other, drawn in its own grey values."""
    array = np.full(grid.shape, DARK, np.int16)
    middle = grid.shape[2] // 2
    array[..., slice(None, middle) if left else slice(middle, None)] = BRIGHT
    return in_own_greys(scene.volume(array, grid, name))


def in_own_greys(volume: Any) -> Any:
    """Have a volume drawn such that grey value v gives pixels of v."""
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(0, 255)
    display.SetInterpolate(0)
    return volume


def world_of(volume: Any, index: ArrayLike) -> NDArray[np.float64]:
    """World position, RAS mm, of a voxel (x, y, z)."""
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    place = np.zeros(3)
    volume.TransformPointToWorld((slicer.util.arrayFromVTKMatrix(matrix) @ [*np.asarray(index, float), 1])[:3], place)
    return place


def pixel_at(view: SliceView, picture: NDArray[np.uint8], world: ArrayLike) -> list[int]:
    """Red, green and blue where a world position, RAS mm, lies in the picture of a view. Fails where it is outside."""
    import slicer

    to_world = slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS())
    x, y, depth, _ = np.linalg.inv(to_world) @ [*np.asarray(world, float), 1]
    assert abs(depth) < 1, "the position lies in another slice"
    row, column = picture.shape[0] - 1 - round(y), round(x)
    assert 0 <= row < picture.shape[0]
    assert 0 <= column < picture.shape[1]
    return [int(value) for value in picture[row, column]]
