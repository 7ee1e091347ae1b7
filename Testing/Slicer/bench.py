"""What scenarios stand on, inside Slicer: the module's panel, waiting, the error log, and the end with a status.

A scenario is a script for Slicer's option --python-script whose last line calls `play` with its steps.
"""

from __future__ import annotations

import gc
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "Resources" / "SampleData"
MODEL = "cardiac-cine"
WINDOW = 1080, 660
# Seconds. A registration of the sample takes one or two, the start of the worker some ten on a busy machine.
PATIENCE = 180.0

# What Slicer itself says and nobody can help, by what is said.
_SLICERS_OWN = (
    # A scene whose slices are turned is read before the orientation is.
    r"GetSliceOrientationPreset: invalid orientation preset name: Reformat",
    # A window of Qt's was closed before the window manager had heard of it.
    r"QXcbConnection: XCB error: 3 \(BadWindow\)",
    # The display node was deleted of a volume that has a colour legend.
    r"UpdateActor failed: No primary display node found",
    # The colour node was deleted of a volume that is shown with a colour legend: VTK says so at each drawing.
    r"UpdateActor failed: No color node is set in primary display node",
    r"RequestInformation: No LookupTable was set but number of components in input doesn't match OutputFormat",
    r"Execute: Component [13] is not in input",
    # Slicer built without it; said at the start.
    r"ThreeDSliceEdgeDisplayableManager is not a displayable manager",
)
_BAD = ("Warning", "Error", "Critical", "Fatal")
_LEVEL, _TEXT = 2, 5


class Bench:
    """The module in Slicer's main window. Nothing is loaded or opened yet."""

    def __init__(self) -> None:
        self._log = slicer.app.errorLogModel()
        self._read = self._log.rowCount()
        self.window = slicer.util.mainWindow()
        # With more room a result would be shown side by side at once.
        self.window.showNormal()
        self.window.setGeometry(0, 0, *WINDOW)

    # -- the module ------------------------------------------------------------------------------

    def open(self) -> None:
        """Shows the module's panel, and waits until it is drawn."""
        slicer.util.selectModule("DLIRRegistration")
        self.spin(0.2)

    @property
    def widget(self) -> Any:
        return slicer.modules.dlirregistration.widgetRepresentation().self()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def logic(self) -> Any:
        return self.widget.logic

    @property
    def parameters(self) -> Any:
        """What the panel shows."""
        return self.widget.panel.host.parameters

    @property
    def busy(self) -> bool:
        return bool(self.widget.panel.runner.busy)

    def load_sample(self) -> list[Any]:
        """The shipped pair with its drawings: fixed, moving, drawn on fixed, drawn on moving."""
        volumes = [slicer.util.loadVolume(str(SAMPLE / f"{name}.nrrd")) for name in ("fixed_ed", "moving_es")]
        drawn = [slicer.util.loadSegmentation(str(SAMPLE / f"{name}_label.nrrd")) for name in ("fixed_ed", "moving_es")]
        self.spin(0.2)
        return [*volumes, *drawn]

    def choose_sample(self) -> None:
        """Loads the pair and chooses it, as a user would, with its drawings and the model that fits."""
        fixed, moving, drawn_fixed, drawn_moving = self.load_sample()
        parameters = self.parameters
        parameters.fixedVolume, parameters.movingVolume = fixed, moving
        parameters.segmentations, parameters.fixedSegmentation = [drawn_moving], drawn_fixed
        parameters.model = MODEL
        self.spin(0.2)

    def apply(self) -> None:
        """Presses Apply and waits for the result."""
        self.start()
        self.until(lambda: not self.busy, "the registration has ended")
        self.spin(0.5)

    def start(self) -> None:
        """Presses Apply."""
        assert self.ui.applyButton.enabled, f"Apply can be pressed: {self.ui.applyButton.toolTip}"
        self.ui.applyButton.click()
        assert self.busy, "a registration has begun"

    # -- time ------------------------------------------------------------------------------------

    def spin(self, seconds: float) -> None:
        """Lets the window live for so long."""
        end = time.monotonic() + seconds
        while True:
            slicer.app.processEvents()
            # What was put off by deleteLater waits for an event loop that a script does not return to.
            slicer.app.sendPostedEvents(None, qt.QEvent.DeferredDelete)
            if time.monotonic() > end:
                return
            time.sleep(0.005)

    def until(self, over: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Lets the window live until something is so."""
        end = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < end, f"within {seconds:.0f} s {what}"
            self.spin(0.0)
            time.sleep(0.005)

    def collect(self) -> None:
        """Lets go of what nothing holds any more."""
        for _ in range(3):
            self.spin(0.05)
            gc.collect()

    # -- the scene -------------------------------------------------------------------------------

    def clear(self) -> None:
        """As File, Close scene."""
        slicer.mrmlScene.Clear(0)
        self.spin(0.3)

    def save(self, path: Path) -> None:
        assert slicer.util.saveScene(str(path)), f"{path.name} is written"
        self.spin(0.2)

    def load(self, path: Path) -> None:
        """Reads a scene into the one that is open; `clear` first for what File, Open scene would do."""
        slicer.util.loadScene(str(path))  # raises where it fails; returns no node of a .mrml, which is no failure
        self.spin(0.5)

    # -- the log ---------------------------------------------------------------------------------

    def check_log(self) -> None:
        """Nothing was warned of, no error was logged, and no traceback printed since this was called last."""
        self.spin(0.1)
        rows = range(self._read, self._log.rowCount())
        self._read = self._log.rowCount()
        found = [self._entry(row) for row in rows]
        found = [text for level, text in found if (level in _BAD or "Traceback" in text) and not _known(text)]
        assert not found, "the log is clean: " + " | ".join(found)

    def _entry(self, row: int) -> tuple[str, str]:
        level = str(self._log.data(self._log.index(row, _LEVEL)))
        return level, self._log.logEntryDescription(row) or str(self._log.data(self._log.index(row, _TEXT)))


def _known(text: str) -> bool:
    """Whether all of a message, which may hold several, is Slicer's own."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Warning: In", "ERROR: In"))]
    return bool(lines) and all(any(re.search(pattern, line) for pattern in _SLICERS_OWN) for line in lines)


def play(*steps: Callable[[Bench], None]) -> None:
    """Plays the steps, each followed by a look into the error log; ends Slicer, with status 1 where one fails."""
    name = "no step"
    try:
        bench = Bench()
        for step in steps:
            name = step.__name__.replace("_", " ")
            began = time.monotonic()
            step(bench)
            bench.check_log()
            print(f"step: {name}: {time.monotonic() - began:.1f} s", flush=True)
    except BaseException as error:
        traceback.print_exc()
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"failed: {name}: {reason}", flush=True)
        slicer.util.exit(1)
    else:
        print("passed", flush=True)
        slicer.util.exit(0)
    sys.stdout.flush()
