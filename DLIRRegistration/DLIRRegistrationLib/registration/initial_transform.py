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
from DLIRRegistrationLib.scene.transforms import BSpline, TransformParts, hangs_under, vtk_transform

# Outer layers of zeros: with them ITK, which cuts a B-spline off at its border, and VTK, which lets it run out
# smoothly, mean the same map.
_ZERO_LAYERS = 3

# Bytes of an HDF5 file beside the parameters, on the safe side.
_HEADERS = 1 << 16

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
    import SimpleITK as sitk

    from dlir.io.writing import replacing

    parts = TransformParts(np.eye(4)) if hangs_under(moving, node) else initial_parts(node, fixed)
    steps = parts.in_order() or [parts.affine]
    composite = sitk.CompositeTransform(3)
    for part in reversed(steps):  # the one added last is applied first
        composite.AddTransform(_to_sitk(part))
    with replacing(path, durable=False) as temporary:
        # The HDF5 library crashes the process over a file that does not fit on the disk: find that out without it.
        temporary.write_bytes(bytes(_HEADERS + sum(p[0].nbytes for p in steps if isinstance(p, tuple))))
        sitk.WriteTransform(composite, str(temporary))


def initial_parts(node: Any, fixed: ImageGrid) -> TransformParts:
    """The map from the world to the space below a transform node, good for points on and near `fixed`.

    Raises TransformError, naming the node, for a transform that no B-spline can follow there.
    """
    transform = transform_between(None, node)
    components = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(components, transform)
    parts = [_exact(components.GetItemAsObject(i)) for i in range(components.GetNumberOfItems())]
    known = [part for part in parts if part is not None]
    return TransformParts.of_list(known) if len(known) == len(parts) else _fitted(node, transform, fixed)


# -- exact -------------------------------------------------------------------------------------------------


def _exact(component: Any) -> Matrix | BSpline | None:
    """The parameters of a simple transform in LPS; None for one that is neither linear nor a cubic B-spline."""
    component.Update()  # one that is the inverse of another learns so only now
    if component.IsA("vtkHomogeneousTransform"):
        return matrix_lps(slicer.util.arrayFromVTKMatrix(component.GetMatrix()))
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
    grid = padded(grid_of_matrix(matrix, shape, "B-spline transform"), _ZERO_LAYERS)
    around = [(_ZERO_LAYERS, _ZERO_LAYERS)] * 3
    return np.pad(np.moveaxis(points_lps(vectors), -1, 0), [(0, 0), *around]), grid


def _to_sitk(part: Matrix | BSpline) -> Any:
    import SimpleITK as sitk

    if isinstance(part, tuple):
        coefficients, grid = part
        return sitk.BSplineTransform([grid.to_sitk(np.ascontiguousarray(c)) for c in coefficients], 3)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(part[:3, :3].ravel().tolist())
    affine.SetTranslation(part[:3, 3].tolist())
    return affine


# -- fitted ------------------------------------------------------------------------------------------------


def _fitted(node: Any, transform: Any, fixed: ImageGrid) -> TransformParts:
    """A B-spline and an affine part that agree with any vtkAbstractTransform on `fixed`."""
    rng = np.random.default_rng(0)
    points = fixed.to_physical(rng.uniform(-0.5, np.array(fixed.size) - 0.5, (_TRIED, 3)))
    wanted = points + displacements(transform, points)
    affine = _nearest_affine(points, wanted)
    error = np.inf
    for cells in _CELLS:
        parts = TransformParts(affine, (_interpolating(transform, affine, fixed, cells),))
        found = points_lps(move_points(vtk_transform(parts), points_ras(points)))
        error = np.linalg.norm(found - wanted, axis=1).max()
        if error <= _TOLERANCE:
            break
    if error <= _ACCEPTED:
        return parts
    raise TransformError(
        f"transform '{node.GetName()}' is too rough to start from: a B-spline can follow it in the fixed volume to "
        f"{error:.2g} mm only; choose a linear or B-spline transform, or none"
    )


def _nearest_affine(points: Matrix, wanted: Matrix) -> Matrix:
    """(4, 4) that takes (N, 3) points closest to where they should go."""
    solution, *_ = np.linalg.lstsq(np.c_[points, np.ones(len(points))], wanted, rcond=None)
    return np.vstack([solution.T, [0, 0, 0, 1]])


def _interpolating(transform: Any, affine: Matrix, fixed: ImageGrid, cells: int) -> BSpline:
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
    coefficients = np.stack([sitk.GetArrayFromImage(image) for image in decomposed])
    around = [(_ZERO_LAYERS, _ZERO_LAYERS)] * 3
    return np.pad(coefficients, [(0, 0), *around]), padded(lattice, _ZERO_LAYERS)
