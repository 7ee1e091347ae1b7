"""A developer presses Reload: the code is read anew, nothing of the former panel stays, and the new one works."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench import Bench, play
from scene_state import check_scene, nodes


def with_nothing_registered(bench: Bench) -> None:
    bench.open()
    _reload(bench)


def with_a_result_side_by_side(bench: Bench) -> None:
    bench.choose_sample()
    bench.apply()
    bench.ui.layoutButton.click()
    bench.spin(0.3)
    _reload(bench)
    assert bench.parameters.verdictLevel == "good", "the result is still shown"
    assert bench.ui.layoutButton.enabled


def while_it_registers(bench: Bench) -> None:
    bench.start()
    bench.spin(0.1)
    _reload(bench)
    bench.apply()
    assert bench.parameters.verdictLevel == "good"


def no_observer_is_left(bench: Bench) -> None:
    """What a former panel observed, the new one does, and each once: of nodes that leave nothing is held."""
    warped = bench.parameters.resultWarped
    bench.clear()
    bench.collect()
    assert warped.GetReferenceCount() == 1, f"nothing but this script holds a node: {warped.GetReferenceCount()} do"
    assert nodes("vtkMRMLVolumeNode") == []


def _reload(bench: Bench) -> None:
    """As the button does, whose own slot this is; then nothing of the former code may be alive."""
    widget = bench.widget
    former = [weakref.ref(part) for part in (widget, widget.panel, widget.logic, *widget.panel.sections)]
    library = sys.modules["DLIRRegistrationLib.panel.panel"]
    del widget
    bench.widget.onReload()
    bench.spin(0.5)
    bench.collect()
    assert sys.modules["DLIRRegistrationLib.panel.panel"] is not library, "the library was read anew"
    alive = [type(ref()).__name__ for ref in former if ref() is not None]
    assert alive == [], f"nothing of the former panel is alive: {alive}"
    check_scene(bench)


play(with_nothing_registered, with_a_result_side_by_side, while_it_registers, no_observer_is_left)
