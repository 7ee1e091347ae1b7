"""`dlir apply`: an image, labels or points through a saved transform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlir.cli.common import (
    FullPathsOption,
    JsonOption,
    OverwriteOption,
    check_suffix,
    interrupt_says,
    print_json,
    progress_bar,
    reported,
    say,
)
from dlir.errors import OptionError
from dlir.registration.progress import Progress

if TYPE_CHECKING:
    from dlir.transforms.spatial import SpatialTransform


def apply(
    transform: Annotated[Path, typer.Option(help="ITK transform file, such as transform.h5 of `dlir register`.")],
    output: Annotated[Path, typer.Option(help="File to write; its folder is made where missing.")],
    image: Annotated[str | None, typer.Option(help="Image, interpolated linearly.")] = None,
    label: Annotated[str | None, typer.Option(help="Label map, by nearest neighbour.")] = None,
    points: Annotated[str | None, typer.Option(help="Points: .csv, .txt, .pts, .mrk.json or .fcsv.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Image onto whose grid to resample; for points as voxel indices, the image they lie on."),
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Go the other way, see above.")] = False,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Take an image, labels or points through a saved TRANSFORM.

    The transform maps points of the fixed image to points of the moving image. So an image or labels travel
    from moving to fixed without --inverse (reference: the fixed image, or any grid in its space), and from fixed
    to moving with it. Points are the other way round: those drawn on the fixed image travel to the moving image
    without --inverse, and those drawn on the moving image travel to the fixed image with --inverse.
    """
    from dlir.io.points import POINT_SUFFIXES
    from dlir.io.writing import IMAGE_SUFFIXES
    from dlir.registration.results.former import require_unclaimed

    given = {"image": image, "label": label, "points": points}
    kinds = [kind for kind, spec in given.items() if spec]
    if len(kinds) != 1:
        raise OptionError("give exactly one of --image, --label and --points")
    kind, spec = kinds[0], str(given[kinds[0]])
    if kind != "points" and not reference:
        raise OptionError(f"--{kind} needs --reference, the image onto whose grid it is resampled")
    check_suffix(output, POINT_SUFFIXES if kind == "points" else IMAGE_SUFFIXES)
    if not overwrite:
        require_unclaimed(output)
    with progress_bar(wanted=not json) as progress:
        report = _run(transform, kind, spec, reference, output, inverse, progress)
    with interrupt_says("the file is complete"):
        if report["unsolved"]:
            say(
                f"warning: {report['unsolved']} of {report['count']} points have no inverse (off by up to "
                f"{report['largest_residual_mm']:.3g} mm): the transform folds there or does not reach them"
            )
        if json:
            print_json(reported(report, ("output", "transform", kind, "reference"), full=full_paths))
        else:
            residual = report["largest_residual_mm"]
            print(f"{output}" + ("" if residual is None else f"  (inverse to within {residual:.2g} mm)"))


def _run(
    transform: Path, kind: str, spec: str, reference: str | None, output: Path, inverse: bool, progress: Progress
) -> dict[str, Any]:
    """Write the output and return what to tell of it."""
    from dlir.io.writing import OutputFolder

    progress("loading", 0.0)
    from dlir.transforms.files import read_transform
    from dlir.transforms.inverse import InverseTransform

    forward = read_transform(transform)
    backward = InverseTransform(forward) if inverse else None
    with OutputFolder(output.parent, [str(transform), spec, *([reference] if reference else [])]) as outputs:
        target = outputs.file(output.name)
        if kind == "points":
            count = _move_points(spec, reference, backward or forward, target)
        else:
            count = _resample(kind, spec, str(reference), backward or forward, target, progress)
    return {
        "output": str(output),
        "transform": str(transform),
        kind: spec,
        "reference": reference,
        "inverse": inverse,
        "count": count,
        "unsolved": backward.unsolved if backward else 0,
        "largest_residual_mm": backward.largest_residual if backward else None,
    }


def _move_points(spec: str, reference: str | None, way: SpatialTransform, target: Path) -> int:
    """Write the points as `way` moves them; returns their number."""
    from dlir.io import Landmarks, read_grid, read_landmarks, write_landmarks

    landmarks = read_landmarks(spec, read_grid(reference) if reference else None, role="points")
    write_landmarks(target, Landmarks(way.apply(landmarks.points), landmarks.labels))
    return len(landmarks.points)


def _resample(kind: str, spec: str, reference: str, way: SpatialTransform, target: Path, progress: Progress) -> int:
    """Write the volume as seen through `way`; returns the number of voxels."""
    from dlir.io import read_grid, read_image, read_label, write_image
    from dlir.transforms.resample import resample

    progress("reading", 0.05)
    onto = read_grid(reference)
    if kind == "image":
        volume = read_image(spec, "image")
        default = float(volume.array.min())
    else:
        volume = read_label(spec, None, "label")
        default = 0.0
    mode: Literal["linear", "nearest"] = "linear" if kind == "image" else "nearest"
    array = resample(
        volume.array, volume.grid, way, onto, mode, default, lambda done: progress("resampling", 0.1 + 0.8 * done)
    )
    progress("writing", 0.9)
    write_image(target, array, onto)
    return int(array.size)
