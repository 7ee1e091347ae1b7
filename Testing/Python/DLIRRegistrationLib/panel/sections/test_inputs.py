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
    bench.parameters.model = "cardiac-cine"
    assert bench.ui.modelSelector.currentText == "cardiac-cine"
    assert bench.ui.modelCardLabel.text.startswith("heart")
    assert " · " in bench.ui.modelCardLabel.text
    assert "\n" not in bench.ui.modelCardLabel.text


def test_the_model_is_chosen_unless_the_user_does(bench: Bench) -> None:
    assert bench.parameters.model == "auto"
    assert bench.ui.modelSelector.currentText == "Automatic"
    assert bench.ui.modelSelector.currentIndex == 0
    assert bench.ui.modelCardLabel.text == "The installed model that was made for such images, or optimisation."
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.runs[0].inputs.model == "auto"


def test_a_model_that_is_not_there_any_more_is_said(bench: Bench) -> None:
    bench.parameters.model = "gone"
    assert bench.ui.modelSelector.currentIndex == -1
    assert "no model 'gone'" in bench.ui.modelCardLabel.text
    bench.pair()
    assert not bench.ui.applyButton.enabled
    assert "There is no model 'gone'; choose one of" in bench.ui.applyButton.toolTip


def test_every_model_that_ships_can_be_chosen_and_says_what_it_is_for(bench: Bench) -> None:
    from dlir.model.catalogue import all_models

    box, shipped = bench.ui.modelSelector, [entry.name for entry in all_models()]
    assert _items(box) == ["Automatic", *shipped, "None: optimise"]
    assert {"cardiac-cine", "hippocampus"} <= set(shipped)
    cards = set()
    for index, name in enumerate(shipped):
        box.currentIndex = 1 + index
        assert bench.parameters.model == name
        anatomy, modality, licence = bench.ui.modelCardLabel.text.split(" · ")
        assert licence.startswith("CC ")
        cards.add((anatomy, modality))
        assert bench.ui.modelList.currentRow == index
        assert f"{name}.safetensors" in bench.ui.modelCardView.plainText
    assert len(cards) == len(shipped)
    bench.pair()
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    assert bench.runs[0].inputs.model == shipped[-1]


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


def test_nodes_that_a_scene_has_lost_do_no_harm(bench: Bench) -> None:
    """Their names stay in the parameters where a file of the scene could not be read."""
    bench.parameters.segmentations = [bench.segmentation("heart", "LV")]
    lost = "vtkMRMLSegmentationNode99"
    for name in ("segmentations", "resultDrawn", "resultPropagated"):
        bench.parameters.parameterNode.AddNodeReferenceID(name, lost)
    bench.pair()
    assert bench.ui.segmentationsSelector.toolTip == "To be carried to the fixed image: heart."
    assert bench.ui.outputSegmentationSelector.enabled
    bench.click("applyButton")
    bench.wait(lambda: not bench.busy)
    bench.parameters.parameterNode.AddNodeReferenceID("resultPropagated", lost)
    bench.parameters.showBefore = True
    assert len(bench.runs[0].inputs.segmentations) == 1


def test_segmentations_of_the_parameters_are_shown_as_checked(bench: Bench) -> None:
    node = bench.segmentation("heart", "LV")
    bench.parameters.segmentations = [node]
    assert bench.ui.segmentationsSelector.checkedNodes() == [node]


def test_a_scene_that_is_read_unchecks_nothing(bench: Bench) -> None:
    """CTK notices that checked nodes have gone when others come, and says so in the midst of reading."""
    from PySide6.QtCore import Qt

    node, scene = bench.segmentation("heart", "LV"), bench.mrml.scene
    bench.parameters.segmentations = [node]
    scene.StartState(scene.ImportState)
    bench.ui.segmentationsSelector.setCheckState(node, Qt.CheckState.Unchecked)
    assert list(bench.parameters.segmentations) == [node]
    scene.EndState(scene.ImportState)
    assert bench.ui.segmentationsSelector.checkedNodes() == [node]


def test_a_mask_that_is_read_keeps_its_segment(bench: Bench) -> None:
    heart, scene = bench.segmentation("heart", "LV", "RV"), bench.mrml.scene
    bench.parameters.fixedMask, bench.parameters.fixedMaskSegment = heart, "RV"
    scene.StartState(scene.ImportState)
    heart.GetSegmentation().RemoveSegment("RV")
    heart.GetSegmentation().AddEmptySegment("RV", "RV")
    scene.EndState(scene.ImportState)
    assert bench.parameters.fixedMaskSegment == "RV"
    assert bench.ui.fixedMaskSegmentSelector.currentText == "RV"


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
    starts = ["Where they fit best", "Centres on each other", "As in the scanner", "Second best"]
    assert _items(bench.ui.initializeSelector) == starts
    bench.ui.initialTransformSelector.setCurrentNode(bench.mrml.add("LinearTransform", "by hand"))
    assert not bench.ui.initializeSelector.enabled


