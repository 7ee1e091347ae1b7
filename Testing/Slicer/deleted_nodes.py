"""Each node of a result, and of what shows it, is deleted at some moment: what is left is whole, and works."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import Bench, play
from scene_state import check_scene, checkerboards, nodes, results

# Names of parameters, whose nodes are deleted one after the other, each from a whole result.
DELETED = ("resultWarped", "resultTransform", "resultJacobian", "resultTable", "resultFixed", "resultMoving")


def registered(bench: Bench) -> None:
    bench.open()
    bench.choose_sample()
    bench.apply()
    check_scene(bench)


def what_is_deleted_by_its_name(bench: Bench) -> None:
    for name in DELETED:
        _everything_on(bench)
        _delete(bench, getattr(bench.parameters, name))
        assert getattr(bench.parameters, name) is None, f"'{name}' is forgotten"
        _toggle(bench)
        _again(bench)


def what_was_propagated(bench: Bench) -> None:
    for name in ("resultPropagated", "resultDrawn"):
        _everything_on(bench)
        _delete(bench, getattr(bench.parameters, name)[0])
        assert list(getattr(bench.parameters, name)) == [], f"'{name}' is forgotten"
        _toggle(bench)
        _again(bench)


def what_shows_it(bench: Bench) -> None:
    """Display nodes, colours, legend and checkerboard, which few users know of."""
    bench.clear()  # what was drawn has been deleted
    bench.choose_sample()
    bench.apply()
    for find in (
        lambda: nodes("vtkMRMLColorLegendDisplayNode"),
        lambda: checkerboards(),
        lambda: [bench.parameters.resultJacobian.GetDisplayNode()],
        lambda: [bench.parameters.resultPropagated[0].GetDisplayNode()],
        lambda: [node for node in nodes("vtkMRMLColorTableNode") if node.GetAttribute("DLIR.JacobianColors")],
    ):
        _everything_on(bench)
        found = find()
        assert found, "there is such a node"
        _delete(bench, found[0])
        _toggle(bench)
        _again(bench)


def the_parameters_themselves(bench: Bench) -> None:
    slicer.mrmlScene.RemoveNode(bench.parameters.parameterNode)
    bench.spin(0.3)
    slicer.util.selectModule("Data")
    bench.open()
    check_scene(bench)
    bench.choose_sample()
    bench.apply()
    check_scene(bench)


def everything_at_once(bench: Bench) -> None:
    """As by selecting all in the Data module."""
    _everything_on(bench)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.RemoveItemChildren(hierarchy.GetSceneItemID())
    bench.spin(0.3)
    check_scene(bench)
    bench.collect()
    assert results() == [], f"no node is left: {[node.GetName() for node in results()]}"


def _everything_on(bench: Bench) -> None:
    bench.parameters.checkerboard = True
    bench.spin(0.1)
    if bench.ui.layoutButton.enabled:
        bench.ui.layoutButton.click()
    bench.spin(0.2)


def _delete(bench: Bench, node: object) -> None:
    """As the Data module does it, with what belongs to the node; display nodes as a script does."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.RemoveItem(item)
    else:
        slicer.mrmlScene.RemoveNode(node)
    bench.spin(0.3)
    check_scene(bench)


def _toggle(bench: Bench) -> None:
    for name in ("checkerboard", "showBefore", "showJacobian", "showOutlines"):
        for value in (not getattr(bench.parameters, name), getattr(bench.parameters, name)):
            setattr(bench.parameters, name, value)
            bench.spin(0.05)
    check_scene(bench)


def _again(bench: Bench) -> None:
    """A new registration, from what is left of the pair or from a new one."""
    if not bench.ui.applyButton.enabled:
        bench.clear()
        bench.choose_sample()
    bench.apply()
    check_scene(bench)


play(
    registered,
    what_is_deleted_by_its_name,
    what_was_propagated,
    what_shows_it,
    the_parameters_themselves,
    everything_at_once,
)
