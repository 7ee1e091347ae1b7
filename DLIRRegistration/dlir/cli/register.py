"""`dlir register`: two volumes in; warped volume, transform, Jacobian map, propagated labels and a report out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.cli.common import (
    Device,
    DeviceOption,
    JsonOption,
    Progress,
    interrupt_says,
    part_of,
    print_json,
    progress_bar,
    say,
)
from dlir.cli.tables import print_report
from dlir.errors import OptionError
from dlir.registration.clock import Clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlir.io import OutputFolder, Volume
    from dlir.model.file import ModelHeader
    from dlir.registration.devices import Outcome
    from dlir.registration.report import Request
    from dlir.registration.result import RegistrationResult

DEFAULT_MODEL = "cardiac-cine"


class Initialize(str, Enum):
    """Values of --initialize; the modes of dlir.registration.initialization."""

    centers = "centers"
    scanner = "scanner"


@dataclass(frozen=True)
class Job:
    """One `dlir register`, as its options say."""

    fixed: str
    moving: str
    output: Path
    model: str = DEFAULT_MODEL
    moving_label: str | None = None
    fixed_label: str | None = None
    fixed_mask: str | None = None
    moving_mask: str | None = None
    initial_transform: Path | None = None
    initialize: str | None = None
    device: str = "auto"
    displacement: bool = False

    def __post_init__(self) -> None:
        if self.fixed_label and not self.moving_label:
            raise OptionError("--fixed-label is compared with the moving label; give --moving-label too")
        if self.initial_transform and self.initialize:
            raise OptionError("--initial-transform and --initialize exclude each other; leave one out")

    @property
    def inputs(self) -> list[str]:
        """Whatever the run must not overwrite."""
        given = (self.fixed, self.moving, self.moving_label, self.fixed_label, self.fixed_mask, self.moving_mask)
        return [name for name in (*given, self.initial_transform and str(self.initial_transform)) if name]


@dataclass(frozen=True, eq=False)
class Labels:
    """Label maps on the fixed grid. before: moved by the initialization alone; after: by the whole transform."""

    fixed: NDArray[Any] | None
    before: NDArray[Any]
    after: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Finished:
    """What a job gave, beside its files."""

    request: Request
    result: RegistrationResult
    labels: Labels | None
    report: dict[str, Any]


def register(
    fixed: Annotated[str, typer.Option(help="Image that stays: NIfTI, NRRD, MHA, DICOM folder or .zip; 4D as FILE#7.")],
    moving: Annotated[str, typer.Option(help="Image that is brought onto the fixed one.")],
    output: Annotated[Path, typer.Option(help="Folder for the files; made where missing.")],
    model: Annotated[str, typer.Option(help="Name (see `dlir models`) or file of the model.")] = DEFAULT_MODEL,
    moving_label: Annotated[str | None, typer.Option(help="Labels of the moving image, to be propagated.")] = None,
    fixed_label: Annotated[str | None, typer.Option(help="Labels of the fixed image, to score the result by.")] = None,
    fixed_mask: Annotated[str | None, typer.Option(help="Where in the fixed image the report's figures count.")] = None,
    moving_mask: Annotated[str | None, typer.Option(help="Where in the moving image they count.")] = None,
    initial_transform: Annotated[
        Path | None, typer.Option(help="ITK transform, fixed to moving point, to start from.")
    ] = None,
    initialize: Annotated[
        Initialize | None,
        typer.Option(help="Start from aligned image centers, or from the scanner's positions.", show_default="centers"),
    ] = None,
    device: DeviceOption = Device.auto,
    displacement: Annotated[bool, typer.Option("--displacement", help="Also write displacement.nrrd.")] = False,
    json: JsonOption = False,
) -> None:
    """Register MOVING to FIXED.

    Writes warped.nrrd, transform.h5 (ITK, fixed point to moving point), jacobian.nrrd, report.json, with
    --moving-label warped_label.nrrd, and with --displacement displacement.nrrd (mm, LPS): all on the fixed
    image's grid, and all together or none.
    """
    job = Job(
        fixed=fixed,
        moving=moving,
        output=output,
        model=model,
        moving_label=moving_label,
        fixed_label=fixed_label,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        initial_transform=initial_transform,
        initialize=initialize and initialize.value,
        device=device.value,
        displacement=displacement,
    )
    with progress_bar(wanted=not json) as progress, open_outputs(job) as outputs:
        finished = run_job(job, outputs, progress)
    with interrupt_says("the files are complete"):
        if json:
            print_json(finished.report)
        else:
            print_report(finished.report, output)


def open_outputs(job: Job) -> OutputFolder:
    """The folder for the files of a job, to be entered; none of them may replace an input. Raises ModelError."""
    from dlir.io import OutputFolder
    from dlir.model.catalogue import resolve_model

    return OutputFolder(job.output, [*job.inputs, str(resolve_model(job.model))])


def run_job(job: Job, outputs: OutputFolder, progress: Progress) -> Finished:
    """Do it all, into `outputs`, which is open. Raises the DLIRErrors of its parts."""
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    clock, names = Clock(), _output_names(job)
    model = read_header(resolve_model(job.model))
    for name in names.values():
        outputs.file(name)
    with clock.step("read"):
        progress("reading", 0.0)
        volumes = _read(job)
    with clock.step("load"):
        progress("loading model", 0.05)
        request = _request(job, volumes)
    outcome = _register(request, model.path, job.device, clock, part_of(progress, 0.05, 0.75))
    with clock.step("figures"):
        progress("figures", 0.75)
        propagated = _propagate(request, outcome.value, volumes)
        report = _report(request, outcome, propagated, model)
    report["outputs"] = names
    report["seconds"] |= clock.seconds
    finished = Finished(request, outcome.value, propagated, report)
    _write(outputs, names, finished, part_of(progress, 0.85, 1.0))
    return finished


def _output_names(job: Job) -> dict[str, str]:
    names = {"warped": "warped.nrrd", "transform": "transform.h5", "jacobian": "jacobian.nrrd"}
    if job.moving_label:
        names["warped_label"] = "warped_label.nrrd"
    if job.displacement:
        names["displacement"] = "displacement.nrrd"
    return {**names, "report": "report.json"}


def _read(job: Job) -> dict[str, Volume]:
    """The images, labels and masks that the job names, by the names of its fields. Torch is not needed yet."""
    from dlir.io import read_image, read_label, read_mask

    volumes = {"fixed": read_image(job.fixed, "fixed image"), "moving": read_image(job.moving, "moving image")}
    for name, spec in (("moving_label", job.moving_label), ("fixed_label", job.fixed_label)):
        if spec:
            volumes[name] = read_label(spec, volumes[name.partition("_")[0]], name.replace("_", " "))
    for name, spec in (("fixed_mask", job.fixed_mask), ("moving_mask", job.moving_mask)):
        if spec:
            volumes[name] = read_mask(spec, volumes[name.partition("_")[0]], name.replace("_", " "))
    return volumes


def _request(job: Job, volumes: dict[str, Volume]) -> Request:
    from dlir.registration.report import Request
    from dlir.transforms.files import read_transform

    initial = read_transform(job.initial_transform) if job.initial_transform else None
    masks = volumes.get("fixed_mask"), volumes.get("moving_mask")
    return Request(volumes["fixed"], volumes["moving"], initial, job.initialize or "centers", *masks)


def _register(
    request: Request, model_file: Path, device_name: str, clock: Clock, progress: Progress
) -> Outcome[RegistrationResult]:
    with clock.step("load"):
        from dlir.registration.session import Session

        session = Session()
        session.load(model_file)
    return session.register(request, model_file, device_name, part_of(progress, 0.2, 1.0), say)


# -- labels -------------------------------------------------------------------------------------------


def _propagate(request: Request, result: RegistrationResult, volumes: dict[str, Volume]) -> Labels | None:
    """The moving labels on the fixed grid; None where there are none."""
    from dlir.registration.session import propagate

    if "moving_label" not in volumes:
        return None
    before, after = propagate(volumes["moving_label"], request, result)
    return Labels(volumes["fixed_label"].array if "fixed_label" in volumes else None, before, after)


def _report(
    request: Request, outcome: Outcome[RegistrationResult], labels: Labels | None, model: ModelHeader
) -> dict[str, Any]:
    import numpy as np

    from dlir.metrics.scores import structure_scores
    from dlir.registration.report import build_report

    report = build_report(request, outcome.value, model, outcome.device)
    if labels is not None and labels.fixed is not None:
        fixed, before, after = labels.fixed, labels.before, labels.after
        present = sorted({int(value) for array in (fixed, before, after) for value in np.unique(array)} - {0})
        report["labels"] = {
            str(value): structure_scores(fixed == value, before == value, after == value, request.fixed.grid)
            for value in present
        }
    return report


# -- files --------------------------------------------------------------------------------------------


def _write(outputs: OutputFolder, names: dict[str, str], finished: Finished, progress: Progress) -> None:
    from dlir.io import write_image, write_json
    from dlir.transforms.files import write_transform
    from dlir.transforms.resample import displacement_field

    result, grid = finished.result, finished.request.fixed.grid
    progress("writing", 0.0)
    write_transform(outputs.file(names["transform"]), result.transform)
    write_image(outputs.file(names["warped"]), result.warped, grid)
    progress("writing", 0.4)
    write_image(outputs.file(names["jacobian"]), result.jacobian, grid)
    progress("writing", 0.7)
    if finished.labels is not None:
        write_image(outputs.file(names["warped_label"]), finished.labels.after, grid)
    if "displacement" in names:
        field = displacement_field(result.transform, grid)
        write_image(outputs.file(names["displacement"]), field, grid, is_vector=True)
    write_json(outputs.file(names["report"]), finished.report)
