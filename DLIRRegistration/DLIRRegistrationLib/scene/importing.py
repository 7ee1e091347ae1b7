"""What nodes of which a scene has one each refer to, kept while another scene is read into one that is not empty.

The parameters of a module and what a view shows are such nodes: those of the scene that is read take their place.
Slicer loses their references twice. Where both refer to a node by one ID, it gives the node that is read another ID
and drops the reference, which does not happen where the present node refers to nothing. And the lists of nodes above
the views, filled anew at the end, take away what they did not show before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

# On a node whose references are kept; gone when the node of the scene that was read has taken its place.
_MARK = "DLIR.Kept"

References = dict[str, list[str]]


class Imports:
    """From now on, the nodes keep what they refer to, until `close`.

    parameter_node: gives the module's own; besides, all nodes are looked after that say what slice views show.
    """

    def __init__(self, scene: Any, parameter_node: Callable[[], Any]) -> None:
        self._scene, self._parameter_node = scene, parameter_node
        self._kept: list[tuple[Any, References]] = []
        self._tags = [
            scene.AddObserver(scene.StartImportEvent, self._on_start, 100.0),
            # Before the lists of nodes hear of it, and after them.
            scene.AddObserver(scene.EndImportEvent, self._on_end, 100.0),
            scene.AddObserver(scene.EndBatchProcessEvent, self._on_filled, -50.0),
        ]

    def close(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _nodes(self) -> list[Any]:
        return [self._parameter_node(), *slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]

    def _on_start(self, scene: Any, event: str) -> None:
        self._kept = [(node, references(node)) for node in self._nodes()]
        for node, kept in self._kept:
            was = node.StartModify()
            for role in kept:
                node.RemoveNodeReferenceIDs(role)
            node.SetAttribute(_MARK, "1")
            node.EndModify(was)

    def _on_end(self, scene: Any, event: str) -> None:
        for node, kept in self._kept:
            if node.GetAttribute(_MARK) is not None:
                node.RemoveAttribute(_MARK)
                refer(node, kept)
        self._kept = [(node, references(node)) for node in self._nodes()]

    def _on_filled(self, scene: Any, event: str) -> None:
        for node, kept in self._kept:
            refer(node, kept)
        self._kept = []


def references(node: Any) -> References:
    """The IDs of the nodes that a node refers to, by role, as far as these are in the scene."""
    roles: list[str] = []
    node.GetNodeReferenceRoles(roles)
    found = {}
    for role in roles:
        count = node.GetNumberOfNodeReferences(role)
        targets = [node.GetNthNodeReference(role, number) for number in range(count)]
        found[role] = [target.GetID() for target in targets if target is not None]
    return found


def refer(node: Any, wanted: References) -> None:
    """Have a node refer to these; roles that are not named stay as they are."""
    present = references(node)
    was = node.StartModify()
    for role, targets in wanted.items():
        if present.get(role, []) != targets:
            node.RemoveNodeReferenceIDs(role)
            for number, target in enumerate(targets):
                node.SetNthNodeReferenceID(role, number, target)
    node.EndModify(was)
