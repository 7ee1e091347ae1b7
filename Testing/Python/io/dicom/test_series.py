"""DICOM series from folders and archives. The files are written with ITK, slice by slice, in shuffled order."""

from __future__ import annotations

import os
import random
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError
from dlir.geometry import ImageGrid
from dlir.io.formats import archive
from dlir.io.reading import count_phases, read_image

SHAPE = (4, 5, 6)


def _values(phases: int = 1) -> NDArray[np.int16]:
    """(phase, z, y, x)"""
    return np.random.default_rng(0).integers(0, 2000, (phases, *SHAPE)).astype(np.int16)


def _write_slice(file: Path, plane: NDArray[np.generic], grid: ImageGrid, z: float, tags: dict[str, str]) -> None:
    image = sitk.GetImageFromArray(plane[None], isVector=plane.ndim == 3)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(tuple(grid.to_physical((0, 0, z))))
    image.SetDirection(grid.direction)
    identity = {"0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": "1.2.3.1", "0008|103e": "cine"}
    for tag, value in (identity | tags).items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(file))
    writer.Execute(image)


def _write_series(
    folder: Path,
    values: NDArray[np.int16],
    grid: ImageGrid,
    *,
    heights: Sequence[float] | None = None,
    tags: Callable[[int, int], dict[str, str]] = lambda z, phase: {"0020|0013": str(phase + 1)},
    prefix: str = "",
) -> Path:
    """One file for every slice and phase, with names that say nothing. tags: by slice and phase."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(range(values.shape[0] * values.shape[1]))
    random.Random(0).shuffle(names)
    for phase, volume in enumerate(values):
        for z, plane in enumerate(volume):
            height = heights[z] if heights else z
            _write_slice(folder / f"{prefix}{names.pop():03d}.dcm", plane, grid, height, tags(z, phase))
    return folder


def _zipped(folder: Path, path: Path, rename: Callable[[str], str] = lambda name: name) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(folder.iterdir()):
            zipped.write(file, rename(file.name))
    return path


@pytest.fixture
def slices_grid(grid: ImageGrid) -> ImageGrid:
    """The oblique grid, right-handed as slices are stacked: the third axis is the normal."""
    return ImageGrid(SHAPE, grid.spacing, grid.origin, grid.direction)


@pytest.fixture
def temporary_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made during the test."""
    root = tmp_path / "temporary"
    root.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(root))
    return root


# -- what is read ---------------------------------------------------------------------------------


def test_a_volume_among_other_files(tmp_path: Path, slices_grid: ImageGrid) -> None:
    values = _values()
    folder = _write_series(tmp_path / "study" / "series", values, slices_grid)
    (tmp_path / "study" / "notes.txt").write_text("patient moved")
    (folder / "empty").touch()
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(300))
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    volume = read_image(tmp_path / "study")
    np.testing.assert_array_equal(volume.array, values[0])
    assert volume.grid.same_as(slices_grid)
    assert count_phases(tmp_path / "study") == 1


@pytest.mark.parametrize(
    "tags",
    [
        # trigger time decides although the instances count the other way
        lambda z, phase: {"0018|1060": str(10.5 + 100 * phase), "0020|0013": str(99 - phase)},
        lambda z, phase: {"0020|0012": str(phase), "0020|0013": str(99 - phase)},
        lambda z, phase: {"0020|0013": str(1 + z * 12 + phase)},
    ],
    ids=["trigger time", "acquisition number", "instance number"],
)
def test_time_points_of_a_series(
    tmp_path: Path, slices_grid: ImageGrid, tags: Callable[[int, int], dict[str, str]]
) -> None:
    values = _values(phases=12)
    folder = _write_series(tmp_path / "cine#2", values, slices_grid, tags=tags)
    (tmp_path / "cine").mkdir()  # the folder of exactly the typed name comes first
    assert count_phases(folder) == 12
    for phase in (0, 2, 10, 11):
        volume = read_image(f"{folder}#{phase}")
        np.testing.assert_array_equal(volume.array, values[phase])
        assert volume.grid.same_as(slices_grid)


def test_zip_of_a_series(tmp_path: Path, slices_grid: ImageGrid, temporary_root: Path) -> None:
    """Names that lead out of the folder, repeat or hide change nothing, and nothing stays behind."""
    values = _values(phases=2)
    folder = _write_series(tmp_path / "series", values, slices_grid)
    path = _zipped(folder, tmp_path / "evil.ZIP", lambda name: f"../../{name}")
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("__MACOSX/000.dcm", b"resource fork")
        zipped.writestr("/absolute/readme.txt", b"text")
    before = {p for p in tmp_path.rglob("*") if p != temporary_root}
    assert count_phases(path) == 2
    np.testing.assert_array_equal(read_image(f"{path}#1").array, values[1])
    assert {p for p in tmp_path.rglob("*") if p != temporary_root} == before
    assert not list(temporary_root.iterdir())


