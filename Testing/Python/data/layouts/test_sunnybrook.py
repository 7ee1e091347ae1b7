"""Sunnybrook, converted and as it was published: DICOM with contours."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dlir.data.layouts.contours import fill, polygon_area, read_polygon, slice_of
from dlir.data.layouts.sunnybrook import ContouredScan, Sunnybrook
from dlir.errors import DLIRError, EvaluationError, ImageError
from dlir.io.dicom.series import instance_positions
from dlir.io.reading import read_grid, read_label
from dlir.io.source import parse_source

PHASES = 20


# -- polygons ----------------------------------------------------------------------------------------


def test_a_polygon_holds_the_pixels_whose_centres_lie_inside() -> None:
    square = np.array([[0.5, 1.5], [3.5, 1.5], [3.5, 3.5], [0.5, 3.5]])
    expected = np.zeros((6, 7), bool)
    expected[2:4, 1:4] = True
    np.testing.assert_array_equal(fill(square, (6, 7)), expected)
    np.testing.assert_array_equal(fill(square[::-1], (6, 7)), expected)
    assert polygon_area(square) == polygon_area(square[::-1]) == 6


def test_a_circle_is_as_large_as_it_should_be() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([20.3 + 12.1 * np.cos(angle), 25.2 + 12.1 * np.sin(angle)], 1)
    mask = fill(circle, (50, 45))
    y, x = np.mgrid[:50, :45]
    np.testing.assert_array_equal(mask, np.hypot(x - 20.3, y - 25.2) < 12.1)
    assert mask.sum() == pytest.approx(polygon_area(circle), rel=0.01)


@pytest.mark.parametrize("text", ["", "1 2\n3 4\n", "1 2 3\n4 5 6\n7 8 9\n", "a b\n", "1 2\n3\n5 6\n7 8\n"])
def test_what_is_no_contour_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.txt"
    path.write_text(text)
    with pytest.raises(ImageError, match="contour"):
        read_polygon(path)


# -- the format, written from real labels -------------------------------------------------------------


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The border of a mask without holes in one piece, along the edges of its pixels: a polygon of their corners."""
    edges: dict[tuple[float, float], list[tuple[float, float]]] = {}
    padded = np.pad(mask, 1)
    for y, x in np.argwhere(mask):
        for dy, dx, start, end in (
            (-1, 0, (-0.5, -0.5), (0.5, -0.5)),
            (0, 1, (0.5, -0.5), (0.5, 0.5)),
            (1, 0, (0.5, 0.5), (-0.5, 0.5)),
            (0, -1, (-0.5, 0.5), (-0.5, -0.5)),
        ):
            if not padded[y + 1 + dy, x + 1 + dx]:
                edges.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    first = next(iter(edges))
    path = [first]
    while edges.get(path[-1]):
        path.append(edges[path[-1]].pop())
    return np.array(path[:-1])


def write_contours(folder: Path, labels: dict[int, NDArray[np.uint8]], flipped: bool) -> None:
    """Contours of the cavity (1), and of all that is marked where there is a wall (2), one file per image."""
    folder.mkdir(parents=True)
    for phase, array in labels.items():
        for z, plane in enumerate(array):
            slice_number = len(array) - 1 - z if flipped else z
            number = slice_number * PHASES + phase + 1
            for kind, mask in (("i", plane == 1), ("o", plane > 0)):
                if mask.any() and (kind == "i" or (plane == 2).any()):
                    np.savetxt(folder / f"IM-0001-{number:04d}-{kind}contour-manual.txt", outline(mask), "%.2f")


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SC-HF-I-4 in the published layout, its contours drawn around the real labels."""
    folder = tmp_path_factory.mktemp("sunnybrook")
    source = shared_data / "sunnybrook"
    series = folder / "SCD_IMAGES_01" / "SCD0000401" / "CINESAX_300"
    series.mkdir(parents=True)
    with zipfile.ZipFile(source / "SC-HF-I-4_dicom.zip") as archive:
        archive.extractall(series)
    (folder / "scd_patientdata.csv").write_text("PatientID,OriginalID,Gender,Age\nSCD0000401,SC-HF-I-04,Male,50\n")
    labels = {
        phase: read_label(path, read_grid(path)).array
        for phase in (6, 19)
        if (path := source / "SC-HF-I-4" / f"label_phase{phase:02d}.nii.gz").exists()
    }
    contours = folder / "SCD_ManualContours" / "SC-HF-I-04" / "contours-manual" / "IRCCI-expert"
    write_contours(contours, labels, flipped=_is_flipped(series, source))
    return folder


def _is_flipped(series: Path, source: Path) -> bool:
    """Whether the scanner numbered the slices against the volume's own order."""
    grid = read_grid(source / "SC-HF-I-4" / "label_phase06.nii.gz")
    return slice_of(instance_positions(parse_source(series, "image"))[1], grid) != 0


