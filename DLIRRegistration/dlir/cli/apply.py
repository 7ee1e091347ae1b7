"""`dlir apply`: an image, labels, points or a surface through saved transforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlir.applying.choices import Frame, Interpolation, Subject
from dlir.cli.common import (
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    TransformsOption,
    interrupt_says,
    one_or_all,
    print_json,
    progress_bar,
    reported,
    say,
)
from dlir.errors import OptionError

if TYPE_CHECKING:
    from dlir.applying.apply import Applied


def apply(
    transform: TransformsOption,
    output: Annotated[Path, typer.Option(metavar="FILE", help="File to write; its folder is made where missing.")],
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Image: 3D, 4D, or with several values per voxel.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="IMAGE", help="Label map, 3D or 4D.")] = None,
    points: Annotated[
        str | None, typer.Option(metavar="FILE", help="Points: .csv, .txt, .pts, .mrk.json or .fcsv.")
    ] = None,
    surface: Annotated[
        str | None, typer.Option(metavar="FILE", help="Surface model: .vtk, .vtp, .stl, .obj or .ply.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            help="Image onto whose grid to resample; for points as voxel indices, the image they lie on.",
        ),
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Go the other way, see above.")] = False,
    interpolation: Annotated[
        Interpolation | None,
        typer.Option(
            help="Between voxels: of an image linear, bspline (cubic) or nearest, of labels nearest or gaussian-label.",
            show_default="linear; of labels nearest",
        ),
    ] = None,
    frame: Annotated[
        Frame | None,
        typer.Option(help="Of a surface that does not state it.", show_default="LPS", case_sensitive=False),
    ] = None,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Take images, points or surfaces through a saved transform.

    A transform maps points of the fixed image to points of the moving image. So an image or labels travel
    from moving to fixed without --inverse (reference: the fixed image, or any grid in its space), and from fixed
    to moving with it. Points and surfaces are the other way round: those drawn on the fixed image travel to the moving
    image without --inverse, and those drawn on the moving image travel to the fixed image with --inverse.

    Several --transform are one transform, of which the last one given is applied to points first, as in a composite of
    ITK: --transform A --transform B maps x to A(B(x)). antsApplyTransforms lists them the other way round. --inverse
    inverts the whole.
    """
    from dlir.applying.apply import SUFFIXES, Application, apply_to_file
    from dlir.applying.chain import chained
    from dlir.registration.results.former import check_single

    given = {Subject.image: image, Subject.label: label, Subject.points: points, Subject.surface: surface}
    found = [(subject, source) for subject, source in given.items() if source]
    if len(found) != 1:
        raise OptionError("give exactly one of --image, --label, --points and --surface")
    ((subject, source),) = found
    check_single(output, SUFFIXES[subject], overwrite=overwrite)
    names = list(map(str, transform))
    with progress_bar(wanted=not json) as progress:
        progress("loading", 0.0)
        asked = Application(
            subject,
            source,
            chained(names),
            reference or None,
            inverse,
            interpolation and interpolation.value,
            frame and frame.value,
        )
        applied = apply_to_file(asked, names, output, progress)
    with interrupt_says("the file is complete"):
        files = {"output": str(output), "transform": one_or_all(names), subject.value: source, "reference": reference}
        _tell(applied, reported(files, files, full=full_paths) | {"inverse": inverse}, output, as_json=json)


def _tell(applied: Applied, report: dict[str, Any], output: Path, *, as_json: bool) -> None:
    residual = applied.largest_residual
    if applied.warning:
        say(f"warning: {applied.warning}")
    if as_json:
        figures = {"count": applied.count, "unsolved": applied.unsolved, "largest_residual_mm": residual}
        print_json(report | figures)
    else:
        print(f"{output}" + ("" if residual is None else f"  (inverse to within {residual:.2g} mm)"))
