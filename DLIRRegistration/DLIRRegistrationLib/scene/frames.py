"""Between Slicer's frame (RAS, column-vector matrices, nodes under transforms) and dlir's (LPS, `ImageGrid`).

The only file that turns one into the other. Lengths are millimetres; "world" is what Slicer calls so: a node's own
coordinates with all its parent transforms applied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid, Shape3, transform_points

Matrix = NDArray[np.float64]

# Applied to a vector it turns LPS into RAS and back.
_FLIP = np.array([-1.0, -1.0, 1.0])
_FLIP_MATRIX = np.diag([*_FLIP, 1.0])

# Points along each axis of an image that tell how far it reaches under a transform that is not linear.
_SAMPLES = 9
# A parent transform that makes an image take this many times its voxels has gone astray.
_LARGEST_GROWTH = 20


# -- points, vectors, matrices -----------------------------------------------------------------------


def points_lps(points: ArrayLike) -> Matrix:
    """RAS points or displacements (..., 3) in LPS."""
    return np.asarray(points, float) * _FLIP


def points_ras(points: ArrayLike) -> Matrix:
    """LPS points or displacements (..., 3) in RAS."""
    return np.asarray(points, float) * _FLIP


def matrix_lps(matrix: Matrix) -> Matrix:
    """The (4, 4) map of LPS points that does what `matrix` does to RAS points."""
    return _FLIP_MATRIX @ matrix @ _FLIP_MATRIX


def matrix_ras(matrix: Matrix) -> Matrix:
    """The (4, 4) map of RAS points that does what `matrix` does to LPS points."""
    return _FLIP_MATRIX @ matrix @ _FLIP_MATRIX


def ijk_to_ras(grid: ImageGrid) -> Any:
    """vtkMatrix4x4 from voxel indices (x, y, z) to RAS."""
    return slicer.util.vtkMatrixFromArray(_FLIP_MATRIX @ grid.index_to_physical)


def directions_ras(grid: ImageGrid) -> Any:
    """vtkMatrix4x4 whose columns are the unit vectors of the index axes in RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = _FLIP[:, None] * grid.direction_matrix
    return slicer.util.vtkMatrixFromArray(matrix)


def grid_of_matrix(matrix: Matrix, shape: Shape3, name: str) -> ImageGrid:
    """The grid of an image of `shape` (z, y, x) whose voxel indices `matrix` (4, 4) takes to RAS.

    Raises GeometryError, naming the image, where its axes are not perpendicular or not finite.
    """
    to_lps = _FLIP_MATRIX @ matrix
    spacing = np.linalg.norm(to_lps[:3, :3], axis=0)
    directions = to_lps[:3, :3] / np.where(spacing > 0, spacing, 1)
    try:
        return ImageGrid(shape, tuple(spacing), tuple(to_lps[:3, 3]), tuple(directions.ravel()))
    except GeometryError as error:
        raise GeometryError(f"{name}: {error}") from None


def is_straight(matrix: Matrix) -> bool:
    """Whether a (4, 4) map keeps the axes of an image perpendicular, so that it takes it onto an `ImageGrid`."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (np.isfinite(matrix).all() and spacing.all()):
        return False
    directions = matrix[:3, :3] / spacing
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-3))


# -- nodes -------------------------------------------------------------------------------------------


def grid_of_volume(node: Any) -> ImageGrid:
    """Where the voxels of a volume node lie in the world, its linear parent transforms included.

    Raises GeometryError where it is empty, and where a parent shears it or is not linear.
    """
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints():
        raise GeometryError(f"{named(node)} holds no image; choose or load another")
    to_world = matrix_to_world(node)
    if to_world is None:
        raise GeometryError(f"{named(node)} is under a transform that is not linear; harden or remove the transform")
    return grid_of_matrix(to_world @ array_to_local(node, image), array_shape(image), named(node))


def named(node: Any) -> str:
    """How messages call a node."""
    return f"{'segmentation' if node.IsA('vtkMRMLSegmentationNode') else 'volume'} '{node.GetName()}'"


def array_shape(image: Any) -> Shape3:
    """(z, y, x) of a vtkImageData."""
    x, y, z = image.GetDimensions()
    return z, y, x


def array_to_local(node: Any, image: Any) -> Matrix:
    """(4, 4): indices into the array of a volume node's or segmentation's image to that node's own RAS.

    The array begins at the image's extent, which need not begin at 0.
    """
    matrix = vtk.vtkMatrix4x4()
    if node.IsA("vtkMRMLVolumeNode"):
        node.GetIJKToRASMatrix(matrix)
    else:
        image.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = image.GetExtent()[::2]
    return np.asarray(slicer.util.arrayFromVTKMatrix(matrix), float) @ first


def matrix_to_world(node: Any) -> Matrix | None:
    """(4, 4) from a node's own RAS to the world's; None where a parent transform is not linear."""
    parent, matrix = node.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if parent is not None:
        if not parent.IsTransformToWorldLinear():
            return None
        parent.GetMatrixTransformToWorld(matrix)
    return np.asarray(slicer.util.arrayFromVTKMatrix(matrix), float)


def transform_between(source: Any | None, target: Any | None) -> Any:
    """vtkGeneralTransform from the space below transform node `source` to the one below `target`; None is the world."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return transform


# -- transforms ----------------------------------------------------------------------------------------


def move_points(transform: Any, points: ArrayLike) -> Matrix:
    """RAS points (N, 3) through a vtkAbstractTransform, in double precision."""
    given, moved = vtk.vtkPoints(), vtk.vtkPoints()
    given.SetDataTypeToDouble()
    moved.SetDataTypeToDouble()
    array = np.ascontiguousarray(points, float).reshape(-1, 3)
    given.SetData(numpy_to_vtk(array))
    transform.TransformPoints(given, moved)
    return np.array(vtk_to_numpy(moved.GetData()))


def covering_grid(matrix: Matrix, shape: Shape3, to_world: Any, name: str) -> ImageGrid:
    """A straight grid in the world around an image whose parent transform bends or shears it.

    matrix: (4, 4) array index to local RAS. to_world: vtkAbstractTransform from there. Spacing and axes are those
    that the image has in its middle, made perpendicular. Raises GeometryError where
    that leads to nowhere or is out of all proportion.
    """
    size = np.array(shape[::-1])
    axes = [np.linspace(-0.5, n - 0.5, _SAMPLES) for n in size]
    box = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    middle = (size - 1) / 2
    neighbours = np.vstack([middle + np.eye(3) / 2, middle - np.eye(3) / 2])
    world = move_points(to_world, transform_points(matrix, np.vstack([box, neighbours])))
    steps = (world[-6:-3] - world[-3:]).T
    if not np.isfinite(world).all():
        raise GeometryError(f"{name}: its geometry or parent transform leads to no finite place; correct it")
    left, _, right = np.linalg.svd(steps)
    directions, spacing = left @ right, np.linalg.norm(steps, axis=0)
    along = world[:-6] @ directions
    low, high = along.min(0), along.max(0)
    count = np.maximum(np.ceil((high - low) / np.maximum(spacing, 1e-9) - 1e-4), 1).astype(int)
    if count.prod() > _LARGEST_GROWTH * size.prod() + _SAMPLES**3:
        raise GeometryError(f"{name}: its geometry or parent transform is out of all proportion; correct it")
    start = (low + high) / 2 - spacing * (count - 1) / 2
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = directions * spacing, directions @ start
    return grid_of_matrix(result, (int(count[2]), int(count[1]), int(count[0])), name)
