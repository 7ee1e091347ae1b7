"""Draws the picture of the panel for docs from the sample that ships: `python render_panel.py [FOLDER]`.

FOLDER is Resources/Screenshots by default. On the left the panel as it is after Apply, on the right what it shows
under Look and Trust; registered by the real worker. Qt, not Slicer's application, draws it.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# Before what needs Qt and Slicer can be imported, their stand-ins must be there.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import slicer_standins

slicer_standins.install()
application = slicer_standins.application()

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QPainter, QPixmap

from DLIRRegistrationLib.worker.client import WorkerClient
from mrml import MRML
from panel_bench import Bench

SCREENSHOTS = Path(__file__).resolve().parents[4] / "Resources" / "Screenshots"
WIDTH, HEIGHT, GAP = 420, 780, 16


def pictures(bench: Bench) -> list[QPixmap]:
    """The two states of the panel, one after the other."""
    bench.resize(WIDTH, HEIGHT)
    bench.sample()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy, 300)
    first = bench.area.grab()
    bench.ui.inputsButton.collapsed = True
    bench.unfold("lookButton", "trustButton")
    return [first, bench.area.grab()]


def side_by_side(pictures: list[QPixmap]) -> QPixmap:
    """All in one picture, on white."""
    whole = QPixmap(len(pictures) * (WIDTH + GAP) - GAP, HEIGHT)
    whole.fill(Qt.GlobalColor.white)
    painter = QPainter(whole)
    for number, picture in enumerate(pictures):
        painter.drawPixmap(QPoint(number * (WIDTH + GAP), 0), picture)
    painter.end()
    return whole


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SCREENSHOTS
    mrml, worker = MRML(), WorkerClient(sys.executable)
    try:
        with pytest.MonkeyPatch.context() as patch:
            bench = Bench(mrml, application, patch, worker)
            picture = side_by_side(pictures(bench))
            bench.close()
    finally:
        worker.close()
        mrml.close()
    assert picture.save(str(folder / "panel.png"))
    print(folder / "panel.png")


if __name__ == "__main__":
    main()
