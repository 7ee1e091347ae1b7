"""Model, segmentations and masks: what Slicer cannot connect with the parameter node by itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from panel_bench import Bench


def _items(box: Any) -> list[str]:
    return [box.itemText(index) for index in range(box.count)]


def test_the_card_of_the_model_is_one_line(bench: Bench) -> None:
    assert bench.ui.modelSelector.currentText == "cardiac-cine"
    assert bench.ui.modelCardLabel.text.startswith("heart")
    assert " · " in bench.ui.modelCardLabel.text
    assert "\n" not in bench.ui.modelCardLabel.text


def test_a_model_that_is_not_there_any_more_is_said(bench: Bench) -> None:
    bench.parameters.model = "gone"
    assert bench.ui.modelSelector.currentIndex == -1
    assert "no model 'gone'" in bench.ui.modelCardLabel.text


def test_segmentations_are_checked_and_come_with_the_run(bench: Bench) -> None:
    from PySide6.QtCore import Qt

    first, second = bench.segmentation("heart", "LV", "RV"), bench.segmentation("lungs", "left")
    bench.pair()
    box = bench.ui.segmentationsSelector
    box.setCheckState(first, Qt.CheckState.Checked)
    assert list(bench.parameters.segmentations) == [first]
    assert bench.ui.outputSegmentationSelector.enabled
    box.setCheckState(second, Qt.CheckState.Checked)
    assert not bench.ui.outputSegmentationSelector.enabled
    assert bench.ui.outputSegmentationSelector.toolTip == "Each of the segmentations gets a new one."
    bench.mrml.scene.RemoveNode(first)
    assert list(bench.parameters.segmentations) == [second]
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.runs[0].inputs.segmentations == (second,)
    assert [node.GetName() for node in bench.parameters.resultPropagated] == ["lungs propagated"]


def test_segmentations_of_the_parameters_are_shown_as_checked(bench: Bench) -> None:
    node = bench.segmentation("heart", "LV")
    bench.parameters.segmentations = [node]
    assert bench.ui.segmentationsSelector.checkedNodes() == [node]


def test_a_mask_is_a_segment_or_a_whole_segmentation(bench: Bench) -> None:
    bench.pair()
    bench.unfold("moreInputsButton")
    heart = bench.segmentation("heart", "LV", "RV")
    box = bench.ui.fixedMaskSegmentSelector
    assert not box.visible
    bench.ui.fixedMaskSelector.setCurrentNode(heart)
    bench.settle()
    assert box.visible
    assert _items(box) == ["All segments", "LV", "RV"]

    box.currentIndex = 2
    assert bench.parameters.fixedMaskSegment == "RV"
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    mask = bench.runs[0].inputs.fixed_mask
    assert mask is not None
    assert (mask.node, mask.segment_id) == (heart, "RV")

    heart.GetSegmentation().RemoveSegment("RV")
    assert _items(box) == ["All segments", "LV"]
    assert (box.currentIndex, bench.parameters.fixedMaskSegment) == (0, "")
    heart.GetSegmentation().GetSegment("LV").SetName("left ventricle")
    assert _items(box) == ["All segments", "left ventricle"]


def test_a_mask_may_be_a_labelmap(bench: Bench) -> None:
    bench.pair()
    bench.unfold("moreInputsButton")
    label = bench.mrml.add("LabelMapVolume", "label")
    bench.ui.movingMaskSelector.setCurrentNode(label)
    assert not bench.ui.movingMaskSegmentSelector.visible
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    mask = bench.runs[0].inputs.moving_mask
    assert mask is not None
    assert (mask.node, mask.segment_id) == (label, None)


def test_volumes_to_register_are_no_labelmaps(bench: Bench) -> None:
    bench.mrml.add("LabelMapVolume", "label")
    volume = bench.volume("image")
    names = [bench.ui.fixedSelector.cpp.box.itemText(row) for row in range(bench.ui.fixedSelector.cpp.box.count())]
    assert names == ["Select a volume", volume.GetName()]


def test_an_initial_transform_takes_the_place_of_the_start(bench: Bench) -> None:
    assert bench.ui.initializeSelector.enabled
    assert _items(bench.ui.initializeSelector) == ["Centres on each other", "As in the scanner"]
    bench.ui.initialTransformSelector.setCurrentNode(bench.mrml.add("LinearTransform", "by hand"))
    assert not bench.ui.initializeSelector.enabled


def test_models_are_added_and_removed(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    from dlir.model.catalogue import resource_folder, user_folder

    folder = user_folder()
    monkeypatch.setattr(slicer.util, "mainWindow", object)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text: None)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, windowTitle="": True)
    slicer.app.testing = False
    bench.unfold("modelsButton")
    assert not bench.ui.removeModelButton.enabled
    shipped = _items(bench.ui.modelSelector)
    own = tmp_path / "mine.safetensors"
    shutil.copyfile(resource_folder("Models") / "cardiac-cine.safetensors", own)

    chosen = str(own)
    monkeypatch.setattr("DLIRRegistrationLib.panel.models.choose_file", lambda *_: chosen)
    bench.click("addModelButton")
    assert _items(bench.ui.modelSelector) == [*shipped, "mine"]
    assert bench.ui.removeModelButton.enabled
    assert "mine.safetensors" in bench.ui.modelCardView.plainText
    bench.ui.modelSelector.currentIndex = len(shipped)
    assert bench.parameters.model == "mine"

    bench.click("addModelButton")
    assert "already is a model 'mine'" in bench.ui.statusLabel.text

    bench.click("removeModelButton")
    assert _items(bench.ui.modelSelector) == shipped
    assert list(folder.iterdir()) == []
    assert own.exists()


def test_a_file_that_is_no_model_is_refused(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"nonsense")
    monkeypatch.setattr("DLIRRegistrationLib.panel.models.choose_file", lambda *_: str(wrong))
    bench.unfold("modelsButton")
    shipped = _items(bench.ui.modelSelector)
    bench.click("addModelButton")
    assert "wrong.safetensors" in bench.ui.statusLabel.text
    assert _items(bench.ui.modelSelector) == shipped