@pytest.mark.data
def test_sunnybrook_archive_holds_the_same_cine_as_the_nifti_file(shared_data: Path) -> None:
    folder = shared_data / "sunnybrook"
    assert count_phases(folder / "SC-HF-I-4_dicom.zip") == count_phases(folder / "SC-HF-I-4" / "cine.nii.gz") == 20
    for phase in (0, 7, 19):
        dicom = read_image(f"{folder / 'SC-HF-I-4_dicom.zip'}#{phase}")
        nifti = read_image(f"{folder / 'SC-HF-I-4' / 'cine.nii.gz'}#{phase}")
        np.testing.assert_array_equal(dicom.array, nifti.array)
        assert dicom.grid.same_as(nifti.grid)
        np.testing.assert_allclose(dicom.grid.direction, nifti.grid.direction, atol=1e-5)


@pytest.mark.data
def test_sunnybrook_archive_unpacked_into_a_folder(shared_data: Path, tmp_path: Path) -> None:
    """Instance n is slice (n-1)//20, counted against the normal, and phase (n-1)%20."""
    with zipfile.ZipFile(shared_data / "sunnybrook" / "SC-HF-I-4_dicom.zip") as zipped:
        zipped.extractall(tmp_path)
    volume = read_image(f"{tmp_path}#6")
    instance = sitk.ReadImage(str(tmp_path / "27.dcm"))  # slice 1, phase 6
    np.testing.assert_array_equal(volume.array[-2], sitk.GetArrayFromImage(instance)[0])
    np.testing.assert_allclose(volume.grid.to_physical((0, 0, 8)), instance.GetOrigin(), atol=1e-3)


# -- what is refused ------------------------------------------------------------------------------


def test_folders_and_files_that_are_no_series(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    (tmp_path / "empty").mkdir()
    with refusal(ImageError, "fixed image", "empty'", "no DICOM image", "give a DICOM folder"):
        read_image(tmp_path / "empty")
    folder = _write_series(tmp_path / "series", _values(), slices_grid)
    with refusal(ImageError, "000.dcm", "single DICOM file", "folder"):
        read_image(folder / "000.dcm")
    with refusal(ImageError, "series#0'", "is 3D", "leave out '#0'"):
        read_image(f"{folder}#0")
    for file in sorted(folder.iterdir())[1:]:
        file.unlink()
    with refusal(ImageError, "series'", "2D", "whole series"):
        read_image(folder)


def test_time_point_must_be_chosen_and_exist(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    folder = _write_series(tmp_path / "series", _values(phases=3), slices_grid)
    with refusal(ImageError, "series'", "3 time points", "#0 to #2"):
        read_image(folder)
    with refusal(ImageError, "series#3'", "no time point 3", "#0 to #2"):
        read_image(f"{folder}#3")


def test_several_series_are_listed(tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]) -> None:
    for i in range(7):
        tags = {"0020|000e": f"1.2.3.{i}", "0020|0011": str(i), "0008|103e": f"scan\n{i}", "0020|0013": "1"}
        _write_series(tmp_path / "study", _values(), slices_grid, tags=lambda z, p, t=tags: t, prefix=f"s{i}_")  # type: ignore[misc]
    with refusal(ImageError, "7 DICOM series", "'0 scan 0' of 4 files", "and 2 more", "give a folder with one"):
        read_image(tmp_path / "study")


def test_incomplete_series(tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]) -> None:
    folder = _write_series(tmp_path / "cine", _values(phases=3), slices_grid)
    next(folder.iterdir()).unlink()
    with refusal(ImageError, "cine#0'", "2 time points at some slice positions and 3 at others", "complete series"):
        read_image(f"{folder}#0")
    folder = _write_series(tmp_path / "gap", _values(), slices_grid, heights=[0, 1, 3, 4])
    with refusal(GeometryError, "gap'", "unevenly spaced", "8 to 16 mm", "complete series"):
        read_image(folder)


