"""DICOM's Spatial Registration and Deformable Spatial Registration objects (PS3.3 C.20.2, C.20.3), read as transforms.

Such an object has a registered frame of reference, which is the fixed image's here, and items for others, its sources.
A matrix of C.20.2 maps points of a source to the registered frame, from moving to fixed. The deformation of C.20.3 maps
the other way, as our transforms do: to where in the source a point of the registered frame is sampled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, note
from dlir.geometry import ImageGrid
from dlir.io.dicom.instances import read_object
from dlir.transforms.itk_records import FormatError
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform, Part

SPATIAL, DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.3"
_ROLE = "transform"
# Numbers of a matrix are written with some ten digits.
_ROUNDING = 1e-7
_DAMAGED = "is damaged: its {} cannot be read; export it again"


def read_registration(path: Path) -> CompositeTransform:
    """The transform of a DICOM registration object, from the registered frame (fixed) to the other one (moving).

    Raises FormatError, which lacks the file's name, for another object, one that registers several things, and one that
    is not whole; ImageError where it cannot be read at all.
    """
    dataset = read_object(path, _ROLE)
    kind = str(dataset.get("SOPClassUID", ""))
    if kind == SPATIAL:
        read, items = _from_matrices, dataset.get("RegistrationSequence")
    elif kind == DEFORMABLE:
        read, items = _from_grid, dataset.get("DeformableRegistrationSequence")
    else:
        name = getattr(dataset.get("SOPClassUID"), "name", "") or "nothing that is known"
        raise FormatError(f"is a DICOM object of another kind ({name}); give a registration object, or an ITK file")
    if not items:
        raise FormatError(_DAMAGED.format("sequence of registrations"))
    registered = str(dataset.get("FrameOfReferenceUID", ""))
    found = [(_frame(item), read(item)) for item in items]
    moved = [parts for frame, parts in found if parts or frame not in ("", registered)]
    if len(moved) > 1:
        raise FormatError(
            f"registers {len(moved)} things to its frame of reference; give an object that registers one image"
        )
    return CompositeTransform(tuple(moved[0] if moved else ()))


def _frame(item: Any) -> str:
    """The frame of reference that an item is about; empty where it names images alone."""
    return str(item.get("FrameOfReferenceUID", "") or item.get("SourceFrameOfReferenceUID", ""))


def _from_matrices(item: Any) -> list[Part]:
    """The inverse of the product of an item's matrices, of which the first one is applied first."""
    total = np.eye(4)
    try:
        for step in item.MatrixRegistrationSequence[0].MatrixSequence:
            total = _matrix(step) @ total
    except (AttributeError, IndexError):
        raise FormatError(_DAMAGED.format("matrix")) from None
    if np.linalg.matrix_rank(total[:3, :3]) < 3:
        raise FormatError("has a matrix without inverse, which sends all points into a plane; export it again")
    return _linear(np.asarray(np.linalg.inv(total), float))


def _from_grid(item: Any) -> list[Part]:
    """x -> post (pre x + d(x)), which is the affine part of post pre behind the displacement pre^-1 d."""
    before, after = (
        _matrix(sequence[0]) if (sequence := item.get(f"{when}DeformationMatrixRegistrationSequence")) else np.eye(4)
        for when in ("Pre", "Post")
    )
    sequence = item.get("DeformableRegistrationGridSequence")
    if not sequence:
        return _linear(after @ before)
    if np.linalg.matrix_rank(before[:3, :3]) < 3:
        raise FormatError("has a matrix without inverse before its deformation; export it again")
    vectors, grid = _vectors(sequence[0])
    field = np.einsum("ij,zyxj->zyxi", np.linalg.inv(before[:3, :3]), vectors)
    return [DisplacementTransform(field.astype(np.float32), grid), *_linear(after @ before)]


def _linear(matrix: NDArray[np.float64]) -> list[Part]:
    """Nothing for the identity."""
    return [] if np.allclose(matrix, np.eye(4), rtol=0, atol=_ROUNDING) else [AffineTransform(matrix)]


def _matrix(item: Any) -> NDArray[np.float64]:
    try:
        matrix = np.array(item.FrameOfReferenceTransformationMatrix, float).reshape(4, 4)
    except (AttributeError, TypeError, ValueError):
        raise FormatError(_DAMAGED.format("matrix")) from None
    if not np.isfinite(matrix).all() or not np.allclose(matrix[3], (0, 0, 0, 1), rtol=0, atol=_ROUNDING):
        raise FormatError(_DAMAGED.format("matrix"))
    return matrix


def _vectors(item: Any) -> tuple[NDArray[np.float64], ImageGrid]:
    """(z, y, x, 3) LPS mm and where they lie. A note tells of points where nothing is defined, which stay in place."""
    try:
        across, down = np.array(item.ImageOrientationPatient, float).reshape(2, 3)
        x, y, z = (int(n) for n in item.GridDimensions)
        direction = np.stack([across, down, np.cross(across, down)], axis=1)
        grid = ImageGrid((z, y, x), tuple(item.GridResolution), tuple(item.ImagePositionPatient), tuple(direction.flat))
        values = np.frombuffer(item.VectorGridData, "<f4").reshape(z, y, x, 3).astype(float)
    except (AttributeError, TypeError, ValueError, GeometryError):
        raise FormatError(_DAMAGED.format("deformation grid")) from None
    undefined = ~np.isfinite(values).all(3)
    if undefined.any():
        values[undefined] = 0
        note(
            f"the registration does not say where {np.count_nonzero(undefined)} of its {undefined.size} points go; "
            "they are taken not to be deformed"
        )
    return values, grid
