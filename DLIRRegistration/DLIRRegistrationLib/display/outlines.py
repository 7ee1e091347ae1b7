"""Segmentations as outlines, so that the images can be seen: one colour on the fixed image, another on the warped one.

The colours are those of the display nodes; segments keep their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Told apart on grey images and on the colours of a Jacobian map, by colour-blind people too.
FIXED_COLOR, WARPED_COLOR = (0.25, 0.9, 1.0), (1.0, 0.35, 0.9)
_THICKNESS = 2


def show_outlines(fixed: Sequence[Any], warped: Sequence[Any], others: Sequence[Any] = ()) -> None:
    """Draw segmentation nodes of both images as outlines, each image's in its colour. others: are hidden."""
    for nodes, color in ((fixed, FIXED_COLOR), (warped, WARPED_COLOR)):
        for node in nodes:
            _outline(node, color)
    for node in others:
        node.SetDisplayVisibility(False)


def hide_outlines(nodes: Sequence[Any]) -> None:
    """Hide segmentation nodes; in sight again, they look as their segments say."""
    for node in nodes:
        if display := node.GetDisplayNode():
            was = display.StartModify()
            for segment in _segments(node):
                display.UnsetSegmentOverrideColor(segment)
            display.SetVisibility2DFill(True)
            display.SetVisibility(False)
            display.EndModify(was)


def only_outlines(node: Any) -> None:
    """Leave the inside of a segmentation node's segments free, which keep their colours."""
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility2DFill(False)
    node.GetDisplayNode().SetVisibility2DOutline(True)


def _outline(node: Any, color: tuple[float, float, float]) -> None:
    only_outlines(node)
    display = node.GetDisplayNode()
    was = display.StartModify()
    for segment in _segments(node):
        display.SetSegmentOverrideColor(segment, *color)
    display.SetSliceIntersectionThickness(_THICKNESS)
    display.SetVisibility(True)
    display.EndModify(was)


def _segments(node: Any) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
