"""`dlir presets`: configurations to train with: those that come with DLIR, and one planned from data."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from dlir.cli import completion
from dlir.cli.common import CommandGroup, JsonOption, OverwriteOption, print_json
from dlir.cli.tables import print_table
from dlir.cli.train import print_plan, training_packages
from dlir.errors import OutputError

presets = typer.Typer(
    cls=CommandGroup,
    invoke_without_command=True,
    help="List configurations to train with; show, write or plan one.\n\nPresets are those that come with DLIR; one "
    "written to a file can be changed, and one for other images is planned from them.",
)

NameArgument = Annotated[str, typer.Argument(autocompletion=completion.presets, help="Name of a preset.")]


class KindOfPairs(str, Enum):
    """Whose images are registered with each other."""

    intra = "intra"
    inter = "inter"


@presets.callback()
def list_presets(context: typer.Context, json: JsonOption = False) -> None:
    """The list; `dlir presets show NAME` prints one."""
    if context.invoked_subcommand is not None:
        return
    with training_packages():
        from dlir.training.config_file import presets as known
    found = [_summary(name) for name in known()]
    if json:
        print_json(found)
    else:
        columns = ("name", "title", "modality", "pairs", "stages", "images (mm)", "grids (mm)")
        print_table(None, columns, [[_cell(entry[column]) for column in columns] for entry in found])


@presets.command()
def show(name: NameArgument, json: JsonOption = False) -> None:
    """Print a preset as it is written.

    With --json all that it says, defaults and what it extends too.
    """
    with training_packages():
        from dlir.training.config_file import load_config, preset_file
    path = preset_file(name)
    if json:
        print_json(load_config(path).model_dump(mode="json"))
    else:
        print(path.read_text(encoding="utf-8"), end="")


@presets.command()
def write(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="Where to: a file for `dlir train --config`.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a preset to a file, to be changed for `dlir train --config`."""
    with training_packages():
        from dlir.training.config_file import preset_file
    from dlir.io.writing import write_text

    text = preset_file(name).read_text(encoding="utf-8")
    if file.exists() and not overwrite:
        raise OutputError(f"'{file}' is there already; choose another name, or give --overwrite")
    write_text(file, text)
    print(f"preset  {file}")


@presets.command()
def plan(
    data: Annotated[Path, typer.Argument(help="Folder of images, or a manifest.")],
    pairs: Annotated[
        KindOfPairs | None,
        typer.Option(help="Pairs within a person or between persons.", show_default="guessed"),
    ] = None,
) -> None:
    """Print a configuration planned from images.

    It is that of `dlir train --init-config`; messages go to stderr.
    """
    print_plan(data, pairs and pairs.value)


@presets.command()
def keys() -> None:
    """Print the reference of all keys of a configuration.

    It is docs/training-keys.md.
    """
    with training_packages():
        from dlir.training.keys import reference
    print(reference(), end="")


def _summary(name: str) -> dict[str, Any]:
    from dlir.training.config_file import load_config, preset_file

    path = preset_file(name)
    config = load_config(path)
    stages = config.spec.stages
    return {
        "name": name,
        "file": str(path),
        "title": config.card.title,
        "modality": config.card.modality,
        "pairs": ", ".join(dict.fromkeys(source.pairs for source in config.sources)),
        "stages": [stage.kind for stage in stages],
        "images (mm)": [list(stage.resolution) for stage in stages],
        "grids (mm)": [stage.grid_spacing and list(stage.grid_spacing) for stage in stages],
    }


def _cell(value: Any) -> str:
    """A list as its number of entries, or by the first axis of each."""
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(entry, str) for entry in value):
        affine = value.count("affine")
        return f"{f'{affine} affine, ' if affine else ''}{len(value) - affine} B-spline"
    return ", ".join(f"{entry[0]:g}" for entry in value if entry)
