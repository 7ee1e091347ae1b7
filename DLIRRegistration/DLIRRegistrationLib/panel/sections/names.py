"""Lists of nodes are too narrow for long names: their tooltips have them whole."""

from __future__ import annotations

import html
import re

from DLIRRegistrationLib.panel.section import Host, Section, put

# Their tooltips say why they can, or cannot, be used.
_OTHERS = ("segmentationsSelector", "outputSegmentationSelector", "outputLandmarksSelector")


class NamesSection(Section):
    """The name of what is chosen above what the list is for."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        lists = {name: widget for name, widget in vars(self.ui).items() if hasattr(widget, "currentNode")}
        self._purposes = [(widget, _plain(widget.toolTip)) for name, widget in lists.items() if name not in _OTHERS]

    def show(self) -> None:
        for widget, purpose in self._purposes:
            node = widget.currentNode()
            put(widget, "toolTip", purpose if node is None else f"{node.GetName()}\n\n{purpose}")


def _plain(tooltip: str) -> str:
    """Slicer makes rich text of every tooltip, so that it breaks into lines."""
    return html.unescape(re.sub(r"</?p>", "", tooltip))
