"""Files that are not whole, told apart without the help of ITK, whose releases differ in what they notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlir.errors import ImageError
from dlir.io.formats.integrity import is_damaged, is_dicom_cut
from dlir.io.reading import read_grid, read_image

Refusal = Callable[..., Any]

SHAPE = (8, 20, 30)
TYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]


def _write(path: Path, dtype: type[np.generic] = np.int16, *, compress: bool = True) -> Path:
    array = np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), compress)
    return path


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "mhd", "nrrd"])
@pytest.mark.parametrize("compress", [True, False])
def test_whole_files_are_not_condemned(tmp_path: Path, dtype: type[np.generic], suffix: str, compress: bool) -> None:
    assert not is_damaged(_write(tmp_path / f"a.{suffix}", dtype, compress=compress))


def test_whole_vectors_and_4d_files_are_not_condemned(tmp_path: Path) -> None:
    image = sitk.ReadImage(str(_write(tmp_path / "a.nrrd")))
    for suffix in ("nii.gz", "mha"):
        for whole in (sitk.Compose([image] * 3), sitk.JoinSeries([image] * 3)):
            sitk.WriteImage(whole, str(tmp_path / f"a.{suffix}"), True)
            assert not is_damaged(tmp_path / f"a.{suffix}")


# Voxels of 2 bytes: every format below can hold them.
FILLED_UP = ["gipl", "gipl.gz", "vtk", "mrc", "hdr", "img.gz"]


@pytest.mark.parametrize("suffix", FILLED_UP)
@pytest.mark.parametrize("kept", [1.0, 0.999, 0.9, 0.5, 0.3])
def test_formats_that_itk_fills_up(tmp_path: Path, suffix: str, kept: float) -> None:
    path = _write(tmp_path / f"a.{suffix}")
    voxels = next(p for p in tmp_path.iterdir() if ".hdr" not in p.name)
    data = voxels.read_bytes()
    voxels.write_bytes(data[: int(len(data) * kept)])
    assert is_damaged(path) == (kept < 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("suffix", ["gipl", "vtk", "mrc", "tif"])
def test_other_types_of_these_formats_are_whole(tmp_path: Path, dtype: type[np.generic], suffix: str) -> None:
    assert not is_damaged(_write(tmp_path / f"a.{suffix}", dtype))


def test_tiff_without_its_last_slices(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tif", compress=False)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert is_damaged(path)


@pytest.mark.parametrize("table", ["LOOKUP_TABLE default\n", ""])
@pytest.mark.parametrize("count", [24, 23])
def test_vtk_in_text(tmp_path: Path, table: str, count: int) -> None:
    header = "# vtk DataFile Version 3.0\nx\nASCII\nDATASET STRUCTURED_POINTS\nDIMENSIONS 4 3 2\nSPACING 1 1 2\n"
    header += f"ORIGIN 0 0 0\nPOINT_DATA 24\nSCALARS scalars short 1\n{table}"
    (tmp_path / "a.vtk").write_text(header + "\n".join(map(str, range(count))) + "\n")
    assert is_damaged(tmp_path / "a.vtk") == (count < 24)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["nii", "nii.gz", "mha"]), st.booleans(), st.floats(0, 0.999))
def test_files_cut_anywhere(tmp_path: Path, suffix: str, compress: bool, kept: float) -> None:
    path = _write(tmp_path / f"a.{suffix}", compress=compress)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert is_damaged(path)


@pytest.mark.parametrize("compress", [True, False])
def test_metaimage_in_two_files(tmp_path: Path, compress: bool) -> None:
    path = _write(tmp_path / "a.mhd", compress=compress)
    (voxels,) = (p for p in tmp_path.iterdir() if p != path)
    voxels.write_bytes(voxels.read_bytes()[:-1])
    assert is_damaged(path)


@pytest.mark.parametrize("suffix", ["nii.gz", "mha"])
def test_one_wrong_byte_in_a_compressed_file(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"a.{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    assert is_damaged(path)


@pytest.mark.data
def test_every_file_of_the_case_of_truncated_files(shared_cases: Path, refusal: Refusal) -> None:
    files = sorted((shared_cases / "08_truncated_files_read_as_whole").glob("cut_*"))
    assert len(files) == 8
    for file in files:
        for read in (read_image, read_grid):
            with refusal(ImageError, file.name, "is damaged or incomplete"):
                read(file)


@pytest.mark.parametrize("explicit", [True, False])
def test_dicom_pixels(tmp_path: Path, explicit: bool) -> None:
    pixels, tag = bytes(range(201)), b"\xe0\x7f\x10\x00"
    header = bytes(128) + b"DICM" + tag + b"the same bytes within another element"
    length = (202).to_bytes(4, "little")
    data = header + tag + (b"OW\x00\x00" if explicit else b"") + length + pixels
    path = tmp_path / "a.dcm"
    for kept, cut in ((len(data), False), (len(data) - 1, True), (len(data) - 150, True), (len(header), False)):
        path.write_bytes(data[:kept])
        assert is_dicom_cut(path, 201) == cut
