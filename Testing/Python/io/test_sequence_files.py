"""All time points at once: read from 4D files and DICOM series, written one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cine_files import write_sequence
from dicom_files import write_dicom
from disks import small_disk
from dlir.errors import ImageError, ImageNote, OutputError
from dlir.geometry import ImageGrid
from dlir.io import read_image, write_image
from dlir.io.sequence_writing import sequence_writer
from dlir.io.sequences import ImageSequence, read_sequence

TIMES = (0.0, 0.04, 0.08, 0.12)


@pytest.fixture
def frames(grid: ImageGrid) -> np.ndarray:
    return np.random.default_rng(3).integers(-100, 1000, (4, *grid.shape)).astype(np.int16)


@pytest.mark.parametrize("suffix", [".nii.gz", ".seq.nrrd"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
def test_what_is_written_is_read_again(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, suffix: str, kind: str
) -> None:
    frames = frames.astype(kind)
    path = write_sequence(tmp_path / f"cine{suffix}", frames, grid, TIMES)
    found = read_sequence(path)
    np.testing.assert_array_equal(found.arrays, frames)
    assert np.asarray(found.arrays).dtype == frames.dtype
    assert found.grid.same_as(grid)
    assert found.seconds == TIMES
    assert len(found) == 4
    if kind == "i2":
        for number in range(4):
            one, whole = found.volume(number), read_image(f"{path}#{number}")
            np.testing.assert_array_equal(one.array, whole.array)
            assert (one.array.dtype, one.source) == (whole.array.dtype, whole.source)


@pytest.mark.parametrize("suffix", [".nii.gz", ".seq.nrrd"])
def test_times_that_are_not_known_stay_so(tmp_path: Path, grid: ImageGrid, frames: np.ndarray, suffix: str) -> None:
    assert read_sequence(write_sequence(tmp_path / f"cine{suffix}", frames, grid, None)).seconds is None


def test_uneven_times(tmp_path: Path, grid: ImageGrid, frames: np.ndarray) -> None:
    uneven = (0.0, 0.03, 0.04, 0.12)
    assert read_sequence(write_sequence(tmp_path / "cine.seq.nrrd", frames, grid, uneven)).seconds == uneven
    assert read_sequence(write_sequence(tmp_path / "cine.nii.gz", frames, grid, uneven)).seconds == TIMES


def test_other_tools_read_the_nifti(tmp_path: Path, grid: ImageGrid, frames: np.ndarray) -> None:
    image = sitk.ReadImage(str(write_sequence(tmp_path / "cine.nii.gz", frames, grid, TIMES)))
    assert image.GetSize() == (*grid.size, 4)
    np.testing.assert_allclose(image.GetSpacing(), (*grid.spacing, 0.04), rtol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), frames)


def test_a_file_that_lacks_time_points_does_not_appear(tmp_path: Path, grid: ImageGrid, frames: np.ndarray) -> None:
    with (
        pytest.raises(ValueError, match="1 of 4"),
        sequence_writer(tmp_path / "a.nii.gz", 4, grid, "i2", None) as add,
    ):
        add(frames[0])
    with (
        pytest.raises(ValueError, match="shape"),
        sequence_writer(tmp_path / "a.nii.gz", 4, grid, "i2", None) as add,
    ):
        add(frames[0, 1:])
    with pytest.raises(OutputError, match="cannot hold 40000 time points"), _writer(tmp_path, grid, 40_000):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".seq.nrrd"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, grid: ImageGrid, suffix: str) -> None:
    noise = np.random.default_rng(0).normal(size=(20, *grid.shape)).astype(np.float32)
    with small_disk(6_000), pytest.raises(OutputError, match=rf"cannot write .*cine\{suffix}.*disk is full"):
        write_sequence(tmp_path / f"cine{suffix}", noise, grid, None)
    assert list(tmp_path.iterdir()) == []


def _writer(folder: Path, grid: ImageGrid, count: int):  # type: ignore[no-untyped-def]
    return sequence_writer(folder / "a.nii.gz", count, grid, "i2", None)


@pytest.mark.parametrize("first", [".mha", ".nrrd"])
def test_files_of_four_dimensions(tmp_path: Path, grid: ImageGrid, frames: np.ndarray, first: str) -> None:
    path = tmp_path / f"cine{first}"
    sitk.WriteImage(sitk.JoinSeries([grid.to_sitk(frame) for frame in frames]), str(path))
    found = read_sequence(path)
    np.testing.assert_array_equal(found.arrays, frames)
    assert found.grid.same_as(grid)
    assert found.seconds is None


def test_values_that_are_no_numbers_are_seen_in_their_time_point(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    """ITK reads them as 0."""
    wild = frames.astype(np.float32)
    wild[2, 1, 2, 3] = np.nan
    found = read_sequence(write_sequence(tmp_path / "cine.nii.gz", wild, grid))
    assert np.isnan(found.arrays[2][1, 2, 3])
    found.volume(1)
    with refusal(ImageError, "time point", "cine.nii.gz#2", "not a finite number"):
        found.volume(2)


def test_one_second_is_what_writers_state_that_do_not_know(tmp_path: Path, grid: ImageGrid, frames: np.ndarray) -> None:
    path = write_sequence(tmp_path / "cine.nii.gz", frames, grid, (0.0, 1.0, 2.0, 3.0))
    with pytest.warns(ImageNote, match="states 1 s between its time points, as files do whose writer did not know"):
        assert read_sequence(path).seconds == (0.0, 1.0, 2.0, 3.0)


# -- DICOM --------------------------------------------------------------------------------------------


def dicom(folder: Path, frames: np.ndarray, clock: Callable[[int, int], dict[str, object]]) -> Path:
    for z in range(frames.shape[1]):
        for phase, frame in enumerate(frames):
            tags = {"0020|0013": 1 + z * len(frames) + phase, **clock(z, phase)}
            write_dicom(folder / f"{z}-{phase}.dcm", frame[z], tags, position=(0, 0, 8.0 * z))
    return folder


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        (lambda z, t: {"0018|1060": 10 + 45 * t + z % 2}, (0.0, 0.045, 0.09, 0.135)),
        (lambda z, t: {"0008|0032": f"23595{t + 7:01d}.500" if t < 3 else "000000.500"}, (0.0, 1.0, 2.0, 3.0)),
        (lambda z, t: {}, None),
    ],
    ids=["trigger time", "acquisition time over midnight", "no time"],
)
def test_time_points_of_a_series(
    tmp_path: Path, frames: np.ndarray, clock: Callable[..., dict[str, object]], seconds: tuple[float, ...] | None
) -> None:
    folder = dicom(tmp_path / "series", frames, clock)
    found = read_sequence(folder)
    np.testing.assert_array_equal(found.arrays, frames)
    assert found.seconds == seconds
    assert found.grid.same_as(read_image(f"{folder}#0").grid)


# -- refusals -----------------------------------------------------------------------------------------


def test_what_is_no_sequence_is_refused(
    tmp_path: Path, grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    write_image(tmp_path / "image.nrrd", frames[0], grid)
    path = write_sequence(tmp_path / "cine.nii.gz", frames, grid)
    with refusal(ImageError, "cine 'image.nrrd' is 3D and has no time points", "give a 4D file"):
        _read(tmp_path, "image.nrrd")
    with refusal(ImageError, "names one time point", "leave out '#2'"):
        read_sequence(f"{path}#2")
    path.write_bytes(path.read_bytes()[:-300])
    with refusal(ImageError, "damaged or incomplete"):
        read_sequence(path)


def _read(folder: Path, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        read_sequence(name, "cine")


def test_a_sequence_has_times_that_rise_and_arrays_that_fit(
    grid: ImageGrid, frames: np.ndarray, refusal: Callable[..., object]
) -> None:
    with refusal(ImageError, "one time point"):
        ImageSequence(frames[:1], grid, "cine")
    with refusal(ImageError, "do not fit"):
        ImageSequence(frames[:, 1:], grid, "cine")
    for times in ((0.0, 1.0), (0.0, 0.1, 0.1, 0.2)):
        with refusal(ImageError, "do not rise"):
            ImageSequence(frames, grid, "cine", times)


@pytest.mark.data
@pytest.mark.slow
def test_a_series_of_the_scanner_is_the_file_made_from_it(shared_data: Path) -> None:
    study = shared_data / "sunnybrook"
    series, file = read_sequence(study / "SC-HF-I-4_dicom.zip"), read_sequence(study / "SC-HF-I-4" / "cine.nii.gz")
    np.testing.assert_array_equal(series.arrays, file.arrays)
    assert series.grid.same_as(file.grid)
    assert series.seconds is not None
    np.testing.assert_allclose(np.diff(series.seconds), 0.046, atol=0.001)
