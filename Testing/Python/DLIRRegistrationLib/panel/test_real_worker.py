"""The panel with the real worker and the sample that ships."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from DLIRRegistrationLib.worker.client import WorkerClient
    from mrml import MRML
    from panel_bench import Bench

pytestmark = pytest.mark.slow

LONGEST_BLOCK_S = 0.1


@pytest.fixture
def worker(scene: MRML) -> Iterator[WorkerClient]:
    from DLIRRegistrationLib.worker.client import WorkerClient

    client = WorkerClient(sys.executable, {"OMP_NUM_THREADS": "1"})
    yield client
    client.close()


@pytest.fixture
def real(scene: MRML, qt_application: Any, worker: WorkerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The bench with the real worker, and the sample loaded and chosen."""
    from panel_bench import Bench

    bench = Bench(scene, qt_application, monkeypatch, worker)
    bench.sample()
    yield bench
    bench.close()
    assert worker.state == "stopped", "unloading the module ends the worker"


class Heartbeat:
    """Beats by a timer of Qt's. longest: seconds of this thread's work between two beats, so that what other
    programs do to the machine does not count."""

    def __init__(self) -> None:
        import qt

        self.longest = 0.0
        self._last = time.thread_time()
        self._timer = qt.QTimer()
        self._timer.setInterval(10)
        self._timer.connect("timeout()", self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now

    def stop(self) -> float:
        self._timer.stop()
        return self.longest


def test_the_sample_is_registered_without_blocking_the_windows(real: Bench) -> None:
    heart = Heartbeat()
    for _ in range(2):
        began = time.monotonic()
        real.click("applyButton")
        real.wait(lambda: not real.busy, 300)
        print(f"from Apply to nodes: {time.monotonic() - began:.2f} s")
    longest = heart.stop()
    print(f"the windows were blocked for {1000 * longest:.0f} ms at most")
    assert "<b>Good.</b>" in real.ui.verdictReasonLabel.text
    table = {real.ui.reportTable.item(row, 0).text(): row for row in range(real.ui.reportTable.rowCount)}
    dice = table["Dice of left ventricle cavity"]
    before, after = (float(real.ui.reportTable.item(dice, column).text()) for column in (1, 2))
    assert after > before + 0.05
    assert real.parameters.resultPropagated[0].GetSegmentation().GetNumberOfSegments() > 0
    assert longest < LONGEST_BLOCK_S


def test_a_worker_that_is_killed_while_idle_is_replaced_silently(
    real: Bench, worker: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    shown: list[str] = []
    monkeypatch.setattr(slicer.util, "mainWindow", object)
    monkeypatch.setattr(slicer.util, "errorDisplay", shown.append)
    slicer.app.testing = False
    real.wait(lambda: "cardiac-cine, which was made for such images" in real.ui.modelCardLabel.text, 120)
    for noticed in (True, False):
        pid = worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if noticed:  # by the timer, while the module is shown
            real.wait(lambda: worker.state == "stopped", 60)
            assert not real.ui.statusLabel.visible
        real.exit()
        real.enter()
        real.wait(lambda: worker.state == "ready", 120)
        assert worker.pid != pid
    assert shown == []


def test_a_worker_that_is_killed_is_said_and_the_next_run_works(real: Bench, worker: WorkerClient) -> None:
    real.click("applyButton")
    real.wait(lambda: worker.state == "busy", 60)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    real.wait(lambda: not real.busy, 60)
    assert real.ui.statusLabel.text
    assert real.parameters.resultWarped is None
    real.click("applyButton")
    real.wait(lambda: not real.busy, 300)
    assert real.parameters.resultWarped is not None
