"""Dataclasses from the plain values that JSON knows, every key and type checked. Standard library only.

The way back is `dataclasses.asdict`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeAlias

from dlir.errors import ProtocolError

# Makes a field's value from the plain one; the text says where that stands, for messages.
Reader: TypeAlias = Callable[[Any, str], Any]


def build(kind: type[Any], values: Any, where: str, readers: Mapping[Any, Reader]) -> Any:
    """An instance of the dataclass `kind`.

    readers: of fields, by their annotation, which is text. Raises ProtocolError, naming the key that is missing,
    unknown or wrong, and as the class does.
    """
    if not isinstance(values, dict):
        raise ProtocolError(f"'{where}' is not an object with keys")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ProtocolError(f"'{where}' has unknown keys: {', '.join(unknown)}; it may have {', '.join(known)}")
    required = [name for name, field in known.items() if field.default is MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ProtocolError(f"'{where}' lacks {', '.join(missing)}")
    return kind(**{name: readers[known[name].type](values[name], f"{where}.{name}") for name in values})


def plain(*kinds: type) -> Reader:
    """A reader of values of these types; JSON's true and false are no numbers."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ProtocolError(f"'{where}' is {json.dumps(value)[:60]}, not {kinds[-1].__name__}")
        return value

    return read


def optional(reader: Reader) -> Reader:
    """A reader that takes null too."""
    return lambda value, where: None if value is None else reader(value, where)


def several(reader: Reader) -> Reader:
    """A reader of a list, as a tuple."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise ProtocolError(f"'{where}' is not a list")
        return tuple(reader(item, f"{where}[{index}]") for index, item in enumerate(value))

    return read


BASIC: dict[Any, Reader] = {
    "str": plain(str),
    "int": plain(int),
    "bool": plain(bool),
    "float": plain(int, float),
    "str | None": optional(plain(str)),
    "float | None": optional(plain(int, float)),
    "dict[str, Any]": plain(dict),
    "dict[str, str]": plain(dict),
}
