"""`dlir demo`: registers the sample pair that lies in the repository, and draws what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli.common import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    ThreadsOption,
    interrupt_says,
    print_json,
    progress_bar,
)
from dlir.cli.tables import number, print_report, print_table
from dlir.errors import ImageError, OutputError
from dlir.registration.choices import DEFAULT_MODEL, Device
from dlir.registration.pipeline import Finished, open_outputs, run_into
from dlir.registration.progress import Progress, part_of
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.threads import use_threads

if TYPE_CHECKING:
    from types import ModuleType

FIGURE = "demo.png"
LABEL_NAMES = {"1": "cavity of the left ventricle"}
_SAMPLE = {
    "fixed": "fixed_ed.nrrd",
    "moving": "moving_es.nrrd",
    "fixed_label": "fixed_ed_label.nrrd",
    "moving_label": "moving_es_label.nrrd",
}


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the files; made where missing.")],
    model: Annotated[str, typer.Option(help="Name (see `dlir models`) or file of the model.")] = DEFAULT_MODEL,
    device: DeviceOption = Device.auto,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Register the sample pair and draw the result.

    The pair is one heart at end-systole and at end-diastole; it lies in the repository, so this runs from a copy
    of that. Writes the same files as `dlir register`, and demo.png.
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

    Raises ImageError where there is no sample, OutputError without matplotlib, and as the pipeline; nothing is
    written then.
    """
    from dlir.io import write_json
    from dlir.registration.former import take_over

    sample, figures = find_sample(), _import_figures()
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
        outputs.file(FIGURE)
        take_over(outputs, [FIGURE], overwrite=overwrite)
        finished = run_into(outputs, request, progress=part_of(progress, 0.0, 0.85))
        progress("drawing", 0.85)
        draw(figures, outputs.file(FIGURE), finished)
        finished.report["outputs"]["figure"] = FIGURE
        write_json(outputs.file(finished.report["outputs"]["report"]), finished.report)
    return finished.report


def find_sample() -> dict[str, str]:
    """The files of the sample pair, by the options of `dlir register`. Raises ImageError where one is missing."""
    from dlir.model.catalogue import resource_folder

    files = {role: resource_folder("SampleData") / name for role, name in _SAMPLE.items()}
    for path in files.values():
        if not path.is_file():
            raise ImageError(
                f"the demo's sample image {path.name} is not here, it lies in DLIR's repository only; "
                "run the demo from a copy of that, or dlir register with images of your own"
            )
    return {role: str(path) for role, path in files.items()}


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


def _import_figures() -> ModuleType:
    try:
        from dlir.evaluation import figures
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise OutputError(
            f"cannot draw {FIGURE}: matplotlib is not installed; install it with: pip install matplotlib"
        ) from None
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
