"""How long Slicer's window stands still at each thing that a user does with the module, in the application itself.

    Slicer --disable-settings --no-splash --testing --additional-module-path DLIRRegistration \
        --python-script Benchmarks/window_latency.py

With the sample that ships. A timer beats every few milliseconds; between two beats the window was not served. Of each
such pause it is told how much processor time the module's own code took, Slicer's Python that it calls and numpy
included, and how much the calls of Slicer's and VTK's own methods, which draw and change the layout. Prints for each
action the longest time of own code in one pause, the longest pause, and what was drawn. The profiler that tells them
apart takes its share of the first, and other work on the machine lengthens the second.
"""

from __future__ import annotations

import cProfile
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Testing" / "Slicer"))

import qt
import slicer
from bench import MODEL, SAMPLE, Bench, play

BEAT_MS = 2
LIMIT_MS = 100
FRAMES = 4
# In the profiler's names of methods that are not Python's.
_DRAWING = ("vtk", "PythonQt", "qMRML", "qSlicer")
# Functions in which Slicer changes its layout: the profiler does not see calls of Qt, and takes them for the caller's.
_LAYING_OUT = ("layout.side_by_side_views", "layout.leave_side_by_side")
# This script's own.
_MEASURING = ("time.sleep", "bench.", "window_latency.")


@dataclass(frozen=True)
class Pause:
    """Between two beats, in seconds. own, drawn: of the processor; whole: on the clock. most: what took most of own."""

    own: float
    drawn: float
    whole: float
    most: str


class Meter:
    """Measures the pauses of the window's event loop while it is on."""

    def __init__(self) -> None:
        self.pauses: list[Pause] = []
        self._profile = cProfile.Profile(time.thread_time)
        self._timer = qt.QTimer()
        self._timer.setInterval(BEAT_MS)
        self._timer.connect("timeout()", self._beat)
        self._last = 0.0

    def start(self) -> None:
        self.pauses.clear()
        self._last = time.perf_counter()
        self._timer.start()
        self._profile.enable()

    def stop(self) -> None:
        self._beat()
        self._profile.disable()
        self._timer.stop()

    def _beat(self) -> None:
        self._profile.disable()
        now = time.perf_counter()
        drawn, own = 0.0, Counter[str]()
        for entry in self._profile.getstats():
            native = isinstance(entry.code, str)
            name = entry.code if native else f"{Path(entry.code.co_filename).stem}.{entry.code.co_name}"
            if name in _LAYING_OUT or (native and any(word in name for word in _DRAWING)):
                drawn += entry.inlinetime
            elif not any(word in name for word in _MEASURING):
                own[name] += entry.inlinetime
        most = ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in own.most_common(3))
        self.pauses.append(Pause(own.total(), drawn, now - self._last, most))
        self._profile.clear()
        self._last = time.perf_counter()
        self._profile.enable()


def measured(bench: Bench, name: str, act: Callable[[], object], over: Callable[[], bool] = lambda: True) -> None:
    """Prints the line of one action. act: does what the user does; over: whether it has ended."""
    meter = Meter()
    bench.spin(0.3)
    meter.start()
    act()
    bench.until(over, f"'{name}' has ended")
    bench.spin(0.3)
    meter.stop()
    longest = max(meter.pauses, key=lambda pause: pause.own)
    own = 1000 * longest.own
    still = 1000 * max(pause.whole for pause in meter.pauses)
    drawn = 1000 * sum(pause.drawn for pause in meter.pauses)
    verdict = "" if own < LIMIT_MS else f"  above {LIMIT_MS}: {longest.most}"
    print(f"| {name:<28} | {own:>6.0f} | {still:>6.0f} | {drawn:>6.0f} |{verdict}", flush=True)


def every_action(bench: Bench) -> None:
    bench.open()
    bench.choose_sample()
    print(f"| {'action':<28} | own ms | still ms | drawn ms |\n| --- | --- | --- | --- |")
    for number in (1, 2):
        measured(bench, f"Apply, time {number}", bench.start, lambda: not bench.busy)
    parameters = bench.parameters
    measured(bench, "Jacobian", lambda: setattr(parameters, "showJacobian", True))
    measured(bench, "grid", lambda: setattr(parameters, "showGrid", True))
    measured(bench, "side by side, with grid", bench.ui.layoutButton.click)
    measured(bench, "back, with grid", bench.ui.layoutButton.click)
    measured(bench, "no grid", lambda: setattr(parameters, "showGrid", False))
    measured(bench, "no Jacobian", lambda: setattr(parameters, "showJacobian", False))
    measured(bench, "side by side", bench.ui.layoutButton.click)
    measured(bench, "back", bench.ui.layoutButton.click)
    measured(bench, "checkerboard", lambda: setattr(parameters, "checkerboard", True))
    measured(bench, "no checkerboard", lambda: setattr(parameters, "checkerboard", False))


def a_sequence(bench: Bench) -> None:
    bench.clear()
    cine = slicer.util.loadNodeFromFile(str(SAMPLE / "cine.seq.nrrd"), "SequenceFile")
    while cine.GetNumberOfDataNodes() > FRAMES:
        cine.RemoveDataNodeAtValue(cine.GetNthIndexValue(cine.GetNumberOfDataNodes() - 1))
    drawn = slicer.util.loadSegmentation(str(SAMPLE / "fixed_ed_label.nrrd"))
    bench.parameters.sequence, bench.parameters.sequenceSegmentation = cine, drawn
    bench.parameters.model = MODEL
    bench.spin(0.3)
    measured(bench, f"sequence of {FRAMES} frames", bench.ui.registerSequenceButton.click, lambda: not bench.busy)


play(every_action, a_sequence)
