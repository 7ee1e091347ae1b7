"""Whether a cine comes back to where it began: the maps from each phase to the next, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.io.reading import Volume
from dlir.metrics.scores import defined
from dlir.model.preprocessing import SOMETHING, intensity_range
from dlir.model.spec import Preprocessing
from dlir.transforms.spatial import CompositeTransform, Points

# Points at most that are followed.
_POINTS = 20_000


@dataclass(frozen=True, eq=False)
class Cycle:
    """How far points of the reference are off, mm. where: what they lie in, "label" or "image".

    returned: (N,) of each point, from where it began, after the whole cycle. links: of each phase, the mean distance
    between where the map from there to the next phase leads the points and where the map from the reference sends them.
    """

    where: str
    returned: NDArray[np.float64]
    links: list[float]

    def to_dict(self) -> dict[str, Any]:
        """Rounded for a report."""
        figures = {
            "mean_mm": self.returned.mean(),
            "percentile95_mm": np.percentile(self.returned, 95),
            "max_mm": self.returned.max(),
        }
        return {
            "where": self.where,
            "points": len(self.returned),
            **{name: defined(round(float(value), 3)) for name, value in figures.items()},
            "links_mm": [round(value, 3) for value in self.links],
        }


def followed_points(reference: Volume, labels: Sequence[NDArray[Any]]) -> tuple[str, Points]:
    """Which points a cycle is measured at, and (N, 3) LPS mm: voxels of the label on the reference, or, where there is
    none, those at which the image shows something.
    """
    marked: NDArray[np.bool_] = np.zeros(reference.grid.shape, bool)
    for layer in labels:
        marked |= layer != 0
    where = "label" if marked.any() else "image"
    if where == "image":
        low, high = intensity_range(reference.array, Preprocessing(reference.grid.spacing))
        marked = reference.array > low + SOMETHING * (high - low)
    index = np.argwhere(marked)[:, ::-1]
    return where, reference.grid.to_physical(index[:: 1 + len(index) // _POINTS])


def follow(
    where: str,
    points: Points,
    links: Sequence[CompositeTransform],
    direct: Sequence[CompositeTransform],
    reference: int,
) -> Cycle:
    """points: (N, 3) on the reference. links: from each phase to the next, the last one to the first. direct: from the
    reference to each phase.
    """
    sent, at = [transform.apply(points) for transform in direct], points
    for link in (*links[reference:], *links[:reference]):
        at = link.apply(at)
    apart = [
        float(np.linalg.norm(link.apply(here) - there, axis=1).mean())
        for link, here, there in zip(links, sent, (*sent[1:], sent[0]), strict=True)
    ]
    return Cycle(where, np.linalg.norm(at - points, axis=1), apart)
