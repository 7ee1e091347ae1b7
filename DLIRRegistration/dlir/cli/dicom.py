"""`dlir dicom write`: a transform as a DICOM registration object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dlir.cli.common import (
    CommandGroup,
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    interrupt_says,
    print_json,
    progress_bar,
    reported,
)
from dlir.registration.progress import Progress

dicom = typer.Typer(cls=CommandGroup, no_args_is_help=True, help="Write a registration as a DICOM object.")


@dicom.callback()
def _group() -> None:
    """A group also while it has one command."""


@dicom.command()
def write(
    transform: Annotated[Path, typer.Option(help="Transform, fixed to moving point, such as transform.h5.")],
    fixed: Annotated[str, typer.Option(help="DICOM folder or .zip of the fixed image; a time point as FOLDER#7.")],
    moving: Annotated[str, typer.Option(help="DICOM folder or .zip of the moving image.")],
    output: Annotated[Path, typer.Option(help="DICOM file to write; its folder is made where missing.")],
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Write TRANSFORM as a DICOM registration object.

    A linear transform becomes a Spatial Registration, any other a Deformable Spatial Registration, with a vector for
    each voxel of the fixed image. The object is filed in the study of the fixed series, in its frame of reference, and
    names the images of both. It is read again wherever a transform is: `dlir apply --transform reg.dcm`.
    """
    from dlir.registration.results.former import check_single

    check_single(output, (".dcm",), overwrite=overwrite)
    with progress_bar(wanted=not json) as progress:
        report = _run(transform, fixed, moving, output, progress)
    with interrupt_says("the file is complete"):
        if json:
            print_json(reported(report, ("output", "transform", "fixed", "moving"), full=full_paths))
            return
        what = "Deformable Spatial Registration" if report["kind"] == "deformable" else "Spatial Registration"
        print(f"{output}  ({what}, of {report['moving_images']} images to {report['fixed_images']})")


def _run(transform: Path, fixed: str, moving: str, output: Path, progress: Progress) -> dict[str, Any]:
    """Write the object and return what to tell of it."""
    from dlir.io import OutputFolder
    from dlir.io.dicom.instances import read_series
    from dlir.transforms.dicom.writing import write_registration
    from dlir.transforms.files import read_transform

    progress("reading", 0.0)
    chain = read_transform(transform)
    pair = [read_series(spec, f"{role} image") for role, spec in (("fixed", fixed), ("moving", moving))]
    progress("writing", 0.5)
    with OutputFolder(output.parent, [str(transform), fixed, moving]) as outputs:
        written = write_registration(outputs.file(output.name), chain, *pair)
    return {"output": str(output), "transform": str(transform), "fixed": fixed, "moving": moving, **written}
