"""Makes the sample pair and cine beside this file from a study of the Sunnybrook Cardiac Data; README.md says which.

    python Resources/SampleData/make_sample.py path/to/SC-HF-I-4

The study folder holds cine.nii.gz (all phases) and label_phaseTT.nii.gz (TT: index of the phase; 1 is the cavity of
the left ventricle). The phase with the largest cavity is end-diastole, the one with the smallest end-systole. Both
are cropped in plane, about the middle of the labels; voxel values and positions stay exactly as they are. Of the
labels only the cavity is kept: the myocardium was drawn at end-diastole alone, so there is nothing to compare it with.
The cine is cropped alike; it holds six phases, the first end-diastole and the fourth end-systole, as a sequence of
Slicer's.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.io import Volume, count_phases, read_image, read_label, write_image
from dlir.io.writing import replacing, write_bytes

CAVITY = 1
# The whole heart, both ventricles and their surroundings.
SIDE_MM = 205.0
# Phases of the cine from end-diastole on, and as many from end-systole on.
CINE_HALF = 3
# What Slicer makes of label 1 when it loads the file as a segmentation.
SEGMENT = {
    "Segment0_ID": "LeftVentricleCavity",
    "Segment0_Name": "left ventricle cavity",
    "Segment0_Color": "0.91 0.66 0.22",
    "Segment0_LabelValue": str(CAVITY),
    "Segment0_Layer": "0",
    "Segmentation_ReferenceImageExtentOffset": "0 0 0",
}


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


def spread(diastole: int, systole: int, count: int) -> list[int]:
    """Phases of a cycle of `count`, evenly from one to the other and on to where they began."""
    there, back = (systole - diastole) % count, (diastole - systole) % count
    first = [(diastole + round(k * there / CINE_HALF)) % count for k in range(CINE_HALF)]
    return first + [(systole + round(k * back / CINE_HALF)) % count for k in range(CINE_HALF)]


def write_labels(path: Path, array: NDArray[np.uint8], grid: ImageGrid) -> None:
    """A label map that Slicer can also load as a segmentation with a name and a colour."""
    image = grid.to_sitk(array)
    places = np.nonzero(array)[::-1]
    extent = " ".join(str(end) for place in places for end in (place.min(), place.max()))
    for key, value in {**SEGMENT, "Segment0_Extent": extent}.items():
        image.SetMetaData(key, value)
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), True)


def write_sequence(path: Path, arrays: list[NDArray[np.int16]], grid: ImageGrid) -> None:
    """Volumes (z, y, x) on one grid as a NRRD file that Slicer loads as a sequence; no writer of ITK's makes those."""
    columns = np.reshape(grid.direction, (3, 3)) * grid.spacing

    def vector(values: NDArray[np.float64] | tuple[float, ...]) -> str:
        return f"({','.join(repr(float(value)) for value in values)})"

    header = [
        "NRRD0004",
        "type: int16",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, (*grid.size, len(arrays))))}",
        f"space directions: {' '.join(vector(column) for column in columns.T)} none",
        "kinds: domain domain domain list",
        'labels: "" "" "" "frame"',
        "endian: little",
        "encoding: gzip",
        f"space origin: {vector(grid.origin)}",
        "DataNodeClassName:=vtkMRMLScalarVolumeNode",
        "axis 3 index type:=numeric",
        f"axis 3 index values:={' '.join(map(str, range(len(arrays))))}",
    ]
    voxels = b"".join(array.astype("<i2").tobytes() for array in arrays)
    write_bytes(path, "\n".join(header).encode() + b"\n\n" + gzip.compress(voxels, mtime=0))


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
        write_labels(arguments.output / f"{name}_label.nrrd", (cavity[box] * CAVITY).astype(np.uint8), grid)
        volume = np.count_nonzero(cavity) * float(np.prod(grid.spacing)) / 1000
        print(f"{name}: phase {phase}, {grid.size} voxels of {grid.spacing} mm, cavity {volume:.0f} ml")
    chosen = spread(phases[0][0], phases[1][0], count_phases(cine))
    images = [read_image(f"{cine}#{phase}") for phase in chosen]
    write_sequence(
        arguments.output / "cine.seq.nrrd",
        [image.array[box].astype(np.int16) for image in images],
        cropped_grid(images[0].grid, box),
    )
    print(f"cine: phases {', '.join(map(str, chosen))}")


if __name__ == "__main__":
    main()
