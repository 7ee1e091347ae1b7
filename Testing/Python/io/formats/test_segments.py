"""Names, layers and values of segments, from the headers of Slicer's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlir.errors import ImageError
from dlir.geometry import ImageGrid
from dlir.io import read_label, read_mask, write_image
from dlir.io.formats.segments import Segment, read_segments
from segment_files import save_segmentation

SEGMENTS = (("cavity", 0, 1), ("wall", 0, 2), ("wall and cavity", 1, 1))


@pytest.fixture
def layers(grid: ImageGrid) -> np.ndarray:
    first = np.random.default_rng(0).integers(0, 3, grid.shape)
    return np.stack([first, first > 0]).astype(np.uint8)


def test_names_layers_and_values(tmp_path: Path, grid: ImageGrid, layers: np.ndarray) -> None:
    path = save_segmentation(tmp_path / "a.seg.nrrd", layers, grid, SEGMENTS)
    assert read_segments(path) == tuple(Segment(*segment) for segment in SEGMENTS)
    assert read_segments(f"{path}#1") == (Segment("wall and cavity", 1, 1),)
    for i, layer in enumerate(layers):
        read = read_label(f"{path}#{i}", grid)
        np.testing.assert_array_equal(read.array, layer)
        assert read.segments == tuple(Segment(name, 0, value) for name, at, value in SEGMENTS if at == i)
    old = save_segmentation(tmp_path / "old.seg.nrrd", layers, grid, SEGMENTS[1:], old=True)
    assert read_segments(old) == (Segment("wall", 0, 1), Segment("wall and cavity", 1, 1))


def test_other_files_name_no_segments(tmp_path: Path, grid: ImageGrid, layers: np.ndarray) -> None:
    write_image(tmp_path / "a.nii.gz", layers[0], grid)
    assert read_segments(tmp_path / "a.nii.gz") == ()
    (tmp_path / "folder").mkdir()
    assert read_segments(tmp_path / "folder") == ()


@pytest.mark.parametrize("read", [read_label, read_mask])
def test_a_layer_must_be_chosen(
    tmp_path: Path, grid: ImageGrid, layers: np.ndarray, refusal: Callable[..., object], read: Callable[..., object]
) -> None:
    path = save_segmentation(tmp_path / "a.seg.nrrd", layers, grid, SEGMENTS)
    names = "#0: cavity, wall; #1: wall and cavity"
    with refusal(ImageError, f"moving label '{path}' holds 2 layers of overlapping segments", f"'{path}#0'", names):
        read(path, grid, "moving label")
    with refusal(ImageError, "holds no layer 2", names):
        read(f"{path}#2", grid)
    read(save_segmentation(tmp_path / "one.seg.nrrd", layers[:1], grid, SEGMENTS[:2]), grid)


def test_many_names_are_cut(
    tmp_path: Path, grid: ImageGrid, layers: np.ndarray, refusal: Callable[..., object]
) -> None:
    many = [(f"a long name, number {i}", i % 2, i) for i in range(50)]
    with refusal(ImageError, "number 0", "…"):
        read_label(save_segmentation(tmp_path / "a.seg.nrrd", layers, grid, many), grid)


def test_a_header_that_is_wrong(
    tmp_path: Path, grid: ImageGrid, layers: np.ndarray, refusal: Callable[..., object]
) -> None:
    path = save_segmentation(tmp_path / "a.seg.nrrd", layers, grid, SEGMENTS)
    path.write_bytes(path.read_bytes().replace(b"Segment1_LabelValue:=2", b"Segment1_LabelValue:=x"))
    with refusal(ImageError, "a.seg.nrrd", "segment 1 has no layer and label value", "save it from Slicer again"):
        read_segments(path)
