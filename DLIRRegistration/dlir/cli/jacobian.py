"""`dlir jacobian`: the exact Jacobian determinant of a saved transform on a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
)
from dlir.cli.tables import number
from dlir.registration.progress import Progress


def jacobian(
    transform: Annotated[Path, typer.Option(help="ITK transform file, such as transform.h5 of `dlir register`.")],
    reference: Annotated[str, typer.Option(help="Image on whose grid to evaluate it: the fixed image.")],
    output: Annotated[Path, typer.Option(help="Image file to write; its folder is made where missing.")],
    mask: Annotated[str | None, typer.Option(help="Where in the reference the printed figures count.")] = None,
    overwrite: OverwriteOption = False,
    full_paths: FullPathsOption = False,
    json: JsonOption = False,
) -> None:
    """Write the Jacobian determinant of TRANSFORM.

    1 keeps volume, below 1 shrinks, 0 or less is folding. It is that of the map from fixed to moving points, computed
    exactly, in slabs.
    """
    from dlir.io.writing import IMAGE_SUFFIXES
    from dlir.registration.results.former import require_unclaimed

    check_suffix(output, IMAGE_SUFFIXES)
    if not overwrite:
        require_unclaimed(output)
    with progress_bar(wanted=not json) as progress:
        report = _run(transform, reference, output, mask, progress)
    with interrupt_says("the file is complete"):
        if json:
            print_json(reported(report, ("output", "transform", "reference"), full=full_paths))
            return
        print(f"folding   {number(report['folding_percent'], '.4f')} % ({report['folding_count']} voxels)")
        print("Jacobian  " + "  ".join(f"{name} {number(report[name])}" for name in ("mean", "sd", "min", "max")))
        print(f"file      {output}")


def _run(transform: Path, reference: str, output: Path, mask: str | None, progress: Progress) -> dict[str, Any]:
    """Write the map and return its figures; those that are not defined are None."""
    from dlir.io import OutputFolder, read_grid, read_mask, write_image

    progress("loading", 0.0)
    from dlir.metrics.folding import describe, jacobian_statistics
    from dlir.transforms.files import read_transform
    from dlir.transforms.jacobian import jacobian_map

    chain, grid = read_transform(transform), read_grid(reference)
    where = read_mask(mask, grid, "mask").array if mask else None
    inputs = [str(transform), reference, *([mask] if mask else [])]
    with OutputFolder(output.parent, inputs) as outputs:
        target = outputs.file(output.name)
        determinant = jacobian_map(chain, grid, lambda done: progress("evaluating", 0.1 + 0.8 * done))
        progress("writing", 0.9)
        write_image(target, determinant, grid)
        statistics = jacobian_statistics(determinant, where)
    return {"output": str(output), "transform": str(transform), "reference": reference, **describe(statistics)}
