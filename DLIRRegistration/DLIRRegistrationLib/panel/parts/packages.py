"""Installing Python packages from the panel: only after asking, and with what came of it said."""

from __future__ import annotations

from collections.abc import Sequence

from slicer.i18n import tr as _

from dlir.errors import DLIRError
from DLIRRegistrationLib import dependencies
from DLIRRegistrationLib.panel.parts.dialogs import agreed, can_ask
from DLIRRegistrationLib.panel.parts.status import StatusLine

_REQUESTER = "DLIR"


def ensure_installed(status: StatusLine, needed: Sequence[dependencies.Requirement]) -> bool:
    """Whether these packages are there, in the end: they are installed if the user agrees. Says what went wrong."""
    if not dependencies.missing(needed):
        return True
    if not can_ask():
        status.note(_("Packages are installed only after asking, which needs Slicer's main window."))
        return False
    try:
        return dependencies.install(_REQUESTER, lambda text: agreed(text, _("Install Python packages")), needed=needed)
    except DLIRError as error:
        status.error(str(error), getattr(error, "details", ""))
        return False
