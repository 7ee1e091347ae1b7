"""The module is opened for the first time: nothing is imported at load, two volumes, Apply, and what is seen then."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import Bench, play
from scene_state import check_scene, layers, references, shown_views

# What nobody needs before the module is opened, or before something is registered.
NOT_AT_LOAD = ("SimpleITK", "scipy", "torch", "typer", "rich", "safetensors", "DLIRRegistrationLib.logic")
NOT_AT_OPENING = ("scipy", "torch", "typer", "rich", "safetensors")


def slicer_has_started_without_reading_the_library(bench: Bench) -> None:
    assert "DLIRRegistration" in slicer.util.moduleNames(), "the module is there"
    assert [name for name in NOT_AT_LOAD if name in sys.modules] == []


def the_panel_opens(bench: Bench) -> None:
    bench.open()
    assert [name for name in NOT_AT_OPENING if name in sys.modules] == []
    assert not bench.ui.applyButton.enabled, "there is nothing to register yet"
    assert bench.ui.applyButton.toolTip, "the button says why"
    assert not bench.ui.installWidget.visible, (
        f"this Slicer has what registration needs; it says: {bench.ui.installLabel.text}"
    )
    check_scene(bench)


def two_volumes_are_proposed(bench: Bench) -> None:
    bench.load_sample()
    bench.until(lambda: bench.parameters.movingVolume is not None, "the volumes are proposed", 10)
    assert bench.parameters.fixedVolume.GetName() == "fixed_ed"
    assert bench.parameters.movingVolume.GetName() == "moving_es"
    bench.clear()


def apply_registers(bench: Bench) -> None:
    bench.choose_sample()
    bench.apply()
    parameters = bench.parameters
    assert parameters.verdictLevel == "good", f"the verdict is good: {parameters.verdictReason}"
    assert parameters.resultTable.GetNumberOfRows() > 0
    assert bench.ui.verdictReasonLabel.visible
    assert "Good" in bench.ui.verdictReasonLabel.text
    assert not bench.ui.statusLabel.visible, f"the verdict stands with the result, once: {bench.ui.statusLabel.text}"
    for node in (parameters.resultWarped, parameters.resultTransform, parameters.resultJacobian):
        assert slicer.mrmlScene.IsNodePresent(node)
    assert [node.GetName() for node in parameters.resultPropagated] == ["moving_es_label on fixed_ed"]
    check_scene(bench)


def the_result_is_shown(bench: Bench) -> None:
    """The fixed volume below in every view, and something over it in one of them at least; outlines and no fills."""
    found = [layers(view) for view in shown_views()]
    assert {below for below, above in found} == {"fixed_ed"}, f"the fixed volume is seen: {found}"
    assert bench.parameters.resultWarped.GetName() in {above for below, above in found}, f"the warped too: {found}"
    for node in bench.parameters.resultPropagated:
        display = node.GetDisplayNode()
        assert display.GetVisibility()
        assert not display.GetVisibility2DFill()


def the_transform_knows_its_images(bench: Bench) -> None:
    found = references(bench.parameters.resultTransform)
    assert found["spatialRegistrationFixed"] == ["fixed_ed"]
    assert found["spatialRegistrationMoving"] == ["moving_es"]


def the_licence_of_the_model_is_agreed_to_once(bench: Bench) -> None:
    """With somebody there to answer, who is played here: a window that waits would wait for ever."""
    from DLIRRegistrationLib.panel.parts import licence

    asked: list[str] = []
    can_ask, agreed = licence.can_ask, licence.agreed
    licence.can_ask = lambda: True
    try:
        licence.agreed = lambda text, title: bool(asked.append(text))
        bench.ui.applyButton.click()
        assert not bench.busy, "nothing runs without consent"
        licence.agreed = lambda text, title: asked.append(text) is None
        bench.apply()
        bench.apply()
    finally:
        licence.can_ask, licence.agreed = can_ask, agreed
    assert len(asked) == 2, f"asked until agreed to, and no more: {len(asked)} times"
    assert "CC BY-NC-SA 4.0" in asked[0]


play(
    slicer_has_started_without_reading_the_library,
    the_panel_opens,
    two_volumes_are_proposed,
    apply_registers,
    the_result_is_shown,
    the_transform_knows_its_images,
    the_licence_of_the_model_is_agreed_to_once,
)
