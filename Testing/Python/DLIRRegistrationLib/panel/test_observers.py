"""Whatever happens to the module, it observes each thing once, and each widget is connected once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

OF_THE_SCENE = dict.fromkeys(
    ("onSceneStartClose", "onSceneEndClose", "onSceneStartImport", "onSceneRead", "onNodeAboutToBeRemoved"), 1
)


class Observers:
    """Those that an object has got since, less those that it has lost. by_name: who calls, and how often."""

    def __init__(self, watched: Any, patch: pytest.MonkeyPatch) -> None:
        self._names: dict[int, str] = {}
        self.more = 0
        add, remove = watched.AddObserver, watched.RemoveObserver

        def added(event: Any, handler: Any, priority: float = 0.0) -> int:
            tag = int(add(event, handler, priority))
            self._names[tag] = handler.__qualname__.replace(".<locals>.<lambda>", "")
            self.more += 1
            return tag

        def removed(tag: int) -> None:
            self.more -= 1
            self._names.pop(tag, None)
            remove(tag)

        patch.setattr(watched, "AddObserver", added, raising=False)
        patch.setattr(watched, "RemoveObserver", removed, raising=False)

    @property
    def by_name(self) -> Counter[str]:
        return Counter(self._names.values())


@pytest.fixture
def check(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Looks at everything that is observed or connected while the module is shown."""
    bench.exit()
    node = bench.logic.getParameterNode()
    observers = Observers(node, monkeypatch)
    bench.enter()

    def look() -> None:
        assert bench.logic.getParameterNode() is node, "Slicer keeps it when a scene is closed"
        assert observers.by_name == {
            "_Held.__init__": len(bench.parameters.allParameters),
            "_Members.connectGui": 1,
            "DLIRRegistrationWidget.onParametersModified": 1,
        }
        by_mixin = Counter(method.__name__ for _, _, method, *_ in bench.widget.Observations)
        assert by_mixin == {**OF_THE_SCENE, "onParametersModified": 1}
        for name in ("fadeSlider", "fixedSelector", "deviceSelector", "wantWarpedCheckBox"):
            handlers = getattr(bench.ui, name).cpp.__dict__["signal_handlers"]
            assert len(handlers) == 1, f"{name} is connected once"
        shown: list[None] = []
        with monkeypatch.context() as patch:
            patch.setattr(bench.widget.panel.sections[0], "show", lambda: shown.append(None))
            bench.parameters.fade = 0.25 if bench.parameters.fade != 0.25 else 0.75
        assert len(shown) == 1, "a change is shown once"

    return look


def test_on_entering_and_leaving(bench: Bench, check: Callable[[], None]) -> None:
    check()
    for _ in range(3):
        bench.exit()
        bench.enter()
        check()


def test_while_another_module_is_shown(
    bench: Bench, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.exit()
    assert Counter(method.__name__ for _, _, method, *_ in bench.widget.Observations) == OF_THE_SCENE
    monkeypatch.setattr(bench.widget.panel, "show", lambda: pytest.fail("nobody sees it"))
    bench.parameters.fade = 0.125
    bench.ui.fadeSlider.value = 0.875
    assert bench.parameters.fade == 0.125, "what is not shown changes nothing"


def test_on_closing_the_scene(bench: Bench, check: Callable[[], None]) -> None:
    for _ in range(3):
        bench.mrml.scene.Clear(0)
        check()
    bench.exit()
    bench.mrml.scene.Clear(0)
    bench.enter()
    check()


def test_on_opening_a_scene(bench: Bench, check: Callable[[], None], tmp_path: Any) -> None:
    bench.pair()
    bench.mrml.save(tmp_path / "scene.mrb")
    for _ in range(2):
        bench.mrml.load(tmp_path / "scene.mrb")
        check()
    assert bench.ui.fixedSelector.currentNode().GetName() == "diastole"


def test_on_reloading(bench: Bench, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    import shiboken6
    import slicer

    scene = Observers(slicer.mrmlScene, monkeypatch)
    for _ in range(3):
        panel = bench.widget.panel
        timers = [panel._idle.cpp, panel.runner._timer.cpp, panel.host.status._later.cpp]
        bench.reload()
        check()
        assert not any(shiboken6.isValid(timer) for timer in timers), "what a timer calls, it keeps"
        assert scene.more == 0, "the hidden lists of the former panel do not follow the scene for ever"
    bench.exit()
    bench.enter()
    check()


def test_the_first_opening_connects_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer calls `enter` right after `setup`."""
    connected: list[None] = []
    kind = bench.module.DLIRRegistrationParameterNode
    connect = kind.connectGui
    monkeypatch.setattr(kind, "connectGui", lambda self, gui: connected.append(None) or connect(self, gui))
    widget = bench.module.DLIRRegistrationWidget(bench.parent)
    widget.setup()
    assert len(connected) == 1
    widget.cleanup()
