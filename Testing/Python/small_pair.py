"""The middle of the sample pair: small enough for the shipped model to register it in a fraction of a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import segments
from dlir.geometry import ImageGrid
from dlir.io import Volume, read_image
from dlir.model.catalogue import resource_folder

if TYPE_CHECKING:
    from mrml import MRML

SEGMENT = "cavity"
# Voxels (x, y) around the heart, and slices.
_COLUMNS = slice(44, 116)
_SLICES = slice(2, 8)


@dataclass(frozen=True, eq=False)
class SmallPair:
    """Nodes of a scene: two volumes, and what is drawn on each."""

    fixed: Any
    moving: Any
    fixed_drawn: Any
    moving_drawn: Any


def small_pair(mrml: MRML) -> SmallPair:
    """Adds the pair to a scene, with segmentations of one segment each."""
    fixed, moving = _cropped("fixed_ed"), _cropped("moving_es")
    return SmallPair(
        mrml.volume(fixed.array, fixed.grid, "ED"),
        mrml.volume(moving.array, moving.grid, "ES"),
        *(
            segments.segmentation(mrml, {SEGMENT: _cropped(f"{file}_label").array > 0}, image.grid, f"{name} drawn")
            for file, name, image in (("fixed_ed", "ED", fixed), ("moving_es", "ES", moving))
        ),
    )


def small_cine(mrml: MRML, pair: SmallPair, frames: int = 3) -> Any:
    """Adds a sequence node in which both images of a pair take turns, the fixed one first."""
    node = mrml.add("Sequence", "cine")
    node.SetIndexName("time")
    node.SetIndexUnit("ms")
    for number in range(frames):
        node.SetDataNodeAtValue((pair.fixed, pair.moving)[number % 2], str(40 * number))
    return node


def segment_mask(node: Any, grid: ImageGrid, mrml: MRML) -> NDArray[np.bool_]:
    """(z, y, x): the one segment of a segmentation as Slicer shows it in the voxels of `grid`."""
    return segments.drawn(mrml, node, SEGMENT, grid)


def _cropped(name: str) -> Volume:
    whole = read_image(resource_folder("SampleData") / f"{name}.nrrd")
    box = (_SLICES, _COLUMNS, _COLUMNS)
    start = tuple(float(part.start) for part in reversed(box))
    size = tuple(part.stop - part.start for part in reversed(box))
    return Volume(whole.array[box].copy(), whole.grid.lattice(start, (1, 1, 1), size), name)
