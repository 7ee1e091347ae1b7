"""The command line: `dlir COMMAND`, one file per command. Importing this imports neither torch nor SimpleITK."""

from __future__ import annotations

import io
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from dlir import __version__
from dlir.cli import (
    apply,
    batch,
    cine,
    crossvalidate,
    data,
    demo,
    dicom,
    evaluate,
    invert,
    jacobian,
    models,
    presets,
    register,
    train,
)
from dlir.cli.common import CommandGroup
from dlir.cli.declare import add_command
from dlir.registration.threads import use_threads

app = typer.Typer(
    name="dlir",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help reads well at 80 columns, and costs no import of rich
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    register.register,
    batch.batch,
    cine.cine,
    apply.apply,
    jacobian.jacobian,
    invert.invert,
    train.train,
    evaluate.evaluate,
    crossvalidate.crossvalidate,
    demo.demo,
):
    add_command(app, _command)
app.add_typer(models.models, name="models")
app.add_typer(presets.presets, name="presets")
app.add_typer(data.data, name="data")
app.add_typer(dicom.dicom, name="dicom")


def main() -> None:
    """The console entry point."""
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: a file's name may be in any bytes
    app(prog_name="dlir")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """A batch system that ends a job gets the same clean-up as a user who presses Ctrl-C."""
    raise KeyboardInterrupt


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Register medical volumes in one shot with trained networks (affine and B-spline).

    Every command writes all of its files or none, and never an input. Errors are one line on stderr; the exit
    code is then 2, and 130 after an interrupt.

    To begin with: dlir demo --output demo, then dlir register --help.
    """
    use_threads()  # before a command imports what reads it
