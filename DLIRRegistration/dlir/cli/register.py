"""`dlir register`: two volumes in; warped volume, transform, Jacobian map, propagated labels and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlir import api
from dlir.cli.common import (
    DeviceOption,
    DisplacementOption,
    ErrorMapOption,
    FailOnOption,
    FormatOption,
    FullPathsOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    SimilarityOption,
    ThreadsOption,
    end_with_verdicts,
    interrupt_says,
    print_json,
    progress_bar,
    say,
)
from dlir.cli.tables import print_report
from dlir.registration.choices import (
    AUTO_SIMILARITY,
    DEFAULT_MODEL,
    Beginning,
    Device,
    ImageFormat,
    Kind,
)


def register(
    fixed: Annotated[
        str,
        typer.Option(metavar="IMAGE", help="Image that stays: NIfTI, NRRD, MHA, DICOM folder or .zip; 4D as FILE#7."),
    ],
    moving: Annotated[str, typer.Option(metavar="IMAGE", help="Image that is brought onto the fixed one.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files; made where missing.")],
    model: ModelOption = DEFAULT_MODEL,
    moving_label: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Labels of the moving image, to be carried along.")
    ] = None,
    fixed_label: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Labels of the fixed image, to score the result by.")
    ] = None,
    fixed_mask: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Where in the fixed image similarity and figures count.")
    ] = None,
    moving_mask: Annotated[str | None, typer.Option(metavar="IMAGE", help="The same of the moving image.")] = None,
    moving_landmarks: Annotated[
        str | None, typer.Option(metavar="FILE", help="Points on the moving image, to be carried along.")
    ] = None,
    fixed_landmarks: Annotated[
        str | None, typer.Option(metavar="FILE", help="The same points on the fixed image, to score by.")
    ] = None,
    initial_transform: Annotated[
        Path | None, typer.Option(metavar="FILE", help="ITK transform, fixed to moving point, to start from.")
    ] = None,
    initialize: Annotated[
        Beginning | None,
        typer.Option(
            help="Start where it fits best, centre on centre, as the scanner has it, or, without a model, second best.",
            show_default="auto",
        ),
    ] = None,
    refine: Annotated[
        str | None,
        typer.Option(
            metavar="10s|50it|converged|off",
            help="Optimise the result for this pair: 10s, 50it, converged or off.",
            show_default="off with a model, else 10s",
        ),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="How far the transform may go.")] = Kind.deformable,
    similarity: SimilarityOption = AUTO_SIMILARITY,
    landmark_weight: Annotated[
        float, typer.Option(help="How much the landmarks steer an optimisation; 1 is much, 0 only measures them.")
    ] = 0.0,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    displacement: DisplacementOption = False,
    html: Annotated[bool, typer.Option("--html", help="Also write report.html, with pictures.")] = False,
    error_map: ErrorMapOption = False,
    format: FormatOption = ImageFormat.nrrd,
    prefix: Annotated[
        str, typer.Option(metavar="TEXT", help="What all file names begin with, such as sub-01_.", show_default=False)
    ] = "",
    full_paths: FullPathsOption = False,
    overwrite: OverwriteOption = False,
    fail_on: FailOnOption = None,
    json: JsonOption = False,
) -> None:
    """Register MOVING to FIXED.

    Writes warped.nrrd, transform.h5 (ITK, fixed point to moving point), jacobian.nrrd, report.json, with
    --moving-label warped_label.nrrd, and with --displacement displacement.nrrd (mm, LPS), with --error-map
    error_map.nrrd (mm): all on the fixed image's grid, and named as --format and --prefix say; with --moving-landmarks
    moving_landmarks.csv, where they lie on the fixed image (mm, LPS). All together or none, in place of all files of an
    earlier registration of this pair.

    Ends with a verdict: good, check (look before relying on it) or failed. Exit code 0 whatever it is, unless
    --fail-on asks for 3; 2 where the input is refused and nothing written.
    """
    with progress_bar(wanted=not json) as progress:
        result = api.register(
            fixed,
            moving,
            model=model,
            moving_label=moving_label,
            fixed_label=fixed_label,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            moving_landmarks=moving_landmarks,
            fixed_landmarks=fixed_landmarks,
            initial_transform=initial_transform,
            initialize=initialize and initialize.value,
            refine=refine,
            kind=kind.value,
            similarity=similarity,
            landmark_weight=landmark_weight,
            device=device.value,
            output=output,
            displacement=displacement,
            html=html,
            error_map=error_map,
            format=format.value,
            prefix=prefix,
            full_paths=full_paths,
            overwrite=overwrite,
            threads=threads,
            progress=progress,
            notify=say,
        )
    with interrupt_says("the files are complete"):
        if json:
            print_json(result.report)
        else:
            print_report(result.report, output)
        end_with_verdicts([result.verdict], fail_on)
