"""The result of a registration as transform nodes: exact, or sampled on a displacement grid.

A registration maps fixed points to moving points. In Slicer that is what leads *from parent* for a node that lies
where the moving image does: put under the transform it appears where the fixed image shows the same thing.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from dlir.errors import TransformError
from dlir.geometry import ImageGrid
from DLIRRegistrationLib.scene.frames import directions_ras, matrix_ras, transform_between
from DLIRRegistrationLib.scene.sampling import padded, sample_grid, sampling_grid, vector_image

if TYPE_CHECKING:
    from dlir.transforms.spatial import CompositeTransform

Matrix = NDArray[np.float64]
BSpline = tuple[Matrix, ImageGrid]


@dataclass(frozen=True, eq=False)
class TransformParts:
    """The exact parameters of a map of points, fixed to moving, LPS mm.

    bsplines: the first is applied first; each its coefficients (3, gz, gy, gx) in mm and the grid of its control
    points. affine: (4, 4), applied to what they give. initial: what is applied last, where a registration started
    from a transform that is not linear.
    """

    affine: Matrix
    bsplines: tuple[BSpline, ...] = ()
    initial: TransformParts | None = None

    @classmethod
    def load(cls, path: Path) -> TransformParts:
        """Reads the worker's .npz: `affine`, `bspline_0`, `grid_0` (JSON), `bspline_1`..., and those of `initial`
        with this word and an underscore before them. Raises TransformError for a file that is not such."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls._from_arrays(dict(file), "")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TransformError(f"transform parameters '{path}' cannot be read ({error}); run again") from error

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[Any]], prefix: str) -> TransformParts:
        count = sum(name.startswith(f"{prefix}bspline_") for name in arrays)
        bsplines = tuple(
            (arrays[f"{prefix}bspline_{i}"], ImageGrid(**json.loads(str(arrays[f"{prefix}grid_{i}"]))))
            for i in range(count)
        )
        last = f"{prefix}initial_"
        initial = cls._from_arrays(arrays, last) if f"{last}affine" in arrays else None
        return cls(arrays[f"{prefix}affine"], bsplines, initial)

    @classmethod
    def of(cls, transform: CompositeTransform) -> TransformParts:
        """The parts of a transform of dlir's own."""
        parts: Any = transform.parts
        return cls.of_list([p.matrix if hasattr(p, "matrix") else (p.coefficients, p.grid) for p in parts])

    @classmethod
    def of_list(cls, parts: list[Matrix | BSpline]) -> TransformParts:
        """Any sequence of B-splines and (4, 4) matrices, LPS mm, the first of which is applied first."""
        kinds = [isinstance(part, tuple) for part in parts]
        bends = kinds.index(False) if False in kinds else len(parts)
        ends = kinds.index(True, bends) if True in kinds[bends:] else len(parts)
        affine = np.eye(4)
        for matrix in (part for part in parts[bends:ends] if not isinstance(part, tuple)):
            affine = matrix @ affine
        splines = tuple(part for part in parts[:bends] if isinstance(part, tuple))
        return cls(affine, splines, cls.of_list(parts[ends:]) if parts[ends:] else None)

    def in_order(self) -> list[Matrix | BSpline]:
        """All B-splines and matrices, the first applied first; identity matrices left out."""
        affine = [] if np.array_equal(self.affine, np.eye(4)) else [self.affine]
        return [*self.bsplines, *affine, *(self.initial.in_order() if self.initial else [])]


# -- nodes ---------------------------------------------------------------------------------------------


def set_native_transform(node: Any, parts: TransformParts) -> None:
    """Gives a transform node the exact transform, as affine and B-spline components; takes it from its parent."""
    set_transform(node, vtk_transform(parts))


def set_grid_transform(node: Any, parts: TransformParts, reference: ImageGrid, spacing_mm: float | None = None) -> None:
    """Gives a transform node a displacement grid that covers `reference`; takes it from its parent.

    spacing_mm: between grid points; by default fine enough to stay within 0.05 mm of the exact transform.
    """
    steps = grid_transform_steps(parts, reference, spacing_mm)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            set_transform(node, end.value)
            return


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


def vtk_transform(parts: TransformParts) -> Any:
    """vtkAbstractTransform in RAS with the same components.

    VTK lets the displacement run out smoothly where ITK cuts it off, at the border of the valid domain: the same
    for B-splines whose three outer layers of coefficients are zero, which those of a registration are.
    """
    components = [_bspline(*p) if isinstance(p, tuple) else _affine(p) for p in parts.in_order() or [np.eye(4)]]
    if len(components) == 1:
        return components[0]
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    for component in components:
        transform.Concatenate(component)
    return transform


def grid_transform_steps(
    parts: TransformParts, reference: ImageGrid, spacing_mm: float | None = None
) -> Generator[None, None, Any]:
    """Samples a transform as `set_grid_transform` does. Yields between slabs, returns a vtkOrientedGridTransform."""
    exact = vtk_transform(parts)
    yield
    if spacing_mm is None:
        controls = [part[1] for part in parts.in_order() if isinstance(part, tuple)]
        grid = yield from sampling_grid(exact, reference, controls)
    else:
        grid = padded(reference.with_spacing((spacing_mm,) * 3))
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


def _bspline(coefficients: Matrix, grid: ImageGrid) -> Any:
    transform = slicer.vtkOrientedBSplineTransform()
    transform.SetGridDirectionMatrix(directions_ras(grid))
    transform.SetCoefficientData(vector_image(np.moveaxis(coefficients, 0, -1), grid))
    transform.SetBorderModeToZero()
    return transform
