"""One path: after Apply the result is shown with its verdict, with what changed, and with what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench

FOLDED = {"folding_count": 1, "folding_percent": 0.03, "mean": 1.0, "sd": 0.2, "min": -0.31, "max": 1.9}


@pytest.fixture
def done(bench: Bench) -> Bench:
    """A pair has been registered, well."""
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    return bench


@pytest.fixture
def folded(bench: Bench) -> Bench:
    """A pair has been registered, and the transform folds in one voxel."""
    bench.pair()
    bench.script.report["jacobian"] = FOLDED
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    return bench


def test_the_verdict_stands_with_what_changed(done: Bench) -> None:
    assert "<b>Good.</b>" in done.ui.verdictReasonLabel.text
    assert done.ui.changesLabel.text.splitlines() == [
        "Left ventricle: 61.2 → 140 ml, Dice 0.71 → 0.92.",
        "Myocardium: 118 → 121 ml.",
    ]


def test_it_is_there_again_when_the_scene_is_shown_again(done: Bench) -> None:
    done.exit()
    done.enter()
    assert done.ui.resultWidget.visible
    assert "<b>Good.</b>" in done.ui.verdictReasonLabel.text
    assert done.ui.changesLabel.text


@pytest.mark.parametrize(
    ("button", "section"),
    [("nextCarryButton", "carryButton"), ("nextTrustButton", "trustButton"), ("nextSaveButton", "saveButton")],
)
def test_each_next_step_opens_its_section_and_scrolls_there(done: Bench, button: str, section: str) -> None:
    done.resize(400, 500)
    assert getattr(done.ui, section).collapsed
    done.click(button)
    done.linger(0.1)
    opened = getattr(done.ui, section)
    assert not opened.collapsed
    top = opened.cpp.mapTo(done.area.viewport(), opened.cpp.rect().topLeft()).y()
    assert 0 <= top < 500


def test_compare_unfolds_by_itself_once_there_is_something_to_compare(bench: Bench) -> None:
    assert not bench.ui.lookButton.visible
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.ui.lookButton.visible
    assert not bench.ui.lookButton.collapsed


def test_without_folds_the_figures_are_next(done: Bench) -> None:
    assert done.ui.nextTrustButton.text == "See the figures"
    done.unfold("trustButton")
    assert not done.ui.foldLabel.visible, "that stands in the table"
    assert not done.ui.foldList.visible
    assert not done.ui.worstFoldButton.visible


def test_folds_are_listed_and_one_is_led_to_them(folded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []
    monkeypatch.setattr("DLIRRegistrationLib.display.views.jump_to", seen.append)
    assert folded.ui.nextTrustButton.text == "Inspect the folds"
    folded.click("nextTrustButton")
    assert folded.ui.foldList.count == 1
    assert folded.ui.foldList.item(0).text().startswith("1 voxels, lowest -0.31, at ")
    (place,) = seen
    assert place == folded.logic.folds(folded.parameters.resultJacobian)[0].position
    assert folded.parameters.showJacobian, "a fold is red in the colours of the Jacobian"
    assert "folds" not in folded.ui.changesLabel.text, "it is told once: by the verdict"


def test_while_another_pair_is_registered_the_former_verdict_is_not_shown(done: Bench) -> None:
    done.script.hold = True
    done.click("applyButton")
    assert not done.ui.resultWidget.visible
    done.script.hold = False
    done.wait(lambda: not done.busy)
    assert done.ui.resultWidget.visible


def test_while_it_is_refined_there_is_one_cancel(done: Bench) -> None:
    done.script.hold = True
    done.click("refineFurtherButton")
    assert done.ui.refineFurtherButton.text == "Cancel"
    for name in ("applyButton", "nextCarryButton", "nextTrustButton", "nextSaveButton"):
        assert not getattr(done.ui, name).visible
    done.script.hold = False
    done.wait(lambda: not done.busy)
    assert done.ui.refineFurtherButton.text == "Refine further"
    assert done.ui.applyButton.visible


def test_the_last_messages_are_kept_and_unfold(done: Bench) -> None:
    status = done.widget.panel.host.status
    assert not done.ui.statusLabel.visible, "the verdict stands with the result, once"
    status.note("first thing")
    status.note("second thing")
    assert done.ui.statusLabel.text.startswith("Second thing")
    assert "First thing" not in done.ui.statusLabel.text
    assert "Earlier messages" in done.ui.statusLabel.text
    assert [line.partition(" ")[2][:5] for line in done.ui.statusLabel.toolTip.splitlines()] == [
        "● Goo",
        "First",
        "Secon",
    ]
    done.ui.statusLabel.linkActivated.emit("#messages")
    assert "First thing" in done.ui.statusLabel.text
    assert "<b>Good.</b>" in done.ui.statusLabel.text
    done.ui.statusLabel.linkActivated.emit("#messages")
    assert "First thing" not in done.ui.statusLabel.text


def test_only_so_many_messages_are_kept(bench: Bench) -> None:
    for number in range(30):
        bench.widget.panel.host.status.note(f"message {number}")
    assert len(bench.ui.statusLabel.toolTip.splitlines()) == 10
    assert "Message 29" in bench.ui.statusLabel.toolTip
