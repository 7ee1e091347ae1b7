"""Volume nodes as arrays with a place in the world, and arrays as volume nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from DLIRRegistrationLib.scene.frames import (
    Matrix,
    array_shape,
    array_to_local,
    covering_grid,
    grid_of_matrix,
    ijk_to_ras,
    is_straight,
    matrix_to_world,
    named,
    transform_between,
)

# Types that VTK has none for, by what they become.
_REPLACED_TYPES = {"?": np.uint8, "e": np.float32}


def placed_volume(node: Any) -> Volume:
    """What a scalar volume node holds, placed in the world with all its parent transforms; at once, however large.

    The array is the node's own memory where a grid can say where it lies, else (a parent that shears or is not
    linear) a resampled copy, with the lowest value outside of the image.
    Raises ImageError for a node that is empty, 2D or of several components; GeometryError for one whose geometry or
    parents place it nowhere.
    """
    image = scalar_image(node)
    if min(array_shape(image)) == 1:
        raise ImageError(f"{named(node)} is 2D: it has a single slice; give a volume with several slices")
    return Volume(*in_world(node, image, nearest=False, background=None), node.GetName())


def set_volume(node: Any, array: NDArray[Any], grid: ImageGrid) -> None:
    """Gives a volume node a copy of `array` (z, y, x), lying on `grid` in the world; takes it from its parent.

    Booleans become 0 and 1, half precision becomes single. Raises GeometryError for an array that does not fit.
    """
    set_image(node, image_of(array), grid)


def set_image(node: Any, image: Any, grid: ImageGrid) -> None:
    """Hands a vtkImageData over to a volume node, lying on `grid` in the world; takes the node from its parent.

    Raises GeometryError for an image that does not fit.
    """
    if array_shape(image) != grid.shape:
        raise GeometryError(f"an image of shape {array_shape(image)} does not fit a grid of shape {grid.shape}")
    was = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.SetIJKToRASMatrix(ijk_to_ras(grid))
        node.SetAndObserveImageData(image)
    finally:
        node.EndModify(was)


# -- images and arrays ---------------------------------------------------------------------------------


def volume_display(node: Any) -> Any:
    """The display node of a volume in a scene; made where there is none.

    A colour legend is a display node, too. Where a script has deleted the volume's own one, the legend has moved up to
    its place, and would be left behind by one that is made: it goes.
    """
    first = node.GetDisplayNode()
    if first is not None and not first.IsA("vtkMRMLVolumeDisplayNode"):
        node.GetScene().RemoveNode(first)
    node.CreateDefaultDisplayNodes()
    return node.GetDisplayNode()


def scalar_image(node: Any) -> Any:
    """The vtkImageData of a volume node. Raises ImageError where it is empty or has several components."""
    image = node.GetImageData()
    if image is None or not image.GetNumberOfPoints() or image.GetPointData().GetScalars() is None:
        raise ImageError(f"{named(node)} holds no image; choose or load another")
    if image.GetNumberOfScalarComponents() != 1:
        raise ImageError(f"{named(node)} is a colour or vector image; choose a scalar volume")
    return image


def image_array(image: Any) -> NDArray[Any]:
    """(z, y, x): the voxels of a scalar vtkImageData, in its own memory (but a copy of single bits)."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array_shape(image))


def image_of(array: NDArray[Any]) -> Any:
    """A vtkImageData with a copy of `array` (z, y, x), at the origin with unit spacing."""
    kind = np.dtype(_REPLACED_TYPES.get(array.dtype.char, array.dtype.newbyteorder("=")))
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(kind), 1)
    image_array(image)[...] = array
    return image


# -- resampling ----------------------------------------------------------------------------------------


def in_world(node: Any, image: Any, *, nearest: bool, background: float | None = 0) -> tuple[NDArray[Any], ImageGrid]:
    """An image of a node as an array in the world.

    node: under whose transforms `image`, its own or one of a segmentation's, lies. The array is the image's own
    memory where they are linear and keep its axes perpendicular; else it is resampled onto a grid that covers it.
    nearest: take the nearest voxel instead of interpolating. background: value where there is no image; None for the
    lowest that it has. Raises GeometryError where the transforms place it nowhere.
    """
    matrix, to_world = array_to_local(node, image), matrix_to_world(node)
    if to_world is not None and is_straight(to_world @ matrix):
        return image_array(image), grid_of_matrix(to_world @ matrix, array_shape(image), named(node))
    if background is None:
        background = image.GetScalarRange()[0]
    below = transform_between(node.GetParentTransformNode(), None)
    grid = covering_grid(matrix, array_shape(image), below, named(node))
    return onto_grid(node, image, grid, nearest=nearest, background=background), grid


def onto_grid(node: Any, image: Any, grid: ImageGrid, *, nearest: bool, background: float = 0) -> NDArray[Any]:
    """(z, y, x): an image of a node at the voxels of a grid in the world. node, image, nearest: as for `in_world`."""
    from_world = transform_between(None, node.GetParentTransformNode())
    return reslice(image, array_to_local(node, image), from_world, grid, nearest=nearest, background=background)


def reslice(
    image: Any, to_local: Matrix, from_world: Any, onto: ImageGrid, *, nearest: bool, background: float = 0
) -> NDArray[Any]:
    """(z, y, x): the values of a scalar vtkImageData at the voxel centres of `onto`, in the image's own type.

    to_local: (4, 4) from the image's array indices to its own RAS, which `from_world`, a vtkAbstractTransform, leads
    to. The outer half of a border voxel counts as inside. nearest: as for `in_world`. background: value outside.
    """
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    transform.Concatenate(ijk_to_ras(onto))
    transform.Concatenate(from_world)
    transform.Concatenate(np.linalg.inv(to_local).ravel())
    resampler = vtk.vtkImageReslice()
    resampler.SetInputData(_at_origin(image))
    resampler.SetResliceTransform(transform)
    resampler.SetOutputExtent(*(edge for n in onto.size for edge in (0, n - 1)))
    resampler.SetOutputOrigin(0, 0, 0)
    resampler.SetOutputSpacing(1, 1, 1)
    resampler.SetBackgroundLevel(background)
    if nearest:
        resampler.SetInterpolationModeToNearestNeighbor()
    else:
        resampler.SetInterpolationModeToLinear()
    resampler.Update()
    return image_array(resampler.GetOutput())


def _at_origin(image: Any) -> Any:
    """The same voxels, whose physical positions are their array indices."""
    plain = vtk.vtkImageData()
    plain.SetDimensions(image.GetDimensions())
    scalars = image.GetPointData().GetScalars()
    if scalars.GetDataType() == vtk.VTK_BIT:  # which VTK's resampling does not read
        return image_of(image_array(image))
    plain.GetPointData().SetScalars(scalars)
    return plain
