"""What the slice views show of a registration, for the buttons of the panel and for scripts.

A view is a vtkMRMLSliceLogic; by default every function works on the views of the layout that is shown. Where there
are no windows nothing happens: the functions return False, or None, and raise nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from DLIRRegistrationLib.display.checkerboard import is_checkerboard, put_checkerboards, remove_checkerboards
from DLIRRegistrationLib.display.deformation import undrawn
from DLIRRegistrationLib.display.layout import (
    FIXED_VIEW,
    JACOBIAN_VIEW,
    WARPED_VIEW,
    current_views,
    layout_manager,
    look_along_slices,
    request_render,
    side_by_side_views,
)
from DLIRRegistrationLib.display.outlines import only_outlines
from DLIRRegistrationLib.scene.error_colors import apply_error_colors, has_error_colors, show_error_legend
from DLIRRegistrationLib.scene.jacobian_colors import (
    apply_jacobian_colors,
    folding_label,
    has_jacobian_colors,
    new_legend,
    show_legend,
)

# So much of the image stays visible below the map that one knows where one is.
JACOBIAN_OPACITY = 0.6
CHECKERBOARD_MM = 20.0


def show_side_by_side(fixed: Any, warped: Any, jacobian: Any | None) -> bool:
    """Fixed, warped and Jacobian volume in three linked views along the slices of the fixed one.

    The warped volume lies over the fixed one, so that `set_fade` and `set_checkerboard` work between them. Without
    a Jacobian its view shows the fixed volume alone.
    """
    with undrawn():
        views = side_by_side_views()
        if views is None:
            return False
        _put([views[FIXED_VIEW]], fixed)
        _put([views[WARPED_VIEW]], fixed, warped)
        if jacobian is None:
            _put([views[JACOBIAN_VIEW]], fixed)
        else:
            show_jacobian(fixed, jacobian, [views[JACOBIAN_VIEW]])
        for view in views.values():
            look_along_slices(view, fixed)
    request_render(list(views.values()))
    return True


def show_pair(fixed: Any, warped: Any, fraction: float = 0.5, views: Sequence[Any] | None = None) -> bool:
    """The warped volume over the fixed one in every view of the layout that is shown, `fraction` of it visible."""
    views = _or_current(views)
    _put(views, fixed, warped, fraction)
    return bool(views)


def play_sequence(browser: Any, frames: Any, warped: Any | None, propagated: Any | None, fraction: float = 0.5) -> bool:
    """Show what a browser node plays of a registered sequence, and let the play button of Slicer's windows play it.

    frames, warped, propagated: the sequence nodes of the images, of the registered images, which lie over them, and
    of the segmentation as it lies on each frame.
    """
    if layout_manager() is None:
        return False
    nodes = [browser.GetProxyNode(sequence) if sequence else None for sequence in (frames, warped, propagated)]
    images = [node for node in nodes[:2] if node is not None]
    if images:
        _put(current_views(), images[0], images[1] if len(images) > 1 else None, fraction)
    if nodes[2] is not None:
        only_outlines(nodes[2])
        nodes[2].SetDisplayVisibility(True)
    slicer.modules.sequences.setToolBarActiveBrowserNode(browser)
    slicer.modules.sequences.showSequenceBrowser(browser)  # unless the user has chosen not to see the tool bar
    return True


def show_jacobian(
    fixed: Any, jacobian: Any, views: Sequence[Any] | None = None, opacity: float = JACOBIAN_OPACITY
) -> bool:
    """The Jacobian map in its colours over the fixed volume, with its legend, and folding in bright red on top."""
    views = _or_current(views)
    apply_jacobian_colors(jacobian)
    folding = folding_label(jacobian)
    _put(views, fixed, jacobian, opacity, folding)
    if views:
        show_legend(jacobian)
        request_render(views)
    return bool(views)


def show_error(fixed: Any, error: Any, views: Sequence[Any] | None = None, opacity: float = JACOBIAN_OPACITY) -> bool:
    """The error map in its colours over the fixed volume, with its legend."""
    views = _or_current(views)
    apply_error_colors(error)
    _put(views, fixed, error, opacity)
    if views:
        show_error_legend(error)
        request_render(views)
    return bool(views)


def renew_legends() -> None:
    """Have the legends of volumes drawn, as they are, in views that are younger than they too."""
    for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
        volume = legend.GetDisplayableNode()
        if volume is not None and volume.IsA("vtkMRMLScalarVolumeNode") and legend.GetVisibility():
            looks = slicer.vtkMRMLColorLegendDisplayNode()
            looks.CopyContent(legend)
            new_legend(volume).CopyContent(looks)
    request_render(current_views())


def set_fade(fraction: float, views: Sequence[Any] | None = None) -> bool:
    """Fade from the fixed volume (0) to what lies over it (1), except where that is a map of Jacobian or error."""
    faded = [view for view in _or_current(views) if _compares(view)]
    for view in faded:
        view.GetSliceCompositeNode().SetForegroundOpacity(float(np.clip(fraction, 0, 1)))
    return bool(faded)


def set_checkerboard(on: bool, size: float = CHECKERBOARD_MM, views: Sequence[Any] | None = None) -> bool:
    """Chequer the fixed volume with what lies over it, except where that is a map of Jacobian or error, or end that.

    size: side of a field in mm. The checkerboard is a temporary, hidden volume, which goes away again; without
    `views` it ends in all layouts.
    """
    if not on:
        return remove_checkerboards(views) is not None
    return put_checkerboards([view for view in _or_current(views) if _compares(view)], size)


def show_before(
    on: bool,
    fixed: Any,
    moving: Any,
    warped: Any,
    drawn_on_moving: Sequence[Any] = (),
    propagated: Sequence[Any] = (),
    views: Sequence[Any] | None = None,
) -> bool:
    """Show the moving volume as it was in place of the warped one, or the warped one again.

    drawn_on_moving, propagated: segmentation nodes that are visible before, or after. Views that show neither
    volume keep what they show; if that is true of all, the volume is put over the fixed one in all of them. A
    checkerboard stays one, of the other volume.
    """
    views = _or_current(views)
    fields = remove_checkerboards(views)
    old, new = (warped, moving) if on else (moving, warped)
    for nodes, visible in ((drawn_on_moving, on), (propagated, not on)):
        for node in nodes:
            node.SetDisplayVisibility(visible)
    if not any(_shows(view, old) or _shows(view, new) for view in views):
        _put(views, fixed, new)
    for view in views:
        composite = view.GetSliceCompositeNode()
        if composite.GetBackgroundVolumeID() == old.GetID():
            composite.SetBackgroundVolumeID(new.GetID())
        if composite.GetForegroundVolumeID() == old.GetID():
            composite.SetForegroundVolumeID(new.GetID())
    if fields is not None:
        set_checkerboard(True, fields, views)
    return bool(views)


def jump_to(place: tuple[float, float, float]) -> None:
    """Centre all slice views on a place in the world, RAS mm, and mark it."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair:
        crosshair.SetCrosshairRAS(*place)
        crosshair.SetCrosshairMode(crosshair.ShowSmallBasic)


def _put(
    views: Sequence[Any], background: Any, foreground: Any = None, opacity: float = 1.0, label: Any = None
) -> None:
    remove_checkerboards(views)
    for view in views:
        composite = view.GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        composite.SetForegroundOpacity(opacity)
        composite.SetLabelVolumeID(label.GetID() if label else None)
        composite.SetLabelOpacity(1.0)


def _or_current(views: Sequence[Any] | None) -> list[Any]:
    return current_views() if views is None else list(views)


def _compares(view: Any) -> bool:
    """Whether a view shows two images that one may want to compare."""
    composite = view.GetSliceCompositeNode()
    volume = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID() or "")
    if not (volume and composite.GetBackgroundVolumeID()):
        return False
    return is_checkerboard(volume) or not (has_jacobian_colors(volume) or has_error_colors(volume))


def _shows(view: Any, volume_node: Any) -> bool:
    composite = view.GetSliceCompositeNode()
    return volume_node.GetID() in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
