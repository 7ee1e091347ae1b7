"""A scene read into one that is not empty: views show what was saved, whatever the lists of volumes write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer

from DLIRRegistrationLib.display.importing import Imports, refer, references
from slice_pictures import half_bright

if TYPE_CHECKING:
    from mrml import MRML
    from slicer_windows import Windows


@pytest.fixture
def lists(scene: MRML) -> Iterator[None]:
    """What the lists of volumes do in Slicer 5.13 when a scene has been read: they write that nothing is chosen."""
    scene_node = scene.scene

    def forget(caller: Any, event: str) -> None:
        for composite in _composites():
            composite.SetBackgroundVolumeID(None)

    tag = scene_node.AddObserver(scene_node.EndImportEvent, forget)
    yield
    scene_node.RemoveObserver(tag)


@pytest.fixture
def saved(scene: MRML, windows: Windows, tmp_path: Path) -> Path:
    """A scene with two volumes in the views; the scene that is open has another two instead."""
    _show(*(half_bright(scene, name, left=True) for name in ("one", "two")))
    path = tmp_path / "scene.mrb"
    scene.save(path)
    scene.scene.Clear(0)
    _show(*(half_bright(scene, name, left=True) for name in ("here", "there")))
    return path


def _composites() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _show(below: Any, above: Any) -> None:
    for composite in _composites():
        composite.SetBackgroundVolumeID(below.GetID())
        composite.SetForegroundVolumeID(above.GetID())


def _shown() -> set[tuple[str | None, ...]]:
    roles = ("backgroundVolume", "foregroundVolume")
    found = [[composite.GetNodeReference(role) for role in roles] for composite in _composites()]
    return {tuple(node.GetName() if node is not None else None for node in nodes) for nodes in found}


def test_views_show_what_was_saved(scene: MRML, saved: Path, lists: None) -> None:
    guard = Imports(scene.scene)
    scene.add_scene(saved)
    assert _shown() == {("one", "two")}
    guard.close()


def test_nothing_is_observed_after_closing(scene: MRML, saved: Path, lists: None) -> None:
    Imports(scene.scene).close()
    scene.add_scene(saved)
    assert _shown() == {(None, "two")}


def test_what_a_user_changes_later_stays(scene: MRML, saved: Path) -> None:
    guard = Imports(scene.scene)
    scene.add_scene(saved)
    _show(*(slicer.mrmlScene.GetFirstNodeByName(name) for name in ("here", "there")))
    scene.scene.StartState(scene.scene.BatchProcessState)
    scene.scene.EndState(scene.scene.BatchProcessState)
    assert _shown() == {("here", "there")}
    guard.close()


def test_references_of_one_role_and_of_many(scene: MRML) -> None:
    one, two = (half_bright(scene, name, left=True) for name in ("one", "two"))
    node = scene.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    refer(node, {"image": [one.GetID()], "images": [one.GetID(), two.GetID()]})
    assert references(node) == {"image": [one.GetID()], "images": [one.GetID(), two.GetID()]}
    refer(node, {"images": [two.GetID()]})
    assert references(node) == {"image": [one.GetID()], "images": [two.GetID()]}
    scene.scene.RemoveNode(two)
    assert references(node).get("images", []) == []
