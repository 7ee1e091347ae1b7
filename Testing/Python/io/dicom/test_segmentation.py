"""DICOM SEG objects, made by highdicom on a series, as label maps of that series."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_series import write_seg, write_series
from dlir.errors import ImageError
from dlir.io import read_image, read_label, read_mask
from dlir.io.formats.segments import Segment, read_segments
from grids import make_grid

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

GRID = make_grid((6, 9, 11), (2.0, 1.5, 4.0), (10, -30, 60), (0.2, -0.1, 0.4))


@pytest.fixture
def series(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 900, GRID.shape).astype(np.int16)
    return write_series(tmp_path / "series", values, GRID, "1.2.3.5")


def masks() -> list[NDArray[np.bool_]]:
    """Two that do not touch, which leave the outer slices empty, and one over both."""
    first, second = np.zeros((2, *GRID.shape), bool)
    first[1:4, 2:5, 3:7], second[2:5, 6:8, 1:4] = True, True
    return [first, second, first | second]


def labels(*chosen: NDArray[np.bool_]) -> NDArray[Any]:
    return sum((number * mask for number, mask in enumerate(chosen, 1)), np.zeros(GRID.shape, int))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segments_are_values_with_names(tmp_path: Path, series: Path, kind: str) -> None:
    first, second, _ = masks()
    path = write_seg(tmp_path / "seg.dcm", series, [("left  ventricle", first), ("wall", second)], kind)
    image = read_image(str(series))
    found = read_label(path, image)
    assert found.grid.same_as(image.grid)
    assert np.issubdtype(found.array.dtype, np.integer)
    np.testing.assert_array_equal(found.array, labels(first, second))
    assert found.segments == read_segments(path) == (Segment("left ventricle", 0, 1), Segment("wall", 0, 2))
    alone = read_label(path, None)
    assert np.count_nonzero(alone.array) == np.count_nonzero(found.array)
    where = np.argwhere(alone.array == 1)[0][::-1]
    index = np.rint(image.grid.to_index(alone.grid.to_physical(where))).astype(int)
    assert found.array[tuple(index[::-1])] == 1


def test_a_mask(tmp_path: Path, series: Path) -> None:
    first, _, _ = masks()
    path = write_seg(tmp_path / "seg.dcm", series, [("heart", first)])
    np.testing.assert_array_equal(read_mask(path, read_image(str(series))).array, first)


def test_segments_that_overlap_are_layers(tmp_path: Path, series: Path) -> None:
    first, second, both = masks()
    path = write_seg(tmp_path / "seg.dcm", series, [("a", first), ("b", second), ("both", both)])
    assert read_segments(path) == (Segment("a", 0, 1), Segment("b", 1, 2), Segment("both", 2, 3))
    image = read_image(str(series))
    for layer, mask in enumerate((first, second, both)):
        found = read_label(f"{path}#{layer}", image)
        np.testing.assert_array_equal(found.array, (layer + 1) * mask)
    with pytest.raises(ImageError, match=r"3 layers of overlapping segments; choose one .*#0: a; #1: b; #2: both"):
        read_label(path, image)


def test_another_file_under_the_same_name_is_read_anew(tmp_path: Path, series: Path) -> None:
    first, second, _ = masks()
    image = read_image(str(series))
    for mask in (first, second):
        path = write_seg(tmp_path / "seg.dcm", series, [("a", mask)])
        np.testing.assert_array_equal(read_label(path, image).array, mask)


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_label(path, None, "moving label")
    message = str(caught.value)
    assert message.startswith(f"moving label '{path}'")
    assert "\n" not in message
    return message


def test_fractions_are_refused(tmp_path: Path, series: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("a", masks()[0])], "FRACTIONAL")
    assert "holds fractions of voxels" in refusal(path)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_segmentation_that_is_cut(tmp_path: Path, series: Path, part: float) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("a", masks()[0])])
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "cannot be read as a segmentation" in refusal(path)


def test_contours_are_refused_by_name(tmp_path: Path, series: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("a", masks()[0])])
    structures = pydicom.dcmread(path)
    structures.SOPClassUID = structures.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    structures.save_as(tmp_path / "rs.dcm")
    assert "is an RTSTRUCT, whose contours DLIR does not fill; make a label map" in refusal(tmp_path / "rs.dcm")


def test_highdicom_is_missing(tmp_path: Path, series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_seg(tmp_path / "seg.dcm", series, [("a", masks()[0])])
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    assert "needs highdicom; install it with: pip install" in refusal(path)


@pytest.mark.data
def test_on_a_series_of_a_scanner(tmp_path: Path, shared_data: Path) -> None:
    """The Sunnybrook study: oblique, 200 files, of which a SEG is about one time point."""
    folder = shared_data / "sunnybrook"
    with zipfile.ZipFile(folder / "SC-HF-I-4_dicom.zip") as archive:
        archive.extractall(tmp_path / "all")
    known = next(iter(sorted((folder / "SC-HF-I-4").glob("label_phase*.nii.gz"))))
    phase = int(known.name.removeprefix("label_phase").split(".")[0])
    expected = read_label(known, read_image(f"{folder / 'SC-HF-I-4' / 'cine.nii.gz'}#{phase}"))
    (tmp_path / "phase").mkdir()
    for file in (path for path in (tmp_path / "all").rglob("*") if path.is_file()):
        if (pydicom.dcmread(file, stop_before_pixels=True).InstanceNumber - 1) % 20 == phase:
            (tmp_path / "phase" / file.name).write_bytes(file.read_bytes())
    image = read_image(str(tmp_path / "phase"))
    turned = read_label(known, image).array  # the order of its slices is that of DICOM
    with pydicom.config.disable_value_validation():  # of its identifiers, which break the standard's rules
        path = write_seg(tmp_path / "seg.dcm", tmp_path / "phase", [(f"structure {n}", turned == n) for n in (1, 2)])
    found = read_label(path, image)
    np.testing.assert_array_equal(found.array, turned)
    assert [np.count_nonzero(found.array == n) for n in (1, 2)] == [
        np.count_nonzero(expected.array == n) for n in (1, 2)
    ]
