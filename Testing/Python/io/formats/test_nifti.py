"""What a NIfTI file says and ITK does not tell, or tells otherwise: voxel size, scaling, NaN, version, compression."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, ImageNote
from dlir.geometry import ImageGrid
from dlir.io.formats.nifti import read_nifti_header
from dlir.io.reading import count_phases, read_grid, read_image, read_label, read_mask

Refusal = Callable[..., Any]
GRID = ImageGrid((5, 6, 7), (1.3, 1.3, 8.0), (-20.0, 35.0, 110.0), (0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
VALUES = np.random.default_rng(0).integers(0, 300, GRID.shape).astype(np.int16)
# Byte offsets in a header of version 1.
DIM, PIXDIM, SCALING, UNITS, CODES, QFORM, ROWS = 40, 76, 112, 123, 252, 256, 280


@pytest.fixture(autouse=True)
def _notes_are_errors() -> Any:
    """A note that a test does not expect fails it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageNote)
        yield


def write(path: Path, *edits: tuple[str, int, tuple[float, ...]], values: NDArray[Any] = VALUES) -> Path:
    """An image on GRID, placed by its sform alone; `edits`: struct's letters, byte offset and numbers."""
    plain = path.with_name("plain.nii")
    sitk.WriteImage(GRID.to_sitk(values), str(plain))
    data = bytearray(plain.read_bytes())
    for letters, place, numbers in (("2h", CODES, (0, 1)), *edits):
        struct.pack_into(f"<{letters}", data, place, *numbers)
    plain.unlink()
    path.write_bytes(gzip.compress(bytes(data)) if path.name.endswith(".gz") else bytes(data))
    return path


def pixdim(*lengths: float) -> tuple[str, int, tuple[float, ...]]:
    return "3f", PIXDIM + 4, lengths


def unit_sform() -> tuple[str, int, tuple[float, ...]]:
    """The rows of GRID's sform (RAS) with columns of length 1, as ACDC has them."""
    matrix = GRID.index_to_physical[:3].copy()
    matrix[:, :3] /= GRID.spacing
    matrix[:2] *= -1
    return "12f", ROWS, tuple(matrix.ravel())


# -- sform against pixdim -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [(1, 1, 1), (0, 0, 0), (float("nan"), 1, 1)])
@pytest.mark.parametrize("codes", [(0, 1), (0, 2), (1, 1), (1, 2)])
def test_an_sform_wins_over_a_pixdim_that_says_nothing(
    tmp_path: Path, wrong: tuple[float, ...], codes: tuple[int, int]
) -> None:
    path = write(tmp_path / "a.nii.gz", pixdim(*wrong), ("2h", CODES, codes))
    with pytest.warns(ImageNote, match=r"a\.nii\.gz' has voxels of 1\.3 x 1\.3 x 8 mm by its sform.*its pixdim"):
        assert read_image(path).grid.same_as(GRID)


