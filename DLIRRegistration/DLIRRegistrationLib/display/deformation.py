"""The deformation drawn over the slices: a grid that bends with the tissue, and arrows along which it moves.

Slicer draws a transform node in its direction *to parent*: from where tissue lies in the moving image to where the
registration puts it in the fixed one. The Jacobian map is that of the opposite direction, fixed to moving: where grid
cells have grown, the map says contraction. `CAVEAT` says so to the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

CAVEAT = (
    "Grid and arrows show where tissue of the moving image goes; the colours of the Jacobian show how volume changes "
    "from the fixed to the moving image. A grid cell that grows is therefore blue (contraction), not orange."
)

_MARK = "DLIR.Shows"
_GRID_COLOR = (1.0, 1.0, 0.45)
_GLYPH_COLOR = (0.55, 1.0, 0.55)
# Cells and arrows across the longest side of the image: enough to see the heart bend, few enough to see the heart.
_CELLS, _ARROWS = 16, 36
# Straight pieces that a side of a cell is drawn with.
_PIECES = 4
# Shorter arrows than this, in mm, are dots.
_SHORTEST_ARROW = 0.5
_DEFAULT_EXTENT = 240.0


def show_grid(transform_node: Any, on: bool, reference: Any = None) -> None:
    """Draw the deformation grid of a transform in all slice views, or no longer. See `CAVEAT`.

    reference: the volume that sets the spacing and the region; by default the transform's own fixed image.
    """
    if display := _display(transform_node, "grid", on):
        with _drawn_once(display):
            extent = _region(display, transform_node, reference)
            display.SetVisualizationMode(display.VIS_MODE_GRID)
            display.SetGridSpacingMm(extent / _CELLS)
            display.SetGridResolutionMm(extent / _CELLS / _PIECES)
            display.SetGridScalePercent(100)
            display.SetGridShowNonWarped(False)
            _draw(display, on, _GRID_COLOR)


def show_glyphs(transform_node: Any, on: bool, reference: Any = None) -> None:
    """Draw arrows along which tissue moves, in their true length, or no longer. See `CAVEAT`.

    reference: as for `show_grid`.
    """
    if display := _display(transform_node, "glyphs", on):
        with _drawn_once(display):
            extent = _region(display, transform_node, reference)
            display.SetVisualizationMode(display.VIS_MODE_GLYPH)
            display.SetGlyphType(display.GLYPH_TYPE_ARROW)
            display.SetGlyphSpacingMm(extent / _ARROWS)
            display.SetGlyphScalePercent(100)
            display.SetGlyphDisplayRangeMinMm(_SHORTEST_ARROW)
            _draw(display, on, _GLYPH_COLOR)


@contextmanager
def undrawn() -> Iterator[None]:
    """Grids and arrows are not drawn meanwhile: each turn, shift and change of size of a view draws them anew.

    A grid takes a view a tenth of a second, because every point of it is found by iteration.
    """
    hidden = [
        display
        for display in slicer.util.getNodesByClass("vtkMRMLTransformDisplayNode")
        if display.GetVisibility() and display.GetVisibility2D()
    ]
    for display in hidden:
        display.SetVisibility2D(False)
    try:
        yield
    finally:
        for display in hidden:
            display.SetVisibility2D(True)


@contextmanager
def _drawn_once(display: Any) -> Iterator[None]:
    """All changes inside are one to the views."""
    was = display.StartModify()
    try:
        yield
    finally:
        display.EndModify(was)


def _display(transform_node: Any, shows: str, create: bool) -> Any:
    """The transform's display node for one of the two, as each node draws only one; None where it is missing."""
    for index in range(transform_node.GetNumberOfDisplayNodes()):
        display = transform_node.GetNthDisplayNode(index)
        if display and display.GetAttribute(_MARK) == shows:
            return display
    if not create:
        return None
    display = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformDisplayNode")
    display.SetAttribute(_MARK, shows)
    display.SetVisibility(False)
    transform_node.AddAndObserveDisplayNodeID(display.GetID())
    return display


def _region(display: Any, transform_node: Any, reference: Any) -> float:
    """Bind the display to the fixed image; its longest side in mm."""
    volume = reference or transform_node.GetNodeReference(transform_node.GetFixedNodeReferenceRole())
    if volume is None or volume.GetImageData() is None:
        return _DEFAULT_EXTENT
    display.SetAndObserveRegionNode(volume)
    return float(np.max(np.multiply(volume.GetSpacing(), volume.GetImageData().GetDimensions())))


def _draw(display: Any, on: bool, color: tuple[float, float, float]) -> None:
    display.SetScalarVisibility(False)
    display.SetColor(color)
    display.SetSliceIntersectionThickness(1)
    display.SetVisibility2D(on)
    # In 3D every point of the whole volume would be traced, which takes minutes.
    display.SetVisibility3D(False)
    display.SetVisibility(on)
