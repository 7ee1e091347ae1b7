"""Reading and writing transforms as ITK files (.h5, .tfm, .txt), which SimpleITK, elastix and Slicer understand."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from dlir.errors import GeometryError, TransformError, shown
from dlir.geometry import ImageGrid
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.writing import replacing, writable
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform, DisplacementTransform, Part

_TEXT_START = b"#Insight Transform File"
_TEXT_TAIL_BYTES = 1 << 16
_RESERVE = 1 << 16
_EXACT, _DENSE = ".h5", ".npz"


def to_sitk(transform: CompositeTransform) -> Any:
    """The SimpleITK CompositeTransform that maps every point to the same place."""
    import SimpleITK as sitk

    composite = sitk.CompositeTransform(3)
    # ITK applies the transform that was added last first. Without any, a text file would look cut short.
    for part in reversed(transform.parts or (AffineTransform(np.eye(4)),)):
        composite.AddTransform(_part_to_sitk(part))
    return composite


def _part_to_sitk(part: Part) -> Any:
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
    with replacing(path) as temporary, quiet:
        _reserve(temporary, transform)
        sitk.WriteTransform(composite, writable(temporary))
        if _is_cut(temporary):  # ITK does not report a text file that it could not write whole
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _reserve(path: Path, transform: CompositeTransform) -> None:
    """Fill `path` with as many zeros as the file will need, so that a full disk is found out here, by an OSError.

    The HDF5 library, left with a file that it could not write, crashes the process when that ends.
    """
    size = _RESERVE + sum(part.coefficients.nbytes for part in transform.parts if isinstance(part, BSplineTransform))
    with path.open("wb") as file:
        for start in range(0, size, _RESERVE):
            file.write(bytes(min(_RESERVE, size - start)))


def read_transform(path: Path) -> CompositeTransform:
    """Read an ITK transform: linear ones, cubic B-splines, and composites of them.

    Raises TransformError naming the file where it is missing, damaged, or holds anything else.
    """
    import SimpleITK as sitk

    if not path.is_file():
        raise TransformError(f"transform '{shown(path)}' does not exist; check the path")
    name = require_utf8(path, f"transform '{shown(path)}'", TransformError)
    try:
        with quiet:
            transform = sitk.ReadTransform(name)
    except RuntimeError:
        raise TransformError(
            f"transform '{path}' is damaged or no ITK transform; give an .h5, .tfm or .txt file that ITK wrote"
        ) from None
    if _is_cut(path):
        raise TransformError(f"transform '{path}' is damaged: its end is missing; copy or write it again")
    if transform.GetDimension() != 3:
        raise TransformError(f"transform '{path}' is not three-dimensional; give a 3D transform")
    try:
        return CompositeTransform(tuple(_flatten(transform.Downcast())))
    except (GeometryError, TransformError) as error:
        raise TransformError(f"transform '{path}' cannot be used: {error}") from None


def _is_cut(path: Path) -> bool:
    """Whether a text file ends before the fixed parameters of its last transform do.

    ITK reads such a file and leaves out, or fills up, what is missing.
    """
    with path.open("rb") as file:
        if file.read(len(_TEXT_START)) != _TEXT_START:
            return path.stat().st_size == 0
        file.seek(max(0, path.stat().st_size - _TEXT_TAIL_BYTES))
        tail = file.read()
    lines = tail.splitlines() or [b""]
    return not (tail.endswith(b"\n") and lines[-1].startswith(b"FixedParameters:"))


def _flatten(transform: Any) -> list[Part]:
    import SimpleITK as sitk

    if isinstance(transform, sitk.CompositeTransform):
        parts: list[Part] = []
        for i in reversed(range(transform.GetNumberOfTransforms())):
            parts += _flatten(transform.GetNthTransform(i).Downcast())
        return parts
    if isinstance(transform, sitk.BSplineTransform):
        return [_bspline_from_sitk(transform)]
    if transform.IsLinear():
        return [_linear_from_sitk(transform)]
    raise TransformError(f"it holds a {transform.GetName()}, neither linear nor a B-spline; convert it first")


def _linear_from_sitk(transform: Any) -> AffineTransform:
    corners = np.vstack([np.zeros(3), np.eye(3)])
    images = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    matrix = np.eye(4)
    matrix[:3, 3] = images[0]
    matrix[:3, :3] = (images[1:] - images[0]).T
    return AffineTransform(matrix)


def _bspline_from_sitk(transform: Any) -> BSplineTransform:
    import SimpleITK as sitk

    if transform.GetOrder() != 3:
        raise TransformError(f"it holds a B-spline of order {transform.GetOrder()}; only cubic ones are supported")
    images = transform.GetCoefficientImages()
    return BSplineTransform(
        np.stack([sitk.GetArrayFromImage(image) for image in images]), ImageGrid.from_sitk(images[0])
    )


# -- whatever a method gives --------------------------------------------------------------------------


def save_transform(folder: Path, name: str, transform: CompositeTransform) -> str:
    """Writes `transform` and returns its file name: NAME.h5 for ITK, or NAME.npz with a displacement field.

    Raises OutputError, and TransformError for a chain in which a displacement field does not come first.
    """
    first, *rest = transform.parts or (AffineTransform(np.eye(4)),)
    if not isinstance(first, DisplacementTransform):
        write_transform(folder / (name + _EXACT), transform)
        return name + _EXACT
    matrix = CompositeTransform(tuple(rest)).matrix
    grid = first.grid
    with replacing(folder / (name + _DENSE)) as temporary:
        np.savez_compressed(
            temporary,
            field=first.field,
            matrix=matrix,
            spacing=grid.spacing,
            origin=grid.origin,
            direction=grid.direction,
        )
    return name + _DENSE


def load_transform(path: Path) -> CompositeTransform:
    """What `save_transform` wrote. Raises TransformError for a file that is missing or damaged."""
    if path.suffix == _EXACT:
        return read_transform(path)
    try:
        with np.load(path) as file:
            field, matrix = file["field"], file["matrix"]
            grid = ImageGrid(field.shape[:3], tuple(file["spacing"]), tuple(file["origin"]), tuple(file["direction"]))
    except (OSError, ValueError, KeyError) as error:
        raise TransformError(f"transform '{path}' cannot be read ({error}); evaluate the pair again") from None
    return CompositeTransform((DisplacementTransform(field, grid), AffineTransform(matrix)))