def test_a_pixdim_wins_over_an_sform_of_unit_columns_without_a_word(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.nii.gz", unit_sform())).grid.same_as(GRID)


@pytest.mark.parametrize("other", [(1.3, 1.3, 5), (1, 1, 8), (1.33, 1.3, 8)])
@pytest.mark.parametrize("read", [read_image, read_grid, lambda path: read_label(path, GRID)])
def test_two_voxel_sizes_that_both_may_be_right(
    tmp_path: Path, refusal: Refusal, other: tuple[float, ...], read: Callable[[Path], Any]
) -> None:
    path = write(tmp_path / "a.nii", pixdim(*other))
    with refusal(GeometryError, "a.nii", "1.3 x 1.3 x 8 mm by its sform", f"{other[0]:.4g} x", "by its pixdim", "corr"):
        read(path)


def test_rounding_and_signs_are_no_second_voxel_size(tmp_path: Path) -> None:
    for lengths in ((1.301, 1.299, 8.01), (-1.3, 1.3, 8)):
        grid = read_grid(write(tmp_path / "a.nii", pixdim(*lengths)))
        np.testing.assert_allclose(grid.spacing, GRID.spacing, rtol=0.002)


def test_labels_and_masks_are_placed_as_images_are(tmp_path: Path) -> None:
    label = (VALUES > 100).astype(np.int16)
    path = write(tmp_path / "label.nii.gz", pixdim(1, 1, 1), values=label)
    with pytest.warns(ImageNote, match="moving label"):
        np.testing.assert_array_equal(read_label(path, GRID).array, label)
    with pytest.warns(ImageNote, match="fixed mask"):
        assert read_mask(path, GRID).grid.same_as(GRID)


def test_no_voxel_size_at_all(tmp_path: Path, refusal: Refusal) -> None:
    path = write(tmp_path / "a.nii", pixdim(0, 0, 0), ("2h", CODES, (0, 0)))
    with refusal(GeometryError, "a.nii", "states no voxel size", "write it there, in mm"):
        read_image(path)


@pytest.mark.parametrize(
    ("unit", "factor", "told"),
    [
        (1, 1000.0, ["states its lengths in m; its voxels measure 1300 x 1300 x 8000 mm"]),
        (2, 1.0, []),
        (3, 0.001, ["states its lengths in um; its voxels measure 0.0013 x 0.0013 x 0.008 mm"]),
        (0, 1.0, []),
    ],
)
def test_units_count_for_both(tmp_path: Path, unit: int, factor: float, told: list[str]) -> None:
    def read(*edits: tuple[str, int, tuple[float, ...]]) -> tuple[ImageGrid, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ImageNote)
            grid = read_grid(write(tmp_path / "a.nii", ("B", UNITS, (unit,)), *edits))
        return grid, [str(w.message).partition("' ")[2] for w in caught]

    grid, notes = read()
    np.testing.assert_allclose(grid.spacing, factor * np.array(GRID.spacing))
    assert notes == told
    grid, notes = read(pixdim(1, 1, 1))
    assert "by its sform" in notes[0]
    assert notes[1:] == told
    np.testing.assert_allclose(grid.index_to_physical[:3], factor * GRID.index_to_physical[:3], rtol=1e-5)


def test_an_image_without_a_place_or_with_two_is_told(tmp_path: Path) -> None:
    with pytest.warns(ImageNote, match="does not state how it lies in space"):
        read_image(write(tmp_path / "a.nii", ("2h", CODES, (0, 0))))
    quaternion = ("6f", QFORM, (0, 0, 0, 0, 0, 0))
    with pytest.warns(ImageNote, match=r"placed by its sform; its qform says otherwise, by up to \d+"):
        read_image(write(tmp_path / "a.nii", ("2h", CODES, (1, 1)), quaternion))
    with pytest.warns(ImageNote, match="placed by its qform; its sform says otherwise"):
        read_image(write(tmp_path / "a.nii", ("2h", CODES, (1, 2)), quaternion))


def test_two_equal_placements_are_one(tmp_path: Path, grid: ImageGrid) -> None:
    sitk.WriteImage(grid.to_sitk(VALUES), str(tmp_path / "a.nii"))  # ITK writes both forms
    header = read_nifti_header(tmp_path / "a.nii")
    assert header is not None
    assert min(header.codes) > 0
    assert read_image(tmp_path / "a.nii").grid.same_as(grid)


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_refused_in_images_labels_and_masks(
    tmp_path: Path, refusal: Refusal, suffix: str, dtype: type[np.generic]
) -> None:
    values = (VALUES % 4).astype(dtype)
    values[0, 0, 3], values[4, 5, 6], values[2] = np.nan, np.inf, -np.inf
    path = write(tmp_path / f"a.{suffix}", values=values)
    with refusal(ImageError, path.name, "44 voxels", "not finite numbers"):
        read_image(path)
    for read in (read_label, read_mask):
        with refusal(ImageError, path.name, "not whole numbers"):
            read(path, GRID)
    assert read_grid(path).same_as(GRID)


def test_nan_counts_in_its_own_time_point(tmp_path: Path, refusal: Refusal) -> None:
    images = [VALUES.astype(np.float32) for _ in range(3)]
    images[1] = images[1].copy()
    images[1][1, 2, 3] = np.nan
    sitk.WriteImage(sitk.JoinSeries([GRID.to_sitk(image) for image in images]), str(tmp_path / "cine.nii.gz"))
    for phase in (0, 2):
        np.testing.assert_array_equal(read_image(f"{tmp_path / 'cine.nii.gz'}#{phase}").array, VALUES)
    with refusal(ImageError, "cine.nii.gz#1", "1 voxel that"):
        read_image(f"{tmp_path / 'cine.nii.gz'}#1")


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [
        (0, -1024, VALUES),
        (float("nan"), 5, VALUES),
        (float("inf"), 5, VALUES),
        (1, -1024, VALUES - 1024.0),
        (2, float("nan"), VALUES * 2.0),
        (2, 3, VALUES * 2.0 + 3),
    ],
)
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_slope_of_0_switches_scaling_off(
    tmp_path: Path, slope: float, offset: float, expected: NDArray[Any], suffix: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", ("2f", SCALING, (slope, offset)))
    np.testing.assert_array_equal(read_image(path).array, expected)
    if expected is VALUES:
        assert read_label(path, GRID).array.dtype == np.int16


# -- forms --------------------------------------------------------------------------------------------


def version_2(path: Path, order: str = "<", values: NDArray[Any] = VALUES) -> Path:
    """By the published layout of the 540 bytes, written here and nowhere else."""
    rows = GRID.index_to_physical[:3] * np.array([[-1], [-1], [1]])
    data = struct.pack(
        order + "i8shh8q3d8dq2d2d2dqq80s24sii6d12dii i16sB15s".replace(" ", ""),
        540,
        b"n+2\0\r\n\032\n",
        4,
        16,
        *(3, *GRID.size, 1, 1, 1, 1),
        *(0, 0, 0),
        *(1, *GRID.spacing, 1, 1, 1, 1),
        544,
        *(0, -1024),
        *(0, 0),
        *(0, 0),
        *(0, 0),
        *(b"", b""),
        *(0, 1),
        *(0,) * 6,
        *rows.ravel(),
        *(0, 2, 0),
        *(b"", 0, b""),
    )
    assert len(data) == 540
    data += bytes(4) + values.astype(values.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_version_2(tmp_path: Path, order: str, suffix: str, refusal: Refusal) -> None:
    path = version_2(tmp_path / f"a.{suffix}", order)
    assert count_phases(path) == 1
    image = read_image(path)
    np.testing.assert_array_equal(image.array, VALUES)
    assert image.grid.same_as(GRID)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with refusal(ImageError, path.name, "damaged or incomplete"):
        read_image(path)


def test_version_2_in_two_files(tmp_path: Path) -> None:
    whole = version_2(tmp_path / "a.nii").read_bytes()
    header = bytearray(whole[:540])
    header[4:7] = b"ni2"
    struct.pack_into("<q", header, 168, 0)
    (tmp_path / "b.hdr").write_bytes(header)
    (tmp_path / "b.img").write_bytes(whole[544:])
    for name in ("b.hdr", "b.img"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, VALUES)


def test_compressed_whatever_it_is_called_and_plain_too(tmp_path: Path) -> None:
    packed, plain = write(tmp_path / "a.nii.gz"), write(tmp_path / "b.nii")
    packed.rename(tmp_path / "packed.nii")
    plain.rename(tmp_path / "plain.nii.gz")
    for name in ("packed.nii", "plain.nii.gz"):
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image.array, VALUES)
        assert image.grid.same_as(GRID)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("after", [b"", b"\0" * 700, b"\x1f", b"signed by the archive"])
def test_bytes_after_a_compressed_image_and_images_compressed_in_pieces(
    tmp_path: Path, pieces: int, after: bytes
) -> None:
    path = write(tmp_path / "a.nii.gz")
    data = gzip.decompress(path.read_bytes())
    step = len(data) // pieces + 1
    path.write_bytes(b"".join(gzip.compress(data[i : i + step]) for i in range(0, len(data), step)) + after)
    np.testing.assert_array_equal(read_image(path).array, VALUES)


@pytest.mark.parametrize("suffix", [".hdr", ".img", ".img.gz", ".hdr.gz"])
def test_pairs_of_files_are_whole_or_refused(tmp_path: Path, refusal: Refusal, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(GRID.to_sitk(VALUES), str(path))
    np.testing.assert_array_equal(read_image(path).array, VALUES)
    voxels = next(p for p in tmp_path.iterdir() if ".img" in p.name)
    content = voxels.read_bytes()
    voxels.write_bytes(content[: len(content) // 2])
    with refusal(ImageError, path.name, "damaged or incomplete"):
        read_image(path)
    voxels.unlink()
    with refusal(ImageError, path.name):
        read_image(path)


def test_analyze_says_nothing_of_orientation(tmp_path: Path) -> None:
    sitk.WriteImage(GRID.to_sitk(VALUES), str(tmp_path / "a.hdr"))
    data = bytearray((tmp_path / "a.hdr").read_bytes())
    data[344:348] = bytes(4)
    struct.pack_into("<2f", data, SCALING, 3, 7)  # which it does not call so
    (tmp_path / "a.hdr").write_bytes(data)
    with pytest.warns(ImageNote, match="does not state how it lies in space"):
        image = read_image(tmp_path / "a.img")
    np.testing.assert_allclose(image.grid.spacing, GRID.spacing, rtol=1e-6)
    assert image.array.shape == VALUES.shape


def test_more_voxels_than_memory_are_told_from_the_header(
    tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlir.io.formats.files.memory_limit", lambda: 1e9)
    path = write(tmp_path / "a.nii.gz", ("3h", DIM + 2, (32000, 32000, 32000)))
    with refusal(ImageError, "a.nii.gz", "32000 x 32000 x 32000 voxels by its header", "more than the memory holds"):
        read_image(path)


# -- the cases ----------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name", ["ed", "es", "ed_label", "es_label"])
def test_case_of_pixdim_1(shared_cases: Path, name: str) -> None:
    folder = shared_cases / "07_nifti_sform_and_pixdim_disagree"
    with pytest.warns(ImageNote, match=r"1\.289 x 1\.289 x 8 mm by its sform"):
        image = read_image(folder / f"pixdim1_{name}.nii.gz")
    assert image.grid.same_as(read_image(folder / f"right_{name}.nii.gz").grid)


@pytest.mark.data
def test_cases_of_values_and_forms(shared_cases: Path, refusal: Refusal) -> None:
    for name in ("ct_with_nan.nii.gz", "ct_with_nan.nrrd"):
        with refusal(ImageError, name, "865 voxels"):
            read_image(shared_cases / "09_nifti_nan_becomes_zero" / name)
    right = read_image(shared_cases / "10_nifti_scl_slope_zero" / "plain.nii.gz")
    others = [shared_cases / "10_nifti_scl_slope_zero" / "slope0_inter-1024.nii.gz"]
    others += sorted((shared_cases / "21_small_misleading_messages").glob("*.nii*"))
    assert len(others) == 4
    for other in others:
        image = read_image(other)
        np.testing.assert_array_equal(image.array, right.array)
        np.testing.assert_allclose(image.grid.spacing, right.grid.spacing, rtol=1e-6)
