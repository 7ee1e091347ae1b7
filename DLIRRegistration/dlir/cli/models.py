"""`dlir models`: which models there are, and what one says of itself. Reads headers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli.common import CommandGroup, JsonOption, print_json
from dlir.cli.tables import print_table

if TYPE_CHECKING:
    from dlir.model.catalogue import Entry
    from dlir.model.file import ModelHeader

models = typer.Typer(cls=CommandGroup, invoke_without_command=True, help="List the models, or show one.")

_LISTED = ("title", "anatomy", "modality", "licence")


@models.callback()
def list_models(context: typer.Context, json: JsonOption = False) -> None:
    """List the models that come with DLIR; `dlir models show NAME` tells all about one."""
    from dlir.model.catalogue import bundled_models

    if context.invoked_subcommand is not None:
        return
    found = bundled_models()
    if json:
        print_json([_summary(entry) for entry in found])
    elif not found:
        print("No model comes with this DLIR; give --model a file.")
    else:
        print_table(None, ["name", *_LISTED, "size", "fold-free"], [_row(entry) for entry in found])


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a model that comes with DLIR, or a model file.")],
    json: JsonOption = False,
) -> None:
    """Show the card of a model: data, licence, figures, stages and training."""
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    header = read_header(resolve_model(name))
    if json:
        print_json(_full(header))
    else:
        _print_card(header)


def _summary(entry: Entry) -> dict[str, Any]:
    summary: dict[str, Any] = {"name": entry.name, "file": str(entry.path), "bytes": entry.path.stat().st_size}
    if entry.header is None:
        return {**summary, "problem": entry.problem}
    card = {key: entry.header.card.get(key) for key in _LISTED}
    return {**summary, **card, "fold_free": entry.header.spec.fold_free}


def _row(entry: Entry) -> list[str]:
    summary = _summary(entry)
    size = f"{summary['bytes'] / 1e6:.1f} MB"
    if entry.header is None:
        return [entry.name, str(entry.problem), "", "", "", size, ""]
    fold_free = "yes" if summary["fold_free"] else "no"
    return [entry.name, *(str(summary[key] or "") for key in _LISTED), size, fold_free]


def _full(header: ModelHeader) -> dict[str, Any]:
    return {
        "file": str(header.path),
        "bytes": header.path.stat().st_size,
        "sha256": header.digest,
        "code_version": header.code_version,
        "fold_free": header.spec.fold_free,
        "card": header.card,
        "spec": header.spec.to_dict(),
    }


def _print_card(header: ModelHeader) -> None:
    card = dict(header.card)
    sections = {key: value for key, value in card.items() if isinstance(value, dict) and value}
    _print_pairs([(key, _plain(value)) for key, value in card.items() if key not in sections])
    facts = {
        "file": f"{header.path} ({header.path.stat().st_size / 1e6:.1f} MB)",
        "sha256": header.digest,
        "fold-free": "yes, by construction" if header.spec.fold_free else "not guaranteed",
    }
    _print_pairs(list(facts.items()))
    print("\nstages")
    _print_stages(header)
    for key, value in sections.items():
        print(f"\n{key}")
        # The whole configuration is for machines: --json has it.
        _print_pairs(_flat({name: item for name, item in value.items() if name != "config"}, "  "))


def _print_pairs(pairs: list[tuple[str, str]]) -> None:
    width = max([10, *(len(name) for name, _ in pairs)])
    for name, text in pairs:
        print(f"{name:<{width}}  {text}")


def _print_stages(header: ModelHeader) -> None:
    rows = []
    for i, stage in enumerate(header.spec.stages):
        spacing = "" if stage.grid_spacing is None else _lengths(stage.grid_spacing)
        rows.append([str(i + 1), stage.kind, _lengths(stage.resolution), spacing, ", ".join(map(str, stage.channels))])
    print_table(None, ["", "kind", "resolution (mm)", "grid spacing (mm)", "channels"], rows)


def _lengths(lengths: tuple[float, ...]) -> str:
    return " × ".join(f"{length:g}" for length in lengths)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, _plain(value))]
    return rows


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)
