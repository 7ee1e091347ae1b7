"""What was drawn on the moving image after it had been registered, brought onto the fixed one: nodes to nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Reference from what was carried over to what it was carried from.
_SOURCE_ROLE = "DLIR.carriedFrom"


def carried(source: Any, carry: Callable[[Any, Any | None], Any], former: Any | None = None) -> Any:
    """`carry(source, output)`, into the node that has taken `source` before, or a new one; the node.

    former: the node that a registration has carried it into, if one has.
    """
    node = carry(source, former if former is not None else _former(source))
    node.SetNodeReferenceID(_SOURCE_ROLE, source.GetID())
    return node


def _former(source: Any) -> Any | None:
    nodes = source.GetScene().GetNodesByClass(source.GetClassName())
    for number in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(number)
        if node.GetNodeReferenceID(_SOURCE_ROLE) == source.GetID():
            return node
    return None
