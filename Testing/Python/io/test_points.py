"""Landmark files of every format, read, written and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlir.errors import GeometryError, ImageError, OutputError
from dlir.geometry import ImageGrid
from dlir.io.points import Landmarks, mismatch, read_landmarks, write_landmarks

POINTS = np.array([[1.5, -2.0, 3.25], [-10.0, 20.0, 1e-7]])
NAMES = ("apex, inner", 'the "base"')


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _markups(**changes: object) -> str:
    controls = [{"id": "1", "label": "apex", "position": [1.5, -2.0, 3.25]}]
    node = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": controls}
    return json.dumps({"markups": [node | changes]})


# -- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.mrk.json", "a.fcsv"])
@pytest.mark.parametrize("labels", [NAMES, ()])
def test_written_landmarks_come_back_with_their_labels(tmp_path: Path, name: str, labels: tuple[str, ...]) -> None:
    write_landmarks(tmp_path / name, Landmarks(POINTS, labels))
    read = read_landmarks(tmp_path / name)
    np.testing.assert_array_equal(read.points, POINTS)
    assert read.labels == labels


@pytest.mark.parametrize("name", ["a.txt", "a.pts"])
def test_elastix_files_have_no_labels(tmp_path: Path, name: str) -> None:
    write_landmarks(tmp_path / name, Landmarks(POINTS, NAMES))
    assert (tmp_path / name).read_text().splitlines()[:3] == ["point", "2", "1.5 -2.0 3.25"]
    read = read_landmarks(tmp_path / name)
    np.testing.assert_array_equal(read.points, POINTS)
    assert read.labels == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=5), st.sampled_from(["csv", "txt", "json"])
)
def test_every_coordinate_survives_exactly(
    tmp_path: Path, points: list[tuple[float, float, float]], suffix: str
) -> None:
    array = np.array(points)
    write_landmarks(tmp_path / f"a.{suffix}", Landmarks(array))
    np.testing.assert_array_equal(read_landmarks(tmp_path / f"a.{suffix}").points, array)


@pytest.mark.parametrize(
    "text",
    [
        "1.5,-2,3.25\n-10,20,1e-7\n",
        "x,y,z\n1.5,-2,3.25\n-10,20,1e-7",
        "# from the workstation\nlabel, Z, X, Y\na,3.25,1.5,-2\n\nb,1e-7,-10,20\n",
        "\ufeffX,Y,Z\r\n1.5,-2,3.25\r\n-10,20,1e-7\r\n",
    ],
)
def test_csv_with_and_without_header(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(read_landmarks(_write(tmp_path / "a.csv", text)).points, POINTS)


@pytest.mark.parametrize(
    "text",
    [
        "x;y;z;label\n1,5;-2;3,25;a, b\n-10;20;1e-7;Höhe\n",
        "x\ty\tz\tlabel\r\n1.5\t-2\t3,25\ta, b\r\n-10\t20\t1e-7\tHöhe\r\n",
        'label,x,y,z\n"a, b",1.5,-2,3.25\nHöhe,-10,20,1e-7\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_what_spreadsheets_save(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    read = read_landmarks(tmp_path / "a.csv")
    np.testing.assert_array_equal(read.points, POINTS)
    assert read.labels == ("a, b", "Höhe")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_formats_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    texts = {"a.fcsv": "F1,-1.5,2,3.25,0,0,0,1,1,1,0,Höhe,,\n", "a.txt": "point\r\n1\r\n1.5 -2 3.25\r\n"}
    for name, text in (texts | {"a.mrk.json": _markups().replace("apex", "Höhe")}).items():
        (tmp_path / name).write_bytes(text.encode(encoding))
        read = read_landmarks(tmp_path / name)
        np.testing.assert_array_equal(read.points, POINTS[:1])
        assert read.labels in (("Höhe",), ())


@pytest.mark.data
def test_cases(shared_cases: Path) -> None:
    folder = shared_cases / "21_small_misleading_messages"
    latin, wide = read_landmarks(folder / "latin1_labels.csv"), read_landmarks(folder / "utf16.csv")
    np.testing.assert_array_equal(latin.points, [[10, 20, 12]])
    np.testing.assert_array_equal(wide.points, [[10, 20, 12]])
    assert latin.labels == ("Höhe",)


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("RAS", -1)])
def test_slicer_files_in_both_frames(tmp_path: Path, system: str, sign: int) -> None:
    expected = [[sign * 1.5, sign * -2.0, 3.25]]
    read = read_landmarks(_write(tmp_path / "a.mrk.json", _markups(coordinateSystem=system)))
    np.testing.assert_array_equal(read.points, expected)
    assert read.labels == ("apex",)
    number = {"LPS": 1, "RAS": 0}[system]
    for stated in (system, number):
        text = f"# Markups fiducial file version = 4.10\n# CoordinateSystem = {stated}\n# columns = id,x,y,z,label\n"
        read = read_landmarks(_write(tmp_path / "a.fcsv", text + "F1,1.5,-2,3.25,apex\n"))
        np.testing.assert_array_equal(read.points, expected)
        assert read.labels == ("apex",)


def test_old_fcsv_without_a_header_is_ras(tmp_path: Path) -> None:
    read = read_landmarks(_write(tmp_path / "a.fcsv", "F1,1.5,-2,3.25,0,0,0,1,1,1,0,apex,,\n"))
    np.testing.assert_array_equal(read.points, [[-1.5, 2.0, 3.25]])
    assert read.labels == ("apex",)


# -- voxel indices --------------------------------------------------------------------------------


def test_indices_become_points_of_their_image(tmp_path: Path, grid: ImageGrid) -> None:
    index = [[0, 0, 0], [6, 5, 4], [2.5, 1, 3]]
    rows = "\n".join(" ".join(map(str, row)) for row in index)
    expected = grid.to_physical(index)
    read = read_landmarks(_write(tmp_path / "a.txt", f"index\n3\n{rows}\n"), grid)
    np.testing.assert_allclose(read.points, expected)
    read = read_landmarks(_write(tmp_path / "a.txt", f"3\n{rows}\n"), grid, indices=True)
    np.testing.assert_allclose(read.points, expected)
    read = read_landmarks(_write(tmp_path / "a.csv", rows.replace(" ", ",")), grid, indices=True)
    np.testing.assert_allclose(read.points, expected)


def test_indices_that_need_another_image(tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]) -> None:
    path = _write(tmp_path / "a.txt", "index\n2\n0 0 0\n7 0 0\n")
    with refusal(GeometryError, "fixed landmarks", "a.txt", "need an image"):
        read_landmarks(path, role="fixed landmarks")
    with refusal(GeometryError, "a.txt", "point 2", "outside the image of 7×6×5 voxels"):
        read_landmarks(path, grid)


@pytest.mark.data
@pytest.mark.parametrize("indices", [False, True])
def test_lung_landmarks(shared_data: Path, indices: bool) -> None:
    for name in ("baseline", "followup"):
        image = sitk.ReadImage(str(shared_data / "lung_ct" / f"{name}.mha"))
        read = read_landmarks(
            shared_data / "lung_ct" / f"{name}_landmarks.txt", ImageGrid.from_sitk(image), indices=indices
        )
        first = {"baseline": (94, 92, 114), "followup": (96, 96, 117)}[name]
        assert read.points.shape == (10, 3)
        np.testing.assert_allclose(read.points[0], image.TransformIndexToPhysicalPoint(first))


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", ["holds no points"]),
        ("a.csv", "x,y,z\n", ["holds no points"]),
        ("a.csv", "1,2\n", ["point 1", "not three numbers (1, 2)", "correct"]),
        ("a.csv", "1,2,3\n1,b,3\n", ["point 2", "(1, b, 3)"]),
        ("a.csv", "1,2,3\n1,2,nan\n", ["point 2", "not finite"]),
        ("a.csv", "r,a,s\n1,2,3\n", ["columns x, y and z are missing", "(r, a, s)", "LPS"]),
        ("a.csv", "x,y,z\n1,2,3\n1,2\n", ["point 2", "2 columns instead of 3"]),
        ("a.csv", "1;2;3\n", ["columns x, y and z"]),
        ("a.csv", "1,5;2,5;3,5\n", ["point 1", "(1, 5;2, 5;3, 5)"]),
        ("a.csv", "x,y,z\n1,5,2,5,3,5\n", ["point 1", "6 columns instead of 3"]),
        ("a.csv", "x\0y\0z", ["is not a text file"]),
        ("a.txt", "", ["number of points"]),
        ("a.txt", "1 2 3\n", ["number of points"]),
        ("a.txt", "point\n3\n1 2 3\n", ["announces 3 points and holds 1"]),
        ("a.txt", "1\n1 2 3\n", ["does not say", "'point' (mm) or 'index'"]),
        ("a.mrk.json", "{", ["not a Slicer markups file"]),
        ("a.mrk.json", "[]", ["not a Slicer markups file"]),
        ("a.mrk.json", '{"markups": [{}]}', ["not a Slicer markups file"]),
        ("a.mrk.json", '{"markups": [{}, {}]}', ["2 markups", "one markups node"]),
        ("a.mrk.json", _markups(controlPoints=[]), ["holds no points"]),
        ("a.mrk.json", _markups(coordinateSystem="IJK"), ["IJK", "LPS or RAS"]),
        ("a.mrk.json", _markups(coordinateUnits="um"), ["um", "mm"]),
        ("a.mrk.json", _markups(controlPoints=[{"label": "apex"}]), ["'apex' has no position", "place it"]),
        (
            "a.json",
            _markups(controlPoints=[{"label": "b", "position": [0, 0, 0], "positionStatus": "undefined"}]),
            ["'b' has no position"],
        ),
        ("a.fcsv", "# CoordinateSystem = 2\n1,2,3,4\n", ["coordinate system '2'", "LPS or RAS"]),
        ("a.fcsv", "# CoordinateSystem = LPS\n1,2,3\n", ["point 1", "not three numbers"]),
        ("a.vtk", "1 2 3", ["unknown type", ".csv"]),
    ],
)
def test_files_that_hold_something_else(
    tmp_path: Path, refusal: Callable[..., object], name: str, text: str, words: list[str]
) -> None:
    with refusal(ImageError, "moving landmarks", name, *words):
        read_landmarks(_write(tmp_path / name, text), role="moving landmarks")


def test_files_that_cannot_be_opened(tmp_path: Path, refusal: Callable[..., object]) -> None:
    with refusal(ImageError, "landmarks 'nowhere.csv'", "No such file", "check the path"):
        read_landmarks("nowhere.csv")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with refusal(ImageError, "a.csv", "not a text file"):
        read_landmarks(tmp_path / "a.csv")
    long = _write(tmp_path / "b.csv", "1" * 200_000 + ",2,3\n")
    with refusal(ImageError, "b.csv", "correct the file"):
        read_landmarks(long)


def test_points_in_mm_are_not_taken_for_indices(
    tmp_path: Path, grid: ImageGrid, refusal: Callable[..., object]
) -> None:
    for name, text in (("a.txt", "point\n1\n1 2 3\n"), ("a.mrk.json", _markups())):
        with refusal(ImageError, name, "in mm, not voxel indices"):
            read_landmarks(_write(tmp_path / name, text), grid, indices=True)


def test_unknown_type_is_not_written(tmp_path: Path, refusal: Callable[..., object]) -> None:
    with refusal(OutputError, "a.vtk", ".csv", "rename"):
        write_landmarks(tmp_path / "a.vtk", Landmarks(POINTS))
    assert not list(tmp_path.iterdir())


def test_landmarks_that_do_not_correspond() -> None:
    """Where both sides name the same points, their names must agree; else the order counts."""
    named = Landmarks(POINTS, ("a", "b"))
    for other in (named, Landmarks(POINTS), Landmarks(POINTS, ("F-1", "F-2"))):
        assert mismatch(named, other) is None
    swapped = mismatch(named, Landmarks(POINTS, ("b", "a")))
    assert swapped == "landmarks are in another order: point 1 is 'a' (fixed) and 'b' (moving); order them alike"
    assert mismatch(named, Landmarks(POINTS[:1])) == "2 fixed and 1 moving landmarks do not correspond; correct them"


def test_landmarks_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        Landmarks(POINTS[:, :2])
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        Landmarks(POINTS, ("one",))
