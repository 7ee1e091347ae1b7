"""The result of a registration as transform nodes: exact, or sampled on a displacement grid.

A registration maps fixed points to moving points. In Slicer that is what leads *from parent* for a node that lies
where the moving image does: put under the transform it appears where the fixed image shows the same thing.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import slicer
import vtk

from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, DisplacementTransform
from DLIRRegistrationLib.scene.frames import Matrix, directions_ras, matrix_ras, transform_between
from DLIRRegistrationLib.scene.sampling import sample_grid, sampling_grid, vector_image

# -- nodes ---------------------------------------------------------------------------------------------


def set_transform(node: Any, from_parent: Any) -> None:
    """Gives a transform node a vtkAbstractTransform, fixed to moving; takes the node from its parent."""
    was = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        node.SetAndObserveTransformFromParent(from_parent)
    finally:
        node.EndModify(was)


def to_moving(node: Any, transform_node: Any) -> Any:
    """vtkGeneralTransform from where a node appears once `transform_node` is applied to it, back to its own RAS.

    As if the topmost transform of `node` were put under `transform_node`; where it is there already, it is not
    applied twice. Both from the world.
    """
    parent = node.GetParentTransformNode()
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    if not hangs_under(node, transform_node):
        transform.Concatenate(transform_between(None, transform_node))
    transform.Concatenate(transform_between(None, parent))
    return transform


def hangs_under(node: Any, transform_node: Any) -> bool:
    """Whether a transform node is among the parents of `node`."""
    parent = node.GetParentTransformNode()
    return parent is not None and (parent is transform_node or bool(parent.IsTransformNodeMyParent(transform_node)))


# -- VTK -----------------------------------------------------------------------------------------------


def vtk_transform(chain: CompositeTransform) -> Any:
    """vtkAbstractTransform in RAS that maps as `chain` does in LPS, by B-spline and affine components.

    VTK lets the displacement run out smoothly where ITK cuts it off, at the border of the valid domain: the same
    for B-splines whose three outer layers of coefficients are zero, which those of a registration are. Raises
    TransformError for a chain with a displacement field.
    """
    parts = chain.joined().parts or (AffineTransform(np.eye(4)),)
    components = [_affine(part.matrix) if isinstance(part, AffineTransform) else _bspline(part) for part in parts]
    if len(components) == 1:
        return components[0]
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    for component in components:
        transform.Concatenate(component)
    return transform


def grid_transform_steps(chain: CompositeTransform, reference: ImageGrid) -> Generator[None, None, Any]:
    """Samples a transform on a displacement grid over `reference` that stays within 0.05 mm of it there.

    Yields between slabs, returns a vtkOrientedGridTransform.
    """
    exact = vtk_transform(chain)
    yield
    controls = [part.grid for part in chain.parts if isinstance(part, BSplineTransform)]
    grid = yield from sampling_grid(exact, reference, controls)
    return (yield from sampled_transform(exact, grid))


def sampled_transform(exact: Any, grid: ImageGrid) -> Generator[None, None, Any]:
    """vtkOrientedGridTransform with the displacements of a vtkAbstractTransform on `grid`. Yields between slabs."""
    image = yield from sample_grid(exact, grid)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(directions_ras(grid))
    transform.SetDisplacementGridData(image)
    transform.SetInterpolationModeToCubic()
    transform.SetInverseTolerance(1e-4)
    return transform


def _affine(matrix: Matrix) -> Any:
    transform = vtk.vtkTransform()
    transform.SetMatrix(matrix_ras(matrix).ravel())
    return transform


def _bspline(part: BSplineTransform | DisplacementTransform) -> Any:
    if isinstance(part, DisplacementTransform):
        raise TransformError(
            "a displacement field cannot be a part of a native transform node; sample the whole on a grid"
        )
    transform = slicer.vtkOrientedBSplineTransform()
    transform.SetGridDirectionMatrix(directions_ras(part.grid))
    transform.SetCoefficientData(vector_image(np.moveaxis(part.coefficients, 0, -1), part.grid))
    transform.SetBorderModeToZero()
    return transform
