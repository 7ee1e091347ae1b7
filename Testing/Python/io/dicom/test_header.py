"""DICOM whose headers lack, repeat or contradict something: what is read is right, or refused by name."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_files import write_dicom
from dlir.errors import GeometryError, ImageError
from dlir.io.dicom.series import instance_positions
from dlir.io.reading import count_phases, read_grid, read_image
from dlir.io.source import parse_source

Refusal = Callable[..., AbstractContextManager[None]]
Tags = Callable[[int, int], Mapping[str, object]]

SLICES, FRAMES = 4, 4


def _value(z: int, t: int) -> int:
    return 100 * t + z


def _series(folder: Path, tags: Tags, *, frames: int = FRAMES, heights: tuple[float, ...] = (0, 8, 16, 24)) -> Path:
    """Image (z, t) holds 100 t + z, and one pixel that differs. tags: by slice and frame."""
    for z, height in enumerate(heights):
        for t in range(frames):
            plane = np.full((5, 6), _value(z, t), np.int16)
            plane[0, 0] += 7
            write_dicom(folder / f"{z}_{t}", plane, tags(z, t), position=(3, 4, height))
    return folder


def _frames(spec: Path | str) -> NDArray[np.int16]:
    """(time points, slices): what the middle of every slice holds."""
    count = count_phases(spec)
    images = [read_image(spec if count == 1 else f"{spec}#{t}") for t in range(count)]
    return np.array([image.array[:, 2, 2] for image in images]).astype(np.int16)


def _right(frames: int = FRAMES) -> NDArray[np.int16]:
    return np.array([[_value(z, t) for z in range(SLICES)] for t in range(frames)], np.int16)


def _clock(seconds: float) -> str:
    return f"{12 + int(seconds // 3600):02d}{int(seconds % 3600 // 60):02d}{seconds % 60:09.6f}"


# -- in order of acquisition ------------------------------------------------------------------------

SHUFFLED = (2, 0, 3, 1)
JITTER = (310, 305, 312.5, 307.5)  # milliseconds after the heart beats
BEATS = (310, 402, 305, 330)  # of a heart that does not beat evenly

ORDERED: dict[str, Tags] = {
    "one image a heartbeat": lambda z, t: {"0018|1060": JITTER[t], "0020|0100": t + 1, "0008|0032": _clock(t)},
    "trigger jitter, acquisition time alone": lambda z, t: {"0018|1060": JITTER[t], "0008|0032": _clock(t + 0.1 * z)},
    "trigger jitter, temporal position alone": lambda z, t: {"0018|1060": JITTER[t], "0020|0100": t + 1},
    "uneven heartbeats": lambda z, t: {"0018|1060": BEATS[t] + 40 * z, "0008|0032": _clock(t), "0020|0013": 4 - t},
    "frame reference time": lambda z, t: {"0054|1300": 1000 * 4**t, "0020|0013": SHUFFLED[t]},
    "acquisition time": lambda z, t: {"0008|0032": _clock(60 * t), "0020|0013": SHUFFLED[t]},
    "acquisition date and time": lambda z, t: {"0008|002a": f"2024010{t + 1}120000.5", "0020|0013": SHUFFLED[t]},
    "over midnight": lambda z, t: {
        "0008|0022": "20240101" if t < 2 else "20240102",
        "0008|0032": ("235900", "235959.9", "000001", "000100")[t],
        "0020|0013": SHUFFLED[t],
    },
    "over midnight without a date": lambda z, t: {
        "0008|0032": ("235900", "235959.9", "000001", "000100")[t],
        "0020|0013": SHUFFLED[t],
    },
    "over midnight, a date that hides when it was": lambda z, t: {
        "0008|0023": "19000101",
        "0008|0033": ("235900", "235959.9", "000001", "000100")[t],
        "0020|0013": 4 * z + t,
    },
    "a date that hides when it was": lambda z, t: {"0008|0022": "20240000", "0008|0032": _clock(t)},
    "content time": lambda z, t: {"0008|0033": _clock(t)},
    "content time in order with the numbers": lambda z, t: {"0008|0033": _clock(t), "0020|0013": 4 * z + t},
    "cine": lambda z, t: {"0018|1060": 45 * t, "0008|0032": _clock(5 * z), "0020|0013": SHUFFLED[t]},
    "cine whose last phase was filled first": lambda z, t: {
        "0018|1060": 45 * t,
        "0008|0032": _clock((t + 1) % 4),
        "0020|0013": 4 * z + t,
    },
    "two rounds of a cine": lambda z, t: {"0018|1060": 45 * (t % 2), "0020|0100": t // 2, "0020|0013": t},
    "rounds by acquisition time": lambda z, t: {"0018|1060": 45 * (t % 2), "0008|0032": _clock(t // 2)},
    "a series goes on counting": lambda z, t: {"0020|0100": 4 * z + t},
    "an acquisition each": lambda z, t: {"0020|0012": t, "0020|0013": SHUFFLED[t]},
}


@pytest.mark.parametrize("tags", ORDERED.values(), ids=ORDERED)
def test_time_points_are_in_order_of_acquisition(tmp_path: Path, tags: Tags) -> None:
    np.testing.assert_array_equal(_frames(_series(tmp_path / "series", tags)), _right())


CONTRADICTORY: dict[str, tuple[Tags, str]] = {
    "cine against time": (
        lambda z, t: {"0018|1060": 45 * t, "0008|0032": _clock(SHUFFLED[t])},
        "acquisition time and trigger time",
    ),
    "cine against position in time": (
        lambda z, t: {"0018|1060": 45 * t, "0020|0100": SHUFFLED[t]},
        "temporal position and trigger time",
    ),
    "position in time against time": (
        lambda z, t: {"0020|0100": t, "0008|0032": _clock(SHUFFLED[t])},
        "temporal position and acquisition time",
    ),
    "frame of PET against time": (
        lambda z, t: {"0054|1300": t, "0008|0032": _clock(SHUFFLED[t])},
        "frame reference time and acquisition time",
    ),
    "jitter against the numbers": (
        lambda z, t: {"0018|1060": JITTER[t], "0020|0013": t},
        "trigger time and instance number",
    ),
    "content against the numbers": (
        lambda z, t: {"0008|0033": _clock(t), "0020|0013": SHUFFLED[t]},
        "instance number and content time",
    ),
    "one slice of many": (
        lambda z, t: {"0020|0100": t, "0008|0032": _clock(t if z != 2 else SHUFFLED[t])},
        "temporal position and acquisition time",
    ),
}


@pytest.mark.parametrize(("tags", "words"), CONTRADICTORY.values(), ids=CONTRADICTORY)
def test_clocks_that_contradict_each_other_are_named(tmp_path: Path, tags: Tags, words: str, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", tags)
    with refusal(ImageError, "series'", words, "different orders", "each time point"):
        count_phases(folder)


def test_a_different_time_point_missing_at_each_slice(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {"0020|0100": t + 1})
    for z in range(SLICES):
        (folder / f"{z}_{z}").unlink()
    with refusal(ImageError, "series'", "lacks time points at some slice positions", "complete series"):
        count_phases(folder)


def test_copies_written_at_another_time_are_no_time_points(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {"0020|0013": z + 1, "0008|0033": _clock(t)}, frames=2)
    with refusal(ImageError, "series'", "same trigger time and instance number", "remove copies"):
        count_phases(folder)
    unordered = _series(tmp_path / "unordered", lambda z, t: {})
    with refusal(ImageError, "unordered'", "trigger time and instance number, or none", "original series"):
        count_phases(unordered)


# -- one kind of image ------------------------------------------------------------------------------


def _kinds(name: str, *values: object) -> Tags:
    """Frames that take turns between the values of one tag, the times saying nothing of it."""
    return lambda z, t: {
        "0020|0013": FRAMES * z + t,
        "0018|1060": 50 * (t // len(values)),
        name: values[t % len(values)],
    }


KINDS: dict[str, tuple[Tags, tuple[str, ...]]] = {
    "magnitude and phase": (
        _kinds("0008|0008", "ORIGINAL\\PRIMARY\\M_FFE\\M\\FFE", "ORIGINAL\\PRIMARY\\PHASE MAP\\P\\FFE"),
        ("2 kinds of image", "magnitude (M_FFE\\M)", "phase (PHASE MAP\\P)"),
    ),
    "by the component alone": (_kinds("0008|9208", "MAGNITUDE", "REAL"), ("MAGNITUDE", "REAL")),
    "by a number of GE": (
        lambda z, t: {"0008|0008": "ORIGINAL\\PRIMARY\\OTHER", "0020|0013": t, "0043|102f": t % 2},
        ("magnitude (M)", "phase (P)"),
    ),
    "Dixon": (
        _kinds("0008|0008", *(f"DERIVED\\PRIMARY\\M\\{kind}" for kind in ("W", "F", "IP", "OP"))),
        ("4 kinds of image", "water (W)", "fat (F)", "IP", "OP"),
    ),
    "with and without correction": (
        _kinds("0008|0008", "ORIGINAL\\PRIMARY\\M\\ND", "ORIGINAL\\PRIMARY\\M\\ND\\NORM"),
        ("plain", "NORM"),
    ),
    "made from the other": (
        _kinds("0008|0008", "ORIGINAL\\PRIMARY\\M", "DERIVED\\PRIMARY\\M"),
        ("ORIGINAL", "DERIVED"),
    ),
    "echoes": (_kinds("0018|0081", "2.3", "4.6"), ("echo time 2.3 ms, echo time 4.6 ms",)),
    "b-values": (_kinds("0018|9087", 0.0, 1000.0), ("b-value 0 s/mm², b-value 1000 s/mm²",)),
    "b-values of Siemens": (_kinds("0019|100c", "50", "800"), ("b-value 50 s/mm², b-value 800 s/mm²",)),
    "b-values of GE": (_kinds("0043|1039", "0\\8\\0\\0", "1000000700\\8\\0\\0"), ("b-value 0 s/mm²", "700 s/mm²")),
    "an image without b-value": (_kinds("0018|9087", None, 1000.0), ("b-value 1000 s/mm²", "no b-value")),
    "inversions": (_kinds("0018|0082", "100", "180", "260", "340"), ("4 kinds", "inversion time 100 ms")),
    "flip angles": (_kinds("0018|1314", "2", "12"), ("flip angle 2°, flip angle 12°",)),
    "two sequences": (_kinds("0018|0020", "SE", "GR"), ("GR, SE",)),
    "a type of one word": (_kinds("0008|0008", "DERIVED", "ORIGINAL"), ("DERIVED, ORIGINAL",)),
    "two tube voltages": (_kinds("0018|0060", "80", "140"), ("tube voltage 80 kV",)),
}


@pytest.mark.parametrize(("tags", "words"), KINDS.values(), ids=KINDS)
def test_kinds_of_image_are_no_time_points(
    tmp_path: Path, tags: Tags, words: tuple[str, ...], refusal: Refusal
) -> None:
    folder = _series(tmp_path / "series", tags)
    for read in (count_phases, read_image, read_grid):
        with refusal(ImageError, "series'", "kinds of image", *words, "files of one kind"):
            read(folder)


def test_kinds_at_different_slices(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {"0008|0008": f"ORIGINAL\\PRIMARY\\{'MP'[z % 2]}"}, frames=1)
    with refusal(ImageError, "magnitude (M)", "phase (P)"):
        read_image(folder)


def test_an_inversion_that_suits_each_slice_is_one_kind(tmp_path: Path) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {"0018|0082": str(280 + 15 * z)}, frames=1)
    np.testing.assert_array_equal(_frames(folder), _right(1))


def test_what_is_stated_a_little_differently_is_one_kind(tmp_path: Path) -> None:
    folder = _series(
        tmp_path / "series",
        lambda z, t: {"0020|0013": t, "0018|0081": ("1.676", "1.68")[t % 2], "0008|0008": "ORIGINAL\\PRIMARY\\OTHER"},
    )
    np.testing.assert_array_equal(_frames(folder), _right())


# -- where it lies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "what"),
    [
        ("0028|0030", "a pixel spacing (PixelSpacing)"),
        ("0020|0037", "a valid orientation (ImageOrientationPatient)"),
        ("0020|0032", "a slice position (ImagePositionPatient)"),
    ],
)
@pytest.mark.parametrize(
    "value", [None, "", "1.5", "0\\0", "0\\0\\0\\0\\0\\0", "nan\\nan\\nan\\nan\\nan\\nan", "a\\b\\c"]
)
def test_a_place_that_is_not_stated_is_refused(
    tmp_path: Path, tag: str, what: str, value: str | None, refusal: Refusal
) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {tag: value} if z == 2 else {}, frames=1)
    with refusal(ImageError, "series'", f"without {what}", "'2_0'", "original series"):
        read_grid(folder)


def test_spacing_at_the_detector_or_between_slices_is_not_pixel_spacing(tmp_path: Path, refusal: Refusal) -> None:
    instead = {"0028|0030": None, "0018|1164": "2\\1.5", "0018|2010": "2\\1.5", "0018|0088": "8"}
    with refusal(ImageError, "without a pixel spacing"):
        read_grid(_series(tmp_path / "series", lambda z, t: instead, frames=1))


def test_axes_that_are_not_perpendicular(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {"0020|0037": "1\\0\\0\\0.6\\0.8\\0"}, frames=1)
    with refusal(ImageError, "without a valid orientation"):
        read_grid(folder)


@pytest.mark.parametrize("kind", ["4", "7", "2", "128", "1.1", "6.1"])
def test_the_place_is_what_the_file_says_whatever_its_class(tmp_path: Path, kind: str) -> None:
    """GDCM puts images of some classes at the origin, or takes their spacing from another tag."""
    tags = {"0008|0016": f"1.2.840.10008.5.1.4.1.1.{kind}", "0020|0037": "-1\\0\\0\\0\\1\\0"}
    grid = read_grid(_series(tmp_path / "series", lambda z, t: tags, frames=1, heights=(24, 16, 8, 0)))
    assert (grid.shape, grid.spacing, grid.origin) == ((4, 5, 6), (1.5, 2, 8), (3, 4, 24))
    np.testing.assert_array_equal(grid.direction, np.diag([-1, 1, -1]).ravel())


@pytest.mark.parametrize("number", ["2.1", "4.1", "128.1"])
def test_enhanced_images_are_called_by_name(tmp_path: Path, number: str, refusal: Refusal) -> None:
    """Their position is in a sequence, so one of a single frame seems to have none."""
    tags = {"0008|0016": f"1.2.840.10008.5.1.4.1.1.{number}", "0020|0032": None, "0020|0037": None, "0028|0030": None}
    with refusal(ImageError, "multi-frame", "dcm2niix"):
        read_grid(_series(tmp_path / "series", lambda z, t: tags, frames=1))


def test_every_slice_is_rescaled_for_itself(tmp_path: Path) -> None:
    folder = _series(
        tmp_path / "series", lambda z, t: {"0028|1052": str(-10 * z), "0028|1053": str(1 + 0.5 * z)}, frames=1
    )
    np.testing.assert_allclose(read_image(folder).array[:, 2, 2], [z * (1 + 0.5 * z) - 10 * z for z in range(SLICES)])


# -- a series for each slice ------------------------------------------------------------------------


def _series_per_slice(z: int, t: int) -> dict[str, object]:
    return {"0020|000e": f"1.2.3.4.{z}", "0020|0011": str(10 + z), "0018|1060": 50 * t, "0020|0013": t + 1}


def test_a_stack_of_series(tmp_path: Path) -> None:
    folder = _series(tmp_path / "study", _series_per_slice)
    np.testing.assert_array_equal(_frames(folder), _right())
    assert read_grid(f"{folder}#0").spacing == (1.5, 2, 8)
    still = _series(tmp_path / "still", _series_per_slice, frames=1)
    np.testing.assert_array_equal(_frames(still), _right(1))


@pytest.mark.parametrize(
    "change",
    [
        {"0020|0037": "0\\1\\0\\0\\0\\1"},
        {"0020|0037": "0\\1\\0\\-1\\0\\0"},
        {"0020|0052": "1.2.10"},
        {"0020|0052": None},
        {"0028|0030": "1.5\\1.5"},
        {"0028|0030": None},
        {"0020|0032": "3\\4\\8"},
        {"0008|0008": "ORIGINAL\\PRIMARY\\P"},
        {"0018|0081": "80"},
        {"0018|0020": "SE"},
    ],
)
def test_series_that_are_no_stack_are_listed(tmp_path: Path, change: dict[str, object], refusal: Refusal) -> None:
    folder = _series(
        tmp_path / "study", lambda z, t: {"0018|0081": "2"} | _series_per_slice(z, t) | (change if z == 2 else {})
    )
    with refusal(ImageError, "4 DICOM series", "'10' of 4 files", "folder with one", "all of one stack"):
        count_phases(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"0008|0008": f"ORIGINAL\\PRIMARY\\{'MP'[t % 2]}"}, ("magnitude (M)", "phase (P)")),
        (lambda t: {"0018|0081": (2, 4)[t % 2]}, ("echo time 2 ms", "echo time 4 ms")),
    ],
    ids=["components", "echoes"],
)
def test_kinds_in_a_stack_of_series(
    tmp_path: Path, change: Callable[[int], dict[str, object]], words: tuple[str, ...], refusal: Refusal
) -> None:
    folder = _series(tmp_path / "study", lambda z, t: _series_per_slice(z, t) | change(t))
    with refusal(ImageError, "study'", "2 kinds of image", *words):
        count_phases(folder)


def test_stack_of_series_with_too_little(tmp_path: Path, refusal: Refusal) -> None:
    one = _series(tmp_path / "one", _series_per_slice, heights=(0,))
    for read in (read_image, count_phases):
        with refusal(ImageError, "one#0'", "2D", "all series of a stack"):
            read(f"{one}#0")
    gap = _series(tmp_path / "gap", _series_per_slice, heights=(0, 8, 24))
    with refusal(GeometryError, "gap#0'", "unevenly spaced", "8 to 16 mm"):
        read_image(f"{gap}#0")
    fewer = _series(tmp_path / "fewer", _series_per_slice)
    (fewer / "1_3").unlink()
    with refusal(ImageError, "fewer'", "4 DICOM series", "'11' of 3 files", "number of time points"):
        count_phases(fewer)


def test_slices_out_of_line(tmp_path: Path, refusal: Refusal) -> None:
    shifted = _series(tmp_path / "shifted", lambda z, t: {"0020|0032": f"{3 * (z == 1)}\\4\\{8 * z}"}, frames=1)
    with refusal(GeometryError, "shifted'", "shifted sideways", "3 mm out of line", "straight grid"):
        read_image(shifted)


# -- contours name images by number -----------------------------------------------------------------


def test_images_by_number_are_those_of_the_time_point(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "cine", lambda z, t: {"0020|0013": 1 + FRAMES * z + t})
    for t in range(FRAMES):
        found = instance_positions(parse_source(f"{folder}#{t}", "image"))
        assert {number: position[2] for number, position in found.items()} == {1 + 4 * z + t: 8 * z for z in range(4)}
    assert len(instance_positions(parse_source(folder, "image"))) == SLICES * FRAMES
    same = _series(tmp_path / "same", lambda z, t: {"0020|0013": t})
    with refusal(ImageError, "same'", "share an instance number"):
        instance_positions(parse_source(same, "image"))


# -- compressions and names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.110", "1.2.3.4"]
)
def test_a_compression_that_cannot_be_read_is_named(tmp_path: Path, syntax: str, refusal: Refusal) -> None:
    for z, t in itertools.product(range(SLICES), range(1)):
        write_dicom(tmp_path / "series" / f"{z}_{t}", np.eye(5, dtype=np.int16), {}, position=(0, 0, z), syntax=syntax)
    with refusal(
        ImageError, "series'", "compressed in a way that cannot be read here", syntax, "'0_0'", "uncompressed"
    ):
        read_image(tmp_path / "series")


@pytest.mark.parametrize("kind", ["4", "7", "2", "6.1", "1.1"])
def test_an_outermost_slice_that_is_cut_is_not_passed_over(tmp_path: Path, kind: str, refusal: Refusal) -> None:
    folder = _series(tmp_path / "a", lambda z, t: {"0008|0016": f"1.2.840.10008.5.1.4.1.1.{kind}"}, frames=1)
    file = folder / "3_0"
    file.write_bytes(file.read_bytes()[:400])
    with refusal(ImageError, "a'", "damaged DICOM file ('3_0')"):
        read_image(folder)
    file.unlink()
    (folder / "3_0.DCM").touch()
    with refusal(ImageError, "a'", "damaged DICOM file ('3_0.DCM')"):
        read_image(folder)
    (folder / "3_0.DCM").rename(folder / "._3_0.dcm")  # of a Mac, beside each file
    assert read_grid(folder).shape[0] == 3


def test_a_damaged_file_is_called_as_in_its_archive(tmp_path: Path, refusal: Refusal) -> None:
    folder = _series(tmp_path / "series", lambda z, t: {}, frames=1)
    file = folder / "2_0"
    file.write_bytes(file.read_bytes()[:-10])
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"study/a\nb/{path.name}")
    with refusal(ImageError, "series.zip'", "damaged DICOM file ('study/a\\nb/2_0')"):
        read_image(tmp_path / "series.zip")


# -- real inputs that once came out wrong -----------------------------------------------------------


def _true_frames(spec: Path) -> NDArray[np.intp]:
    """(time points, slices): which of the four frames that the cases are made of stands in each slice."""
    z, y, x = np.meshgrid(np.arange(6), np.arange(28), np.arange(32), indexing="ij")
    distance = (x - 14) ** 2 + (y - 12) ** 2
    true = [(40 + 10 * z + 300 * np.exp(-distance / (2 * (4 + 1.5 * t) ** 2))).astype(np.int16) for t in range(4)]
    images = [read_image(f"{spec}#{t}").array for t in range(count_phases(spec))]
    far = np.array([[np.abs(image - frame).max(axis=(1, 2)) for frame in true] for image in images])
    assert (far.min(axis=1) < 1).all()
    found: NDArray[np.intp] = far.argmin(axis=1)
    return found


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "04_dicom_time_order/dyn_trigger.zip",
        "04_dicom_time_order/dyn_trigger2d.zip",
        "04_dicom_time_order/pet_frames.zip",
        "15_dicom_series_per_slice/series_per_slice.zip",
    ],
)
def test_cases_in_order_of_time(shared_cases: Path, name: str) -> None:
    frames = _true_frames(shared_cases / name)
    np.testing.assert_array_equal(frames, np.repeat(np.arange(4)[:, None], 6, axis=1))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("05_dicom_magnitude_and_phase/mag_phase.zip", ("magnitude (M_FFE\\M)", "phase (PHASE MAP\\P)")),
        ("06_dicom_without_pixel_spacing/no_pixel_spacing.zip", ("without a pixel spacing", "original series")),
        ("06_dicom_without_pixel_spacing/no_orientation.zip", ("without a valid orientation", "original series")),
        ("18_dicom_unknown_compression/htj2k.zip", ("cannot be read here (1.2.840.10008.1.2.4.201", "'htj2k/0.dcm'")),
    ],
)
def test_cases_that_are_refused(shared_cases: Path, name: str, words: tuple[str, ...], refusal: Refusal) -> None:
    with refusal(ImageError, name, *words):
        read_image(shared_cases / name)
