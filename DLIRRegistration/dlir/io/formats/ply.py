"""Whether a PLY file is whole: VTK's reader crashes the process on one that ends early."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

_TYPES = {
    **dict.fromkeys(("char", "int8"), "b"),
    **dict.fromkeys(("uchar", "uint8"), "B"),
    **dict.fromkeys(("short", "int16"), "h"),
    **dict.fromkeys(("ushort", "uint16"), "H"),
    **dict.fromkeys(("int", "int32"), "i"),
    **dict.fromkeys(("uint", "uint32"), "I"),
    **dict.fromkeys(("float", "float32"), "f"),
    **dict.fromkeys(("double", "float64"), "d"),
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_END = b"end_header"


@dataclass(frozen=True)
class _Element:
    """count: how often. properties: of each value its type, of a list those of its length and of its values."""

    count: int
    properties: list[list[str]] = field(default_factory=list)


def is_whole_ply(path: Path) -> bool:
    """Whether a PLY file holds all that its header announces; False too for a header that announces nothing."""
    head, end, rest = path.read_bytes().partition(_END)
    body = rest.partition(b"\n")[2]
    try:
        kind, elements = _announced(head.decode("latin-1"))
        if not end or not elements:
            return False
        if kind == "ascii":
            return _are_in_text(elements, body.split())
        return _end_of(elements, body, _ORDERS[kind]) <= len(body)
    except (KeyError, IndexError, ValueError, struct.error):
        return False


def _announced(head: str) -> tuple[str, list[_Element]]:
    kind, elements = "", list[_Element]()
    for words in map(str.split, head.splitlines()):
        if words[:1] == ["format"]:
            kind = words[1]
        elif words[:1] == ["element"]:
            elements.append(_Element(int(words[2])))
        elif words[:1] == ["property"]:
            elements[-1].properties.append([_TYPES[word] for word in words[1:-1] if word != "list"])
    return kind, elements


def _are_in_text(elements: list[_Element], values: list[bytes]) -> bool:
    at = 0
    for element in elements:
        for _ in range(element.count):
            for types in element.properties:
                at += 1 if len(types) == 1 else 1 + int(values[at])
    return at <= len(values)


def _end_of(elements: list[_Element], body: bytes, order: str) -> int:
    """Where the last value ends. Raises struct.error where a list's length lies beyond the end."""
    at = 0
    for element in elements:
        sizes = [struct.calcsize(order + types[-1]) for types in element.properties]
        if all(len(types) == 1 for types in element.properties):
            at += element.count * sum(sizes)
            continue
        for _ in range(element.count):
            for types, size in zip(element.properties, sizes, strict=True):
                if len(types) == 2:
                    (length,) = struct.unpack_from(order + types[0], body, at)
                    if length < 0:
                        raise ValueError(f"a list of {length} values")
                    at += struct.calcsize(order + types[0]) + length * size
                else:
                    at += size
    return at
