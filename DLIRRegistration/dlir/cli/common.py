"""What every command shares: how errors, interrupts and progress reach the user. Imports nothing heavy."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dlir.cli import completion
from dlir.errors import DLIRError, OptionError, notes_to, shown
from dlir.registration.choices import SIMILARITIES, Device, FailOn, ImageFormat
from dlir.registration.progress import Progress, silent

if TYPE_CHECKING:
    from dlir.registration.judging.verdict import Verdict

EXIT_INCOMPLETE = 1
EXIT_ERROR = 2
# The result was written, and is no better than the user said that it has to be.
EXIT_VERDICT = 3
EXIT_INTERRUPTED = 130

# Seconds between two lines of progress where there is no terminal.
_EVERY = 30.0

_quiet = False

DeviceOption = Annotated[
    Device, typer.Option(help="Processor; auto takes CUDA, else MPS, else the CPU.", show_default=True)
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="auto|none|NAME|FILE",
        autocompletion=completion.models_or_choice,
        help="auto picks the one of `dlir models` that was made for such images; none optimises without one.",
    ),
]
SimilarityOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(SIMILARITIES),
        autocompletion=completion.similarities,
        help="What is optimised; auto chooses by the contrasts.",
    ),
]
FailOnOption = Annotated[
    FailOn | None, typer.Option("--fail-on", help="Exit with code 3 where the verdict is this or worse.")
]
DisplacementOption = Annotated[bool, typer.Option("--displacement", help="Also write the displacement: vectors in mm.")]
FormatOption = Annotated[ImageFormat, typer.Option("--format", help="What images are written as.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Threads of the CPU; the variable DLIR_THREADS sets it for all.", show_default="cores here"
    ),
]
ErrorMapOption = Annotated[bool, typer.Option("--error-map", help="Also write the error to expect, in mm.")]
TransformsOption = Annotated[
    list[Path],
    typer.Option(
        metavar="FILE",
        help="ITK transform file, such as transform.h5 of `dlir register`; of several the last acts first.",
    ),
]
FullPathsOption = Annotated[
    bool, typer.Option("--full-paths", help="Name files with the folders above them in reports.")
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what is in the way, such as files of another registration."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


class CommandGroup(TyperGroup):
    """Commands whose DLIR errors end in one line on stderr and exit code 2, and whose interrupts say what is left.

    The line is the same with --json: stdout then holds either the whole report or nothing.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        _require_no_empty(args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with notes_to(lambda text: say(f"note: {text}")):
                return super().invoke(ctx)
        except DLIRError as error:
            complain(str(error))
            raise typer.Exit(EXIT_ERROR) from None
        except KeyboardInterrupt as interrupt:
            say(f"interrupted; {str(interrupt) or 'nothing was written'}")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def _require_no_empty(tokens: Sequence[str]) -> None:
    """Raises OptionError for a value that is empty, as of a variable that a script has not set: as a path it would be
    the current folder.
    """
    for before, token in zip(("", *tokens), tokens, strict=False):
        if token == "" or re.fullmatch("--[a-z-]+=", token):
            name = token.rstrip("=") or (before if before.startswith("--") else "an argument")
            raise OptionError(f"{name} is empty; give a value, or leave it out")


@contextmanager
def silence(*, stdout: bool) -> Iterator[None]:
    """Within, only errors are told. stdout: whether nothing is printed there either."""
    global _quiet
    _quiet = True
    try:
        if stdout:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
                yield
        else:
            yield
    finally:
        _quiet = False


def is_quiet() -> bool:
    """Whether --quiet was given to the command that runs."""
    return _quiet


def say(message: str) -> None:
    """One line on stderr, whatever is in it and however narrow the terminal; nothing with --quiet."""
    if not _quiet:
        print(shown(message), file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """The same of an error, with --quiet too."""
    print(shown(f"error: {message}"), file=sys.stderr, flush=True)


def end_with_verdicts(verdicts: Sequence[Verdict], fail_on: FailOn | None) -> None:
    """Ends the command where one of them is what --fail-on says, or worse; with --quiet nobody has been told of it."""
    reached = [verdict for verdict in verdicts if fail_on is not None and verdict.reaches(fail_on.value)]
    if not reached:
        return
    if _quiet:
        many = f"; {len(reached)} of {len(verdicts)} are this or worse" if len(verdicts) > 1 else ""
        complain(f"the verdict is {reached[0].level}: {reached[0].reason}{many}")
    raise typer.Exit(EXIT_VERDICT)


@contextmanager
def interrupt_says(message: str) -> Iterator[None]:
    """What to tell, after "interrupted; ", a user who stops this block; elsewhere it is "nothing was written"."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(message) from None


def print_json(value: Any) -> None:
    """The value as indented JSON on stdout."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    print(text.encode("utf-8", "backslashreplace").decode())  # a name in other bytes reads as the same again


def reported(report: dict[str, Any], files: Iterable[str], *, full: bool) -> dict[str, Any]:
    """The report with the entries that name `files` as they may be passed on, see `reported_name`."""
    from dlir.io.source import reported_name

    def named(value: str | list[str]) -> str | list[str]:
        if isinstance(value, str):
            return reported_name(value, full=full)
        return [reported_name(name, full=full) for name in value]

    return report | {key: named(report[key]) for key in files if report[key]}


def one_or_all(names: list[str]) -> str | list[str]:
    """What a report says of an option that may be given several times: its value as it is where there is one."""
    return names[0] if len(names) == 1 else names


@contextmanager
def progress_bar(wanted: bool = True) -> Iterator[Progress]:
    """A function to call with the name of the present step and the fraction done, drawn as a bar on stderr.

    Draws nothing if not `wanted`, or with --quiet; the bar is gone at the end. Where stderr is no terminal, there is a
    line now and then.
    """
    wanted = wanted and not _quiet
    if not (wanted and sys.stderr.isatty()):
        yield _lines() if wanted else silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda name, fraction: bar.update(task, description=name, completed=fraction)


def now_and_then() -> Callable[[], bool]:
    """A function that says yes when it was half a minute since it last did, or since this."""
    last = time.monotonic()

    def is_time() -> bool:
        nonlocal last
        if time.monotonic() - last < _EVERY:
            return False
        last = time.monotonic()
        return True

    return is_time


def _lines() -> Progress:
    """Progress for a log: work of minutes tells where it is, and what is quick tells nothing."""
    is_time = now_and_then()

    def tell(step: str, fraction: float) -> None:
        if is_time():
            say(f"{time.strftime('%H:%M:%S')}  {step}  {100 * fraction:.0f} %")

    return tell
