"""`dlir demo`: registers the sample pair that comes with DLIR, and draws what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.api import sample_pair
from dlir.cli import completion
from dlir.cli.common import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    interrupt_says,
    print_json,
    progress_bar,
    say,
)
from dlir.cli.tables import number, print_report, print_table
from dlir.errors import how_to_install
from dlir.registration.choices import DEFAULT_MODEL, Device
from dlir.registration.pipeline import Finished, open_outputs, run_into
from dlir.registration.progress import Progress, part_of
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    from types import ModuleType

FIGURE = "demo.png"
LABEL_NAMES = {"1": "cavity of the left ventricle"}


def demo(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the files; made where missing.")],
    model: Annotated[
        str,
        typer.Option(
            metavar="auto|NAME|FILE",
            autocompletion=completion.models_or_choice,
            help="One of `dlir models`, or a file.",
        ),
    ] = DEFAULT_MODEL,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Register the sample pair and draw the result.

    The pair is one heart at end-systole and at end-diastole, which comes with DLIR. Writes the same files as
    `dlir register` and, where matplotlib is installed, demo.png.
    """
    use_threads(threads)
    with progress_bar(wanted=not json) as progress:
        report = run_demo(output, model, device.value, progress, overwrite=overwrite)
    with interrupt_says("the files are complete"):
        if json:
            print_json(report)
        else:
            _print(report, output)


def run_demo(output: Path, model: str, device: str, progress: Progress, *, overwrite: bool = False) -> dict[str, Any]:
    """The report of the registration, after everything has been written.

    Raises ImageError where there is no sample, and as the pipeline; nothing is written then. Without matplotlib there
    is no figure, and a line says so.
    """
    from dlir.io import write_json
    from dlir.registration.results.former import take_over

    sample, figures = sample_pair(), _import_figures()
    request = RegistrationRequest(
        sample["fixed"],
        sample["moving"],
        Outputs(str(output), overwrite=overwrite),
        model,
        device,
        moving_labels=(sample["moving_label"],),
        fixed_labels=(sample["fixed_label"],),
    )
    with open_outputs(request) as outputs:
        if figures is not None:
            outputs.file(FIGURE)
            take_over(outputs, [FIGURE], overwrite=overwrite)
        finished = run_into(outputs, request, progress=part_of(progress, 0.0, 0.85))
        if figures is not None:
            progress("drawing", 0.85)
            draw(figures, outputs.file(FIGURE), finished)
            finished.report["outputs"]["figure"] = FIGURE
            write_json(outputs.file(finished.report["outputs"]["report"]), finished.report)
    return finished.report


def draw(figures: ModuleType, path: Path, finished: Finished) -> None:
    """The figure of a finished registration of the sample."""
    loaded = finished.loaded
    labels = figures.LabelPair(
        loaded.fixed_labels[0],
        loaded.moving_labels[0],
        (_note(finished.report, "before"), _note(finished.report, "after")),
    )
    figures.registration_figure(
        path,
        loaded.fixed,
        loaded.moving,
        finished.result.transform,
        start=loaded.start,
        labels=labels,
        titles=("Fixed: end-diastole", "Moving: end-systole"),
    )


def _import_figures() -> ModuleType | None:
    """What draws; None, and a line for the user, where matplotlib is missing."""
    try:
        from dlir.evaluation import figures
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        say(f"{FIGURE} is left out, because matplotlib is not installed: {how_to_install('eval')}")
        return None
    return figures


def _note(report: dict[str, Any], when: str) -> str:
    """Scores of each label in words, for the figure."""
    lines = []
    for label, scores in report["labels"].items():
        found = scores[when]
        name = LABEL_NAMES.get(label, f"label {label}")
        lines.append(
            f"{name.capitalize()}, whole volume:\nDice {number(found['dice'])}, HD {number(found['hd_mm'], '.1f')} mm"
        )
    return "\n".join(lines)


def _print(report: dict[str, Any], output: Path) -> None:
    names = "; ".join(f"label {label} is the {name}" for label, name in LABEL_NAMES.items())
    print(f"End-systole registered to end-diastole, Sunnybrook SC-HF-I-4 (CC0); {names}.")
    print_report(report, output)
    steps = [[name, number(seconds)] for name, seconds in report["seconds"].items()]
    print_table(None, ["step", "seconds"], steps)
