"""Images of unrelated contrast: how near each similarity comes to a motion that is known.

    python Benchmarks/contrasts.py [--split tune] [--steps 100] [--only SIMILARITY...]

A real image is moved in a known way (truth.measures.known_motion: 8 mm, and a smooth field of up to 10 mm) and its
intensities are changed by a curve by chance, rising for every other image and up and down for the rest; that is
registered to the image as it was, without a model. Prints and keeps results/contrasts.md: the median distance over the
body from where each point belongs, mm, of every image, and over all. Those of the tune split are of other subjects.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from study import keep_tables, machine
from truth.measures import MotionMeasure, inner_points, known_motion
from truth.store import default_data

from dlir.evaluation.tables import markdown
from dlir.io.reading import Volume, read_image
from dlir.losses.choices import Similarity
from dlir.model.preprocessing import intensity_range
from dlir.model.spec import Preprocessing
from dlir.optimization.budget import Budget
from dlir.optimization.optimise import Aim, Optimisation
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform

IMAGES = {
    "tune": (
        "brain_t1/IXI012/t1.nii.gz",
        "headneck_ct/pt_017/ct.nii.gz",
        "lung_mr/0004.nii.gz",
        "spine_mr/subj04_t1.nii.gz",
    ),
    "report": (
        "brain_t1/IXI034/t1.nii.gz",
        "brain_t1/IXI048/t1.nii.gz",
        "headneck_ct/pt_296/ct.nii.gz",
        "headneck_ct/pt_311/ct.nii.gz",
        "lung_mr/0011.nii.gz",
        "lung_mr/0012.nii.gz",
        "spine_mr/subj32_t1.nii.gz",
        "spine_mr/subj34_t1.nii.gz",
        "totalseg/ct.nii.gz",
        "lung_ct/baseline.mha",
    ),
}
SEED = 400
# Values of a curve between dark and bright, by chance.
KNOTS = 8
AUTO = "auto"
NAMES = (AUTO, *(similarity.value for similarity in Similarity))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--split", choices=tuple(IMAGES), default="report")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for number, name in enumerate(IMAGES[options.split]):
        rows.append(row(options.data / name, number, options.steps, options.only))
        print(*rows[-1], flush=True)
    medians = [f"{statistics.median(float(own[k]) for own in rows):.2f}" for k in range(2, len(rows[0]))]
    table = [("image", "curve", "before", *options.only), *rows, ("median", "", *medians)]
    title = f"Median distance (mm) from a known motion, {options.steps} steps"
    if options.split == "report" and tuple(options.only) == NAMES:
        keep_tables("contrasts", [(title, table)], [machine()])
    else:
        print(f"{title}\n\n{markdown(table)}")


def row(path: Path, number: int, steps: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """One image: its name, the kind of its curve, and distances before and by each similarity."""
    fixed = read_image(str(path), "image")
    motion = known_motion(fixed.grid, SEED + number)
    rising = number % 2 == 0
    low, high = intensity_range(fixed.array, Preprocessing((1.0, 1.0, 1.0)))
    scaled = np.clip((resample(fixed.array, fixed.grid, motion, fixed.grid) - low) / (high - low), 0, 1)
    moving = Volume(changed(scaled, SEED + number, rising=rising), fixed.grid, "changed")
    points = inner_points(fixed, fixed.grid, motion, low + 0.15 * (high - low))
    measure = MotionMeasure(points, motion, median=True)
    pair = Optimisation(fixed, moving)
    distances = [measure.score(CompositeTransform(()))]
    for name in names:
        aim = Aim(similarity=None if name == AUTO else Similarity(name))
        distances.append(measure.score(pair.run(Budget(steps=steps), aim).transform))
    return (path.parent.name + "/" + path.name, "rising" if rising else "up and down", *(f"{d:.2f}" for d in distances))


def changed(image: NDArray[np.float64], seed: int, *, rising: bool) -> NDArray[np.float32]:
    """Intensities in [0, 1] through a curve by chance; dark stays dark, as beyond the body."""
    values = np.random.default_rng(seed).uniform(size=KNOTS)
    curve = np.concatenate([[0.0], np.cumsum(values**2) / np.sum(values**2) if rising else values])
    return np.interp(image, np.linspace(0, 1, KNOTS + 1), curve).astype(np.float32)


if __name__ == "__main__":
    main()
