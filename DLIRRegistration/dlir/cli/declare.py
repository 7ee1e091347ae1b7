"""How a function becomes a command: --quiet, words for values in its help, a usage line that names what it needs."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

from dlir.cli.common import silence

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Tell of errors only, and of nothing else.")]

# Options that ask for something on stdout: --quiet does not take it away.
_PRINTING = ("json", "init_config")
# What help calls a value of which an option says no more than the type.
_WORDS: dict[type, str] = {Path: "PATH", str: "TEXT", int: "N", float: "NUMBER"}


def add_command(app: typer.Typer, function: Callable[..., Any]) -> None:
    """Make it a command that may be --quiet, called as the function is."""
    given = signature(function, eval_str=True)  # in its own module, where the names of its annotations are known
    parameters = [one.replace(annotation=_with_word(one.annotation)) for one in given.parameters.values()]
    quiet = Parameter("quiet", Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=QuietOption)

    @wraps(function)
    def command(*, quiet: bool, **options: Any) -> Any:
        if not quiet:
            return function(**options)
        with silence(stdout=not any(options.get(name) for name in _PRINTING)):
            return function(**options)

    command.__signature__ = given.replace(parameters=[*parameters, quiet])  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in (*parameters, quiet)}
    app.command(options_metavar=_needed(parameters))(command)


def _with_word(annotation: Any) -> Any:
    """The annotation of an option with a word for its value, where it has none and its type has one."""
    kind, *told = get_args(annotation)
    word = next((word for of, word in _WORDS.items() if of in (get_args(kind) or (kind,))), None)
    if not isinstance(told[0], OptionInfo) or told[0].metavar or word is None:
        return annotation
    info = copy(told[0])
    info.metavar = word
    return Annotated[kind, info]


def _needed(parameters: list[Parameter]) -> str:
    """What stands first in the usage line: the options that a command cannot do without."""
    needed = []
    for one in parameters:
        info = get_args(one.annotation)[1]
        if isinstance(info, OptionInfo) and one.default is Parameter.empty:
            needed.append(f"--{one.name.replace('_', '-')} {info.metavar or one.name.upper()}")
    return " ".join([*needed, "[OPTIONS]"])
