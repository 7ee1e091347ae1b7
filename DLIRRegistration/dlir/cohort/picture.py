"""A small picture of a result, to tell at a glance whether it can be right: one slice, drawn without matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid, upright
from dlir.io.quiet import quiet
from dlir.io.reading import Volume
from dlir.io.writing import replacing, writable
from dlir.registration.loading import Loaded
from dlir.registration.pipeline import Finished
from dlir.registration.results.page import in_a_row, pair_panels
from dlir.transforms.spatial import CompositeTransform

PICTURE = "preview.jpg"
# What `write_picture` draws, from left to right.
PANELS = "fixed image, warped image, both laid over each other before and after (fixed in cyan, moving in red)"

# The longer side of a panel in pixels. Shown around the labels, in mm.
_SIDE, _MARGIN = 220, 40.0
# Of the JPEG, in percent.
_QUALITY = 85


def write_picture(path: Path, finished: Finished) -> None:
    """A JPEG of `PANELS`: a slice of the fixed image's voxels. Raises OutputError."""
    import SimpleITK as sitk

    from dlir.transforms.resample import resample

    loaded, result = finished.loaded, finished.result
    plane, identity = _plane(loaded), CompositeTransform(())
    fixed, before, after = (
        resample(array, grid, transform, plane, "linear", float(array.min()))[0]
        for array, grid, transform in (
            (loaded.fixed.array, loaded.fixed.grid, identity),
            (loaded.moving.array, loaded.moving.grid, loaded.start),
            (loaded.moving.array, loaded.moving.grid, result.transform),
        )
    )
    row = in_a_row(pair_panels(fixed, before, after))
    with replacing(path) as temporary, quiet:
        picture = sitk.GetImageFromArray(row, isVector=True)
        sitk.WriteImage(picture, writable(temporary), True, _QUALITY)


def _plane(loaded: Loaded) -> ImageGrid:
    """(1, rows, columns): a slice across the thickest axis, of square pixels: the middle one, or where the fixed label
    marks most, cropped to it.
    """
    view = upright(loaded.fixed.grid)
    low, high = np.zeros(3), np.array(view.size, float) - 1
    number = float(view.size[2] // 2)
    if loaded.fixed_labels and len(marked := _marked(loaded.fixed_labels[0], view)):
        margin = _MARGIN / np.array(view.spacing)
        number = float(np.clip(np.bincount(np.rint(marked[:, 2].clip(0)).astype(int)).argmax(), 0, high[2]))
        low, high = np.maximum(marked.min(0) - margin, 0), np.minimum(marked.max(0) + margin, high)
    lengths = np.maximum((high - low)[:2] * view.spacing[:2], 1e-6)
    pixel = lengths.max() / (_SIDE - 1)
    columns, rows = (max(1, round(length / pixel) + 1) for length in lengths)
    step = (pixel / view.spacing[0], pixel / view.spacing[1], 1)
    return view.lattice((low[0], low[1], number), step, (columns, rows, 1))


def _marked(labels: Volume, view: ImageGrid) -> NDArray[np.float64]:
    """(n, 3): where in the view labels lie, as indices (x, y, z)."""
    return view.to_index(labels.grid.to_physical(np.argwhere(labels.array)[:, ::-1]))
