"""Images whose endings are in capitals, or partly so, as some cameras and servers write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dlir.geometry import ImageGrid
from dlir.io.reading import count_phases, read_image


@pytest.mark.parametrize(
    "name",
    ["a.NII", "a.NII.GZ", "a.nii.GZ", "a.Nii.gz", "a.NRRD", "a.MHA", "a.Mha", "a.GIPL", "a.Nrrd", "a.VTK"],
)
def test_an_image_is_read_whose_ending_is_in_capitals(tmp_path: Path, grid: ImageGrid, name: str) -> None:
    if name.lower().endswith("gipl"):
        grid = ImageGrid(grid.shape, grid.spacing, grid.origin)  # which knows no directions
    image = grid.to_sitk(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / name.lower()))
    expected = read_image(tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    volume = read_image(tmp_path / name)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.grid == expected.grid
    assert count_phases(tmp_path / name) == 1


@pytest.mark.parametrize("name", ["a.MHD", "a.NHDR", "a.HDR"])
def test_a_header_is_read_whose_ending_is_in_capitals(tmp_path: Path, grid: ImageGrid, name: str) -> None:
    sitk.WriteImage(grid.to_sitk(np.random.default_rng(0).normal(size=grid.shape)), str(tmp_path / name.lower()))
    expected = read_image(tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    if name == "a.HDR":
        (tmp_path / "a.img").rename(tmp_path / "a.IMG")
    volume = read_image(tmp_path / name)
    np.testing.assert_array_equal(volume.array, expected.array)
    assert volume.grid == expected.grid
