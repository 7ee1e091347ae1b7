"""A mask may be one segment of a segmentation: the list of its segments, beside the list of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.section import fill, put

if TYPE_CHECKING:
    from DLIRRegistrationLib.panel.section import Section


class MaskChooser:
    """Shows the segments of the mask of one side ("fixed" or "moving"), as they come, go and are renamed."""

    def __init__(self, section: Section, side: str, box: Any) -> None:
        self._section = section
        self._mask, self._segment = f"{side}Mask", f"{side}MaskSegment"
        self._box = box
        self._box.connect("currentIndexChanged(int)", self._on_segment)
        self._observed: Any = None
        self._tags: list[int] = []
        self._shown: list[tuple[str, str]] = []

    def show(self) -> None:
        """Bring the list in line with the parameters."""
        parameters = self._section.host.parameters
        node = getattr(parameters, self._mask)
        node = node if node is not None and node.IsA("vtkMRMLSegmentationNode") else None
        self._observe(node)
        self._box.visible = node is not None
        if node is None:
            return
        segments = node.GetSegmentation()
        ids = [segments.GetNthSegmentID(index) for index in range(segments.GetNumberOfSegments())]
        entries = [("", _("All segments")), *((i, segments.GetSegment(i).GetName()) for i in ids)]
        if entries != self._shown:
            self._shown = entries
            fill(self._box, ((name, identifier) for identifier, name in entries))
        identifiers = [identifier for identifier, name in entries]
        if getattr(parameters, self._segment) not in identifiers:  # of another segmentation, or removed
            self._section.write(self._segment, "")
        put(self._box, "currentIndex", identifiers.index(getattr(parameters, self._segment)))

    def close(self) -> None:
        self._observe(None)

    def _observe(self, node: Any) -> None:
        if node is self._observed:
            return
        for tag in self._tags:
            self._observed.RemoveObserver(tag)
        self._observed, self._shown = node, []
        kinds = slicer.vtkSegmentation
        events = (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified) if node is not None else ()
        self._tags = [node.AddObserver(event, self._on_segments) for event in events]

    def _on_segments(self, caller: Any, event: Any) -> None:
        if self._section.host.settled:
            self.show()

    def _on_segment(self, index: int) -> None:
        if index >= 0:
            self._section.write(self._segment, self._box.itemData(index))
