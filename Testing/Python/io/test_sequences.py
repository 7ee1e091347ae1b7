"""Sequences as Slicer saves them: NRRD files whose time points ITK takes for several values per voxel."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from dlir.io import count_phases, read_image

SAMPLE = Path(__file__).resolve().parents[3] / "Resources" / "SampleData"


def save(path: Path, frames: np.ndarray, grid: ImageGrid, *, kind: str = "list", first: bool = False) -> Path:
    """Frames (t, z, y, x) as Slicer's newer (list axis last) or older (list axis first) versions write them."""
    columns = (np.reshape(grid.direction, (3, 3)) * grid.spacing).T
    axes = [
        (str(n), f"({','.join(map(repr, map(float, c)))})", "domain") for n, c in zip(grid.size, columns, strict=True)
    ]
    axes.insert(0 if first else 3, (str(len(frames)), "none", kind))
    sizes, directions, kinds = (" ".join(parts) for parts in zip(*axes, strict=True))
    header = (
        f"NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: {directions}\nkinds: {kinds}\nendian: little\nencoding: gzip\n"
        f"space origin: ({','.join(map(repr, map(float, grid.origin)))})\n\n"
    )
    voxels = np.moveaxis(frames, 0, -1) if first else frames
    path.write_bytes(header.encode() + gzip.compress(np.ascontiguousarray(voxels).tobytes()))
    return path


@pytest.fixture
def frames(grid: ImageGrid) -> np.ndarray:
    return np.random.default_rng(3).integers(-100, 1000, (4, *grid.shape)).astype(np.int16)


@pytest.mark.parametrize("first", [False, True], ids=["list last", "list first"])
def test_every_time_point_lies_where_the_file_says(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, first: bool
) -> None:
    path = save(tmp_path / "a.seq.nrrd", frames, grid, first=first)
    assert count_phases(path) == 4
    for i, frame in enumerate(frames):
        volume = read_image(f"{path}#{i}")
        np.testing.assert_array_equal(volume.array, frame)
        assert volume.grid.same_as(grid)


def test_a_time_point_must_be_chosen(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    path = save(tmp_path / "a.seq.nrrd", frames, grid)
    with refusal(ImageError, "4 time points", "#0 to #3"):
        read_image(path)
    with refusal(ImageError, "no time point 4"):
        read_image(f"{path}#4")


def test_colours_and_vectors_are_still_none(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    with refusal(ImageError, "4 values per voxel"):
        read_image(save(tmp_path / "vectors.nrrd", frames, grid, kind="vector"))


def test_a_file_that_is_cut(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    path = save(tmp_path / "a.seq.nrrd", frames, grid)
    path.write_bytes(path.read_bytes()[:-200])
    with refusal(ImageError, "damaged"):
        read_image(f"{path}#3")


def test_the_sample_cine_begins_with_the_fixed_image_and_holds_the_moving_one() -> None:
    cine = SAMPLE / "cine.seq.nrrd"
    assert count_phases(cine) == 6
    for phase, name in ((0, "fixed_ed"), (3, "moving_es")):
        frame, image = read_image(f"{cine}#{phase}"), read_image(SAMPLE / f"{name}.nrrd")
        np.testing.assert_array_equal(frame.array, image.array)
        assert frame.grid.same_as(image.grid)


@pytest.mark.parametrize("name", ["fixed_ed_label", "moving_es_label"])
def test_the_sample_labels_name_their_segment(name: str) -> None:
    image = sitk.ReadImage(str(SAMPLE / f"{name}.nrrd"))
    assert image.GetMetaData("Segment0_Name") == "left ventricle cavity"
    assert image.GetMetaData("Segment0_LabelValue") == "1"
    assert set(np.unique(sitk.GetArrayFromImage(image))) == {0, 1}
