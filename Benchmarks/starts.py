"""One lung at two times, 35 mm apart as the scanner placed them: the same result from wherever it begins.

    python Benchmarks/starts.py [--data DATA] [--refine 100it]

Both directions, without a model, one thread, so many steps that the plan is the same: from what the search finds, and
told to begin from the scanner's positions and from the centres. Distance between two results: at the voxels of the
fixed lung mask, mm. Prints and keeps results/starts.md.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from study import keep_tables, machine
from truth.store import default_data

from dlir.io import read_image, read_landmarks, read_mask
from dlir.metrics.landmarks import landmark_distances
from dlir.optimization.budget import Budget, budget_of
from dlir.optimization.optimise import Optimisation
from dlir.transforms.spatial import AffineTransform, CompositeTransform

HEAD = ("fixed", "between", "mean, mm", "95 %, mm", "largest, mm")
LIMIT = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--refine", default="100it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = budget_of(options.refine)
    if budget is None:
        parser.error("--refine off compares nothing; give steps")
    rows, errors = list[tuple[str, ...]](), list[str]()
    for fixed, moving in (("baseline", "followup"), ("followup", "baseline")):
        found, told = compared(options.data / "lung_ct", fixed, moving, budget)
        rows += found
        errors.append(f"{fixed}: {told}")
        print(*found, told, sep="\n", flush=True)
    most = max(float(row[2]) for row in rows)
    notes = [
        f"Largest mean distance {most:.2f} mm ({LIMIT:g} mm is what is wanted), {budget}.",
        f"Error of ten landmarks, mm: {'; '.join(errors)}.",
        machine(),
    ]
    keep_tables("starts", [("Distance between the results from two starts", [HEAD, *rows])], notes)


def compared(folder: Path, fixed: str, moving: str, budget: Budget) -> tuple[list[tuple[str, ...]], str]:
    """Rows of the table, and the errors of the landmarks in words."""
    images = [read_image(str(folder / f"{name}.mha"), name) for name in (fixed, moving)]
    points = [
        read_landmarks(str(folder / f"{name}_landmarks.txt"), image.grid).points
        for name, image in zip((fixed, moving), images, strict=True)
    ]
    lung = images[0].grid.voxel_centers()[read_mask(str(folder / f"{fixed}_mask.mha"), images[0], "mask").array > 0]
    middle = AffineTransform.translation(tuple(images[1].grid.center - images[0].grid.center))
    starts = {"search": None, "scanner": CompositeTransform(()), "centers": CompositeTransform((middle,))}
    results, told = dict[str, CompositeTransform](), list[str]()
    for name, start in starts.items():
        results[name] = Optimisation(images[0], images[1]).run(budget, start=start).transform
        told.append(f"{name} {landmark_distances(results[name].apply(points[0]), points[1]).mean():.2f}")
    rows = list[tuple[str, ...]]()
    for one, other in combinations(starts, 2):
        apart = np.linalg.norm(results[one].apply(lung) - results[other].apply(lung), axis=1)
        figures = apart.mean(), np.percentile(apart, 95), apart.max()
        rows.append((fixed, f"{one}, {other}", *(f"{figure:.2f}" for figure in figures)))
    return rows, ", ".join(told)


if __name__ == "__main__":
    main()
