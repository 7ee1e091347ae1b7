"""The views: three slice views side by side, fixed, warped and Jacobian, and access to those that are shown.

A view is its vtkMRMLSliceLogic, which knows its slice node, its composite node and how to fit an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from DLIRRegistrationLib.scene.frames import array_to_local, matrix_to_world

# Slicer numbers its own layouts below 100 and leaves the rest to modules, which choose a number no other is likely to.
LAYOUT_ID = 31_519
# Views that share a group are linked with each other and with no others.
VIEW_GROUP = 31_519
FIXED_VIEW, WARPED_VIEW, JACOBIAN_VIEW = "DLIRFixed", "DLIRWarped", "DLIRJacobian"
VIEW_NAMES = (FIXED_VIEW, WARPED_VIEW, JACOBIAN_VIEW)

_LABELS = {FIXED_VIEW: ("Fixed", "#6EB04B"), WARPED_VIEW: ("Warped", "#EDD54C"), JACOBIAN_VIEW: ("Volume", "#4C9BED")}
_FORMER_LAYOUT = "DLIR.FormerLayout"
# Pixels that a view may be narrowed to, so that three fit beside the panel on a screen 1280 wide.
_NARROWEST = 160
# Pixels in which three are worth it.
_ROOM = 840
# From this ratio of voxel sides on, an image is only good to look at along its slices.
_ANISOTROPIC = 1.5


def layout_manager() -> Any | None:
    """Slicer's own, a qMRMLLayoutManager; None where there are no windows."""
    application = getattr(slicer, "app", None)
    return application.layoutManager() if application else None


def current_views() -> list[Any]:
    """The slice views of the layout that is shown; none where there are no windows."""
    manager = layout_manager()
    if manager is None:
        return []
    shown = manager.layoutLogic().GetViewNodes()
    nodes = [shown.GetItemAsObject(index) for index in range(shown.GetNumberOfItems())]
    find = slicer.app.applicationLogic().GetSliceLogic
    logics = [find(node) for node in nodes if node.IsA("vtkMRMLSliceNode")]
    return [logic for logic in logics if logic]


def side_by_side_views() -> dict[str, Any] | None:
    """Switch to fixed, warped and Jacobian side by side, linked: each view by its name.

    None, and nothing changes, where there are no windows.
    """
    manager = layout_manager()
    if manager is None:
        return None
    make_layout_known()
    layout = manager.layoutLogic().GetLayoutNode()
    if layout.GetViewArrangement() != LAYOUT_ID:
        layout.SetAttribute(_FORMER_LAYOUT, str(layout.GetViewArrangement()))
        manager.setLayout(LAYOUT_ID)
    make_room(manager)
    # New views have no size before this, and what has no size cannot be fitted to an image.
    slicer.app.processEvents()
    views = {view.GetSliceNode().GetLayoutName(): view for view in current_views()}
    for view in views.values():
        _link(view.GetSliceCompositeNode())
    return views


def leave_side_by_side() -> None:
    """Back to the layout that was shown before `side_by_side_views`; nothing happens in any other layout."""
    manager = layout_manager()
    if manager is None:
        return
    layout = manager.layoutLogic().GetLayoutNode()
    former = layout.GetAttribute(_FORMER_LAYOUT)
    if former and layout.GetViewArrangement() == LAYOUT_ID:
        manager.setLayout(int(former))


def has_room() -> bool:
    """Whether three views side by side are wide enough to see something in them."""
    manager = layout_manager()
    return manager is not None and bool(manager.viewport().width >= _ROOM)


def make_layout_known() -> None:
    """Register the layout with Slicer's windows, so that a scene saved in it opens in it; else nothing happens."""
    manager = layout_manager()
    if manager is None:
        return
    layout = manager.layoutLogic().GetLayoutNode()
    register_layout(layout)
    if layout.GetViewArrangement() == LAYOUT_ID:  # such a scene has been opened already
        layout.SetViewArrangement(LAYOUT_ID)


def register_layout(layout_node: Any) -> None:
    """Make the layout known under its number; once is enough, more do no harm."""
    if not layout_node.AddLayoutDescription(LAYOUT_ID, _description()):
        layout_node.SetLayoutDescription(LAYOUT_ID, _description())


def look_along_slices(view: Any, volume_node: Any) -> None:
    """Turn a view parallel to the slices of an image, upright as far as that goes, and fit it to its background.

    The slices of an image whose voxels have nearly equal sides are those closest to axial.
    """
    to_world = _to_world(volume_node)
    sides = np.linalg.norm(to_world[:3, :3], axis=0)
    normal = int(np.argmax(sides)) if sides.max() > _ANISOTROPIC * sides.min() else -1
    node = view.GetSliceNode()
    node.SetOrientation(_orientation(to_world[:3, normal] if normal >= 0 else np.array([0.0, 0.0, 1.0])))
    node.RotateToAxes(slicer.util.vtkMatrixFromArray(to_world), normal)
    view.FitSliceToBackground()
    view.SnapSliceOffsetToIJK()


def request_render(views: Sequence[Any]) -> None:
    """Have views drawn again, as soon as the application is idle."""
    manager = layout_manager()
    if manager is None:
        return
    for view in views:
        widget = manager.sliceWidget(view.GetSliceNode().GetLayoutName())
        if widget:
            widget.sliceView().scheduleRender()


def make_room(manager: Any) -> None:
    """Let the three views, where they are, share the width that there is, with their names readable.

    Slicer would sooner widen the window than narrow a view; and it has room for a name of one letter.
    """
    for name in VIEW_NAMES:
        widget = manager.sliceWidget(name)
        if widget is None or widget.minimumWidth == _NARROWEST:  # to look for its parts takes a while
            continue
        widget.setMinimumWidth(_NARROWEST)
        for label in slicer.util.findChildren(widget, name="ViewLabel"):
            label.setMinimumWidth(label.sizeHint.width())


def _link(composite: Any) -> None:
    """Link position and zoom with the other views of the group, at once, but not what each one shows."""
    composite.SetLinkedControl(1)
    composite.SetHotLinkedControl(1)
    composite.SetInteractionFlagsModifier(0)


def _to_world(volume_node: Any) -> NDArray[np.float64]:
    """(4, 4): voxel indices (x, y, z) to the world, RAS; parents that are not linear do not count."""
    to_local, to_world = array_to_local(volume_node, volume_node.GetImageData()), matrix_to_world(volume_node)
    return to_local if to_world is None else to_world @ to_local


def _orientation(normal: NDArray[np.float64]) -> str:
    """The standard orientation that looks along the axis closest to this direction, RAS."""
    return ("Sagittal", "Coronal", "Axial")[int(np.argmax(np.abs(normal)))]


def _description() -> str:
    return f'<layout type="horizontal" split="true">{"".join(map(_item, VIEW_NAMES))}</layout>'


def _item(name: str) -> str:
    label, color = _LABELS[name]
    properties = {"orientation": "Axial", "viewlabel": label, "viewcolor": color, "viewgroup": str(VIEW_GROUP)}
    inner = "".join(f'<property name="{key}" action="default">{value}</property>' for key, value in properties.items())
    return f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">{inner}</view></item>'
