"""The transforms of an evaluation on disk: ITK files, and voxel by voxel for methods that give nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlir.errors import TransformError
from dlir.evaluation.methods.dense import DenseTransform
from dlir.geometry import ImageGrid
from dlir.io.quiet import quiet
from dlir.io.writing import replacing
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform

_EXACT, _DENSE = ".h5", ".npz"


def save_transform(folder: Path, name: str, transform: CompositeTransform) -> str:
    """Writes `transform` and returns its file name: NAME.h5 for ITK, or NAME.npz with a displacement field.

    Raises OutputError, and TransformError for a chain in which a displacement field does not come first.
    """
    first, *rest = transform.parts or (AffineTransform(np.eye(4)),)
    if not isinstance(first, DenseTransform):
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
        with quiet:
            return read_transform(path)
    try:
        with np.load(path) as file:
            field, matrix = file["field"], file["matrix"]
            grid = ImageGrid(field.shape[:3], tuple(file["spacing"]), tuple(file["origin"]), tuple(file["direction"]))
    except (OSError, ValueError, KeyError) as error:
        raise TransformError(f"transform '{path}' cannot be read ({error}); evaluate the pair again") from None
    return CompositeTransform((DenseTransform(field, grid), AffineTransform(matrix)))
