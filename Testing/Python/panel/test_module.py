"""The module itself, as Slicer makes it when it starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from sample_data_module import SampleDataModule

if TYPE_CHECKING:
    from mrml import MRML


@pytest.fixture
def started(scene: MRML, qt_application: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], None]]:
    """What the module asked to be called for, by the application's signals, after it was made."""
    import slicer

    from panel_bench import load_module

    signals: dict[str, Callable[[], None]] = {}
    monkeypatch.setattr(slicer.app, "connect", signals.__setitem__, raising=False)
    monkeypatch.setitem(sys.modules, "DLIRRegistration", None)  # to be forgotten afterwards
    load_module().DLIRRegistration(SimpleNamespace())
    return signals


def test_the_samples_are_offered_when_slicer_has_started(
    started: dict[str, Callable[[], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = SampleDataModule(tmp_path)
    monkeypatch.setitem(sys.modules, "SampleData", samples)
    assert samples.sources == {}, "the Sample Data module may not be there before"
    started["startupCompleted()"]()
    assert [source["name"] for source in samples.sources["DLIR"]] == ["DLIR cardiac cine", "DLIR cardiac cine sequence"]
