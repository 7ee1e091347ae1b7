"""`dlir jacobian`: the exact Jacobian determinant of a saved transform on a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
from dlir.cli.tables import number
from dlir.registration.progress import Progress


def jacobian(
    transform: TransformsOption,
    reference: Annotated[
        str, typer.Option(metavar="IMAGE", help="Image on whose grid to evaluate it: the fixed image.")
    ],
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="Image file to write; its folder is made where missing.")
    ],
    mask: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Where in the reference the printed figures count.")
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Of the inverse, on the moving image.")] = False,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Write the Jacobian determinant of a saved transform.

    1 keeps volume, below 1 shrinks, 0 or less is folding. It is that of the map from fixed to moving points, computed
    exactly, in slabs; with --inverse that of the map from moving to fixed points, 0 where there is none. Several
    --transform are one, see `dlir apply --help`.
    """
    from dlir.io.writing import IMAGE_SUFFIXES
    from dlir.registration.results.former import check_single

    check_single(output, IMAGE_SUFFIXES, overwrite=overwrite)
    with progress_bar(wanted=not json) as progress:
        report = _run(list(map(str, transform)), reference, output, mask, inverse, progress)
    with interrupt_says("the file is complete"):
        if report["unsolved"]:
            say(f"warning: {report['unsolved']} voxels have no inverse; the determinant is 0 there")
        if json:
            print_json(reported(report, ("output", "transform", "reference"), full=full_paths))
            return
        print(f"folding   {number(report['folding_percent'], '.4f')} % ({report['folding_count']} voxels)")
        print("Jacobian  " + "  ".join(f"{name} {number(report[name])}" for name in ("mean", "sd", "min", "max")))
        print(f"file      {output}")


def _run(
    transforms: list[str], reference: str, output: Path, mask: str | None, inverse: bool, progress: Progress
) -> dict[str, Any]:
    """Write the map and return its figures; those that are not defined are None."""
    from dlir.io import OutputFolder, read_grid, read_mask, write_image

    progress("loading", 0.0)
    from dlir.applying.chain import chained
    from dlir.metrics.folding import describe, jacobian_statistics
    from dlir.transforms.inverse import InverseTransform
    from dlir.transforms.jacobian import jacobian_map

    chain, grid = chained(transforms), read_grid(reference)
    backward = InverseTransform(chain) if inverse else None
    where = read_mask(mask, grid, "mask").array if mask else None
    inputs = [*transforms, reference, *([mask] if mask else [])]
    with OutputFolder(output.parent, inputs) as outputs:
        target = outputs.file(output.name)
        determinant = jacobian_map(backward or chain, grid, lambda done: progress("evaluating", 0.1 + 0.8 * done))
        progress("writing", 0.9)
        write_image(target, determinant, grid)
        statistics = jacobian_statistics(determinant, where)
    return {
        "output": str(output),
        "transform": one_or_all(transforms),
        "reference": reference,
        "inverse": inverse,
        "unsolved": backward.unsolved if backward else 0,
        **describe(statistics),
    }
