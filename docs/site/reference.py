"""The pages that are generated from the code: the help of every command, and the public names of the package."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import isclass
from typing import Any

import typer

import dlir
from dlir.cli import app

# Columns of the help on the page.
WIDTH = 100


def commands_page() -> str:
    """Every command with the help that it prints."""
    parts = [
        "# Commands\n",
        "What `--help` prints, from the code. Exit codes, `--quiet`, `--json` and completion, which hold for all, have "
        "[a page of their own](scripting.md).\n",
    ]
    for name, text in helps(typer.main.get_command(app), "dlir"):
        parts.append(f"## {name}\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(parts)


def helps(command: Any, name: str, above: Any = None) -> Iterator[tuple[str, str]]:
    """The names of a command and of all below it, each with its help."""
    own = {"info_name": name.rpartition(" ")[2], "parent": above, "terminal_width": WIDTH}
    context = command.context_class(command, **own, **command.context_settings)
    yield name, command.get_help(context)
    for below, one in getattr(command, "commands", {}).items():
        yield from helps(one, f"{name} {below}", context)


def python_page() -> str:
    """What mkdocstrings makes the Python reference of: each public name, where it is defined."""
    parts = [
        "# Python\n",
        "The public names of `dlir`, from their docstrings. [In Python](python.md) is the guide. Lengths are in "
        "millimetres, points and vectors (x, y, z) in LPS; arrays are (z, y, x).\n",
    ]
    public = [getattr(dlir, name) for name in dlir.__all__ if not name.startswith("_")]
    # What one calls comes before what one gets.
    for found in sorted(public, key=lambda one: (isclass(one), one.__qualname__)):
        parts.append(f"::: {found.__module__}.{found.__qualname__}\n")
    return "\n".join(parts)
