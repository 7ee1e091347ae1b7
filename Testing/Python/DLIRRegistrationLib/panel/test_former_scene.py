"""A scene saved before today opens with its result: every choice, every role of a node, and what is made of them.

Testing/Data/scene-1.mrb was saved by Slicer 5.13 itself with the panel of DLIR 0.1: a coarse middle of the sample pair,
registered from the scanner's positions, then seen side by side with the deformation's grid and the Jacobian.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.display import layout
from DLIRRegistrationLib.display.deformation import show_grid
from DLIRRegistrationLib.logic import DLIRRegistrationLogic, OutputSelection, RegistrationNodes
from DLIRRegistrationLib.scene.jacobian_colors import apply_jacobian_colors, has_jacobian_colors
from DLIRRegistrationLib.scene.markups import positions
from DLIRRegistrationLib.scene.segmentations import segment_volumes_ml

if TYPE_CHECKING:
    from mrml import MRML
    from panel_bench import Bench

OLD = Path(__file__).resolve().parents[3] / "Data" / "scene-1.mrb"
# Nodes by the parameter that names them, and the other values that are not the defaults.
NODES = {
    "fixedVolume": "ED",
    "movingVolume": "ES",
    "fixedMask": "ED drawn",
    "fixedSegmentation": "ED drawn",
    "movingLandmarks": "apex",
    "resultFixed": "ED",
    "resultMoving": "ES",
    "resultWarped": "ES registered to ED",
    "resultTransform": "ES registered to ED transform",
    "resultJacobian": "ES registered to ED Jacobian",
    "resultTable": "ES registered to ED report",
}
LISTS = {"segmentations": ["ES drawn"], "resultDrawn": ["ES drawn"], "resultPropagated": ["ES drawn on ED"]}
VALUES = {
    "model": "cardiac-cine",
    "fixedMaskSegment": "Segment_1",
    "initialize": "scanner",
    "device": "cpu",
    "transformKind": "native",
    "checkerboard": False,
    "checkerboardSize": 12.5,
    "fade": 0.25,
    "jacobianOpacity": 0.4,
    "showGrid": True,
    "showJacobian": True,
    "referenceFrame": 1,
    "wantJacobian": True,
    "trainingData": "images",
    "trainingPreset": "hippocampus",
    "trainingOutput": "runs/one",
    "verdictLevel": "good",
}


@pytest.fixture
def old(scene: MRML) -> MRML:
    scene.load(OLD)
    return scene


def test_the_panel_shows_every_choice_and_the_result(bench: Bench) -> None:
    bench.mrml.load(OLD)
    bench.settle()
    parameters = bench.parameters
    assert {name: getattr(parameters, name).GetName() for name in NODES} == NODES
    assert {name: [node.GetName() for node in getattr(parameters, name)] for name in LISTS} == LISTS
    found = {name: getattr(parameters, name) for name in VALUES}
    assert {name: getattr(value, "value", value) for name, value in found.items()} == VALUES
    assert parameters.movingMask is None
    assert parameters.verdictReason in bench.ui.verdictReasonLabel.text
    assert bench.ui.applyButton.enabled


def test_no_choice_that_was_saved_has_gone(bench: Bench) -> None:
    with zipfile.ZipFile(OLD) as archive:
        text = archive.read("scene-1/scene-1.mrml").decode()
    saved = set(re.findall(r'parameter\d+= "(\w+)', text))
    assert len(saved) > len(NODES) + len(LISTS) + len(VALUES)
    assert saved <= set(bench.parameters.allParameters)


def test_the_result_knows_what_belongs_to_it(old: MRML) -> None:
    transform, table = old.node(NODES["resultTransform"]), old.node(NODES["resultTable"])
    assert transform.GetNodeReference(transform.GetFixedNodeReferenceRole()) is old.node("ED")
    assert transform.GetNodeReference(transform.GetMovingNodeReferenceRole()) is old.node("ES")
    for node in (transform, old.node(NODES["resultWarped"])):
        assert node.GetNodeReference("DLIR.report") is table
    assert [table.GetTable().GetColumnName(i) for i in range(4)] == ["Measure", "Before", "After", "Unit"]
    assert table.GetCellText(0, 0) == "Similarity (NCC)"


def test_the_transform_is_what_the_result_was_made_with(old: MRML) -> None:
    logic, fixed, transform = DLIRRegistrationLogic(), old.node("ED"), old.node(NODES["resultTransform"])
    jacobian = slicer.util.arrayFromVolume(logic.jacobianVolume(transform, fixed))
    saved = slicer.util.arrayFromVolume(old.node(NODES["resultJacobian"]))
    assert np.abs(jacobian - saved).max() < 0.1  # then interpolated, exact now
    again = logic.propagateSegmentation(old.node("ES drawn"), transform, fixed)
    volumes = [list(segment_volumes_ml(node).values()) for node in (again, old.node("ES drawn on ED"))]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)
    carried = positions(logic.propagateMarkups(old.node("apex"), transform))
    np.testing.assert_allclose(carried, positions(old.node("apex on ED")), atol=0.05)


def test_colours_grid_and_layout_are_known_again(old: MRML) -> None:
    jacobian, transform = old.node(NODES["resultJacobian"]), old.node(NODES["resultTransform"])
    assert has_jacobian_colors(jacobian)
    tables = old.scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")
    apply_jacobian_colors(jacobian)
    show_grid(transform, True)
    assert old.scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode") == tables
    assert transform.GetNumberOfDisplayNodes() == 1
    saved = old.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert saved.GetViewArrangement() == layout.LAYOUT_ID
    views = {node.GetLayoutName() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    assert set(layout.VIEW_NAMES) <= views


def test_it_can_be_registered_again_into_the_same_nodes(old: MRML, logic: DLIRRegistrationLogic) -> None:
    former = {name: old.node(NODES[name]) for name in ("resultWarped", "resultTransform", "resultJacobian")}
    warped, transform, jacobian = former.values()
    before = slicer.util.arrayFromVolume(warped).astype(float)
    result = logic.register(
        old.node("ED"),
        old.node("ES"),
        initialize="scanner",
        device="cpu",
        outputs=OutputSelection(warped=warped, transform=transform, jacobian=jacobian),
    )
    assert isinstance(result, RegistrationNodes)
    assert (result.warped, result.transform, result.jacobian) == (warped, transform, jacobian)
    assert result.table is old.node(NODES["resultTable"])  # which takes the place of the former one
    again = slicer.util.arrayFromVolume(result.warped).astype(float)
    assert np.corrcoef(before.ravel(), again.ravel())[0, 1] > 0.9999
