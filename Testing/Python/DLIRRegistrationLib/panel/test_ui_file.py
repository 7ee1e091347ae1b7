"""The .ui file says what the code and Slicer rely on: names, types, connections."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

# Values that are lists, or whose choices are not known before: the sections show and write these themselves.
BY_HAND = {
    "fixedMaskSegment",
    "model",
    "movingMaskSegment",
    "segmentations",
    "surfaces",
    "trainingData",
    "trainingOutput",
    "trainingPreset",
}


@pytest.fixture(scope="module")
def ui(repo_root: Path) -> ElementTree.Element:
    return ElementTree.parse(repo_root / "DLIRRegistration/Resources/UI/DLIRRegistration.ui").getroot()


def _property(widget: ElementTree.Element, name: str) -> str | None:
    found = widget.find(f"property[@name='{name}']")
    return None if found is None else found[0].text


def test_every_widget_that_needs_the_scene_is_given_it(ui: ElementTree.Element) -> None:
    needing = {w.get("name") for w in ui.iter("widget") if str(w.get("class")).startswith("qMRML")} - {
        "DLIRRegistration"
    }
    connected = [c.findtext("receiver") for c in ui.iter("connection")]
    assert sorted(connected) == sorted(needing)
    for connection in ui.iter("connection"):
        assert connection.findtext("sender") == "DLIRRegistration"
        assert connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        assert connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"


def test_parameters_and_widgets_know_each_other(ui: ElementTree.Element, repo_root: Path) -> None:
    source = (repo_root / "DLIRRegistration/DLIRRegistration.py").read_text(encoding="utf-8")
    body = source.partition("class DLIRRegistrationParameterNode")[2].partition("\nclass ")[0]
    parameters = set(re.findall(r"^    (\w+):", body, re.M))
    results = {name for name in parameters if name.startswith(("result", "verdict"))}
    shown = [_property(widget, "SlicerParameterName") for widget in ui.iter("widget")]
    named = [name for name in shown if name]
    assert len(named) == len(set(named)), "each parameter has one widget"
    assert set(named) == parameters - results - BY_HAND


def test_names_are_unique_and_every_choice_has_a_tooltip(ui: ElementTree.Element) -> None:
    names = [widget.get("name") for widget in ui.iter("widget")]
    assert len(names) == len(set(names))
    silent = ("QLabel", "QWidget", "QProgressBar", "QTableWidget", "QListWidget", "QPlainTextEdit")
    for widget in ui.iter("widget"):
        is_choice = widget.get("class") not in (*silent, "ctkCollapsibleButton", "qMRMLWidget")
        if is_choice and widget.get("name") != "applyButton":
            assert _property(widget, "toolTip"), widget.get("name")


def test_every_section_but_the_first_is_folded(ui: ElementTree.Element) -> None:
    sections = [w for w in ui.iter("widget") if w.get("class") == "ctkCollapsibleButton"]
    assert [_property(section, "text") for section in sections] == [
        "Images",
        "Compare",
        "Can I trust it?",
        "Carry over",
        "Measure against",
        "Save",
        "Options",
        "Outputs",
        "A whole sequence",
        "Models",
        "Train a model",
    ]
    assert [_property(section, "collapsed") for section in sections] == [None, *["true"] * 10]


def test_outputs_are_created_on_apply_unless_chosen(ui: ElementTree.Element) -> None:
    outputs = [w for w in ui.iter("widget") if str(_property(w, "noneDisplay")).endswith("on Apply")]
    assert len(outputs) == 6
    for widget in outputs:
        assert _property(widget, "noneEnabled") == "true"
        assert _property(widget, "addEnabled") == "true"
