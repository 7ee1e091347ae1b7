"""`dlir data check`: everything that a training would read is opened before hours are spent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlir.cli.common import CommandGroup, JsonOption, complain, print_json, progress_bar
from dlir.cli.tables import print_table
from dlir.cli.train import ConfigOption, InitOption, PresetOption, read_configuration

if TYPE_CHECKING:
    from dlir.training.check import DataReport

data = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Check images before a training.")


@data.callback()
def _group() -> None:
    """Check images before a training."""


@data.command()
def check(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER|TABLE",
            help="Folder below which the configuration's files lie, or a manifest (CSV, TSV, JSON).",
        ),
    ],
    config: ConfigOption = None,
    preset: PresetOption = None,
    init: InitOption = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the prepared images here, for trainings with the same --cache."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Open every image of a training, and say what cannot be used.

    Each with the reason, before hours are spent.

    The exit code is 0 where all can be used, 1 where some would be left out, and 2 where nothing could be trained.
    """
    configuration = read_configuration(config=config, preset=preset, init=init)
    from dlir.training.check import check_data

    with progress_bar() as progress:
        report = check_data(
            configuration, data, cache, lambda done, total: progress(f"image {done + 1} of {total}", done / total)
        )
    if json:
        print_json(vars(report))
    else:
        _print(report, data)
    raise typer.Exit(report.exit_code)


def _print(report: DataReport, data: Path) -> None:
    if report.left_out:
        print_table("left out", ["what", "why"], _grouped(_reason(entry, data) for entry in report.left_out))
    if report.sources:
        rows = [
            [entry["pairs"], str(entry["training"]), str(entry["validation"]), str(entry["images"]), _range(entry)]
            for entry in report.sources
        ]
        print_table("usable", ["pairs", "training", "validation", "images", "voxels"], rows)
    if report.error:
        complain(report.error)


def _grouped(reasons: Iterable[tuple[str, str]]) -> list[list[str]]:
    """A row for each; one for all that are left out of one folder for one reason, such as hundreds of label maps."""
    found: dict[tuple[str, str], list[str]] = {}
    for what, why in reasons:
        found.setdefault((what.rpartition("/")[0], why), []).append(what)
    return [
        [names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more there", why]
        for (_, why), names in found.items()
    ]


def _reason(entry: dict[str, str], data: Path) -> tuple[str, str]:
    """What is left out and why, without the folder that all share, and without the name twice."""
    what, why = entry["what"], entry["why"]
    return what.removeprefix(f"{data}/"), why.removeprefix(f"training image '{what}' ")


def _range(entry: dict[str, object]) -> str:
    smallest, largest = (" × ".join(map(str, entry[name])) for name in ("smallest", "largest"))  # type: ignore[call-overload]
    return smallest if smallest == largest else f"{smallest} to {largest}"
