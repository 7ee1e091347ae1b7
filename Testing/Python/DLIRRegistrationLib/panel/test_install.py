"""Missing Python packages: said, installed after asking, and nothing changes when the user declines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from DLIRRegistrationLib.dependencies import DependencyError

if TYPE_CHECKING:
    from DLIRRegistrationLib.dependencies import Requirement
    from panel_bench import Bench

MISSING = "Slicer lacks Python packages that DLIR needs: torch."


@pytest.fixture
def packages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What is missing, by the key "missing"; the panel has been entered again, in front of a user."""
    import slicer

    state: dict[str, str | None] = {"missing": MISSING}
    monkeypatch.setattr("DLIRRegistrationLib.dependencies.problem", lambda: state["missing"])
    monkeypatch.setattr("DLIRRegistrationLib.dependencies.missing", lambda needed: needed if state["missing"] else [])
    monkeypatch.setattr(slicer.util, "mainWindow", object)
    slicer.app.testing = False
    bench.exit()
    bench.enter()
    return state


def _answer(monkeypatch: pytest.MonkeyPatch, yes: bool) -> list[str]:
    import slicer

    questions: list[str] = []

    def ask(text: str, windowTitle: str = "") -> bool:
        questions.append(text)
        return yes

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    return questions


def _installer(monkeypatch: pytest.MonkeyPatch, install: Callable[[], None]) -> None:
    def run(requester: str, confirm: Callable[[str], bool], needed: Sequence[Requirement]) -> bool:
        assert "torch" in [requirement.name for requirement in needed]
        if not confirm(f"{requester} needs torch. Install it?"):
            return False
        install()
        return True

    monkeypatch.setattr("DLIRRegistrationLib.dependencies.install", run)


def test_the_panel_opens_and_says_what_is_missing(bench: Bench, packages: dict[str, str | None]) -> None:
    bench.pair()
    starts = bench.logic.worker.starts
    bench.exit()
    bench.enter()
    assert bench.ui.installLabel.text == MISSING
    assert bench.ui.installWidget.visible
    assert not bench.ui.applyButton.enabled
    assert bench.ui.applyButton.toolTip == MISSING
    assert bench.logic.worker.starts == starts, "without torch the worker would only die"


def test_declining_changes_nothing(
    bench: Bench, packages: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def install() -> None:
        raise AssertionError("installed although declined")

    _installer(monkeypatch, install)
    questions = _answer(monkeypatch, False)
    bench.click("installButton")
    assert questions == ["DLIR needs torch. Install it?"]
    assert bench.ui.installWidget.visible
    assert not bench.ui.statusLabel.visible


def test_it_works_after_accepting(
    bench: Bench, packages: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pair()
    starts = bench.logic.worker.starts
    _installer(monkeypatch, lambda: packages.update(missing=None))
    _answer(monkeypatch, True)
    bench.click("installButton")
    assert not bench.ui.installWidget.visible
    assert bench.logic.worker.starts == starts + 1
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.parameters.resultWarped is not None


def test_a_failed_installation_says_why(
    bench: Bench, packages: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    def install() -> None:
        raise DependencyError("torch could not be installed; no network", "pip: exit status 1")

    shown: list[tuple[str, str]] = []

    def display(text: str, detailedText: str = "") -> None:
        shown.append((text, detailedText))

    monkeypatch.setattr(slicer.util, "errorDisplay", display)
    _installer(monkeypatch, install)
    _answer(monkeypatch, True)
    bench.click("installButton")
    assert "no network" in bench.ui.statusLabel.text
    assert "pip" not in bench.ui.statusLabel.text
    bench.wait(lambda: shown == [("Torch could not be installed; no network", "pip: exit status 1")])
    assert bench.ui.installWidget.visible


def test_nobody_is_asked_without_a_main_window(
    bench: Bench, packages: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    questions = _answer(monkeypatch, True)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: None)
    bench.click("installButton")
    assert questions == []
    assert "only after asking" in bench.ui.statusLabel.text
