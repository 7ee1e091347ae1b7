"""While a pair is optimised: the curve of its objective, and the button that ends that with the best so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from DLIRRegistrationLib.panel.parts.curve import curve_picture

_HEIGHT, _COLOR = 100, "#1f77b4"
# Seconds between two pictures.
_PAUSE = 0.1


class RefiningView:
    """label: for the picture, as wide as `bar`. button: seen while there is something to end."""

    def __init__(self, label: Any, button: Any, bar: Any) -> None:
        self._label, self._button, self._bar = label, button, bar
        self._stage = ""
        self._points: list[tuple[float, float]] = []
        self._just_told = False
        self._drawn = 0.0

    def on_keep(self, finish: Callable[[], None]) -> None:
        """finish: called when the user wants the best so far."""

        def pressed() -> None:
            self._button.enabled = False  # it takes until the end of a step
            finish()

        self._button.connect("clicked(bool)", pressed)

    def told(self, stage: str, value: float) -> None:
        """The objective of a stage. Only the present one is drawn: a finer one begins lower, which is no loss."""
        if stage != self._stage:
            self._stage, self._points = stage, []
        self._points.append((len(self._points), value))
        self._just_told = True
        if time.monotonic() - self._drawn > _PAUSE:
            self._draw()

    def step(self) -> None:
        """A step of the whole has been told; where no objective was before it, the pair is not being optimised."""
        if not self._just_told:
            self._stage = ""  # what comes next is another pair
            self._button.enabled = True
        self._button.visible = self._just_told
        self._just_told = False

    def clear(self) -> None:
        """The work has ended."""
        self._just_told = False
        self.step()
        self._label.visible = False

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        name = _("similarity, {stage}:").format(stage=self._stage)
        self._label.setPixmap(curve_picture(self._bar.width, _HEIGHT, [(name, _COLOR, self._points)]))
        self._label.visible = True
