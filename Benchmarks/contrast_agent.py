"""Contrast that arrives: by how much registration changes the volume of the tissue that takes it up.

    python Benchmarks/contrast_agent.py [--data DATA]

The body does not change between the phases of a series, so the volume of what enhances should not either. Each phase
after contrast is registered to the one before it, and the other way round, through `dlir.registration.pipeline` as
`dlir register --model none` does it: similarity auto, one thread, 10 s that this process computes, whatever else the
machine does. The tissue is, for breast_dce, its mask of enhancing tissue, and for prostate_dynamic_mr what has risen,
smoothed over a voxel in plane, by more than half of the 99th percentile of all that rises. Its change in per cent: of
the mask, carried onto the fixed grid with partial volumes counted, and of the integral of the Jacobian's determinant
over the mask as it lies. Also told: the model that `--model auto` takes. Prints and keeps results/contrast_agent.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from study import keep_tables, machine, on_own_time
from truth.listing import breast_phases, prostate_phases
from truth.store import default_data

from dlir.io.reading import Volume, read_image, read_label
from dlir.registration.choices import NO_MODEL
from dlir.registration.pipeline import run
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.session import Session
from dlir.transforms.resample import resample

MASK = "breast_dce/UCSF-BR-06/breast_label.nii.gz"
# In plane, voxels; and which part of the high percentile of what rises is tissue that enhances.
SMOOTHED, HIGH, PART = 1.0, 99.0, 0.5
HEAD = ("series", "fixed", "moving", "tissue, ml", "mask, %", "Jacobian, %", "moved, mm", "verdict", "auto takes")
LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Phases:
    """Two phases of one series, on one grid. tissue: (z, y, x), what takes up contrast between them."""

    series: str
    names: tuple[str, str]
    images: tuple[Volume, Volume]
    tissue: NDArray[np.bool_]

    def turned(self) -> Phases:
        return Phases(self.series, self.names[::-1], self.images[::-1], self.tissue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--jobs", type=int, default=1, help="pairs at a time, which changes no figure")
    options = parser.parse_args()
    every = [own for pair in series(options.data) for own in (pair, pair.turned())]
    rows, worst = list[tuple[str, ...]](), 0.0
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for row, changed in pool.imap(measured, every):
            worst = max(worst, changed)
            rows.append(row)
            print(*row, flush=True)
    notes = [f"Largest change: {worst:.2f} % ({LIMIT:g} % is the most that is wanted).", machine()]
    keep_tables("contrast_agent", [("Change of the volume of what enhances", [HEAD, *rows])], notes)


def series(data: Path) -> Iterator[Phases]:
    """Those before contrast are fixed."""
    for name, pairs in (("breast_dce", breast_phases()), ("prostate_dynamic_mr", prostate_phases())):
        for pair in pairs:
            before, after = (read_image(str(data / scan.image), scan.part) for scan in (pair.fixed, pair.moving))
            tissue = (
                read_label(str(data / MASK), after, "mask").array > 0
                if name == "breast_dce"
                else risen(before.array, after.array)
            )
            yield Phases(name, (pair.fixed.part, pair.moving.part), (before, after), tissue)


def risen(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What enhances."""
    rise = gaussian_filter(after - before, (0, SMOOTHED, SMOOTHED))
    marked: NDArray[np.bool_] = rise > PART * np.percentile(rise, HIGH)
    return marked


def measured(phases: Phases) -> tuple[tuple[str, ...], float]:
    """A row of the table, and the larger of the two changes in per cent, without its sign."""
    torch.set_num_threads(1)
    (fixed, moving), tissue, session = phases.images, phases.tissue, Session()
    with tempfile.TemporaryDirectory() as folder, on_own_time():
        result = run(RegistrationRequest(fixed, moving, Outputs(folder), model=NO_MODEL), session)
    transform = result.result.transform
    carried = resample(tissue.astype(np.float32), moving.grid, transform, fixed.grid)
    mask = 100 * (float(carried.sum()) / np.count_nonzero(tissue) - 1)
    jacobian = 100 * float(result.result.jacobian[tissue].mean() - 1)
    points = fixed.grid.voxel_centers()[tissue]
    moved = float(np.linalg.norm(transform.apply(points) - points, axis=1).mean())
    millilitres = np.count_nonzero(tissue) * float(np.prod(fixed.grid.spacing)) / 1000
    figures = f"{millilitres:.1f}", f"{mask:+.2f}", f"{jacobian:+.2f}", f"{moved:.2f}"
    told = result.report["verdict"]["level"], taken(fixed, moving, session)
    return (phases.series, *phases.names, *figures, *told), max(abs(mask), abs(jacobian))


def taken(fixed: Volume, moving: Volume, session: Session) -> str:
    """The model by which `--model auto` registers a pair."""
    with tempfile.TemporaryDirectory() as folder:
        report = run(RegistrationRequest(fixed, moving, Outputs(folder), refine="1it"), session).report
    name: str = report["model"]["name"]
    return name


if __name__ == "__main__":
    main()
