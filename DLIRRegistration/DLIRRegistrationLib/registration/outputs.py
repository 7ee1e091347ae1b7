"""The nodes of a result: made ready outside of the scene, then put into it together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from DLIRRegistrationLib.scene.sequences import take_over


@dataclass(frozen=True)
class _Output:
    content: Any
    target: Any | None
    name: str
    finish: Callable[[Any], None]


class Outputs:
    """Collects results with `add` and puts them into `scene` with `apply`.

    What takes time happens before: contents are nodes that belong to no scene, and `apply` hands over pointers.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._outputs: dict[str, _Output] = {}
        self._undo: list[Callable[[], None]] = []

    def add(
        self,
        key: str,
        content: Any,
        target: Any | None,
        name: str,
        finish: Callable[[Any], None] = lambda node: None,
    ) -> None:
        """A result to be, which `apply` gives back by `key`.

        content: a node outside of any scene, in world coordinates. target: the node that takes over its content;
        None, or one that has left the scene by then: `content` itself becomes a new node called `name`.
        finish: called with the node in the scene, for what needs one: display nodes, references.
        """
        self._outputs[key] = _Output(content, target, name, finish)

    def apply(self) -> dict[str, Any]:
        """Put everything into the scene. On any exception the scene is as it was before."""
        before = _ids(self.scene)
        try:
            nodes = {key: self._put(output) for key, output in self._outputs.items()}
            for key, node in nodes.items():
                self._outputs[key].finish(node)
        except BaseException:
            for step in reversed(self._undo):
                step()
            for added in [self.scene.GetNodeByID(name) for name in _ids(self.scene) - before]:
                self.scene.RemoveNode(added)
            raise
        return nodes

    def _put(self, output: _Output) -> Any:
        if output.target is None or not in_scene(self.scene, output.target):
            return self._create(output)
        return self._overwrite(output, output.target)

    def _create(self, output: _Output) -> Any:
        output.content.SetName(self.scene.GenerateUniqueName(output.name))
        return self.scene.AddNode(output.content)

    def _overwrite(self, output: _Output, target: Any) -> Any:
        former, parent = type(target)(), _parent_id(target)
        _share_content(former, target)
        self._undo.append(lambda: _restore(target, former, parent))
        for name in target.GetAttributeNames():
            if output.content.GetAttribute(name) is None:
                output.content.SetAttribute(name, target.GetAttribute(name))
        with modifying(target):
            _share_content(target, output.content)
            _set_parent_id(target, None)
        return target


def in_scene(scene: Any, node: Any) -> bool:
    """Whether a node is still part of a scene."""
    return node.GetID() is not None and scene.GetNodeByID(node.GetID()) is node


@contextmanager
def modifying(node: Any) -> Iterator[None]:
    """Tell a node's observers of all changes inside at once."""
    was = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was)


def _ids(scene: Any) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


def _restore(node: Any, former: Any, parent: str | None) -> None:
    with modifying(node):
        _share_content(node, former)
        _set_parent_id(node, parent)


def _share_content(target: Any, source: Any) -> None:
    """Lets `target` hold what `source` holds, without copying it."""
    if target.IsA("vtkMRMLSequenceNode"):
        take_over(target, source)
    else:
        target.CopyContent(source, False)


def _parent_id(node: Any) -> str | None:
    return node.GetTransformNodeID() if node.IsA("vtkMRMLTransformableNode") else None


def _set_parent_id(node: Any, parent: str | None) -> None:
    if node.IsA("vtkMRMLTransformableNode"):
        node.SetAndObserveTransformNodeID(parent)
