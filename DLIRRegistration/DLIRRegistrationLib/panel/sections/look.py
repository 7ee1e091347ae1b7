"""Compare: what the slice views show of the last result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.display import views
from DLIRRegistrationLib.display.deformation import CAVEAT, show_glyphs, show_grid
from DLIRRegistrationLib.display.layout import (
    JACOBIAN_VIEW,
    current_views,
    has_room,
    leave_side_by_side,
    make_layout_known,
)
from DLIRRegistrationLib.panel.section import Host, Section, put
from DLIRRegistrationLib.panel.sections.outlines import OutlinesSection
from DLIRRegistrationLib.panel.values import present

_OF_WARPED = ("layoutButton", "fadeSlider", "checkerboardCheckBox", "checkerboardSpinBox", "beforeCheckBox")
_OF_TRANSFORM = ("gridCheckBox", "glyphsCheckBox")
_OF_JACOBIAN = ("jacobianCheckBox", "jacobianSlider")
_OF_ERROR = ("errorMapCheckBox",)
# How much of the warped volume is seen over the fixed one, where it is not seen alone.
_HALF = 0.5


@dataclass(frozen=True)
class _Seen:
    """All that decides what is shown. warped: None where there is no whole result. over: whether the Jacobian lies over
    the fixed volume, whether the error map does, and how strongly.
    """

    warped: Any
    transform: Any
    jacobian: Any
    error: Any
    fade: float
    checkerboard: tuple[bool, float]
    before: bool
    grid: bool
    glyphs: bool
    over: tuple[bool, bool, float]


class LookSection(Section):
    """Changes the views where a choice, or the result, has changed; a scene just opened keeps its own look."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._seen: _Seen | None = None
        self._outlines = OutlinesSection(host)
        self._former_fade = _HALF
        self._apart = False
        self._declined = False
        self.ui.layoutButton.connect("clicked(bool)", self._on_layout)
        self.ui.lookNoteLabel.text = _(CAVEAT)
        make_layout_known()

    def forget(self) -> None:
        """From now on other parameters are shown, such as those of another scene."""
        self._seen = None
        self._outlines.forget()

    def leave(self) -> None:
        """The scene is about to be closed: nothing is left to be seen side by side."""
        leave_side_by_side()

    def show(self) -> None:
        before, now = self._seen, self._now()
        if before is not None and all(now.over[:2]) and self.host.settled:
            # One of them lies over the fixed volume: the one chosen last. This is called again by that.
            self.write("showJacobian" if before.over[0] else "showErrorMap", False)
            return
        self._seen = now
        for names, node in (
            (_OF_WARPED, now.warped),
            (_OF_TRANSFORM, now.transform),
            (_OF_JACOBIAN, now.jacobian),
            (_OF_ERROR, now.error),
        ):
            for name in names:
                getattr(self.ui, name).enabled = node is not None
        self._name_button()
        if before is not None and now.warped is not None:
            self._apply(before, now)
        self._outlines.show()  # after what it belongs to

    def _now(self) -> _Seen:
        p = self.host.parameters
        whole = present(p.resultFixed) and present(p.resultMoving)
        return _Seen(
            warped=present(p.resultWarped) if whole else None,
            transform=present(p.resultTransform),
            jacobian=present(p.resultJacobian) if whole else None,
            error=present(p.resultErrorMap) if whole else None,
            fade=p.fade,
            checkerboard=(p.checkerboard, p.checkerboardSize),
            before=p.showBefore,
            grid=p.showGrid,
            glyphs=p.showGlyphs,
            over=(p.showJacobian, p.showErrorMap, p.jacobianOpacity),
        )

    def _apply(self, before: _Seen, now: _Seen) -> None:
        new = any(getattr(before, name) != getattr(now, name) for name in ("warped", "transform", "jacobian", "error"))
        if new:
            self._show_new(before, now)
        elif before.fade != now.fade:
            views.set_fade(now.fade)
        for name, is_on, apply in self._choices(now):
            if getattr(before, name) != getattr(now, name) or (new and is_on):
                apply()

    def _choices(self, now: _Seen) -> list[tuple[str, bool, Callable[[], Any]]]:
        """Name of the choice, whether it is on, and how to bring the views in line with it."""
        choices: list[tuple[str, bool, Callable[[], Any]]] = [
            ("over", any(now.over[:2]) or bool(_jacobian_views()), lambda: self._lay_over(now)),
            ("before", now.before, lambda: self._show_before(now)),
            ("checkerboard", now.checkerboard[0], lambda: views.set_checkerboard(*now.checkerboard)),
        ]
        if now.transform is not None:
            choices.append(("grid", now.grid, lambda: show_grid(now.transform, now.grid)))
            choices.append(("glyphs", now.glyphs, lambda: show_glyphs(now.transform, now.glyphs)))
        return choices

    def _show_new(self, before: _Seen, now: _Seen) -> None:
        former = present(before.transform)
        if former is not None and former is not now.transform:
            show_grid(former, False)
            show_glyphs(former, False)
        if _jacobian_views():
            views.show_side_by_side(self.host.parameters.resultFixed, now.warped, now.jacobian)
            views.set_fade(now.fade)
        else:
            views.show_pair(self.host.parameters.resultFixed, now.warped, now.fade)

    def _show_before(self, now: _Seen) -> None:
        p = self.host.parameters
        views.show_before(now.before, p.resultFixed, p.resultMoving, now.warped)

    def _lay_over(self, now: _Seen) -> None:
        """The Jacobian, or the error map, over the fixed volume: in its own view where there is one, else in all."""
        fixed, (on, wrong, opacity) = self.host.parameters.resultFixed, now.over
        own = _jacobian_views()
        if now.error is not None and wrong:
            views.show_error(fixed, now.error, own or None, opacity)
        elif now.jacobian is not None and (on or own):
            views.show_jacobian(fixed, now.jacobian, own or None, opacity)
        elif not own:
            views.show_pair(fixed, now.warped, now.fade)

    def present_result(self) -> None:
        """A pair has been registered: show the result, side by side where there is room, unless the user left that."""
        self._former_fade = _HALF
        self.ui.lookButton.collapsed = False
        if _jacobian_views():
            self.write("fade", 1.0)
        elif has_room() and not self._declined and self._now().warped is not None:
            self._show_apart()
        else:
            self.write("fade", _HALF)

    def follow(self) -> None:
        """The layout may have been changed by Slicer's own menu; called about once a second."""
        if self._apart and not _jacobian_views():
            self._back()
        elif self._apart != bool(_jacobian_views()):
            self._apart = True
            self._name_button()

    def _on_layout(self) -> None:
        if self.host.parameters is None:
            return
        if _jacobian_views():
            self._declined = True
            leave_side_by_side()
            self._back()
        else:
            self._declined = False
            self._show_apart()

    def _show_apart(self) -> None:
        now = self._now()
        if views.show_side_by_side(self.host.parameters.resultFixed, now.warped, now.jacobian):
            self._former_fade = now.fade
            self._apart = True
            self.write("fade", 1.0)  # in its own view the warped volume is seen alone
            self._restore(self._now())
        self._name_button()

    def _back(self) -> None:
        """The views are those of another layout again."""
        self._apart = False
        if self.host.parameters.fade == 1.0:
            self.write("fade", self._former_fade)
        now = self._now()
        if now.warped is not None:
            self._restore(now)
        self._name_button()

    def _restore(self, now: _Seen) -> None:
        """Bring the views of another layout in line with the choices."""
        self._lay_over(now)
        if now.before:
            self._show_before(now)
        if now.checkerboard[0]:
            views.set_checkerboard(*now.checkerboard)

    def _name_button(self) -> None:
        button, own = self.ui.layoutButton, bool(_jacobian_views())
        button.text = _("Back to the former layout") if own else _("Show side by side")
        seen, parameters = self._seen, self.host.parameters
        if seen is not None and seen.jacobian is not None:
            box, apart = self.ui.jacobianCheckBox, own and not parameters.showErrorMap
            put(box, "checked", apart or parameters.showJacobian)
            box.enabled = not apart
            box.toolTip = (
                _("The Jacobian has a view of its own.") if apart else _("Lays the Jacobian over the fixed volume.")
            )


def _jacobian_views() -> list[Any]:
    """The view for the Jacobian, where the layout that is shown has one."""
    return [view for view in current_views() if view.GetSliceNode().GetLayoutName() == JACOBIAN_VIEW]
