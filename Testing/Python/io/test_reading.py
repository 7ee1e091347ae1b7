"""Reading of single files and of their time points, and what is refused. Header tricks are written byte by byte."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, ImageNote
from dlir.geometry import ImageGrid
from dlir.io.quiet import quiet
from dlir.io.reading import Volume, count_phases, read_image, read_label, read_mask

FORMATS = ["nii", "nii.gz", "nrrd", "mha", "mhd"]
QFORM, SFORM, SROW = 252, 254, 280  # byte offsets in a NIfTI header


def _values(grid: ImageGrid, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 3000, grid.shape).astype(np.int16)


def _save(path: Path, array: NDArray[np.generic], grid: ImageGrid) -> Path:
    sitk.WriteImage(grid.to_sitk(array), str(path))
    return path


def _save_4d(path: Path, arrays: list[NDArray[np.int16]], grid: ImageGrid) -> Path:
    sitk.WriteImage(sitk.JoinSeries([grid.to_sitk(a) for a in arrays]), str(path))
    return path


def _edit(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def _set_sform(data: bytearray, rows: tuple[float, ...]) -> None:
    struct.pack_into("<h", data, QFORM, 0)
    struct.pack_into("<h", data, SFORM, 1)
    struct.pack_into("<12f", data, SROW, *rows)


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_voxels_and_grid_of_every_format(tmp_path: Path, grid: ImageGrid, suffix: str) -> None:
    array = _values(grid)
    volume = read_image(str(_save(tmp_path / f"a.{suffix}", array, grid)))
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    np.testing.assert_array_equal(volume.array, array)
    assert volume.grid.same_as(grid)
    assert volume.source == str(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_time_points_keep_the_oblique_direction(tmp_path: Path, grid: ImageGrid, suffix: str) -> None:
    arrays = [_values(grid, seed) for seed in range(3)]
    path = _save_4d(tmp_path / f"cine.{suffix}", arrays, grid)
    assert count_phases(path) == 3
    for i, array in enumerate(arrays):
        volume = read_image(f"{path}#{i}")
        np.testing.assert_array_equal(volume.array, array)
        assert volume.grid.same_as(grid)
        assert volume.source.endswith(f"#{i}")
    assert count_phases(f"{path}#1") == 1


def test_direction_survives_where_collapsing_4d_by_itself_would_not_guess_it(tmp_path: Path) -> None:
    """A volume turned by 90 degrees: its 3x3 part is far from the identity that a collapse may fall back to."""
    grid = ImageGrid((3, 4, 5), (1, 2, 3), (4, 5, 6), (0, 0, 1, 1, 0, 0, 0, 1, 0))
    path = _save_4d(tmp_path / "cine.nrrd", [_values(grid), _values(grid, 1)], grid)
    assert read_image(f"{path}#1").grid.same_as(grid)


def test_a_single_time_point_needs_no_choice(tmp_path: Path, grid: ImageGrid) -> None:
    path = _save_4d(tmp_path / "one.nrrd", [_values(grid)], grid)
    assert count_phases(path) == 1
    assert read_image(path).grid.same_as(grid)


def test_a_file_name_may_hold_a_number_sign(tmp_path: Path, grid: ImageGrid) -> None:
    array = _values(grid)
    odd = _save(tmp_path / "study#3.nii.gz", array, grid)
    np.testing.assert_array_equal(read_image(odd).array, array)
    arrays = [array, _values(grid, 1)]
    cine = _save_4d(tmp_path / "cine #2.nrrd", arrays, grid)
    np.testing.assert_array_equal(read_image(f"{cine}#1").array, arrays[1])
    # A file of exactly the typed name comes before a time point of another.
    (tmp_path / "study").mkdir()
    np.testing.assert_array_equal(read_image(odd).array, array)


def test_importing_does_not_load_simpleitk_or_torch() -> None:
    code = "import sys, dlir.io; print({'SimpleITK', 'torch'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.data
@pytest.mark.parametrize("phase", [6, 19])
def test_cine_phase_lies_where_the_file_says(shared_data: Path, phase: int) -> None:
    folder = shared_data / "sunnybrook" / "SC-HF-I-4"
    volume = read_image(f"{folder / 'cine.nii.gz'}#{phase}")
    # The true direction, from the rows of the NIfTI sform (RAS) by hand.
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(folder / "cine.nii.gz"))
    reader.ReadImageInformation()
    rows = np.array([[float(v) for v in reader.GetMetaData(f"srow_{axis}").split()] for axis in "xyz"])
    rows[:2] *= -1  # to LPS
    np.testing.assert_allclose(volume.grid.index_to_physical[:3], rows, rtol=1e-4, atol=1e-4)
    assert not np.allclose(np.abs(volume.grid.direction_matrix).max(0), 1, atol=0.05)  # truly oblique
    whole = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "cine.nii.gz")))
    np.testing.assert_array_equal(volume.array, whole[phase])
    label = read_label(folder / f"label_phase{phase:02d}.nii.gz", volume)
    assert set(np.unique(label.array)) <= {0, 1, 2}


@pytest.mark.data
def test_labels_of_acdc_lie_on_their_images_and_nothing_is_printed(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = sorted((shared_data / "acdc").glob("patient00*/*_gt.nii.gz"))
    assert files
    for file in files:
        read_label(file, read_image(file.with_name(file.name.replace("_gt", ""))))
    assert capfd.readouterr() == ("", "")


# -- what is refused ------------------------------------------------------------------------------


def test_missing_and_unreadable_files(tmp_path: Path, refusal: Callable[..., object]) -> None:
    with refusal(ImageError, "moving image 'nowhere/a.nii.gz'", "does not exist", "check the path"):
        read_image("nowhere/a.nii.gz", "moving image")
    with refusal(ImageError, "fixed image 'a.nii#3'", "does not exist"):
        read_image("a.nii#3")
    with refusal(ImageError, "does not exist"):
        read_image("")
    with refusal(ImageError, "does not exist", "a\\nb"):
        read_image("a\nb.nii")
    for name in ("a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.txt", "a.png", "a.tif", "a.h5", "a.dcm"):
        (tmp_path / name).write_text("not an image\n" * 50)
        with refusal(ImageError, name, "cannot be read as an image", "give an undamaged NIfTI"):
            read_image(tmp_path / name)
    (tmp_path / "empty.nii.gz").touch()
    with refusal(ImageError, "empty.nii.gz", "empty file", "again"):
        read_image(tmp_path / "empty.nii.gz")


@pytest.mark.parametrize(
    ("suffix", "name", "packed", "words"),
    [
        ("nrrd", "a.nii", False, ": it is NRRD under another name; let that end in .nrrd"),
        ("mha", "a", False, ": it is MetaImage under another name; let that end in .mha"),
        ("nii", "a.nrrd", False, ": it is NIfTI under another name; let that end in .nii"),
        ("nii", "a.gz", True, ": it is NIfTI under another name; let that end in .nii.gz"),
        ("mha", "a.mha.gz", True, ": it is MetaImage compressed by gzip; unpack it and let its name end in .mha"),
        ("nrrd", "a.nrrd", True, ": it is NRRD compressed by gzip; unpack it and let its name end in .nrrd"),
    ],
)
def test_whole_files_under_another_name(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object], suffix: str, name: str, packed: bool, words: str
) -> None:
    content = _save(tmp_path / f"whole.{suffix}", _values(grid), grid).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    with refusal(ImageError, f"/{name}' cannot be read as an image{words}"):
        read_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the super-user may read every file")
def test_file_without_permission(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    path = _save(tmp_path / "a.nii.gz", _values(grid), grid)
    path.chmod(0)
    with refusal(ImageError, "a.nii.gz", "cannot be opened", "permissions"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("kept", [0.6, 0.95])
def test_files_that_end_early(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object], suffix: str, kept: float
) -> None:
    path = _save(tmp_path / f"cut.{suffix}", _values(grid), grid)
    data = path.read_bytes()
    start = len(data) - 2 * _values(grid).size if suffix != "nii.gz" else 0  # keep the header of plain files
    path.write_bytes(data[: start + int((len(data) - start) * kept)])
    with refusal(ImageError, f"cut.{suffix}", "damaged or incomplete", "again"):
        read_image(path)


def test_compressed_nifti_with_a_wrong_byte(tmp_path: Path, refusal: Callable[..., object]) -> None:
    grid = ImageGrid((20, 100, 100))  # large enough for ITK to read the header and not to notice
    path = _save(tmp_path / "a.nii.gz", _values(grid), grid)
    _edit(path, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 255))
    with refusal(ImageError, "a.nii.gz", "damaged or incomplete"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_not_a_scalar_volume(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object], suffix: str) -> None:
    array, path = _values(grid), tmp_path / f"a.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(array[0]), str(path))
    with refusal(ImageError, path.name, "2D", "3D volume"):
        read_image(path)
    sitk.WriteImage(sitk.GetImageFromArray(array[:1]), str(path))
    with refusal(ImageError, path.name, "2D", "single slice"):
        read_image(path)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([array] * 3, -1), isVector=True), str(path))
    with refusal(ImageError, path.name, "3 values per voxel", "give an image with one"):
        read_image(path)
    _save_4d(path, [array, array], grid)
    with refusal(ImageError, path.name, "2 time points", "#0 to #1"):
        read_image(path)


def test_rgb_and_complex_images(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    rgb = np.zeros((8, 9, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(tmp_path / "photo.png"))
    with refusal(ImageError, "photo.png", "3 values per voxel"):
        read_image(tmp_path / "photo.png")
    part = grid.to_sitk(_values(grid).astype(np.float32))
    sitk.WriteImage(sitk.RealAndImaginaryToComplex(part, part), str(tmp_path / "k.nii"))
    with refusal(ImageError, "k.nii", "complex", "magnitude"):
        read_image(tmp_path / "k.nii")


@pytest.mark.parametrize("read", [read_image, count_phases])
def test_time_points_that_do_not_exist(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object], read: Callable[..., object]
) -> None:
    cine = _save_4d(tmp_path / "cine.nii.gz", [_values(grid)] * 4, grid)
    for phase in (4, -1):
        with refusal(ImageError, f"image '{cine}#{phase}'", f"no time point {phase}", "#0 to #3"):
            read(f"{cine}#{phase}")
    with refusal(ImageError, f"'{cine}#end'", "'end' is not a time point", "number from 0"):
        read(f"{cine}#end")
    with refusal(ImageError, "'' is not a time point"):
        read(f"{cine}#")
    single = _save(tmp_path / "single.nii.gz", _values(grid), grid)
    with refusal(ImageError, "is 3D", "leave out '#0'"):
        read(f"{single}#0")


def test_content_that_cannot_be_registered(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    array = _values(grid).astype(np.float64)
    path = _save(tmp_path / "constant.nrrd", np.full_like(array, 7), grid)
    with refusal(ImageError, "constant.nrrd", "value 7 in every voxel", "check"):
        read_image(path)
    array[1, 2, 3], array[0, 0, 0], array[2, 2, 2] = np.nan, np.inf, 1e300  # the last overflows float32
    path = _save(tmp_path / "wild.nrrd", array, grid)
    with refusal(ImageError, "wild.nrrd", "3 voxels", "NaN", "replace"):
        read_image(path)


@pytest.mark.parametrize(
    "rows",
    [
        (1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0),  # two axes the same
        (0,) * 12,
        (1, 0.5, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0),  # sheared
        (float("nan"), 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0),
    ],
)
def test_nifti_header_that_places_no_voxels(
    tmp_path: Path,
    grid: ImageGrid,
    refusal: Callable[..., object],
    capfd: pytest.CaptureFixture[str],
    rows: tuple[float, ...],
) -> None:
    path = _save(tmp_path / "a.nii", _values(grid), grid)
    _edit(path, lambda data: _set_sform(data, rows))
    with refusal(GeometryError, "moving image", "a.nii", "direction", "correct the image header"):
        read_image(path, "moving image")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("(1,0,0) (0,2,0) (0,0,3)", "(1,0,0) (2,0,0) (0,0,3)", "singular"),
        ("(1,0,0) (0,2,0) (0,0,3)", "(1,0,0) (1,2,0) (0,0,3)", "not perpendicular"),
        ("(1,0,0) (0,2,0) (0,0,3)", "(0,0,0) (0,2,0) (0,0,3)", "spacing"),
    ],
)
def test_nrrd_header_that_places_no_voxels(
    tmp_path: Path, refusal: Callable[..., object], old: str, new: str, words: str
) -> None:
    grid = ImageGrid((4, 5, 6), (1, 2, 3))
    path = _save(tmp_path / "a.nrrd", _values(grid), grid)
    assert old.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with refusal(GeometryError, "fixed image", "a.nrrd", words):
        read_image(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1", "singular"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 0 2 3", "spacing"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = -1 2 3", "spacing"),
    ],
)
def test_metaimage_header_that_places_no_voxels(
    tmp_path: Path, refusal: Callable[..., object], old: str, new: str, words: str
) -> None:
    grid = ImageGrid((4, 5, 6), (1, 2, 3))
    path = _save(tmp_path / "a.mha", _values(grid), grid)
    assert old.encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    with refusal(GeometryError, "fixed image", "a.mha", words, "correct the image header"):
        read_image(path)


# -- labels and masks -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_labels_keep_their_type(tmp_path: Path, grid: ImageGrid, dtype: type[np.generic]) -> None:
    labels = (_values(grid) % 4).astype(dtype)
    read = read_label(_save(tmp_path / "seg.nii.gz", labels, grid), grid)
    assert read.array.dtype == dtype
    np.testing.assert_array_equal(read.array, labels)


def test_whole_numbers_in_floating_point_are_labels(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    labels = (_values(grid) % 4).astype(np.float32)
    read = read_label(_save(tmp_path / "seg.nrrd", labels, grid), grid)
    assert read.array.dtype == np.int32
    np.testing.assert_array_equal(read.array, labels)
    for wrong in (0.5, np.nan, np.inf, 1e12):
        labels[0, 0, 0] = wrong
        path = _save(tmp_path / "seg.nrrd", labels, grid)
        with refusal(ImageError, "moving label", "seg.nrrd", "not whole numbers", "nearest-neighbour"):
            read_label(path, grid)


@pytest.mark.parametrize(("values", "kind"), [(256, np.uint8), (3500, np.int16), (3500, np.float32)])
def test_a_grey_image_is_no_label_map(tmp_path: Path, values: int, kind: type, refusal: Callable[..., object]) -> None:
    grid = ImageGrid((20, 40, 40))
    grey = np.random.default_rng(0).integers(0, values, grid.shape).astype(kind)
    grey[:, :10] = 0  # air
    path = _save(tmp_path / "ct.nrrd", grey, grid)
    with refusal(ImageError, "fixed label", "ct.nrrd", f"{len(np.unique(grey))} values", "give a label map"):
        read_label(path, grid, "fixed label")
    with refusal(ImageError, "fixed mask", "ct.nrrd", f"{len(np.unique(grey))} values", "give a mask, which is 0"):
        read_mask(path, grid)


def test_many_structures_and_many_markers_are_labels(tmp_path: Path) -> None:
    grid = ImageGrid((40, 40, 40))
    z, y, x = np.indices(grid.shape)
    markers = np.zeros(grid.shape, np.int16)
    markers[::2, ::4, ::4] = np.arange(2000).reshape(20, 10, 10)
    for labels in ((1 + z // 4 * 100 + y // 4 * 10 + x // 4).astype(np.int16), markers):
        np.testing.assert_array_equal(read_label(_save(tmp_path / "s.nrrd", labels, grid), grid).array, labels)


def test_labels_on_another_grid(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    labels = (_values(grid) % 4).astype(np.uint8)
    shifted = ImageGrid(grid.shape, grid.spacing, (-20.0, 36.0, 110.0), grid.direction)
    path = _save(tmp_path / "seg.nrrd", labels, shifted)
    image = Volume(_values(grid), grid, "heart.nii.gz#3")
    with refusal(GeometryError, "fixed label", "seg.nrrd", "image 'heart.nii.gz#3'", "36", "35", "resample"):
        read_label(path, image, "fixed label")
    with refusal(GeometryError, "moving label", "seg.nrrd", "its image", "resample"):
        read_label(path, grid)
    small = ImageGrid((4, 6, 7), grid.spacing, shifted.origin, grid.direction)
    path = _save(tmp_path / "small.nrrd", labels[:4], small)
    with refusal(GeometryError, "fixed mask", "small.nrrd", "7×6×4", "7×6×5"):
        read_mask(path, image, "fixed mask")


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_labels_of_another_extent_are_placed_on_the_voxels_of_their_image(
    tmp_path: Path, grid: ImageGrid, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    """Smaller, larger, of one slice, with axes in another order: as ITK's nearest neighbour puts them."""
    for start, size in (((1, 2, 0), (4, 3, 5)), ((-2, -1, -3), (11, 9, 12)), ((3, 0, 2), (4, 6, 1))):
        cropped = grid.lattice(start, (1, 1, 1), size).permuted(axes, flips)
        array = np.random.default_rng(0).integers(0, 4, cropped.shape).astype(np.uint8)
        array[~grid.contains(cropped.voxel_centers())] = 0
        path = _save(tmp_path / "seg.nrrd", array, cropped)
        read = read_label(path, grid)
        onto = sitk.Resample(
            sitk.ReadImage(str(path)), grid.to_sitk(np.zeros(grid.shape)), sitk.Transform(), sitk.sitkNearestNeighbor
        )
        np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(onto))
        assert read.array.any()
        assert read.array.dtype == np.uint8
        assert read.grid == grid
        with pytest.warns(ImageNote, match="the fixed mask has several values other than 0, all of which count"):
            np.testing.assert_array_equal(read_mask(path, grid).array, read.array > 0)
        alone = read_label(path, None)
        assert alone.grid.same_as(cropped)
        np.testing.assert_array_equal(alone.array, array)


