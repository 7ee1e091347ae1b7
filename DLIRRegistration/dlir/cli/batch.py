"""`dlir batch`: every pair of a table or a folder, with a summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlir.cli import completion
from dlir.cli.common import (
    EXIT_INCOMPLETE,
    DeviceOption,
    DisplacementOption,
    ErrorMapOption,
    FormatOption,
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    SimilarityOption,
    complain,
    end_with_verdicts,
    interrupt_says,
    print_json,
    progress_bar,
    say,
)
from dlir.cohort.choices import Pairing
from dlir.errors import OutputError, WorkerError
from dlir.registration.choices import (
    AUTO_SIMILARITY,
    DEFAULT_MODEL,
    Device,
    FailOn,
    ImageFormat,
    Initialization,
    Kind,
)

if TYPE_CHECKING:
    from dlir.cohort.batch import Batch, Workers
    from dlir.cohort.folder import Line


def batch(
    source: Annotated[Path, typer.Argument(metavar="TABLE|FOLDER", help="Pairs or images: a table, or a folder.")],
    output: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for results and summary; what is done there stays.")
    ],
    pairs: Annotated[
        Pairing | None, typer.Option(help="Of images: each to the one before it, to the first, or all both ways.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Of images: the one that all others are registered to.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="auto|none|NAME|FILE",
            autocompletion=completion.models_or_choice,
            help="For rows that name none.",
        ),
    ] = DEFAULT_MODEL,
    initialize: Annotated[
        Initialization | None, typer.Option(help="Where moving images start.", show_default="auto")
    ] = None,
    refine: Annotated[
        str | None,
        typer.Option(
            metavar="10s|50it|converged|off",
            help="Optimise each pair: 10s, 50it, converged or off.",
            show_default="off with a model, else 10s",
        ),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="How far the transforms may go.")] = Kind.deformable,
    similarity: SimilarityOption = AUTO_SIMILARITY,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that work at a time.", show_default="one for each core")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of each process; else as DLIR_THREADS says.", show_default="cores by jobs"),
    ] = None,
    device: DeviceOption = Device.auto,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Every Nth row only, for the Ith of N commands on one --output.")
    ] = "1/1",
    displacement: DisplacementOption = False,
    error_map: ErrorMapOption = False,
    format: FormatOption = ImageFormat.nrrd,
    full_paths: FullPathsOption = False,
    overwrite: OverwriteOption = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Register nothing; write the summary of what is there.")
    ] = False,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with code 3 where a verdict is this or worse.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Register every pair of a TABLE, or of images in a FOLDER.

    Each pair gets a folder of its own in --output, with what `dlir register` writes and preview.jpg; summary.csv has
    a row for each row of the table, with verdict, figures or the error, and summary.html shows the worst first.

    A row that fails stops no other. The same command again does what is missing or failed, and what was made of
    other files or options; what is done stays as it is. --overwrite is needed where results of other images or of
    another model would go.

    Exit code 0 where all rows are registered, 1 where some are not, 3 with --fail-on; 2 where table or options are
    refused and nothing is done; 130 after an interrupt, with what is done kept.

    \b
    columns of a table of pairs   fixed, moving, and as wanted fixed_label,
                                  moving_label, fixed_mask, moving_mask,
                                  fixed_landmarks, moving_landmarks,
                                  subject, or fixed_subject and
                                  moving_subject, group, split, model
    columns of a table of images  image, and as wanted label, mask, subject,
                                  time, split
    names in a folder             NAME.nii.gz, with NAME_label, NAME_mask,
                                  NAME_landmarks beside it; subfolders are
                                  subjects
    """
    from dlir.cohort.batch import Batch, Workers
    from dlir.cohort.folder import BatchFolder, Shard
    from dlir.cohort.rows import Options, Source

    options = Options(
        model,
        refine,
        kind.value,
        similarity,
        initialize and initialize.value,
        device.value,
        displacement,
        error_map,
        full_paths,
        overwrite,
        format.value,
    )
    folder = BatchFolder(output, options)
    planned = Batch(Source(source, pairs, to), folder, options, Shard.parse(shard))
    planned.source.rows  # noqa: B018  a table of a wrong form is refused before anything is written
    folder.check(source, overwrite=overwrite)
    if summary:
        lines = planned.summarize()
    else:
        _run(planned, Workers(jobs, threads), bar=not json)
        lines = list(planned.lines.values())
    with interrupt_says("what is done is complete"):
        _finish(lines, planned, fail_on, as_json=json)


def _run(planned: Batch, workers: Workers, *, bar: bool) -> None:
    """Ends the command where nothing more can be done, and says what is done to a user who stops it."""
    try:
        with progress_bar(wanted=bar) as progress:
            planned.run(workers, progress, lambda text: say(f"note: {text}"))
    except (OutputError, WorkerError) as error:
        if not planned.lines:
            raise
        complain(str(error))
        say(_so_far(planned))
        raise typer.Exit(EXIT_INCOMPLETE) from None
    except KeyboardInterrupt:
        if not planned.lines:
            raise
        raise KeyboardInterrupt(_so_far(planned)) from None


def _so_far(planned: Batch) -> str:
    done = sum(line.figures is not None for line in planned.lines.values())
    return f"{done} of {len(planned.lines)} rows are done and kept; the same command goes on from there"


def _finish(lines: Sequence[Line], planned: Batch, fail_on: FailOn | None, *, as_json: bool) -> None:
    """Print what came of the rows, and end with the exit code that tells it."""
    from dlir.cohort.folder import PAGE
    from dlir.cohort.summary import counts, records

    found = counts(lines)
    if as_json:
        print_json({"counts": found, "rows": records(lines, full_paths=planned.options.full_paths)})
    else:
        told = ", ".join(f"{count} {name}" for name, count in found.items() if count)
        print(f"rows      {len(lines)}: {told}")
        print(f"summary   {planned.folder.table(planned.shard)}, {planned.folder.path / PAGE}")
    if missing := found["error"] + found["waiting"]:
        complain(f"{missing} of {len(lines)} rows are not registered, see the summary; the same command tries again")
        raise typer.Exit(EXIT_INCOMPLETE)
    end_with_verdicts([line.figures.verdict for line in lines if line.figures], fail_on)
