"""Surfaces of each format: points in the frame that the file states, cells and their data as they were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlir.errors import ImageError, OutputError, notes_to
from dlir.io.formats.surfaces import SURFACE_SUFFIXES, Surface, read_surface, write_surface

core = pytest.importorskip("vtkmodules.vtkCommonCore", reason="VTK is not installed")
support: Any = pytest.importorskip("vtkmodules.util.numpy_support")

POINTS = np.array([[0, 0, 0], [30, 0, 5], [0, 20, 5], [30, 20, 0]], float) + np.array([100.0, -50.0, 7.0])
STEP = np.array([1.0, 2.0, 3.0])


def model(*, quad: bool = False) -> Any:
    """Two triangles or a quadrilateral, with scalars and normals of points, and a number of each cell."""
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData

    points, cells = core.vtkPoints(), vtkCellArray()
    for point in POINTS.tolist():
        points.InsertNextPoint(point)
    for cell in [[0, 1, 3, 2]] if quad else [[0, 1, 2], [1, 3, 2]]:
        cells.InsertNextCell(len(cell), cell)
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    for part, name, values in (
        (data.GetPointData(), "curvature", np.arange(4.0)),
        (data.GetCellData(), "organ", np.arange(1 if quad else 2, dtype=np.int32) + 5),
    ):
        array = support.numpy_to_vtk(values, deep=True)
        array.SetName(name)
        part.AddArray(array)
    normals = support.numpy_to_vtk(np.tile([1.0, 0.0, 0.0], (4, 1)), deep=True)
    normals.SetName("Normals")
    data.GetPointData().SetNormals(normals)
    return data


def cells_of(data: Any) -> list[list[int]]:
    """Of each cell its points; VTK hands out one and the same object for all cells."""
    found = []
    for number in range(data.GetNumberOfCells()):
        cell = data.GetCell(number)
        found.append([cell.GetPointId(i) for i in range(cell.GetNumberOfPoints())])
    return found


def write(path: Path, frame: Any = "LPS", **more: bool) -> Path:
    flip = np.array([-1, -1, 1]) if frame == "RAS" else 1
    write_surface(path, Surface(POINTS * flip, frame, model(**more)))
    return path


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize("suffix", SURFACE_SUFFIXES)
def test_points_move_in_lps_and_are_written_in_the_frame_of_the_file(tmp_path: Path, suffix: str, frame: str) -> None:
    flip = np.array([-1, -1, 1]) if frame == "RAS" else np.ones(3)
    notes: list[str] = []
    with notes_to(notes.append):
        surface = read_surface(write(tmp_path / f"in{suffix}", frame))
    assert (notes, surface.frame) == ([], frame)
    order = [int(np.abs(surface.points * flip - point).sum(1).argmin()) for point in POINTS]
    np.testing.assert_allclose((surface.points * flip)[order], POINTS, atol=1e-4)
    moved = surface.moved(surface.points + STEP)
    write_surface(tmp_path / f"out{suffix}", moved)
    again = read_surface(tmp_path / f"out{suffix}")
    assert again.frame == frame
    np.testing.assert_allclose(again.points, surface.points + STEP, atol=1e-4)
    assert cells_of(again.data) == cells_of(surface.data)
    assert [[order.index(k) for k in cell] for cell in cells_of(surface.data)] == [[0, 1, 2], [1, 3, 2]]
    np.testing.assert_allclose(support.vtk_to_numpy(surface.data.GetPoints().GetData())[order], POINTS, atol=1e-4)


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_data_of_points_and_cells_stay_and_normals_are_new(tmp_path: Path, suffix: str) -> None:
    surface = read_surface(write(tmp_path / f"in{suffix}", quad=True))
    write_surface(tmp_path / f"out{suffix}", surface.moved(surface.points * (1.0, 1.0, 0.0)))
    data = read_surface(tmp_path / f"out{suffix}").data
    assert cells_of(data) == [[0, 1, 3, 2]]
    assert support.vtk_to_numpy(data.GetCellData().GetArray("organ")).tolist() == [5]
    assert support.vtk_to_numpy(data.GetPointData().GetArray("curvature")).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(support.vtk_to_numpy(data.GetPointData().GetNormals()), np.tile([0, 0, 1], (4, 1)))
    assert surface.data.GetPointData().GetNormals().GetTuple3(0) == (1, 0, 0)


def test_a_file_that_states_no_frame_is_lps_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vtk")
    path.write_bytes(path.read_bytes().replace(b"SPACE=LPS", b"not said."))
    notes: list[str] = []
    with notes_to(notes.append):
        assert read_surface(path).points[0].tolist() == pytest.approx(POINTS[0])
    assert notes == [f"surface '{path}' does not state its frame; it is taken to be in LPS (--frame says otherwise)"]
    assert read_surface(path, "RAS").points[0].tolist() == pytest.approx(POINTS[0] * (-1, -1, 1))
    with pytest.raises(ImageError, match="states that it is in LPS, and --frame says RAS"):
        read_surface(write(tmp_path / "b.vtk"), "RAS")


def test_a_header_of_slicer_is_understood(tmp_path: Path) -> None:
    text = "# vtk DataFile Version 4.2\n3D Slicer output. SPACE=RAS\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n"
    (tmp_path / "model.vtk").write_text(f"{text}1 2 3 4 5 6 7 8 10\nPOLYGONS 1 4\n3 0 1 2\n")
    found = read_surface(tmp_path / "model.vtk")
    assert (found.frame, found.points.tolist()) == ("RAS", [[-1, -2, 3], [-4, -5, 6], [-7, -8, 10]])


@pytest.mark.parametrize("suffix", SURFACE_SUFFIXES)
@pytest.mark.parametrize("content", ["cut", b"", b"hello"], ids=["cut", "empty", "hello"])
def test_what_is_damaged_is_refused_in_one_line(
    tmp_path: Path, suffix: str, content: str | bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / f"a{suffix}")
    whole = path.read_bytes()
    if suffix == ".obj" and content == "cut":
        pytest.skip("a text of lines that ends early is another text of lines")
    path.write_bytes(whole[: len(whole) // 2 + 20] if isinstance(content, str) else content)
    with pytest.raises(ImageError, match=r"is damaged, or holds no points|holds no surface"):
        read_surface(path)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_surface(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"unknown type; give one of .vtk, .vtp"):
        read_surface(tmp_path / "a.vtu")
    with pytest.raises(ImageError, match="does not exist"):
        read_surface(tmp_path / "a.vtk")
    with pytest.raises(OutputError, match=r"must end in .vtk, .vtp"):
        write_surface(tmp_path / "a.g", read_surface(write(tmp_path / "a.vtk")))
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_surface(tmp_path / "none" / "a.stl", read_surface(tmp_path / "a.vtk"))


def test_without_vtk_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.vtk")
    monkeypatch.setitem(sys.modules, "vtkmodules.vtkIOLegacy", None)
    with pytest.raises(ImageError, match=r"surfaces need VTK, which is not installed: pip install .*\[surfaces\]"):
        read_surface(path)
