"""`dlir cine`: every phase of a 4D image to one of them; labels, volumes and ejection fraction over the cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dlir.cli.common import (
    DeviceOption,
    FailOnOption,
    FullPathsOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    ThreadsOption,
    end_with_verdicts,
    interrupt_says,
    print_json,
    progress_bar,
    say,
)
from dlir.cli.tables import model_in_words, number, print_table
from dlir.cohort.cine.request import END_DIASTOLE, CineRequest
from dlir.errors import OptionError
from dlir.registration.choices import DEFAULT_MODEL, Device, ImageFormat, Initialization, Kind
from dlir.registration.judging.verdict import Verdict
from dlir.registration.threads import use_threads


def cine(
    cine: Annotated[str, typer.Argument(help="4D NIfTI, NRRD or MHA file, or DICOM folder or .zip of one series.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files; made where missing.")],
    reference: Annotated[
        str, typer.Option(metavar="N|ed", help="Phase that stays, from 0, or ed: that at which the label is largest.")
    ] = "0",
    label: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Labels drawn on one phase, to be carried to all; of a 4D file as FILE#7."),
    ] = None,
    label_phase: Annotated[
        int | None,
        typer.Option(help="Phase on which they were drawn.", show_default="as in FILE#7, else the reference"),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    refine: Annotated[
        str | None,
        typer.Option(
            metavar="10s|50it|converged|off",
            help="Optimise each result: 10s, 50it, converged or off.",
            show_default="off with a model, else 10s",
        ),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="How far the transforms may go.")] = Kind.deformable,
    initialize: Annotated[
        Initialization | None,
        typer.Option(help="Start where it fits best, centre on centre or as the scanner has it.", show_default="auto"),
    ] = None,
    cycle: Annotated[
        bool | None,
        typer.Option(
            "--cycle/--no-cycle",
            help="Also register each phase to the one before, and measure what is left after a full cycle.",
            show_default="on with a model and without --refine",
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    format: Annotated[
        ImageFormat | None, typer.Option(help="What is 4D is written as: nrrd or nii.gz.", show_default="as the cine")
    ] = None,
    full_paths: FullPathsOption = False,
    overwrite: OverwriteOption = False,
    fail_on: FailOnOption = None,
    json: JsonOption = False,
) -> None:
    """Register every phase of CINE to its reference.

    Writes, each 4D (NIfTI for NIfTI, else .seq.nrrd, or as --format says), warped and jacobian, on the reference's
    grid, and with --label labels: as they lie on each phase; a transform for each phase (ITK, reference point to point
    of the phase) and report.json; with --label volumes.csv, ejection.csv and volumes.png. All together or none, in
    place of all files of an earlier run of this cine.

    Ends with a verdict, that on the worst phase. Exit code 0 whatever it is, unless --fail-on asks for 3; 2 where the
    input is refused or a phase cannot be registered, and nothing written.
    """
    use_threads(threads)
    request = CineRequest(
        cine,
        str(output),
        reference=_phase(reference),
        label=label,
        label_phase=label_phase,
        model=model,
        refine=refine,
        kind=kind.value,
        initialize=initialize and initialize.value,
        device=device.value,
        cycle=cycle,
        full_paths=full_paths,
        overwrite=overwrite,
        format=format and format.value,
    )
    from dlir.cohort.cine.register import register_cine

    with progress_bar(wanted=not json) as progress:
        report = register_cine(request, progress=progress, notify=say).report
    with interrupt_says("the files are complete"):
        if json:
            print_json(report)
        else:
            _print(report, output)
        end_with_verdicts([Verdict.from_report(report)], fail_on)


def _phase(text: str) -> int | str:
    """Raises OptionError for neither a number nor the word for what is looked for."""
    if text == END_DIASTOLE:
        return text
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--reference is '{text}'; give the number of a phase, from 0, or {END_DIASTOLE}") from None


def _print(report: dict[str, Any], output: Path) -> None:
    names = list(report["phases"][0]["volumes_ml"])
    head = ["phase", "time (s)", "NCC before", "after", "folding (%)", "verdict", *(f"{name} (ml)" for name in names)]
    print_table(None, head, (_row(phase, report["reference"]) for phase in report["phases"]))
    for one in report["ejection"]:
        print(
            f"ejection  {one['name']}: {number(one['ed_to_es_percent'], '.1f')} %, {one['ed_ml']:.1f} ml at phase "
            f"{one['ed_phase']} (ED) and {one['es_ml']:.1f} ml at phase {one['es_phase']} (ES)"
        )
    if report["cycle"]:
        cycle = report["cycle"]
        print(
            f"cycle     from phase to phase around, points of the {cycle['where']} come back to "
            f"{number(cycle['mean_mm'], '.2f')} mm on average, {number(cycle['max_mm'], '.2f')} mm at most"
        )
    print(f"model     {model_in_words(report['model'])} on {report['device']}")
    files = [name for key, name in report["outputs"].items() if not key.startswith("transform_")]
    transforms = [name for key, name in report["outputs"].items() if key.startswith("transform_")]
    folder = f"{output}{'' if str(output).endswith('/') else '/'}"
    print(f"files     {folder}: {', '.join(files)}, {transforms[0]} to {transforms[-1]}")
    print(f"verdict   {report['verdict']['level']}: {report['verdict']['reason']}")


def _row(phase: dict[str, Any], reference: int) -> list[str]:
    time = number(phase["time_s"])
    volumes = [f"{ml:.1f}" for ml in phase["volumes_ml"].values()]
    if phase["phase"] == reference:
        return [f"{phase['phase']}", time, "", "", "", "reference", *volumes]
    similarity = phase["similarity"]
    return [
        f"{phase['phase']}",
        time,
        number(similarity["before"]),
        number(similarity["after"]),
        number(phase["jacobian"]["folding_percent"]),
        phase["verdict"]["level"],
        *volumes,
    ]
