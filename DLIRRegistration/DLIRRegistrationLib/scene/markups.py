"""Points and surfaces through any transform node that registers two images.

A registration maps fixed points to moving points; what is drawn on the moving image travels by its inverse.
"""

from __future__ import annotations

import logging
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
    moved = moved_to_fixed(positions(node), node, transform_node)
    was = target.StartModify()
    try:
        if target is not node:
            target.CopyContent(node)
        put_points(target, moved)
    finally:
        target.EndModify(was)


def put_points(node: Any, points: Points) -> None:
    """Puts the control points of a markups node, taken from its parent transform, at (N, 3) RAS mm in the world.

    Those that had a position and get NaN lie in a fold of the transform: they lose it, and the log says so.
    """
    known: NDArray[np.bool_] = np.all(np.isfinite(points), axis=1)
    placed = [node.GetNthControlPointPositionStatus(i) == node.PositionDefined for i in range(len(points))]
    lost = [node.GetNthControlPointLabel(i) for i in np.flatnonzero(~known & placed).tolist()]
    if lost:
        labels = ", ".join(f"'{label}'" for label in lost)
        logging.warning("DLIR: points in a fold of the transform have no place on the fixed image: %s", labels)
    was = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        for i, point in enumerate(points):
            if known[i]:
                node.SetNthControlPointPosition(i, *point)
            else:
                node.UnsetNthControlPointPosition(i)
    finally:
        node.EndModify(was)


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
