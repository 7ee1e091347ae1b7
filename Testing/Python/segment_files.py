"""Segmentations as Slicer saves them, for tests: NRRD files with the layers first and the names in the header."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import ImageGrid


def save_segmentation(
    path: Path,
    layers: NDArray[Any],
    grid: ImageGrid,
    segments: Sequence[tuple[str, int, int]],
    *,
    old: bool = False,
) -> Path:
    """Layers (layer, z, y, x) of bytes and their segments, each a name, a layer and a value; one layer makes a 3D file.

    old: as Slicer 4.10, which stated neither layer nor value.
    """
    columns = (np.reshape(grid.direction, (3, 3)) * grid.spacing).T
    axes = [
        (str(n), f"({','.join(map(repr, map(float, c)))})", "domain") for n, c in zip(grid.size, columns, strict=True)
    ]
    if len(layers) > 1:
        axes.insert(0, (str(len(layers)), "none", "list"))
    sizes, directions, kinds = (" ".join(parts) for parts in zip(*axes, strict=True))
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {len(axes)}",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: {directions}",
        f"kinds: {kinds}",
        "encoding: gzip",
        f"space origin: ({','.join(map(repr, map(float, grid.origin)))})",
    ]
    for i, (name, layer, value) in enumerate(segments):
        lines += [f"Segment{i}_ID:=Segment_{i + 1}", f"Segment{i}_Name:={name}"]
        if not old:
            lines += [f"Segment{i}_Layer:={layer}", f"Segment{i}_LabelValue:={value}"]
    voxels = np.moveaxis(layers, 0, -1) if len(layers) > 1 else layers[0]
    content = gzip.compress(np.ascontiguousarray(voxels, np.uint8).tobytes())
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + content)
    return path
