"""A transform node that a registration is to start from, as a file for the worker.

Linear and B-spline transforms, and compositions of them, are kept exactly. Whatever else (displacement grids, thin
plates, inverses of those that bend) is followed by a B-spline in the fixed image: to 0.05 mm where it is smooth, and
never worse than 1 mm, which is still near enough to start from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from dlir.transforms.files import write_transform
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, Part
from DLIRRegistrationLib.scene.frames import (
    Matrix,
    array_shape,
    grid_of_matrix,
    is_straight,
    matrix_lps,
    move_points,
    points_lps,
    points_ras,
    transform_between,
)
from DLIRRegistrationLib.scene.sampling import displacements, padded
from DLIRRegistrationLib.scene.transforms import hangs_under, vtk_transform

# Outer layers of zeros: with them ITK, which cuts a B-spline off at its border, and VTK, which lets it run out
# smoothly, mean the same map.
_ZERO_LAYERS = 3

# Fitting a B-spline: mm that it should and that it may be off, points at which that is tried, cells along the longest
# axis of the fixed image at first and at last, and layers around it, where what happens at the border dies away.
_TOLERANCE, _ACCEPTED = 0.05, 1.0
_TRIED = 2000
_CELLS = (8, 16, 32, 64)
_FIT_MARGIN = 6


def write_initial_transform(node: Any, path: Path, fixed: ImageGrid, moving: Any) -> None:
    """Writes what a registration of `moving` to the image on `fixed` starts from as an ITK file, fixed to moving.

    node: a transform node whose to-parent direction, its own parents included, brings the moving image onto the
    fixed one. moving: the moving volume's node; where it hangs under `node` already, that has been done, and the
    file holds the identity. Raises TransformError, naming the node, for a transform that no B-spline can follow;
    OutputError where the file cannot be written.
    """
    identity = CompositeTransform(())
    write_transform(path, identity if hangs_under(moving, node) else initial_chain(node, fixed))


def initial_chain(node: Any, fixed: ImageGrid) -> CompositeTransform:
    """The map from the world to the space below a transform node, good for points on and near `fixed`.

    Raises TransformError, naming the node, for a transform that no B-spline can follow there or that is not finite.
    """
    transform = transform_between(None, node)
    components = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(components, transform)
    try:
        parts = [_exact(components.GetItemAsObject(i)) for i in range(components.GetNumberOfItems())]
    except TransformError as error:
        raise TransformError(f"transform '{node.GetName()}' cannot be used: {error}; choose another, or none") from None
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return _fitted(node, transform, fixed)
    return CompositeTransform(tuple(known)).joined()


# -- exact -------------------------------------------------------------------------------------------------


def _exact(component: Any) -> Part | None:
    """A simple transform in LPS; None for one that is neither linear nor a cubic B-spline."""
    component.Update()  # one that is the inverse of another learns so only now
    if component.IsA("vtkHomogeneousTransform"):
        return AffineTransform(matrix_lps(slicer.util.arrayFromVTKMatrix(component.GetMatrix())))
    plain = component.IsA("vtkOrientedBSplineTransform") and not component.GetInverseFlag()
    if not plain or component.GetBorderModeAsString() != "Zero" or component.GetBulkTransformMatrix() is not None:
        return None
    image = component.GetCoefficientData()
    directions = component.GetGridDirectionMatrix() or vtk.vtkMatrix4x4()
    matrix = np.array(slicer.util.arrayFromVTKMatrix(directions))
    matrix[:3, :3] *= image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin() + matrix[:3, :3] @ image.GetExtent()[::2]
    if not is_straight(matrix):
        return None
    shape = array_shape(image)
    vectors = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*shape, 3) * component.GetDisplacementScale()
    grid = grid_of_matrix(matrix, shape, "B-spline transform")
    return _running_out(np.moveaxis(points_lps(vectors), -1, 0), grid)


def _running_out(coefficients: Matrix, grid: ImageGrid) -> BSplineTransform:
    around = [(_ZERO_LAYERS, _ZERO_LAYERS)] * 3
    return BSplineTransform(np.pad(coefficients, [(0, 0), *around]), padded(grid, _ZERO_LAYERS))


# -- fitted ------------------------------------------------------------------------------------------------


def _fitted(node: Any, transform: Any, fixed: ImageGrid) -> CompositeTransform:
    """A B-spline and an affine part that agree with any vtkAbstractTransform on `fixed`."""
    rng = np.random.default_rng(0)
    points = fixed.to_physical(rng.uniform(-0.5, np.array(fixed.size) - 0.5, (_TRIED, 3)))
    wanted = points + displacements(transform, points)
    affine = _nearest_affine(points, wanted)
    error = np.inf
    for cells in _CELLS:
        chain = CompositeTransform((_interpolating(transform, affine, fixed, cells), AffineTransform(affine)))
        found = points_lps(move_points(vtk_transform(chain), points_ras(points)))
        error = np.linalg.norm(found - wanted, axis=1).max()
        if error <= _TOLERANCE:
            break
    if error <= _ACCEPTED:
        return chain
    raise TransformError(
        f"transform '{node.GetName()}' is too rough to start from: a B-spline can follow it in the fixed volume to "
        f"{error:.2g} mm only; choose a linear or B-spline transform, or none"
    )


def _nearest_affine(points: Matrix, wanted: Matrix) -> Matrix:
    """(4, 4) that takes (N, 3) points closest to where they should go."""
    solution, *_ = np.linalg.lstsq(np.c_[points, np.ones(len(points))], wanted, rcond=None)
    return np.vstack([solution.T, [0, 0, 0, 1]])


def _interpolating(transform: Any, affine: Matrix, fixed: ImageGrid, cells: int) -> BSplineTransform:
    """The B-spline that, followed by `affine`, agrees with `transform` at the points of a lattice over `fixed`."""
    import SimpleITK as sitk

    lattice = padded(fixed.with_spacing((max(fixed.extent) / cells,) * 3), _FIT_MARGIN)
    points = lattice.voxel_centers().reshape(-1, 3)
    moved = points + displacements(transform, points)
    before = (moved - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T - points
    components = before.reshape(*lattice.shape, 3)
    decomposed = [
        sitk.BSplineDecomposition(sitk.GetImageFromArray(np.ascontiguousarray(components[..., c])), 3) for c in range(3)
    ]
    return _running_out(np.stack([sitk.GetArrayFromImage(image) for image in decomposed]), lattice)
