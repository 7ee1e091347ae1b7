"""The module as Slicer's list of modules and its start know it."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench


def test_the_module_says_what_it_is(bench: Bench) -> None:
    parent = SimpleNamespace(path=bench.module.__file__)
    bench.module.DLIRRegistration(parent)
    assert parent.title == "DLIR Registration"
    assert parent.categories == ["Registration"]
    assert "Markups" in parent.dependencies
    for text in (parent.helpText, parent.acknowledgementText):
        assert len(text) > 100


def test_sample_data_are_offered_when_slicer_has_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    registered: list[str] = []
    monkeypatch.setattr("DLIRRegistrationLib.sample_data.register_sample_data", lambda: registered.append("samples"))
    bench.module.DLIRRegistration(SimpleNamespace(path=bench.module.__file__))
    assert registered == []
    slicer.app.complete_startup()
    assert registered == ["samples"]


def test_the_layout_is_known_when_slicer_has_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    known: list[str] = []
    monkeypatch.setattr("DLIRRegistrationLib.sample_data.register_sample_data", lambda: None)
    monkeypatch.setattr("DLIRRegistrationLib.panel.parts.following.make_layout_known", lambda: known.append("layout"))
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: SimpleNamespace(connect=lambda *signal: None))
    bench.module.DLIRRegistration(SimpleNamespace(path=bench.module.__file__))
    slicer.app.complete_startup()
    assert known == ["layout"]


def test_a_reloaded_module_works(bench: Bench) -> None:
    """Slicer's developers reload a module: the old panel lets go, and a new one is set up in its place."""
    former = bench.widget
    bench.reload()
    assert bench.widget is not former
    assert bench.logic.worker.starts == 1  # Slicer does not call enter, for the module is shown already
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None


def test_what_wraps_the_parameters_is_let_go(bench: Bench) -> None:
    """It reads all parameters at each change: one more for each time the module is entered would slow it down."""
    former = weakref.ref(bench.parameters)
    bench.exit()
    bench.enter()
    gc.collect()
    assert former() is None


def test_a_reload_reads_the_library_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before, during = dict(sys.modules), []
    base = sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleWidget
    monkeypatch.setattr(base, "onReload", lambda widget: during.extend(sys.modules))
    try:
        bench.widget.onReload()
    finally:
        sys.modules.update(before)
    ours = [name for name in before if name.split(".")[0] in ("dlir", "DLIRRegistrationLib")]
    assert {"dlir.errors", "DLIRRegistrationLib.panel.panel"} <= set(ours)
    assert during
    assert not set(ours) & set(during)


def test_a_panel_that_was_never_set_up_can_be_unloaded(bench: Bench) -> None:
    import slicer

    bench.module.DLIRRegistrationWidget(slicer.qSlicerScriptedLoadableModuleWidget())
    slicer.app.moduleManager().unload("DLIRRegistration")
