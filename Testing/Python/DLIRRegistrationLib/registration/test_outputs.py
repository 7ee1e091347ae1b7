"""Results go into the scene together or not at all."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.registration.outputs import Outputs, in_scene
from DLIRRegistrationLib.scene.sequences import index_values
from DLIRRegistrationLib.scene.volumes import set_volume
from grids import make_grid

if TYPE_CHECKING:
    from mrml import MRML

GRID = make_grid((3, 4, 5), (1, 2, 3), (10, 20, 30), (0.1, 0.2, 0.3))


def content(value: float) -> Any:
    node = slicer.vtkMRMLScalarVolumeNode()
    set_volume(node, np.full(GRID.shape, value, np.float32), GRID)
    return node


def fail(node: Any) -> None:
    raise RuntimeError("no")


def state(mrml: MRML) -> list[tuple[str, str]]:
    nodes = [mrml.scene.GetNthNode(number) for number in range(mrml.scene.GetNumberOfNodes())]
    return [(node.GetID(), node.GetName()) for node in nodes]


def test_new_nodes_get_names_of_their_own(scene: MRML) -> None:
    for expected in ("result", "result_1"):
        outputs = Outputs(scene.scene)
        outputs.add("it", content(1), None, "result")
        node = outputs.apply()["it"]
        assert in_scene(scene.scene, node)
        assert node.GetName() == expected


def test_a_chosen_node_takes_over_the_content_and_keeps_what_is_its_own(scene: MRML) -> None:
    target = scene.volume(np.zeros((2, 2, 2), np.uint8), make_grid((2, 2, 2)), "mine")
    target.SetAttribute("mark", "kept")
    target.SetAndObserveTransformNodeID(scene.linear_transform(np.eye(4)).GetID())
    identity, display = target.GetID(), target.GetDisplayNode()
    outputs = Outputs(scene.scene)
    outputs.add("it", content(7), target, "result")
    assert outputs.apply()["it"] is target
    assert (target.GetName(), target.GetID(), target.GetAttribute("mark")) == ("mine", identity, "kept")
    assert target.GetDisplayNode() is display
    assert target.GetParentTransformNode() is None
    assert np.array_equal(slicer.util.arrayFromVolume(target), np.full(GRID.shape, 7))


def test_a_chosen_node_that_has_left_the_scene_is_replaced_by_a_new_one(scene: MRML) -> None:
    target = scene.add("ScalarVolume", "mine")
    outputs = Outputs(scene.scene)
    outputs.add("it", content(7), target, "result")
    scene.scene.RemoveNode(target)
    node = outputs.apply()["it"]
    assert node is not target
    assert node.GetName() == "result"
    assert target.GetImageData() is None


def test_what_was_overwritten_is_let_go(scene: MRML) -> None:
    """Nothing may hold the memory of a former result."""
    target = scene.volume(np.zeros(GRID.shape, np.float32), GRID, "mine")
    former = target.GetImageData()
    outputs = Outputs(scene.scene)
    outputs.add("it", content(7), target, "result")
    outputs.apply()
    del outputs
    gc.collect()
    assert former.GetReferenceCount() == 1  # that of this test


@pytest.mark.parametrize("kind", ["ScalarVolume", "Transform", "Segmentation", "Table", "MarkupsFiducial", "Sequence"])
def test_a_failure_takes_everything_back(scene: MRML, kind: str) -> None:
    """Of each kind of node: what it held, and whose child it was, is as before; new nodes are gone."""
    target, filled = scene.add(kind, "mine"), getattr(slicer, f"vtkMRML{kind}Node")()
    for node, number in ((target, 1), (filled, 2)):
        fill(node, number)
    if target.IsA("vtkMRMLTransformableNode"):
        target.SetAndObserveTransformNodeID(scene.linear_transform(np.eye(4), "parent").GetID())
    before, held = state(scene), held_by(target)
    assert held_by(filled) != held
    outputs = Outputs(scene.scene)
    outputs.add("new", content(1), None, "new", lambda node: node.CreateDefaultDisplayNodes())
    outputs.add("old", filled, target, "old", fail)
    with pytest.raises(RuntimeError, match="no"):
        outputs.apply()
    assert state(scene) == before
    assert held_by(target) == held
    if target.IsA("vtkMRMLTransformableNode"):
        assert target.GetParentTransformNode().GetName() == "parent"


def fill(node: Any, number: int) -> None:
    """Puts something that depends on `number` into a node."""
    if node.IsA("vtkMRMLScalarVolumeNode"):
        set_volume(node, np.full(GRID.shape, number, np.float32), GRID)
    elif node.IsA("vtkMRMLTransformNode"):
        matrix = np.eye(4)
        matrix[0, 3] = number
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    elif node.IsA("vtkMRMLSegmentationNode"):
        node.GetSegmentation().AddEmptySegment(f"segment {number}")
    elif node.IsA("vtkMRMLTableNode"):
        node.AddColumn().SetName(f"column {number}")
    elif node.IsA("vtkMRMLMarkupsFiducialNode"):
        node.AddControlPoint(number, 0, 0)
    else:
        node.SetDataNodeAtValue(content(number), str(number))


def held_by(node: Any) -> Any:
    """The part of a node's content that `fill` makes."""
    if node.IsA("vtkMRMLScalarVolumeNode"):
        return slicer.util.arrayFromVolume(node).max()
    if node.IsA("vtkMRMLTransformNode"):
        return slicer.util.arrayFromTransformMatrix(node)[0, 3]
    if node.IsA("vtkMRMLSegmentationNode"):
        return node.GetSegmentation().GetNthSegmentID(0)
    if node.IsA("vtkMRMLTableNode"):
        return node.GetTable().GetColumnName(0)
    if node.IsA("vtkMRMLMarkupsFiducialNode"):
        return node.GetNthControlPointPosition(0)
    return index_values(node), [held_by(node.GetNthDataNode(number)) for number in range(node.GetNumberOfDataNodes())]
