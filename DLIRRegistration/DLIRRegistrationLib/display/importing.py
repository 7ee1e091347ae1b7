"""What the slice views show, kept while another scene is read into one that is not empty.

The nodes that say so take over what the scene that was read has in them. But the lists of volumes above the views,
which are filled anew at the end, do not find their former choice, and write "none" where a volume was read.
"""

from __future__ import annotations

from typing import Any

import slicer

References = dict[str, list[str]]


class Imports:
    """From now on, views show what the scene that was read has in them, until `close`."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._read: list[tuple[Any, References]] = []
        # Before the lists of nodes hear of it, and after they are filled.
        self._tags = [
            scene.AddObserver(scene.EndImportEvent, self._on_read, 100.0),
            scene.AddObserver(scene.EndBatchProcessEvent, self._on_filled, -50.0),
        ]

    def close(self) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _on_read(self, scene: Any, event: str) -> None:
        self._read = [(node, references(node)) for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")]

    def _on_filled(self, scene: Any, event: str) -> None:
        for node, read in self._read:
            refer(node, read)
        self._read = []


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
