"""Where a deformation folds: connected places of a Jacobian volume, for people to go and look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from DLIRRegistrationLib.scene.frames import array_to_local

# More places than a person looks at.
MOST = 100


@dataclass(frozen=True)
class Fold:
    """One place. position: of its worst voxel in the world, RAS mm. voxels: how many fold. lowest: determinant."""

    position: tuple[float, float, float]
    voxels: int
    lowest: float


def folds(jacobian: Any) -> list[Fold]:
    """The folded places of a Jacobian volume node, the worst first, `MOST` at most.

    Voxels that touch, if only at a corner, are one place; what is not a number folds.
    """
    values = slicer.util.arrayFromVolume(jacobian)
    folded = ~(values > 0)
    if not folded.any():
        return []
    import SimpleITK as sitk

    places = sitk.GetArrayViewFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(folded.astype(np.uint8)), True))
    voxels = np.flatnonzero(folded)
    label, depth = places.reshape(-1)[voxels], np.nan_to_num(values.reshape(-1)[voxels], nan=-np.inf)
    order = np.lexsort((depth, label))  # of each place its worst voxel first
    _, first, counts = np.unique(label[order], return_index=True, return_counts=True)
    to_local = array_to_local(jacobian, jacobian.GetImageData())
    found = [
        Fold(_position(jacobian, to_local, np.unravel_index(voxels[order[at]], values.shape)), int(count), float(low))
        for at, count, low in zip(first, counts, depth[order[first]], strict=True)
    ]
    return sorted(found, key=lambda fold: (fold.lowest, -fold.voxels))[:MOST]


def _position(node: Any, to_local: Any, index: Any) -> tuple[float, float, float]:
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld((to_local @ [*map(float, index[::-1]), 1.0])[:3], world)
    return world[0], world[1], world[2]
