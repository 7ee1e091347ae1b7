"""Save: the last result as files, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench


@pytest.fixture
def done(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """A pair has been registered; whoever is asked for a file takes the name that is offered, in `tmp_path`."""
    import vtk

    monkeypatch.setattr(
        "DLIRRegistrationLib.panel.sections.save.choose_target", lambda title, name, *_more: str(tmp_path / name)
    )
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    bench.parameters.resultTransform.SetMatrixTransformToParent(vtk.vtkMatrix4x4())
    bench.unfold("saveButton")
    return bench


@pytest.mark.parametrize(
    ("button", "name"),
    [
        ("saveTransformButton", "transform.h5"),
        ("saveWarpedButton", "warped.nrrd"),
        ("saveTableButton", "report.csv"),
        ("saveReportButton", "report.html"),
    ],
)
def test_each_button_writes_its_file(done: Bench, tmp_path: Path, button: str, name: str) -> None:
    done.click(button)
    assert (tmp_path / name).stat().st_size > 0
    assert f"Saved as {tmp_path / name}." in done.ui.statusLabel.text


def test_the_page_has_the_verdict_what_changed_all_figures_and_pictures(done: Bench, tmp_path: Path) -> None:
    done.click("saveReportButton")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "systole registered to diastole" in page
    assert "Good. The images match better" in page
    assert "Left ventricle: 61.2 → 140 ml, Dice 0.71 → 0.92." in page
    assert "<td>Dice of Left ventricle</td><td>0.710</td><td>0.920</td>" in page
    assert page.count("data:image/jpeg;base64,") == 2, "of six slices, two are as different as can be"


def test_without_an_ending_it_gets_the_right_one(done: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.save.choose_target", lambda *_: str(tmp_path / "mine"))
    done.click("saveReportButton")
    assert (tmp_path / "mine.html").exists()


def test_what_cannot_be_written_is_told(done: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lost = tmp_path / "lost" / "report.html"
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.save.choose_target", lambda *_: str(lost))
    done.click("saveReportButton")
    assert "lost" in done.ui.statusLabel.text
    assert not lost.parent.exists()


def test_nothing_is_written_without_a_name(done: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.save.choose_target", lambda *_: "")
    done.click("saveTransformButton")
    assert list(tmp_path.iterdir()) == []
    assert not done.ui.statusLabel.visible


def test_what_has_been_deleted_cannot_be_saved(done: Bench) -> None:
    done.mrml.scene.RemoveNode(done.parameters.resultWarped)
    done.settle()
    for name in ("saveWarpedButton", "saveReportButton"):
        assert not getattr(done.ui, name).enabled
        assert "no such node" in getattr(done.ui, name).toolTip
    assert done.ui.saveTransformButton.enabled
