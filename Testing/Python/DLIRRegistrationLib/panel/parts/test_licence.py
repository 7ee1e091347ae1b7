"""A licence that forbids commercial use is agreed to once, by somebody who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

from DLIRRegistrationLib import models


@pytest.fixture
def asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Questions by the key "questions", and the answer; a user is there, and a pair is chosen."""
    import slicer

    state: dict[str, Any] = {"questions": [], "answer": True}

    def ask(text: str, windowTitle: str = "") -> bool:
        state["questions"].append(text)
        return bool(state["answer"])

    monkeypatch.setattr(slicer.util, "mainWindow", object)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", ask)
    slicer.app.testing = False
    bench.pair()
    return state


def test_the_question_comes_once_and_says_which_licence(bench: Bench, asked: dict[str, Any]) -> None:
    bench.parameters.model = "cardiac-cine"
    for _ in range(2):
        bench.click("applyButton")
        bench.wait(lambda: not bench.busy)
    assert len(bench.runs) == 2
    assert len(asked["questions"]) == 1
    assert "cardiac-cine" in asked["questions"][0]
    assert "CC BY-NC-SA 4.0" in asked["questions"][0]
    assert "commercial" in asked["questions"][0]


def test_nothing_runs_without_consent(bench: Bench, asked: dict[str, Any]) -> None:
    asked["answer"] = False
    bench.parameters.model = "cardiac-cine"
    for count in (1, 2):
        bench.click("applyButton")
        assert bench.runs == []
        assert len(asked["questions"]) == count, "it may be agreed to later"
        assert "not agreed" in bench.ui.statusLabel.text


def test_a_free_model_and_none_ask_nothing(bench: Bench, asked: dict[str, Any]) -> None:
    for model in ("hippocampus", "none"):
        bench.parameters.model = model
        bench.click("applyButton")
        bench.wait(lambda: not bench.busy)
    assert len(bench.runs) == 2
    assert asked["questions"] == []


def test_what_may_be_chosen_is_asked_for(bench: Bench, asked: dict[str, Any]) -> None:
    bench.parameters.model = "auto"
    bench.click("applyButton")
    assert ["'Automatic' may choose" in text for text in asked["questions"]] == [True]


def test_a_scene_closed_meanwhile_is_not_registered(
    bench: Bench, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    def close(text: str, windowTitle: str = "") -> bool:
        bench.widget.setParameterNode(None)
        return True

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", close)
    bench.parameters.model = "cardiac-cine"
    bench.click("applyButton")
    assert bench.runs == []


def test_nobody_is_asked_where_nobody_is(bench: Bench, asked: dict[str, Any]) -> None:
    import slicer

    slicer.app.testing = True
    bench.parameters.model = "cardiac-cine"
    bench.click("applyButton")
    assert len(bench.runs) == 1
    assert asked["questions"] == []


@pytest.mark.parametrize(
    ("text", "restricts"),
    [("CC BY-NC-SA 4.0", True), ("CC-BY-NC 4.0", True), ("CC BY-SA 4.0", False), ("INCA licence", False), ("", False)],
)
def test_which_licences_restrict(text: str, restricts: bool) -> None:
    assert bool(models._NON_COMMERCIAL.search(text)) is restricts


def test_a_file_beside_the_catalogue_counts_too(tmp_path: Any) -> None:
    from dlir.model.catalogue import resolve_model

    path = tmp_path / "mine.safetensors"
    path.write_bytes(resolve_model("cardiac-cine").read_bytes())
    assert [licence.model for licence in models.restricting_licences(str(path))] == ["mine"]
    assert models.restricting_licences("none") == models.restricting_licences("no such model") == []
