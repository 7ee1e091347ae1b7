"""What must be done whenever Slicer changes its layout, whoever asked for that: the user, a scene, or this module."""

from __future__ import annotations

import qt
import slicer

from DLIRRegistrationLib.display.layout import layout_manager, make_layout_known, make_room
from DLIRRegistrationLib.display.views import renew_legends

_SIGNAL = "layoutChanged(int)"
# Until what is being read has been read.
_PAUSE_MS = 50


def follow_layouts() -> None:
    """Make the module's layout known, and see to it from now on that any layout shows what it should.

    Nothing happens where there are no windows.
    """
    manager = layout_manager()
    if manager is not None:
        make_layout_known()
        manager.connect(_SIGNAL, _on_layout)


def leave_layouts() -> None:
    """No longer follow them: the module is being read anew."""
    manager = layout_manager()
    if manager is not None:
        manager.disconnect(_SIGNAL, _on_layout)


def _on_layout(number: int) -> None:
    manager = layout_manager()
    if manager is not None:
        make_room(manager)
    # A scene that was read may be what has changed the layout. Others are still being told of its nodes, and would
    # not survive that one of them is replaced meanwhile.
    qt.QTimer.singleShot(0, _renew)


def _renew() -> None:
    if slicer.mrmlScene.IsBatchProcessing():
        qt.QTimer.singleShot(_PAUSE_MS, _renew)
    else:
        renew_legends()