def test_damaged_slice_is_not_passed_over(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    """GDCM takes a file that ends early for no DICOM file at all; the outermost slice would silently be lost."""
    folder = _write_series(tmp_path / "series", _values(), slices_grid)
    file = folder / "002.dcm"
    file.write_bytes(file.read_bytes()[:-10])
    with refusal(ImageError, "series'", "damaged DICOM file ('002.dcm')", "again"):
        read_image(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="names of this system's files are always Unicode")
def test_a_file_name_that_is_not_utf_8(tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]) -> None:
    folder = _write_series(tmp_path / "series", _values(), slices_grid)
    (folder / "002.dcm").rename(folder / os.fsdecode(b"caf\xe9.dcm"))
    for read in (read_image, count_phases):
        with refusal(ImageError, "file 'caf\\xe9.dcm' of", "series'", "name that is not UTF-8", "rename"):
            read(folder)


def test_copies_in_a_series(tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]) -> None:
    folder = _write_series(tmp_path / "series", _values(), slices_grid)
    for file in list(folder.iterdir()):
        (folder / f"copy of {file.name}").write_bytes(file.read_bytes())
    with refusal(ImageError, "series#0'", "same trigger time and instance number", "remove copies"):
        read_image(f"{folder}#0")


def test_slices_that_make_no_straight_volume(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    plane, first = _values()[0, 0], {"0020|0013": "1"}
    folder = _write_series(tmp_path / "localizer", _values(), slices_grid)
    _write_slice(folder / "scout.dcm", plane, ImageGrid(SHAPE), 0, first)
    with refusal(GeometryError, "localizer'", "not parallel", "without localizers"):
        read_image(folder)
    folder = _write_series(tmp_path / "sizes", _values(), slices_grid)
    _write_slice(folder / "small.dcm", plane[:3], slices_grid, 9, first)
    with refusal(GeometryError, "sizes'", "different size"):
        read_image(folder)
    (tmp_path / "tilt").mkdir()
    for z in range(4):
        leaning = ImageGrid(SHAPE, (1, 1, 3), (0, 0.4 * z, 0))
        _write_slice(tmp_path / "tilt" / f"{z}.dcm", plane + z, leaning, z, first)
    with refusal(GeometryError, "tilt'", "gantry tilt", "resample"):
        read_image(tmp_path / "tilt")


def test_slices_that_are_no_scalar_images_in_space(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    (tmp_path / "colour").mkdir()
    (tmp_path / "frames").mkdir()
    for z in range(2):
        _write_slice(tmp_path / "colour" / f"{z}.dcm", np.zeros((5, 6, 3), np.uint8), slices_grid, z, {})
    with refusal(ImageError, "colour'", "colour images", "one value per voxel"):
        read_image(tmp_path / "colour")
    sitk.WriteImage(sitk.GetImageFromArray(_values()[0].astype(np.uint8)), str(tmp_path / "frames" / "all.dcm"))
    with refusal(ImageError, "frames'", "multi-frame", "dcm2niix"):
        read_image(tmp_path / "frames")
    for file in _write_series(tmp_path / "nowhere", _values(), slices_grid).iterdir():
        file.write_bytes(file.read_bytes().replace(b"\x20\x00\x32\x00", b"\x20\x00\x33\x00"))  # the position's tag
    with refusal(ImageError, "nowhere'", "without a slice position", "original series"):
        read_image(tmp_path / "nowhere")


# -- archives that are refused --------------------------------------------------------------------


def test_archives_that_unpack_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., object], temporary_root: Path
) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for i in range(3):
            zipped.writestr(f"{i}", bytes(1 << 20))
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 21)
    with refusal(ImageError, "bomb.zip", "unpacks to more than", "give the folder"):
        read_image(path)
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 30)
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with refusal(ImageError, "bomb.zip", "or 2 files"):
        read_image(path)
    assert not list(temporary_root.iterdir())


def test_damaged_and_encrypted_archives(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object], temporary_root: Path
) -> None:
    path = _zipped(_write_series(tmp_path / "series", _values(), slices_grid), tmp_path / "a.zip")
    whole = bytearray(path.read_bytes())
    broken = bytearray(whole)
    broken[200] ^= 255
    encrypted = bytearray(whole)
    encrypted[6] |= 1  # the flag of the first entry, in its own header and in the directory
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    for data in (whole[:-100], broken, encrypted, b"no archive"):
        path.write_bytes(data)
        with refusal(ImageError, "fixed image", "a.zip", "damaged or encrypted zip", "give the folder"):
            read_image(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with refusal(ImageError, "a.zip", "no DICOM image"):
        read_image(path)
    assert not list(temporary_root.iterdir())


def test_no_room_to_unpack(
    tmp_path: Path, slices_grid: ImageGrid, refusal: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _zipped(_write_series(tmp_path / "series", _values(), slices_grid), tmp_path / "a.zip")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with refusal(ImageError, "a.zip", "cannot be unpacked", "free some space"):
        read_image(path)
