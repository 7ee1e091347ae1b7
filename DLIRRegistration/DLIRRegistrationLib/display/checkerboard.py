"""A checkerboard of two images. Slicer blends layers but cannot chequer them, so a temporary volume does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from DLIRRegistrationLib.scene.volumes import in_world, onto_grid, scalar_image, set_volume, volume_display

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid

_BACKGROUND, _FOREGROUND = "DLIR.Background", "DLIR.Foreground"
_OPACITY, _SIZE = "DLIR.Opacity", "DLIR.FieldSize"


def put_checkerboards(views: Sequence[Any], size_mm: float) -> bool:
    """Replace the foreground of each view by a checkerboard of background and foreground; whether any view has both.

    size_mm: side of a field. The foreground's grey values are brought to the background's window, so that equal
    tissue looks equal in both. Views that already show one get a new one.
    """
    remove_checkerboards(views)
    boards: dict[tuple[str, str], Any] = {}
    for view in views:
        composite = view.GetSliceCompositeNode()
        pair = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
        if not all(pair):
            continue
        if pair not in boards:
            below, above = map(slicer.mrmlScene.GetNodeByID, pair)
            boards[pair] = _board(below, above, size_mm)
        board = boards[pair]
        board.SetAttribute(f"{_OPACITY}.{composite.GetID()}", repr(composite.GetForegroundOpacity()))
        composite.SetForegroundVolumeID(board.GetID())
        composite.SetForegroundOpacity(1.0)
    return bool(boards)


def remove_checkerboards(views: Sequence[Any] | None = None) -> float | None:
    """Bring the foregrounds back, with their opacities, in these views or in all there are.

    A view that shows the same checkerboard, perhaps in another layout, loses it too. Returns the size of the fields
    in mm; None where there was no checkerboard.
    """
    composites = [view.GetSliceCompositeNode() for view in views] if views is not None else _all_composites()
    boards = [board for board in map(_board_in, composites) if board]
    for composite in _all_composites():
        board = _board_in(composite)
        if board in boards:
            foreground = board.GetNodeReference(_FOREGROUND)
            composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
            composite.SetForegroundOpacity(_opacity_before(board, composite))
    sizes = [float(board.GetAttribute(_SIZE)) for board in boards]
    for board in boards:
        if slicer.mrmlScene.IsNodePresent(board):
            if display := board.GetDisplayNode():
                slicer.mrmlScene.RemoveNode(display)
            slicer.mrmlScene.RemoveNode(board)
    return sizes[0] if sizes else None


def is_checkerboard(volume_node: Any) -> bool:
    """Whether a volume is one of these temporary ones."""
    return bool(volume_node.GetNodeReferenceID(_BACKGROUND))


def _all_composites() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _opacity_before(board: Any, composite: Any) -> float:
    """Of a view's foreground before the checkerboard; a view that got it from one linked with it has that one's."""
    opacity = board.GetAttribute(f"{_OPACITY}.{composite.GetID()}")
    if opacity is None:
        opacity = next(board.GetAttribute(name) for name in board.GetAttributeNames() if name.startswith(_OPACITY))
    return float(opacity)


def _board_in(composite: Any) -> Any:
    """The checkerboard that a view shows, or None."""
    volume = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
    return volume if volume and is_checkerboard(volume) else None


def _board(background: Any, foreground: Any, size_mm: float) -> Any:
    image = scalar_image(background)
    below, grid = in_world(background, image, nearest=False, background=image.GetScalarRange()[0])
    shown, other = volume_display(background), volume_display(foreground)
    upper = scalar_image(foreground)
    lowest = upper.GetScalarRange()[0]
    above = onto_grid(foreground, upper, grid, nearest=False, background=lowest).astype(np.float32) - other.GetLevel()
    above = above * (shown.GetWindow() / (other.GetWindow() or 1.0)) + shown.GetLevel()  # 0 where all is equal
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Checkerboard")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(_SIZE, repr(float(size_mm)))
    node.SetNodeReferenceID(_BACKGROUND, background.GetID())
    node.SetNodeReferenceID(_FOREGROUND, foreground.GetID())
    set_volume(node, np.where(_fields(grid, size_mm), above, below).astype(np.float32), grid)
    display = volume_display(node)
    display.SetSaveWithScene(False)
    display.SetAutoWindowLevel(0)
    display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
    display.SetAndObserveColorNodeID(shown.GetColorNodeID())
    return node


def _fields(grid: ImageGrid, size_mm: float) -> NDArray[np.bool_]:
    """(z, y, x): where the second image shows."""
    x, y, z = (
        np.arange(count) // max(1, round(size_mm / side)) for count, side in zip(grid.size, grid.spacing, strict=True)
    )
    return (z[:, None, None] + y[:, None] + x) % 2 == 1