def test_labels_outside_of_their_image(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    larger = grid.lattice((0, 0, -1), (1, 1, 1), (7, 6, 6))
    labels = np.zeros(larger.shape, np.uint8)
    labels[0, :2, 0] = 3
    path = _save(tmp_path / "seg.nrrd", labels, larger)
    with refusal(GeometryError, "moving label", "seg.nrrd", "2 labelled voxels outside of image 'heart'"):
        read_label(path, Volume(_values(grid), grid, "heart"))
    far = _save(tmp_path / "far.nrrd", labels, grid.lattice((40, 0, 0), (1, 1, 1), (7, 6, 6)))
    with refusal(GeometryError, "far.nrrd", "2 labelled voxels outside"):
        read_label(far, grid)


def test_masks_are_bool_and_not_empty(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    mask = np.zeros(grid.shape, np.uint8)
    with refusal(ImageError, "fixed mask", "mask.mha", "is empty", "at least one voxel"):
        read_mask(_save(tmp_path / "mask.mha", mask, grid), grid)
    mask[1, 2, 3] = 255
    read = read_mask(_save(tmp_path / "mask.mha", mask, grid), grid)
    assert read.array.dtype == bool
    assert np.argwhere(read.array).tolist() == [[1, 2, 3]]


# -- silence --------------------------------------------------------------------------------------


def test_nothing_reaches_the_terminal(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object], capfd: pytest.CaptureFixture[str]
) -> None:
    """Files for which ITK, niftilib and MetaIO print to standard error."""
    path = _save(tmp_path / "scales.nii", _values(grid), grid)
    _edit(path, lambda data: struct.pack_into("<12f", data, SROW, -2, 0, 0, 0, 0, -4, 0, 0, 0, 0, 16, 0))
    with refusal(GeometryError, "2 x 4 x 16 mm by its sform", "1.5 x 2 x 8 mm by its pixdim"):
        read_image(path)
    path = _save(tmp_path / "cut.mha", _values(grid), grid)
    path.write_bytes(path.read_bytes()[:-50])
    with refusal(ImageError, "damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_standard_error_comes_back_after_readers_in_threads(capfd: pytest.CaptureFixture[str]) -> None:
    inside, leave = threading.Barrier(3), [threading.Event(), threading.Event()]

    def use(event: threading.Event) -> None:
        with quiet:
            inside.wait()
            event.wait()

    threads = [threading.Thread(target=use, args=(event,)) for event in leave]
    for thread in threads:
        thread.start()
    inside.wait()
    os.write(2, b"muted ")
    for event, thread in zip(leave, threads, strict=True):  # the first to come is not the last to go
        event.set()
        thread.join()
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


WARNING = b"WARNING: In /build/itkSome.cxx, line 7\nSomeImageIO (0x55ee): a.mha has no sense\nof direction\n\n"


def _say_and_fail(text: bytes) -> None:
    with quiet:
        os.write(2, text)
        raise KeyError


def test_warnings_of_itk_become_notes(capfd: pytest.CaptureFixture[str]) -> None:
    said = WARNING + b"nifti: chatter\n" + WARNING + WARNING.replace(b"no sense", b"unexpected scales in sform")
    with pytest.warns(ImageNote, match="^ITK warns: a.mha has no sense") as notes, quiet:
        os.write(2, said.replace(b"has unexpected scales in sform\nof direction", b"has unexpected scales in sform"))
    assert len(notes) == 1
    with pytest.raises(KeyError):  # the error says what is wrong
        _say_and_fail(WARNING)
    assert capfd.readouterr() == ("", "")