def test_the_second_best_start_is_greyed_out_where_there_is_none(bench: Bench) -> None:
    from PySide6.QtCore import Qt

    from DLIRRegistrationLib.panel.choices import Kind, Start

    box, row = bench.ui.initializeSelector, 3
    assert box.itemText(row) == "Second best"
    for model, kind, free in (
        ("auto", "DEFORMABLE", False),
        ("cardiac-cine", "DEFORMABLE", False),
        ("none", "DEFORMABLE", True),
        ("auto", "RIGID", True),
    ):
        bench.parameters.model, bench.parameters.kind = model, Kind[kind]
        bench.settle()
        assert box.model().item(row).isEnabled() is free
        hint = box.itemData(row, Qt.ItemDataRole.ToolTipRole)
        assert ("Model: None" in hint) is not free
    bench.pair()
    bench.parameters.initialize = Start.SECOND
    bench.parameters.kind = Kind.DEFORMABLE
    bench.settle()
    assert not bench.ui.applyButton.enabled, "said before it is asked for, not after"
    assert "Model: None" in bench.ui.applyButton.toolTip


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
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.models.choose_file", lambda *_: chosen)
    bench.click("addModelButton")
    assert _items(bench.ui.modelSelector) == [*shipped[:-1], "mine", shipped[-1]]
    assert bench.ui.removeModelButton.enabled
    assert "mine.safetensors" in bench.ui.modelCardView.plainText
    bench.ui.modelSelector.currentIndex = len(shipped) - 1
    assert bench.parameters.model == "mine"

    bench.click("addModelButton")
    assert "already is a model 'mine'" in bench.ui.statusLabel.text

    bench.pair()
    assert bench.ui.applyButton.enabled
    bench.click("removeModelButton")
    assert _items(bench.ui.modelSelector) == shipped
    assert "There is no model 'mine'" in bench.ui.applyButton.toolTip
    assert list(folder.iterdir()) == []
    assert own.exists()


def test_a_file_that_is_no_model_is_refused(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"nonsense")
    monkeypatch.setattr("DLIRRegistrationLib.panel.sections.models.choose_file", lambda *_: str(wrong))
    bench.unfold("modelsButton")
    shipped = _items(bench.ui.modelSelector)
    bench.click("addModelButton")
    assert "wrong.safetensors" in bench.ui.statusLabel.text
    assert _items(bench.ui.modelSelector) == shipped


class Foreseeing:
    """Stands in for the Logic's `foreseeModel`: answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any]] = []
        self.active = False

    def __call__(self, fixed: Any, moving: Any, done: Any) -> Any:
        self.asked.append((fixed, moving))
        self.active, self._done = True, done
        return self

    def answer(self, found: Any) -> None:
        self.active = False
        self._done(found)


def test_automatic_says_beforehand_which_model_and_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from DLIRRegistrationLib.logic import Foreseen

    foresee = Foreseeing()
    monkeypatch.setattr(bench.logic, "foreseeModel", foresee)
    inputs, card = bench.widget.panel.inputs, bench.ui.modelCardLabel
    assert not inputs.follow()
    assert foresee.asked == [], "there is nothing to look at"
    fixed, moving = bench.pair()
    assert inputs.follow()
    assert foresee.asked == [(fixed, moving)]
    assert card.text.startswith("Looking which model")
    foresee.answer(Foreseen("cardiac-cine", 0.7, False))
    assert card.text.startswith("cardiac-cine, which was made for such images: heart, short axis")
    assert "CC BY-NC-SA" in card.text
    assert not inputs.follow()
    assert len(foresee.asked) == 1, "the same images are looked at once"

    bench.parameters.movingVolume = bench.volume("another")
    inputs.follow()
    foresee.answer(Foreseen("cardiac-cine", 1.5, True))
    assert card.text.startswith("cardiac-cine, if its networks find these images like their own")
    bench.parameters.movingVolume = bench.volume("a third one")
    inputs.follow()
    foresee.answer(Foreseen(None, 30.0, False))
    assert card.text == "No installed model was made for such images: this pair will be optimised."
    bench.parameters.movingVolume = moving
    inputs.follow()
    foresee.answer(None)
    assert card.text == "The installed model that was made for such images, or optimisation."


def test_nothing_is_foreseen_where_a_model_is_chosen_or_another_kind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from DLIRRegistrationLib.panel.choices import Kind

    foresee = Foreseeing()
    monkeypatch.setattr(bench.logic, "foreseeModel", foresee)
    bench.pair()
    bench.parameters.model = "cardiac-cine"
    assert not bench.widget.panel.inputs.follow()
    bench.parameters.model = "auto"
    bench.parameters.kind = Kind.RIGID
    assert not bench.widget.panel.inputs.follow()
    assert foresee.asked == []


def test_a_model_for_images_of_another_size_says_so(bench: Bench) -> None:
    import numpy as np

    from grids import make_grid

    bench.pair()
    bench.parameters.model = "hippocampus"
    assert len(bench.ui.modelCardLabel.text.splitlines()) == 1
    large = make_grid((6, 20, 24), (15.0, 15.0, 80.0))
    bench.parameters.fixedVolume = bench.mrml.volume(np.ones(large.shape, np.int16), large, "chest")
    _card, wrong = bench.ui.modelCardLabel.text.splitlines()
    assert wrong.startswith("Made for images of ")
    assert wrong.endswith("'chest' measures 360 x 300 x 480 mm.")
