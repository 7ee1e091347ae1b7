"""`dlir invert` and `dlir.invert`: the inverse of a transform, as a transform or as an image of displacements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlir.applying.apply import Progress
from dlir.errors import OptionError, OutputError
from dlir.geometry import ImageGrid
from dlir.io import OutputFolder, write_image
from dlir.io.writing import IMAGE_SUFFIXES
from dlir.transforms.files import write_transform
from dlir.transforms.inverse import Inverted, inverted_field, inverted_matrix
from dlir.transforms.resample import displacement_field
from dlir.transforms.spatial import CompositeTransform, DisplacementTransform

_BINARY, _TEXT = ".h5", (".tfm", ".txt")
INVERSE_SUFFIXES = (_BINARY, *_TEXT, *IMAGE_SUFFIXES)


def invert(transform: CompositeTransform, grid: ImageGrid | None, progress: Progress) -> Inverted:
    """The inverse: exact where the transform is linear, else on a grid.

    Raises OptionError where a grid is needed and there is none, and TransformError as `inverted_matrix`.
    """
    if transform.linear:
        return inverted_matrix(transform)
    if grid is None:
        raise OptionError("the inverse of a transform that bends needs --reference, an image on the moving side")
    return inverted_field(transform, grid, lambda done: progress("inverting", 0.1 + 0.7 * done))


def invert_to_file(
    transform: CompositeTransform, grid: ImageGrid | None, output: Path, inputs: Sequence[str], progress: Progress
) -> Inverted:
    """Into a transform of ITK, or, by the output's name, an image of displacements of the grid's voxels: LPS mm.

    inputs: the files that were read, which are not replaced. Raises OptionError, TransformError and OutputError.
    """
    if grid is None and output.name.endswith(IMAGE_SUFFIXES):
        raise OptionError(f"'{output}' is an image of displacements, which needs --reference, whose grid it takes")
    if not transform.linear and output.name.endswith(_TEXT):
        raise OutputError(f"cannot write '{output}': displacements are written as {_BINARY}, or as an image; rename it")
    with OutputFolder(output.parent, inputs) as outputs:
        target = outputs.file(output.name)
        inverted = invert(transform, grid, progress)
        progress("writing", 0.9)
        if grid is not None and output.name.endswith(IMAGE_SUFFIXES):
            write_image(target, displacements(inverted, grid), grid, is_vector=True)
        else:
            write_transform(target, inverted.transform)
    return inverted


def displacements(inverted: Inverted, grid: ImageGrid) -> NDArray[np.float32]:
    """(z, y, x, 3): an inverse that was made for a grid, as vectors in LPS mm in each voxel of it."""
    (part,) = inverted.transform.parts
    return part.field if isinstance(part, DisplacementTransform) else displacement_field(inverted.transform, grid)
