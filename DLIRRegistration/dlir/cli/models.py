"""`dlir models`: which models there are, what one says of itself, and whether it can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli import completion
from dlir.cli.common import CommandGroup, JsonOption, print_json
from dlir.cli.tables import print_table

if TYPE_CHECKING:
    from dlir.model.catalogue import Entry
    from dlir.model.file import ModelHeader

models = typer.Typer(
    cls=CommandGroup,
    invoke_without_command=True,
    help="List the models, show or check one.\n\nThey are those that come with DLIR, and your own in the folder that "
    "Slicer's module keeps or that the environment variable DLIR_MODELS names.",
)

ModelArgument = Annotated[
    str, typer.Argument(autocompletion=completion.models, help="Name of a model, or a model file.")
]

_LISTED = ("title", "anatomy", "modality", "licence")


@models.callback()
def list_models(context: typer.Context, json: JsonOption = False) -> None:
    """The list; `dlir models show NAME` tells all about one."""
    from dlir.model.catalogue import all_models

    if context.invoked_subcommand is not None:
        return
    found = all_models()
    if json:
        print_json([_summary(entry) for entry in found])
    elif not found:
        print("No model comes with this DLIR; give --model a file.")
    else:
        print_table(None, ["name", *_LISTED, "size", "fold-free"], [_row(entry) for entry in found])


@models.command()
def show(
    name: ModelArgument,
    json: JsonOption = False,
) -> None:
    """Show the card of a model: data, licence, figures, stages, training."""
    from dlir.model.card import full_text
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    header = read_header(resolve_model(name))
    if json:
        print_json(_full(header))
    else:
        print(full_text(header))


@models.command()
def check(
    name: ModelArgument,
    json: JsonOption = False,
) -> None:
    """Verify a model from its first byte to a registration.

    The exit code is 1 where something is wrong.
    """
    from dlir.model.catalogue import resolve_model
    from dlir.registration.check import check_model

    path = resolve_model(name)
    findings = check_model(path)
    good = all(finding.problem is None for finding in findings)
    if json:
        print_json({"file": str(path), "good": good, "findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok' if finding.problem is None else 'wrong':<6} {finding.what}")
            if finding.problem is not None:
                print(f"       {finding.problem}")
    raise typer.Exit(0 if good else 1)


def _summary(entry: Entry) -> dict[str, Any]:
    from dlir.model.card import licence_of

    summary: dict[str, Any] = {
        "name": entry.name,
        "file": str(entry.path),
        "bytes": entry.path.stat().st_size,
        "bundled": entry.bundled,
    }
    if entry.header is None:
        return {**summary, "problem": entry.problem}
    card = {key: entry.header.card.get(key) for key in _LISTED} | {"licence": licence_of(entry.header.card)}
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
        "domain": header.domain and header.domain.summary(),
        "spec": header.spec.to_dict(),
    }
