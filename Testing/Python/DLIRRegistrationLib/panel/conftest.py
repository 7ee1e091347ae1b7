"""The panel, built from the real .ui file by real Qt, with a real scene behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mrml import MRML
    from panel_bench import Bench


@pytest.fixture(scope="session")
def qt_application() -> Any:
    """The QApplication; tests are skipped where Qt cannot run."""
    import native_libraries

    lacking = native_libraries.missing(native_libraries.QT)
    if lacking:
        pytest.skip(native_libraries.advice(lacking))
    pytest.importorskip("PySide6", reason="needs PySide6-Essentials")
    pytest.importorskip("slicer", reason="needs slicer-core")
    import slicer_standins

    slicer_standins.install()
    return slicer_standins.application()


@pytest.fixture
def bench(
    scene: MRML, qt_application: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The panel in a window as wide as Slicer's, entered; registrations do as the test says."""
    from panel_bench import Bench

    monkeypatch.setenv("DLIR_MODELS", str(tmp_path_factory.mktemp("models")))
    bench = Bench(scene, qt_application, monkeypatch)
    yield bench
    bench.close()
