"""The landmarks of a registration as they were when it started: what the worker is asked, and its answer as a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlir.errors import ImageError
from DLIRRegistrationLib.scene.frames import Matrix, points_lps, points_ras
from DLIRRegistrationLib.scene.markups import positions, put_points

if TYPE_CHECKING:
    from DLIRRegistrationLib.registration.requests import RegistrationInputs


class LandmarkNodes:
    """The landmarks of both images, in the world.

    moving: a copy of the moving ones outside of the scene, or None. asked: fields of `RegistrationRequest`, with one
    entry for each control point of the moving ones. Raises ImageError, naming the nodes, where both images have
    landmarks and none correspond.
    """

    def __init__(self, inputs: RegistrationInputs) -> None:
        given: Any = inputs.moving_landmarks
        self.moving: Any | None = None
        self.asked: dict[str, Any] = {}
        if given is None:
            return
        self.moving = type(given)()
        self.moving.CopyContent(given)
        self.moving.SetName(given.GetName())
        points = positions(given)
        if np.isfinite(points).any():
            self.asked["moving_landmarks"] = _plain(points)
        if inputs.fixed_landmarks is not None:
            self.asked["fixed_landmarks"] = _plain(counterparts(inputs.fixed_landmarks, given))

    def propagated(self, report: Mapping[str, Any]) -> Any:
        """`moving`, now where the worker's report says that its points lie on the fixed image."""
        node: Any = self.moving
        points = np.full((node.GetNumberOfControlPoints(), 3), np.nan)
        for number, point in enumerate(report.get("moving_landmarks", {}).get("points", ())):
            if point is not None:
                points[number] = points_ras(point)
        put_points(node, points)
        return node


def counterparts(fixed: Any, moving: Any) -> Matrix:
    """(N, 3) positions of `fixed`, RAS mm in the world, that belong to the control points of `moving`; NaN for none.

    Landmarks of the same label belong together; where labels repeat or the nodes share none, those at the same place
    in lists of equal length. Points without a position do not count.
    Raises ImageError, naming the nodes, where no two landmarks belong together.
    """
    pairs = _pairs(fixed, moving)
    if not pairs:
        raise ImageError(
            f"landmarks '{fixed.GetName()}' and '{moving.GetName()}' have no points in common; "
            "give corresponding points the same label"
        )
    points, given = np.full((moving.GetNumberOfControlPoints(), 3), np.nan), positions(fixed)
    for ours, theirs in pairs:
        points[theirs] = given[ours]
    return points


def _pairs(fixed: Any, moving: Any) -> list[tuple[int, int]]:
    """Places of corresponding points in both lists."""
    ours, theirs = _placed(fixed), _placed(moving)
    names, others = [[label for _, label in points] for points in (ours, theirs)]
    unique = len(set(names)) == len(names) and len(set(others)) == len(others)
    if unique and set(names) & set(others):
        by_label = {label: i for i, label in theirs}
        return [(i, by_label[label]) for i, label in ours if label in by_label]
    if len(ours) != len(theirs):
        return []
    return [(i, j) for (i, _), (j, _) in zip(ours, theirs, strict=True)]


def _placed(node: Any) -> list[tuple[int, str]]:
    """Place in the list and label of each point that has a position."""
    found = np.flatnonzero(np.isfinite(positions(node)).all(1)).tolist()
    return [(i, node.GetNthControlPointLabel(i)) for i in found]


def _plain(points: Matrix) -> tuple[tuple[float, ...] | None, ...]:
    """RAS points as a request has them."""
    return tuple(tuple(point) if np.isfinite(point).all() else None for point in points_lps(points).tolist())
