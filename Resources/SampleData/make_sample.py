"""Makes the sample pair beside this file from a study of the Sunnybrook Cardiac Data; README.md says which.

    python Resources/SampleData/make_sample.py path/to/SC-HF-I-4

The study folder holds cine.nii.gz (all phases) and label_phaseTT.nii.gz (TT: index of the phase; 1 is the cavity of
the left ventricle). The phase with the largest cavity is end-diastole, the one with the smallest end-systole. Both
are cropped in plane, about the middle of the labels; voxel values and positions stay exactly as they are. Of the
labels only the cavity is kept: the myocardium was drawn at end-diastole alone, so there is nothing to compare it with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dlir.geometry import ImageGrid
from dlir.io import Volume, read_image, read_label, write_image

CAVITY = 1
# The whole heart, both ventricles and their surroundings.
SIDE_MM = 205.0


def find_phases(study: Path, image: Volume) -> tuple[tuple[int, Volume], tuple[int, Volume]]:
    """Phase index and label map of end-diastole and of end-systole."""
    labels = {
        int(path.name.removesuffix(".nii.gz")[-2:]): read_label(path, image, "label")
        for path in study.glob("label_phase??.nii.gz")
    }
    by_volume = sorted(labels.items(), key=lambda item: int(np.count_nonzero(item[1].array == CAVITY)))
    if len(by_volume) < 2:
        raise SystemExit(f"{study} holds {len(by_volume)} label maps; end-diastole and end-systole are needed")
    return by_volume[-1], by_volume[0]


def crop_box(labels: list[Volume], side_mm: float) -> tuple[slice, slice, slice]:
    """The slices (z, y, x) that keep a square of `side_mm` about the middle of all labels, on whole voxels."""
    hit = np.logical_or.reduce([label.array != 0 for label in labels])
    box = [slice(0, hit.shape[0])]
    for axis in (1, 2):
        found = np.flatnonzero(hit.any(axis=tuple(k for k in range(3) if k != axis)))
        count = min(int(np.ceil(side_mm / labels[0].grid.spacing[2 - axis])), hit.shape[axis])
        first = round((int(found[0]) + int(found[-1]) + 1 - count) / 2)
        first = min(max(first, 0), hit.shape[axis] - count)
        box.append(slice(first, first + count))
    return box[0], box[1], box[2]


def cropped_grid(grid: ImageGrid, box: tuple[slice, slice, slice]) -> ImageGrid:
    """The part of a grid that a box (z, y, x) of its voxels covers."""
    return grid.lattice([s.start for s in box[::-1]], (1, 1, 1), [s.stop - s.start for s in box[::-1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, help="folder with cine.nii.gz and label_phaseTT.nii.gz")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).resolve().parent, help="default: beside this file"
    )
    arguments = parser.parse_args()
    cine = arguments.study / "cine.nii.gz"
    phases = find_phases(arguments.study, read_image(f"{cine}#0"))
    box = crop_box([label for _, label in phases], SIDE_MM)
    for (phase, label), name in zip(phases, ("fixed_ed", "moving_es"), strict=True):
        image = read_image(f"{cine}#{phase}")
        grid = cropped_grid(image.grid, box)
        write_image(arguments.output / f"{name}.nrrd", image.array[box].astype(np.int16), grid)
        cavity = label.array == CAVITY
        write_image(arguments.output / f"{name}_label.nrrd", (cavity[box] * CAVITY).astype(np.uint8), grid)
        volume = np.count_nonzero(cavity) * float(np.prod(grid.spacing)) / 1000
        print(f"{name}: phase {phase}, {grid.size} voxels of {grid.spacing} mm, cavity {volume:.0f} ml")


if __name__ == "__main__":
    main()
