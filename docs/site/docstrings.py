"""For the Python reference: our docstrings, which are written to be read as text, as the Markdown that they mean."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^(?=[a-z])(\w+(?:, \w+)*): (?=\S)")


class PlainDocstrings(griffe.Extension):
    """Examples become code, and lines that begin with the names that they tell of become a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n\n".join(_paragraph(part) for part in obj.docstring.value.split("\n\n"))


def _paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return f"```pycon\n{text}\n```"
    lines = text.split("\n")
    first = next((k for k, line in enumerate(lines) if _ENTRY.match(line)), None)
    if first is None:
        return text
    entries: list[str] = []
    for line in lines[first:]:
        if found := _ENTRY.match(line):
            entries.append(f"- **{found[1]}**: {line[found.end() :]}")
        else:
            entries[-1] += f"\n  {line.strip()}"
    return "\n".join([*lines[:first], "", *entries])
