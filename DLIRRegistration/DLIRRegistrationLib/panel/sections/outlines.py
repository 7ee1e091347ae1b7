"""Outlines: how the segmentations of the last result are drawn, and which colour is which."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.display.outlines import FIXED_COLOR, WARPED_COLOR, hide_outlines, show_outlines
from DLIRRegistrationLib.panel.section import Host, Section
from DLIRRegistrationLib.panel.values import all_present, present


@dataclass(frozen=True)
class _Seen:
    """All that decides what is drawn. drawn: on the moving image, as it was; carried: the same on the fixed one."""

    on: bool
    before: bool
    fixed: tuple[Any, ...]
    drawn: tuple[Any, ...]
    carried: tuple[Any, ...]

    @property
    def warped(self) -> tuple[Any, ...]:
        """What belongs to the image that is compared with the fixed one."""
        return self.drawn if self.before else self.carried


class OutlinesSection(Section):
    """Part of Look: draws anew where a choice, or the result, has changed; a scene just opened keeps its own look."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._seen: _Seen | None = None

    def forget(self) -> None:
        """From now on other parameters are shown."""
        self._seen = None

    def show(self) -> None:
        before, now = self._seen, self._now()
        self._seen = now
        self.ui.outlinesCheckBox.enabled = bool(now.carried)
        self.ui.outlinesLegendLabel.visible = bool(now.carried) and now.on
        self.ui.outlinesLegendLabel.text, self.ui.outlinesLegendLabel.toolTip = _legend(now)
        if before is not None and before != now and (now.carried or before.carried):
            self._apply(before, now)

    def _now(self) -> _Seen:
        p = self.host.parameters
        scored_by = present(p.resultScoredBy)
        return _Seen(
            p.showOutlines,
            p.showBefore,
            (scored_by,) if scored_by is not None else (),
            tuple(all_present(p.resultDrawn)),
            tuple(all_present(p.resultPropagated)),
        )

    def _apply(self, before: _Seen, now: _Seen) -> None:
        whole = (*now.fixed, *now.drawn, *now.carried)
        former = [node for node in all_present((*before.fixed, *before.drawn, *before.carried)) if node not in whole]
        hide_outlines(former if now.on else [*former, *whole])
        if now.on:
            show_outlines(now.fixed, now.warped, now.carried if now.before else now.drawn)


def _legend(seen: _Seen) -> tuple[str, str]:
    """Rich text: the colour of each image's outlines; and a tooltip with the names of the segmentations."""
    image = _("moving") if seen.before else _("warped")
    lines = [(FIXED_COLOR, _("fixed"), seen.fixed), (WARPED_COLOR, image, seen.warped)]
    drawn = [(color, name, ", ".join(node.GetName() for node in nodes)) for color, name, nodes in lines if nodes]
    colours = "&nbsp; ".join(
        f'<span style="color: {_hex(color)}">■</span> {escape(name)}' for color, name, _nodes in drawn
    )
    return colours, "\n".join(f"{name}: {nodes}" for _color, name, nodes in drawn)


def _hex(color: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
