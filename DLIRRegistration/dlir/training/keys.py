"""The reference of all keys of a configuration, from the types that check them and what their docstrings say."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from dlir.model.spec import ORIENTATIONS, ModelSpec, Preprocessing
from dlir.networks.spec import KINDS, POOLINGS, StageSpec
from dlir.training import config as schema

_HEAD = """# Every key of a training configuration

Written by `dlir presets keys` from the code that checks a configuration; a test fails where it is not what that prints.
How to train is told in [Train your own model](training.md); `dlir presets write NAME FILE` or `dlir train --init-config
DATA` makes a file to begin with. A key that nobody knows is refused with the nearest one, a value with the key's path.

`extends` stands at the top of a file: the name of a preset, or a file beside this one, whose keys hold where this one
says nothing. Mappings are merged, lists are replaced. Lengths are mm along x, y and z; § are sections of the paper.
"""

# Key's place in a file, and what checks it there.
SECTIONS: dict[str, type[Any]] = {
    "": schema.TrainingConfig,
    "card": schema.ModelCard,
    "model": ModelSpec,
    "model.preprocessing": Preprocessing,
    "model.stages": StageSpec,
    "sources": schema.Source,
    "augmentation": schema.Augmentation,
    "augmentation.affine": schema.RandomAffine,
    "training": schema.StageTraining,
    "fine_tuning": schema.FineTuning,
    "init": schema.Initial,
}
_LISTS = ("model.stages", "sources", "training")
# What the types of the model's dataclasses leave to their checks.
_CHOICES = {
    ("model.stages", "kind"): KINDS,
    ("model.stages", "pooling"): POOLINGS,
    ("model.preprocessing", "orientation"): ORIENTATIONS,
}


def keys_of(section: str) -> list[str]:
    """The keys that a section knows."""
    return _names(SECTIONS[section])


def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind.model_fields)


def reference() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(_section(name, kind) for name, kind in SECTIONS.items())


def _section(name: str, kind: type[Any]) -> str:
    title = f"`{name}`" if name else "The file"
    each = " (a list; each entry)" if name in _LISTS else ""
    about, told = _told(kind)
    values = TypeAdapter(kind).json_schema()
    defined = values.get("$defs", {})
    if "$ref" in values:
        values = defined[values["$ref"].rpartition("/")[2]]
    lines = [f"\n## {title}{each}\n", about, "", "| key | value | default | what |", "| --- | --- | --- | --- |"]
    for key in keys_of(name):
        own = values["properties"][key]
        allowed = (
            " or ".join(f"`{c}`" for c in _CHOICES[name, key]) if (name, key) in _CHOICES else _value(own, defined)
        )
        default = "needed" if key in values.get("required", ()) else _default(own)
        lines.append(f"| `{key}` | {allowed} | {default} | {told[key]} |")
    return "\n".join(lines) + "\n"


# -- what docstrings say ------------------------------------------------------------------------------


def _told(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class's docstring, and what it says of each field: "name: what. one, another: what".

    A class that has another's fields says of these what that one does.
    """
    found: dict[str, str] = {}
    about = ""
    for base in reversed(kind.__mro__):
        if base.__doc__ is None or base in (object, BaseModel, schema.Strict):
            continue
        paragraphs = inspect.cleandoc(base.__doc__).split("\n\n")
        about = _line(paragraphs[0])
        found |= _fields("\n".join(paragraphs[1:]), _names(kind))
    return about, found


def _fields(text: str, names: list[str]) -> dict[str, str]:
    one = "|".join(map(re.escape, names))
    heads = list(re.finditer(rf"(?:^|(?<=[.;] )|(?<=\n))((?:{one})(?:, (?:{one}))*):\s", text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        name: _line(re.split(r"\n\n|(?<=\. )Raises |\nRaises ", text[head.end() : end])[0])
        for head, end in zip(heads, ends, strict=True)
        for name in head[1].split(", ")
    }


def _line(text: str) -> str:
    """In one line, for the cell of a table."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("|", "\\|")


# -- what types say -----------------------------------------------------------------------------------


def _value(own: Mapping[str, Any], defined: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    if "$ref" in own:
        own = defined[own["$ref"].rpartition("/")[2]]
    if "anyOf" in own:
        return " or ".join(_value(part, defined) for part in own["anyOf"])
    if "enum" in own:
        return " or ".join(f"`{value}`" for value in own["enum"])
    kind = own.get("type")
    if kind == "array" and "prefixItems" in own:
        return f"[{', '.join(_value(part, defined) for part in own['prefixItems'])}]"
    if kind == "array":
        return f"list of {_value(own.get('items', {}), defined)}"
    if kind == "object":
        return "keys, see below"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    limits = (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤"))
    bounds = ", ".join(f"{sign} {own[name]:g}" for name, sign in limits if name in own)
    return f"{words.get(str(kind), '`null`')} {bounds}".strip()


def _default(own: Mapping[str, Any]) -> str:
    value = own.get("default")
    if value is None:
        return "–"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
