"""How a Jacobian map looks: blue where tissue contracts, orange where it expands, bright red where it folds.

The determinant is that of the map from fixed to moving points: 0.5 means that what fills a voxel of the fixed image
fills half of that volume in the moving one. Halving and doubling are equally strong colours, because tissue that
halves one way doubles the other way. No change is a dark grey, so that the anatomy below stays what it was.
The colours are a table of 256 entries over a fixed window, which is what Slicer's slice views map an image through:
so the red ends exactly where folding does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import slicer

from DLIRRegistrationLib.scene.volumes import volume_display

RGB = tuple[float, float, float]
# Of a colour table: a name, and red, green, blue and opacity.
Entry = tuple[str, tuple[float, float, float, float]]

# Slicer cuts the window into 255 steps. With this level a step begins 0.00002 above 0, so that 0 itself, which is
# folding, is still red; and the six significant digits that a scene file keeps of these numbers do not change that.
WINDOW = 3.0
LEVEL = 1.0059
ENTRIES = 256
FOLDING: RGB = (1.0, 0.0, 0.0)

LEGEND_TITLE = "Volume change\n0.5 halved, 2 doubled, red folded"

_TABLE_NAME, _TABLE_MARK = "Volume change (Jacobian)", "DLIR.JacobianColors"
_FOLDING_NAME, _FOLDING_MARK = "Folding", "DLIR.FoldingColor"
_FOLDING_ROLE = "DLIR.Folding"

# At 1, 2, 4 and 8 times the volume, or one 2nd, 4th and 8th of it. Orange stops short of any red.
_CONTRACTION: tuple[RGB, ...] = ((0.35, 0.35, 0.35), (0.16, 0.56, 1.00), (0.05, 0.35, 0.80), (0.03, 0.12, 0.45))
_EXPANSION: tuple[RGB, ...] = ((0.35, 0.35, 0.35), (1.00, 0.68, 0.05), (0.87, 0.55, 0.02), (0.55, 0.36, 0.02))


def color_of(determinant: float) -> RGB:
    """The colour of a Jacobian determinant, before the limits of the window."""
    if determinant <= 0:
        return FOLDING
    octaves = math.log2(determinant)
    stops = _CONTRACTION if octaves < 0 else _EXPANSION
    red, green, blue = (float(np.interp(abs(octaves), range(len(stops)), c)) for c in zip(*stops, strict=True))
    return red, green, blue


def apply_jacobian_colors(volume_node: Any) -> None:
    """Give a Jacobian volume its colours and its fixed window; safe to call again."""
    display = volume_display(volume_node)
    modifying = display.StartModify()
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(WINDOW, LEVEL)
    display.SetAndObserveColorNodeID(_jacobian_table().GetID())
    # Between a folded voxel and its neighbours lie positive values: interpolation would make single folds vanish.
    display.SetInterpolate(0)
    display.EndModify(modifying)


def has_jacobian_colors(volume_node: Any) -> bool:
    """Whether `apply_jacobian_colors` has seen this volume; also after the scene was saved and read again."""
    return has_colors(volume_node, _TABLE_MARK)


def has_colors(volume_node: Any, mark: str) -> bool:
    """Whether a volume is shown in the colours of the table with this mark."""
    display = volume_node.GetDisplayNode()
    colors = display.GetColorNode() if display else None
    return bool(colors and colors.GetAttribute(mark))


def folding_label(volume_node: Any) -> Any:
    """A hidden labelmap node of the folded voxels of a Jacobian volume, up to date; None where nothing folds.

    As a layer on top it is bright red however faint the map below is drawn. What is not a number counts as folding.
    """
    label = volume_node.GetNodeReference(_FOLDING_ROLE)
    values = slicer.util.arrayFromVolume(volume_node)
    folded = ~(values > 0)
    if not folded.any():
        if label:
            slicer.mrmlScene.RemoveNode(label)
        return None
    if label is None:
        label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", f"{volume_node.GetName()} folding")
        label.SetHideFromEditors(True)
        label.SetSaveWithScene(False)
        label.CreateDefaultDisplayNodes()
        label.GetDisplayNode().SetSaveWithScene(False)
        volume_node.SetNodeReferenceID(_FOLDING_ROLE, label.GetID())
    label.GetDisplayNode().SetAndObserveColorNodeID(_folding_table().GetID())
    label.CopyOrientation(volume_node)
    label.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    slicer.util.updateVolumeFromArray(label, folded.astype(np.uint8))
    return label


def show_legend(volume_node: Any) -> Any:
    """As `show_legend_of`, of a Jacobian volume: -0.5, 0.0 ... 2.5."""
    return show_legend_of(volume_node, LEGEND_TITLE, 7, "%.1f")


def show_legend_of(volume_node: Any, title: str, labels: int, form: str) -> Any:
    """Turn the colour legend of a volume on, with so many labels; the legend's display node.

    Call it once the volume is a layer of the slice views, and have these rendered afterwards.
    """
    legend = new_legend(volume_node)
    modifying = legend.StartModify()
    legend.SetTitleText(title)
    legend.SetUseColorNamesForLabels(False)
    legend.SetLabelFormat(form)
    legend.SetNumberOfLabels(labels)
    legend.SetMaxNumberOfColors(ENTRIES)
    # Below the anatomy, above what Slicer writes into the lower corner.
    legend.SetOrientation(legend.Horizontal)
    legend.SetSize(0.2, 0.9)
    legend.SetPosition(0.5, 0.08)
    for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        text.SetBackgroundColor(0, 0, 0)
        text.SetBackgroundOpacity(0.6)
    legend.SetVisibility(True)
    legend.EndModify(modifying)
    return legend


def new_legend(volume_node: Any) -> Any:
    """A legend for a volume, in place of a former one: a view that is younger than a legend never draws it."""
    colors = slicer.modules.colors.logic()
    former = colors.GetColorLegendDisplayNode(volume_node)
    if former:
        slicer.mrmlScene.RemoveNode(former)
    return colors.AddDefaultColorLegendDisplayNode(volume_node)


def _jacobian_table() -> Any:
    return color_table(_TABLE_NAME, _TABLE_MARK, _jacobian_entries)


def _jacobian_entries() -> list[Entry]:
    step = WINDOW / (ENTRIES - 1)
    # An entry holds for the values of one step, and has the colour of their middle.
    values = [LEVEL - WINDOW / 2 + (index + 0.5) * step for index in range(ENTRIES)]
    return [(f"{value:.2f}", (*color_of(value), 1.0)) for value in values]


def _folding_table() -> Any:
    entries: list[Entry] = [("none", (0.0, 0.0, 0.0, 0.0)), ("folding", (*FOLDING, 1.0))]
    return color_table(_FOLDING_NAME, _FOLDING_MARK, lambda: entries)


def color_table(name: str, mark: str, entries: Callable[[], list[Entry]]) -> Any:
    """The colour table node with this mark; made where the scene lacks it, of `entries`, which take a while."""
    for found in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if found.GetAttribute(mark):
            return found
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetAttribute(mark, "1")
    node.SetTypeToUser()
    colors = entries()
    node.SetNumberOfColors(len(colors))
    for index, (label, color) in enumerate(colors):
        node.SetColor(index, label, *color)
    return node
