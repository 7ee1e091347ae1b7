"""The life of a scene: registered, saved, closed, opened, read into another one, undone, two after one another."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from bench import SAMPLE, Bench, play
from scene_state import check_scene, drawn_legends, layers, nodes, parameter_nodes, references, results, shown_views

FOLDER = Path(tempfile.mkdtemp(prefix="dlir-scene-"))
SIDE_BY_SIDE, PLAIN = FOLDER / "side-by-side.mrb", FOLDER / "plain.mrb"
VIEWS = ["DLIRFixed", "DLIRWarped", "DLIRJacobian"]
WARPED = "moving_es registered to fixed_ed"
CHOSEN = {
    "fixedVolume": ["fixed_ed"],
    "movingVolume": ["moving_es"],
    "fixedSegmentation": ["fixed_ed_label"],
    "segmentations.0": ["moving_es_label"],
    "resultFixed": ["fixed_ed"],
    "resultMoving": ["moving_es"],
    "resultWarped": [WARPED],
    "resultTransform": [f"{WARPED} transform"],
    "resultJacobian": [f"{WARPED} Jacobian"],
    "resultTable": [f"{WARPED} report"],
    "resultDrawn.0": ["moving_es_label"],
    "resultPropagated.0": ["moving_es_label on fixed_ed"],
    "resultScoredBy": ["fixed_ed_label"],
}


def registered_and_saved(bench: Bench) -> None:
    bench.open()
    bench.choose_sample()
    bench.apply()
    bench.parameters.showJacobian = True
    bench.until(lambda: drawn_legends() == set(shown_views()), "every view has its legend", 20)
    check_scene(bench)
    bench.save(PLAIN)
    _show_side_by_side(bench)
    _check_side_by_side(bench)
    bench.save(SIDE_BY_SIDE)


def closed(bench: Bench) -> None:
    bench.clear()
    _check_empty(bench)


def opened_again(bench: Bench) -> None:
    bench.load(SIDE_BY_SIDE)
    _check_whole(bench)
    _check_side_by_side(bench)


def the_result_can_be_worked_with(bench: Bench) -> None:
    """What was opened is registered again, into new nodes, and looked at in other ways."""
    bench.apply()
    check_scene(bench)
    _toggle_all(bench)


def another_scene_after_it(bench: Bench) -> None:
    bench.clear()
    _check_empty(bench)
    bench.load(PLAIN)
    _check_whole(bench)
    assert shown_views() != VIEWS, "the layout is that of the scene"
    bench.until(lambda: drawn_legends() == set(shown_views()), "every view has its legend", 20)
    bench.clear()
    _check_empty(bench)


def read_into_a_scene_with_volumes(bench: Bench) -> None:
    """Of the same names and IDs: the panel is about those that were read."""
    before = bench.load_sample()
    bench.load(SIDE_BY_SIDE)
    _check_whole(bench)
    _check_side_by_side(bench)
    assert bench.parameters.fixedVolume is not before[0], "the fixed volume is that of the scene that was read"
    bench.clear()


def read_into_a_scene_with_a_result(bench: Bench) -> None:
    bench.choose_sample()
    bench.apply()
    bench.parameters.showJacobian = True
    bench.spin(0.3)
    former = bench.parameters.resultWarped
    for path in (PLAIN, SIDE_BY_SIDE):
        bench.load(path)
        _check_whole(bench)
        assert bench.parameters.resultWarped is not former, "the result is that of the scene that was read"
        assert drawn_legends(), "there is a legend"
    _check_side_by_side(bench)
    _toggle_all(bench)


def read_without_parameters(bench: Bench) -> None:
    """A scene that knows nothing of this module leaves the panel as it is."""
    bench.clear()
    slicer.util.loadVolume(str(SAMPLE / "fixed_ed.nrrd"))
    for node in parameter_nodes():
        node.SetSaveWithScene(False)
    bench.save(FOLDER / "other.mrb")
    for node in parameter_nodes():
        node.SetSaveWithScene(True)
    bench.clear()
    bench.choose_sample()
    bench.apply()
    bench.load(FOLDER / "other.mrb")
    _check_whole(bench)


def undone(bench: Bench) -> None:
    """Undo takes a node away or brings one back, with the module's panel open."""
    scene = slicer.mrmlScene
    scene.SetUndoOn()
    try:
        for node in [*nodes("vtkMRMLDisplayableNode"), *nodes("vtkMRMLDisplayNode"), *nodes("vtkMRMLTableNode")]:
            node.SetUndoEnabled(True)
        scene.SaveStateForUndo()
        scene.RemoveNode(bench.parameters.resultWarped)
        bench.spin(0.3)
        check_scene(bench)
        scene.Undo()
        bench.spin(0.3)
        check_scene(bench)
        _toggle_all(bench)
        scene.SaveStateForUndo()
        bench.apply()
        scene.Undo()
        bench.spin(0.3)
        check_scene(bench)
        _toggle_all(bench)
    finally:
        scene.ClearUndoStack()
        scene.SetUndoOff()


