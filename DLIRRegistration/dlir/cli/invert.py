"""`dlir invert`: the inverse of saved transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def invert(
    transform: TransformsOption,
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Transform (.h5; .tfm where it is linear) or image of displacements to write."
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE", help="Image of the moving side, on whose grid the inverse of what bends is kept."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Write the inverse of a saved transform.

    It maps points of the moving image to points of the fixed image. That of a linear transform is linear, and exact.
    Any other becomes a displacement in each voxel of --reference, in mm and LPS: exact at the voxels, linear between
    them. How far both are off is printed, and how many voxels have no inverse; these have the displacement that comes
    nearest. Several --transform are one, see `dlir apply --help`.
    """
    from dlir.applying.chain import chained
    from dlir.applying.invert import INVERSE_SUFFIXES, invert_to_file
    from dlir.io import read_grid
    from dlir.registration.results.former import check_single

    check_single(output, INVERSE_SUFFIXES, overwrite=overwrite)
    names = list(map(str, transform))
    with progress_bar(wanted=not json) as progress:
        progress("loading", 0.0)
        chain, grid = chained(names), read_grid(reference) if reference else None
        inputs = [*names, *([reference] if reference else [])]
        inverted = invert_to_file(chain, grid, output, inputs, progress)
    with interrupt_says("the file is complete"):
        if inverted.warning:
            say(f"warning: {inverted.warning}")
        if json:
            files = {"output": str(output), "transform": one_or_all(names), "reference": reference}
            figures = {
                "linear": inverted.transform.linear,
                "unsolved": inverted.unsolved,
                "largest_residual_mm": inverted.largest_residual,
                "between_voxels_mm": inverted.between,
            }
            print_json(reported(files, files, full=full_paths) | figures)
            return
        if inverted.transform.linear:
            print("inverse   a matrix, exact")
        else:
            at, between = (number(one, ".2g") for one in (inverted.largest_residual, inverted.between))
            print(f"inverse   off by up to {at} mm at voxels, {between} mm halfway between them")
        print(f"file      {output}")
