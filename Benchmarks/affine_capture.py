"""What the affine network brings back: held-out hippocampi under random known affine maps.

    python Benchmarks/affine_capture.py --data HIPPOCAMPUS

Every image of the last 12 persons, who are kept from training and validation, is registered to itself resampled on
its own grid through a map of up to 20° about each axis, 15 mm along each and a factor of 0.8 to 1.2 along each; what
the map moves off the grid is gone. The error is the mean distance in mm between the recovered and the true place of a
voxel: before, by the model's affine stage, by elastix's affine registration and by all of the model's stages. Some
minutes on a CPU. Prints and keeps results/affine_capture.md. Needs the train, eval and bench extras.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from study import Section, keep_tables, machine
from table4 import HELD_OUT, SEED, held_out_pairs

from dlir.data.layouts.decathlon import Decathlon
from dlir.data.pair import Scan
from dlir.evaluation.methods.base import Method
from dlir.evaluation.methods.elastix import ElastixMethod
from dlir.evaluation.methods.identity import Identity
from dlir.evaluation.methods.network import NetworkMethod
from dlir.evaluation.scoring import load_scan
from dlir.evaluation.summary import statistics
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.catalogue import resolve_model
from dlir.registration.loading import Loaded
from dlir.training.config import RandomAffine
from dlir.training.pairs import apply_affine, random_parameters
from dlir.transforms.affine import affine_matrix
from dlir.transforms.spatial import AffineTransform, CompositeTransform, Points

MOTION = RandomAffine(rotation=20, translation=15, scale=(0.8, 1.2))
# Smaller errors, in mm, count as a success.
CLOSE = 2.0
# Lengths of the shift in mm that divide the images.
SHIFTS = (0.0, 10.0, 15.0, np.inf)


@dataclass(frozen=True, eq=False)
class Case:
    """An image and itself moved. truth: fixed point -> moving point, LPS mm. shift: length of its translation in mm.

    places: points (N, 3) of the fixed image where errors are measured, LPS mm, by what they lie in.
    """

    task: Loaded
    truth: AffineTransform
    shift: float
    places: dict[str, Points]

    def error(self, found: CompositeTransform, place: str) -> float:
        """Mean distance in mm between where a transform and the truth send the points of a place."""
        points = self.places[place]
        return float(np.linalg.norm(found.apply(points) - self.truth.apply(points), axis=1).mean())

    @property
    def kept(self) -> float:
        """Fraction of the hippocampus that is still in the moving image."""
        return float(self.task.moving.grid.contains(self.truth.apply(self.places["hippocampus"])).mean())


def moved(scan: Scan, number: int) -> Case:
    """An image and itself under the map that chance gives to its number."""
    loaded = load_scan(scan)
    image, label = loaded.image, loaded.label
    assert label is not None  # the data set says that all are labelled
    parameters = random_parameters(MOTION, np.random.default_rng((SEED, number)))
    array = apply_affine(torch.from_numpy(image.array)[None], image.grid, parameters)[0].numpy()
    # The moved image shows at x what the image has at map(x): a point of the image is found at its inverse.
    truth = AffineTransform(np.linalg.inv(physical_matrix(parameters, image.grid)))
    task = Loaded(image, Volume(array, image.grid, f"{image.source}, moved"), CompositeTransform(()))
    centers = image.grid.voxel_centers()
    places = {"hippocampus": centers[label.array > 0], "whole image": centers.reshape(-1, 3)}
    return Case(task, truth, float(parameters[0, :3].norm()), places)


def physical_matrix(parameters: torch.Tensor, grid: ImageGrid) -> NDArray[np.float64]:
    """(4, 4) in LPS mm of parameters (1, 12) about a grid's centre, in mm along its axes."""
    along_axes = np.eye(4)
    along_axes[:3, :3], along_axes[:3, 3] = grid.direction_matrix, grid.center
    matrix = affine_matrix(parameters.double(), torch.zeros(1, 3, dtype=torch.float64))[0].numpy()
    product: NDArray[np.float64] = along_axes @ matrix @ np.linalg.inv(along_axes)
    return product


# -- tables -------------------------------------------------------------------------------------------


def place_table(errors: dict[str, list[float]]) -> list[list[str]]:
    """A line per method: errors in mm over all images."""
    lines = [["method", "n", "median ± IQR (mm)", "mean ± SD (mm)", f"below {CLOSE:g} mm"]]
    for name, own in errors.items():
        s = statistics(own)
        cells = [f"{s.median:.2f} ± {s.iqr:.2f}", f"{s.mean:.2f} ± {s.sd:.2f}", f"{np.mean(np.array(own) < CLOSE):.0%}"]
        lines.append([name, str(s.count), *cells])
    return lines


def shift_table(cases: Sequence[Case], errors: dict[str, list[float]]) -> list[list[str]]:
    """A line per length of the shift: of each method, the median error in mm and how many images are below `CLOSE`."""
    lines = [["shift (mm)", "n", "still in the image", *errors]]
    for low, high in pairwise(SHIFTS):
        chosen = [k for k, case in enumerate(cases) if low <= case.shift < high]
        if chosen:
            cells = [np.array(own)[chosen] for own in errors.values()]
            title = f"{low:g} to {high:g}" if np.isfinite(high) else f"from {low:g}"
            kept = np.mean([cases[k].kept for k in chosen])
            lines.append([title, str(len(chosen)), f"{kept:.0%}"])
            lines[-1] += [f"{np.median(own):.2f} ({np.mean(own < CLOSE):.0%})" for own in cells]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--model", default="hippocampus", help="name or file; its first stage must be affine")
    parser.add_argument("--images", type=int, help="the first so many of those held out", metavar="N")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path, device = resolve_model(options.model), torch.device("cpu")
    network = NetworkMethod(path, device, stages=1, name="DLIR")
    if network.spec.stages[0].kind != "affine":
        parser.error(f"model '{options.model}' does not begin with an affine stage; name one that does")
    methods: list[Method] = [
        Identity(),
        network,
        ElastixMethod("elastix affine", network.spec.stages[:1], network.spec.preprocessing),
        NetworkMethod(path, device, name="DLIR, all stages"),
    ]
    scans = list({pair.fixed.name: pair.fixed for pair in held_out_pairs(Decathlon(options.data))}.values())
    cases = [moved(scan, number) for number, scan in enumerate(scans[: options.images])]
    places = ("hippocampus", "whole image")
    errors: dict[str, dict[str, list[float]]] = {place: {m.name: [] for m in methods} for place in places}
    for case in cases:
        for method in methods:
            found = method.register(case.task).transform
            for place in places:
                errors[place][method.name].append(case.error(found, place))
        print(f"{case.task.moving.source}: {errors['hippocampus'][network.name][-1]:.2f} mm", flush=True)
    sections: list[Section] = [(f"Error in the {place}", place_table(errors[place])) for place in places]
    title = f"By the length of the shift: median error in the hippocampus in mm (share below {CLOSE:g} mm)"
    sections.append((title, shift_table(cases, errors["hippocampus"])))
    notes = [
        f"{len(cases)} images of the last {HELD_OUT} persons of the Decathlon's hippocampus data, each registered to "
        "itself under a random map (up to 20° about, 15 mm along and a factor of 0.8 to 1.2 along each axis), "
        "resampled on its own grid. Still in the image: the part of the hippocampus that the map leaves there.",
        machine(),
    ]
    keep_tables("affine_capture", sections, notes)


if __name__ == "__main__":
    main()