def saved_as_single_files(bench: Bench) -> None:
    """With every file of its own beside the scene, as Slicer's Save window does."""
    bench.clear()
    bench.choose_sample()
    bench.apply()
    bench.save(FOLDER / "files")
    bench.clear()
    bench.load(FOLDER / "files" / "files.mrml")
    _check_whole(bench)


def closed_at_last(bench: Bench) -> None:
    bench.clear()
    _check_empty(bench)


def _show_side_by_side(bench: Bench) -> None:
    bench.ui.layoutButton.click()
    bench.spin(0.5)


def _check_whole(bench: Bench) -> None:
    """The scene has what was saved, and the panel shows it."""
    check_scene(bench)
    found = references(bench.parameters.parameterNode)
    assert found == CHOSEN, f"every reference of the parameters is there: {found}"
    assert bench.parameters.verdictLevel == "good"
    assert bench.ui.outlinesLegendLabel.text.count("■") == 2, "the panel names the colours of both outlines"
    assert bench.ui.applyButton.enabled, bench.ui.applyButton.toolTip


def _check_side_by_side(bench: Bench) -> None:
    assert shown_views() == VIEWS, f"three views are side by side: {shown_views()}"
    expected = [("fixed_ed", None), ("fixed_ed", WARPED), ("fixed_ed", f"{WARPED} Jacobian")]
    found = [layers(view) for view in VIEWS]
    assert found == expected, f"each view shows its volumes: {found}"
    bench.until(lambda: drawn_legends() >= {"DLIRJacobian"}, "the Jacobian has its legend", 20)


def _check_empty(bench: Bench) -> None:
    """Of what was registered nothing is left, neither in the scene nor in the panel."""
    check_scene(bench)
    assert results() == [], f"no node is left: {[node.GetName() for node in results()]}"
    assert nodes("vtkMRMLVolumeNode") == []
    assert bench.parameters.fixedVolume is None
    assert bench.parameters.resultTable is None
    assert not bench.ui.applyButton.enabled, "nothing can be registered"
    assert not bench.ui.resultWidget.visible, f"no verdict is shown: {bench.ui.verdictReasonLabel.text}"
    assert not bench.ui.statusLabel.visible, f"nothing is said of it: {bench.ui.statusLabel.text}"
    assert shown_views() != VIEWS, "the layout is the former one"


def _toggle_all(bench: Bench) -> None:
    """Every switch of the look on and off again, but those of grid and arrows, which take long to be drawn."""
    for name in ("checkerboard", "showBefore", "showJacobian", "showOutlines"):
        for value in (not getattr(bench.parameters, name), getattr(bench.parameters, name)):
            setattr(bench.parameters, name, value)
            bench.spin(0.05)
    check_scene(bench)


play(
    registered_and_saved,
    closed,
    opened_again,
    the_result_can_be_worked_with,
    another_scene_after_it,
    read_into_a_scene_with_volumes,
    read_into_a_scene_with_a_result,
    read_without_parameters,
    undone,
    saved_as_single_files,
    closed_at_last,
)
