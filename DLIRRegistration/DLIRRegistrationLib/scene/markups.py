"""Points and surfaces through a registration, and how far landmarks are apart after it.

A registration maps fixed points to moving points; what is drawn on the moving image travels by its inverse.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from dlir.errors import ImageError
from DLIRRegistrationLib.scene.frames import move_points, transform_between
from DLIRRegistrationLib.scene.transforms import hangs_under

Points = NDArray[np.float64]

# mm by which an inverted point may miss when it is mapped forth again; more and it lies in a fold.
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class MarkupErrors:
    """Distances between corresponding landmarks. labels: N names. before, after: (N,) mm, NaN where a moving
    landmark lies in a fold of the transform, which no fixed point corresponds to."""

    labels: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def positions(node: Any) -> Points:
    """(N, 3) positions of a markups node's control points in the world, RAS mm; NaN for one that is not placed."""
    points = slicer.util.arrayFromMarkupsControlPoints(node, world=True).reshape(-1, 3)
    placed = [node.GetNthControlPointPositionStatus(i) == node.PositionDefined for i in range(len(points))]
    points[~np.array(placed, bool)] = np.nan
    return points


def propagate_markups(node: Any, transform_node: Any, target: Any) -> None:
    """Puts the control points of `node`, drawn on the moving image, into `target` where they lie on the fixed image.

    Labels, descriptions and order stay; what `target`, a node of the same class, held is lost, and it is taken from
    its parent transform. Points in a fold of the transform become points without a position, and the log says so.
    """
    points = positions(node)
    moved = moved_to_fixed(points, node, transform_node)
    lost = np.flatnonzero(np.isnan(moved).any(1) & ~np.isnan(points).any(1)).tolist()
    if lost:
        labels = ", ".join(f"'{node.GetNthControlPointLabel(i)}'" for i in lost)
        logging.warning("DLIR: points in a fold of the transform have no place on the fixed image: %s", labels)
    was = target.StartModify()
    try:
        if target is not node:
            target.CopyContent(node)
        target.SetAndObserveTransformNodeID(None)
        for i, point in enumerate(moved):
            if np.isfinite(point).all():
                target.SetNthControlPointPosition(i, *point)
            else:
                target.UnsetNthControlPointPosition(i)
    finally:
        target.EndModify(was)


def target_registration_error(fixed: Any, moving: Any, transform_node: Any) -> MarkupErrors:
    """How far landmarks of two markups nodes are apart, before and after a registration.

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
    ours, theirs = (list(column) for column in zip(*pairs, strict=True))
    fixed_points, moving_points = positions(fixed)[ours], positions(moving)[theirs]
    moved = moved_to_fixed(moving_points, moving, transform_node)
    return MarkupErrors(
        tuple(fixed.GetNthControlPointLabel(i) for i in ours),
        np.linalg.norm(moving_points - fixed_points, axis=1),
        np.linalg.norm(moved - fixed_points, axis=1),
    )


def propagate_model(node: Any, transform_node: Any, target: Any) -> None:
    """Gives model node `target` the surface of `node`, drawn on the moving image, as it lies on the fixed image.

    Both are in a scene; `target` is shown as `node` is, and taken from its parent transform. Raises ImageError for a
    model without a surface.
    """
    surface = node.GetPolyData()
    if surface is None or not surface.GetNumberOfPoints():
        raise ImageError(f"model '{node.GetName()}' has no surface; choose or load another")
    transform = vtk.vtkGeneralTransform()
    transform.PostMultiply()
    transform.Concatenate(transform_between(node.GetParentTransformNode(), None))
    if not hangs_under(node, transform_node):
        transform.Concatenate(transform_between(transform_node, None))
    mover = vtk.vtkTransformPolyDataFilter()
    mover.SetInputData(surface)
    mover.SetTransform(transform)
    mover.Update()
    target.SetAndObserveTransformNodeID(None)
    target.SetAndObservePolyData(mover.GetOutput())
    if node.GetDisplayNode() is not None and target is not node:
        target.CreateDefaultDisplayNodes()
        target.GetDisplayNode().CopyContent(node.GetDisplayNode())


def moved_to_fixed(points: Points, node: Any, transform_node: Any) -> Points:
    """(N, 3) RAS points of the world, of a node drawn on the moving image, where they lie on the fixed image.

    NaN for NaN and for points that the inverse does not find. Points of a node that hangs under the transform have
    travelled already and stay.
    """
    moved = np.array(points)
    given = np.isfinite(points).all(1)
    if hangs_under(node, transform_node) or not given.any():
        return moved
    moved[given] = move_points(transform_between(transform_node, None), points[given])
    again = move_points(transform_between(None, transform_node), moved[given])
    missed = np.linalg.norm(again - points[given], axis=1) > _TOLERANCE
    moved[np.flatnonzero(given)[missed]] = np.nan
    return moved


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
