"""Takes the pictures that the extensions index shows, from the application itself, on a screen of 1280 x 800:

    python Testing/Slicer/run.py --slicer /path/to/Slicer take_screenshots

They go into Resources/Screenshots: the pair compared, the change of volume, a sequence. In full colour: fewer colours
turn the red of a fold brown.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import qt
import slicer
from bench import MODEL, ROOT, SAMPLE, Bench, play

FOLDER = ROOT / "Resources" / "Screenshots"
WIDTH, HEIGHT = 1280, 800
LARGEST_BYTES = 300_000


def compared(bench: Bench) -> None:
    """Fixed, warped and change of volume side by side, with the outlines of both."""
    _place_window(bench)
    bench.open()
    bench.choose_sample()
    bench.apply()
    bench.ui.layoutButton.click()
    _take(bench, "compared")
    bench.ui.layoutButton.click()


def volume_change(bench: Bench) -> None:
    """The Jacobian over the fixed image, with legend and deformation grid."""
    bench.parameters.showJacobian = True
    bench.parameters.showGrid = True
    _take(bench, "volume-change")
    bench.clear()


def sequence(bench: Bench) -> None:
    """A cine registered to its first frame, a late one shown with the cavity carried to it."""
    bench.parameters.sequence = slicer.util.loadNodeFromFile(str(SAMPLE / "cine.seq.nrrd"), "SequenceFile")
    bench.parameters.sequenceSegmentation = slicer.util.loadSegmentation(str(SAMPLE / "fixed_ed_label.nrrd"))
    bench.parameters.model = MODEL
    bench.spin(0.3)
    bench.ui.registerSequenceButton.click()
    bench.until(lambda: not bench.busy, "the sequence is registered", 600)
    browser = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")[0]
    browser.SetSelectedItemNumber(browser.GetNumberOfItems() // 3)
    _one_view(bench)
    _take(bench, "sequence")


def _place_window(bench: Bench) -> None:
    screen = bench.window.windowHandle().screen().geometry
    assert (screen.width(), screen.height()) == (WIDTH, HEIGHT), f"the screen is {WIDTH} x {HEIGHT}"
    slicer.util.setPythonConsoleVisible(False)
    slicer.util.findChild(bench.window, "DataProbeCollapsibleWidget").collapsed = True  # there is room for the verdict
    bench.spin(0.5)


def _one_view(bench: Bench) -> None:
    """The image along its slices, as large as it gets."""
    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpGreenSliceView)
    bench.spin(0.3)
    manager.sliceWidget("Green").sliceLogic().FitSliceToBackground()
    bench.spin(0.5)


def _take(bench: Bench, name: str) -> None:
    bench.spin(1.0)  # views draw when nothing else is to be done
    picture = bench.window.grab().toImage().convertToFormat(qt.QImage.Format_RGB888)
    path = FOLDER / f"{name}.png"
    assert picture.save(str(path), "PNG", 0), f"{path.name} is written"
    size = path.stat().st_size
    print(f"{path.name}: {picture.width()} x {picture.height()}, {size / 1000:.0f} kB", flush=True)
    assert size <= LARGEST_BYTES, f"{path.name} has {size} bytes, more than {LARGEST_BYTES}"


play(compared, volume_change, sequence)
