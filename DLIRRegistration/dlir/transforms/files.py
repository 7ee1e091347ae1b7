"""Reading and writing transforms as ITK files (.h5, .tfm, .txt), understood by SimpleITK, elastix's users and Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dlir.errors import GeometryError, TransformError
from dlir.geometry import ImageGrid
from dlir.io.writing import replacing
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, SpatialTransform


def to_sitk(transform: CompositeTransform) -> Any:
    """The SimpleITK CompositeTransform that maps every point to the same place."""
    import SimpleITK as sitk

    composite = sitk.CompositeTransform(3)
    # ITK applies the transform that was added last first.
    for part in reversed(transform.parts):
        composite.AddTransform(_part_to_sitk(part))
    return composite


def _part_to_sitk(part: SpatialTransform) -> Any:
    import SimpleITK as sitk

    if isinstance(part, AffineTransform):
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(part.matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(part.matrix[:3, 3].tolist())
        return affine
    if isinstance(part, BSplineTransform):
        images = [part.grid.to_sitk(np.ascontiguousarray(component)) for component in part.coefficients]
        return sitk.BSplineTransform(images, 3)
    raise TransformError(f"a {type(part).__name__} cannot be written as an ITK transform")


def write_transform(path: Path, transform: CompositeTransform) -> None:
    """Write `transform`, whole or not at all. Raises OutputError."""
    import SimpleITK as sitk

    composite = to_sitk(transform)
    with replacing(path) as temporary:
        sitk.WriteTransform(composite, str(temporary))


def read_transform(path: Path) -> CompositeTransform:
    """Read an ITK transform: linear ones, cubic B-splines, and composites of them.

    Raises TransformError naming the file where it is missing, damaged, or holds anything else.
    """
    import SimpleITK as sitk

    if not path.is_file():
        raise TransformError(f"transform '{path}' does not exist; check the path")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise TransformError(f"cannot read transform '{path}': {reason}; give an ITK .h5, .tfm or .txt file") from None
    if transform.GetDimension() != 3:
        raise TransformError(f"transform '{path}' is not three-dimensional; give a 3D transform")
    return CompositeTransform(tuple(_flatten(transform.Downcast(), path)))


def _flatten(transform: Any, path: Path) -> list[SpatialTransform]:
    import SimpleITK as sitk

    if isinstance(transform, sitk.CompositeTransform):
        parts: list[SpatialTransform] = []
        for i in reversed(range(transform.GetNumberOfTransforms())):
            parts += _flatten(transform.GetNthTransform(i).Downcast(), path)
        return parts
    if isinstance(transform, sitk.BSplineTransform):
        return [_bspline_from_sitk(transform, path)]
    if transform.IsLinear():
        return [_linear_from_sitk(transform)]
    raise TransformError(
        f"transform '{path}' holds a {transform.GetName()}, which is neither linear nor a B-spline; convert it first"
    )


def _linear_from_sitk(transform: Any) -> AffineTransform:
    corners = np.vstack([np.zeros(3), np.eye(3)])
    images = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    matrix = np.eye(4)
    matrix[:3, 3] = images[0]
    matrix[:3, :3] = (images[1:] - images[0]).T
    return AffineTransform(matrix)


def _bspline_from_sitk(transform: Any, path: Path) -> BSplineTransform:
    import SimpleITK as sitk

    if transform.GetOrder() != 3:
        raise TransformError(f"transform '{path}' holds a B-spline of order {transform.GetOrder()}; only 3 is supported")
    images = transform.GetCoefficientImages()
    try:
        grid = ImageGrid.from_sitk(images[0])
    except GeometryError as error:
        raise TransformError(f"transform '{path}': its control grid is not usable: {error}") from None
    return BSplineTransform(np.stack([sitk.GetArrayFromImage(image) for image in images]), grid)