@pytest.mark.slow
@pytest.mark.data
def test_contours_become_the_labels_they_were_drawn_around(published: Path, shared_data: Path) -> None:
    data = Sunnybrook(published)
    first, second = data.pairs()
    assert (first.name, second.name) == ("SC-HF-I-4 ES-to-ED", "SC-HF-I-4 ED-to-ES")
    converted = Sunnybrook(shared_data / "sunnybrook").pairs()
    reference = next(pair for pair in converted if pair.name == first.name)
    for scan, expected in ((first.fixed, reference.fixed), (first.moving, reference.moving)):
        assert isinstance(scan, ContouredScan)
        image, other = scan.read_image(), expected.read_image()
        assert image.grid.same_as(other.grid, tolerance=0.01)
        np.testing.assert_allclose(image.array, other.array)
        label, wanted = scan.read_label(image), expected.read_label(other)
        assert wanted is not None
        np.testing.assert_array_equal(label.array == 1, wanted.array == 1)
        np.testing.assert_array_equal(label.array, wanted.array)


@pytest.mark.slow
@pytest.mark.data
def test_a_zip_named_after_the_subject_will_do(published: Path, shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "SCD_ManualContours", tmp_path / "contours")
    (tmp_path / "SC-HF-I-4_dicom.zip").symlink_to(shared_data / "sunnybrook" / "SC-HF-I-4_dicom.zip")
    (first, _) = Sunnybrook(tmp_path).pairs()
    image = first.fixed.read_image()
    label = first.fixed.read_label(image)
    assert label is not None
    assert (label.array == 1).sum() > 500


@pytest.mark.data
def test_what_is_missing_is_a_problem_of_the_subject(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "SCD_ManualContours", tmp_path / "SCD_ManualContours")
    (pair, _) = Sunnybrook(tmp_path).pairs()
    with pytest.raises(EvaluationError, match="no DICOM images"):
        pair.fixed.read_image()


@pytest.mark.data
def test_a_contour_on_an_image_that_is_not_there_is_refused(published: Path, tmp_path: Path) -> None:
    (pair, _) = Sunnybrook(published).pairs()
    scan = pair.fixed
    assert isinstance(scan, ContouredScan)
    lost = ContouredScan(
        scan.subject, scan.part, scan.image, contours={(9999, "i"): next(iter(scan.contours.values()))}
    )
    with pytest.raises(DLIRError, match="image 9999"):
        lost.read_label(scan.read_image())


@pytest.mark.data
def test_the_converted_studies(shared_data: Path) -> None:
    pairs = Sunnybrook(shared_data / "sunnybrook").pairs()
    assert [pair.fixed.subject for pair in pairs[::2]] == ["SC-HF-I-1", "SC-HF-I-2", "SC-HF-I-4", "SC-HF-I-5"]
    pair = pairs[0]
    fixed, moving = pair.fixed.read_label(pair.fixed.read_image()), pair.moving.read_label(pair.moving.read_image())
    assert fixed is not None
    assert moving is not None
    assert (fixed.array == 1).sum() > (moving.array == 1).sum()
    assert 2 not in moving.array  # the wall was drawn at end-diastole only


def test_a_study_without_its_two_labels_is_a_problem_of_that_study(tmp_path: Path) -> None:
    (tmp_path / "SC-N-3").mkdir()
    (tmp_path / "SC-N-3" / "cine.nii.gz").write_bytes(b"never opened")
    (pair, _) = Sunnybrook(tmp_path).pairs()
    with pytest.raises(EvaluationError, match="holds 0 files label_phaseTT"):
        pair.fixed.read_image()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"neither cine.nii.gz nor manual contours"):
        Sunnybrook(tmp_path).pairs()
