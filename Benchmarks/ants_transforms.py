"""Whether ANTs and DLIR mean the same by the same files: one warp applied by both, image against image.

    python Benchmarks/ants_transforms.py            # prints the table and keeps results/ants_transforms.md
    python Benchmarks/ants_transforms.py fixture    # makes the small files of Testing/Data/ants anew

ANTs (antspyx, the extra `bench`) registers the sample cine pair, its moving image turned and shifted, by SyN. Its files
(1Warp.nii.gz, 0GenericAffine.mat) are then read by DLIR; and what DLIR writes, the displacement as NIfTI and the exact
transform as .h5, is applied by ANTs. Differences are the largest in any voxel, in per cent of the range of intensities.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import ants
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.io import Volume, read_image, write_image
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.resample import displacement_field, resample
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform

ROOT = Path(__file__).resolve().parents[1]
SAMPLE, KEPT = ROOT / "Resources" / "SampleData", ROOT / "Benchmarks" / "results" / "ants_transforms.md"
FIXTURE = ROOT / "Testing" / "Data" / "ants"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["table", "fixture"], default="table")
    if parser.parse_args().what == "fixture":
        make_fixture(FIXTURE)
        return
    with tempfile.TemporaryDirectory() as folder:
        text = table(Path(folder))
    print(text)
    KEPT.write_text(text + "\n", encoding="utf-8")


def table(folder: Path) -> str:
    """Both ways, as a table of Markdown."""
    fixed, moving = read_image(str(SAMPLE / "fixed_ed.nrrd")), turned(read_image(str(SAMPLE / "moving_es.nrrd")))
    lines = [
        f"ANTs (antspyx {ants.__version__}) and DLIR on the sample pair, the moving image turned.",
        "",
        "| files | written by | applied by both: largest difference, % of the range | moved by, mm |",
        "|---|---|---|---|",
    ]
    for files, by, ours, theirs, moved in compared(fixed, moving, folder):
        difference = 100 * np.abs(ours - theirs).max() / np.ptp(moving.array)
        lines.append(f"| {files} | {by} | {difference:.4f} | {moved:.1f} |")
    return "\n".join(lines)


def compared(
    fixed: Volume, moving: Volume, folder: Path
) -> Iterator[tuple[str, str, NDArray[Any], NDArray[Any], float]]:
    """Files, who wrote them, the image by DLIR, the image by ANTs, and the largest displacement."""
    onto, image = (as_ants(volume, folder / f"{number}.nii.gz") for number, volume in enumerate((fixed, moving)))
    found = ants.registration(onto, image, type_of_transform="SyN", random_seed=1, outprefix=str(folder / "ants_"))
    warp, affine = map(Path, found["fwdtransforms"])  # points go through the first of them first
    chain = CompositeTransform((*read_transform(warp).parts, *read_transform(affine).parts))
    yield "1Warp.nii.gz + 0GenericAffine.mat", "ANTs", *both(chain, [warp, affine], fixed, moving, onto, image)
    bent = bending(fixed.grid)
    exact, dense = folder / "exact.h5", folder / "displacement.nii.gz"
    write_transform(exact, bent)
    write_image(dense, displacement_field(bent, fixed.grid), fixed.grid, is_vector=True)
    yield "displacement.nii.gz", "DLIR", *both(bent, [dense], fixed, moving, onto, image)
    yield "transform.h5", "DLIR", *both(bent, [exact], fixed, moving, onto, image)


def both(
    chain: CompositeTransform, files: list[Path], fixed: Volume, moving: Volume, onto: Any, image: Any
) -> tuple[NDArray[Any], NDArray[Any], float]:
    """The moving image through a transform by DLIR, through its files by ANTs, and the largest displacement in mm."""
    ours = resample(moving.array, moving.grid, chain, fixed.grid)
    theirs = ants.apply_transforms(onto, image, [str(file) for file in files], interpolator="linear")
    moved = np.linalg.norm(displacement_field(chain, fixed.grid), axis=-1).max()
    return ours, theirs.numpy().transpose(2, 1, 0), float(moved)


def bending(grid: ImageGrid) -> CompositeTransform:
    """A B-spline of some millimetres over the grid, and a small turn."""
    controls = ImageGrid((9, 9, 9), tuple(np.array(grid.extent) / 5), (0.0, 0.0, 0.0), grid.direction)
    at_center = tuple(grid.center - (controls.center - np.array(controls.origin)))
    controls = ImageGrid(controls.shape, controls.spacing, at_center, grid.direction)
    inner = np.random.default_rng(0).normal(0, 3, (3, 3, 3, 3))
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    matrix[:3, 3] = grid.center - matrix[:3, :3] @ grid.center + (2, -1, 1)
    return CompositeTransform(
        (BSplineTransform(np.pad(inner, [(0, 0), *[(3, 3)] * 3]), controls), AffineTransform(matrix))
    )


def turned(volume: Volume) -> Volume:
    """The same voxels on a grid turned about its centre and shifted, so that no axis is another's."""
    rotation = sitk.Euler3DTransform((0, 0, 0), 0.15, -0.1, 0.3).GetMatrix()
    direction = np.reshape(rotation, (3, 3)) @ volume.grid.direction_matrix
    grid = ImageGrid(volume.grid.shape, volume.grid.spacing, (0.0, 0.0, 0.0), tuple(direction.ravel()))
    origin = volume.grid.center - grid.center + (3, -4, 5)
    return Volume(volume.array, ImageGrid(grid.shape, grid.spacing, tuple(origin), grid.direction), volume.source)


def as_ants(volume: Volume, path: Path) -> Any:
    """Through a file, as a user of ANTs has it."""
    write_image(path, volume.array, volume.grid)
    return ants.image_read(str(path))


def make_fixture(folder: Path) -> None:
    """A small pair, ANTs' transform from one to the other in its files, and the image that it makes by them."""
    folder.mkdir(parents=True, exist_ok=True)
    angle = tuple(np.ravel(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3).GetMatrix()))
    grid = ImageGrid((14, 16, 18), (1.5, 1.2, 2.0), (10.0, -20.0, 30.0), angle)
    points = grid.voxel_centers() - grid.center
    fixed, moving = (
        Volume(blob.round().astype(np.float32), grid, "blob")
        for blob in (
            200 * np.exp(-((points / size) ** 2).sum(-1)) + 60 * np.exp(-(((points - shift) / 3) ** 2).sum(-1))
            for size, shift in (((7.0, 6.0, 8.0), (4.0, 2.0, 0.0)), ((6.0, 7.5, 7.0), (2.5, 3.5, 1.5)))
        )
    )
    moving = turned(moving)
    onto, image = as_ants(fixed, folder / "fixed.nii.gz"), as_ants(moving, folder / "moving.nii.gz")
    with tempfile.TemporaryDirectory() as temporary:
        found = ants.registration(onto, image, type_of_transform="SyN", random_seed=1, outprefix=f"{temporary}/")
        for file in map(Path, found["fwdtransforms"]):
            (folder / file.name).write_bytes(file.read_bytes())
        names = [str(folder / Path(file).name) for file in found["fwdtransforms"]]
        warped = ants.apply_transforms(onto, image, names, interpolator="linear")
    write_image(folder / "warped.nii.gz", warped.numpy().transpose(2, 1, 0).astype(np.float32), fixed.grid)


if __name__ == "__main__":
    main()
