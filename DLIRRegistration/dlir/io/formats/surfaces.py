"""Surface models as Slicer and others save them: VTK (legacy and XML), STL, OBJ and PLY. In memory always LPS, mm.

VTK reads and writes them. It is no part of DLIR's own packages but of the extra `surfaces`; Slicer brings it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ImageError, OutputError, how_to_install, note
from dlir.io.formats.ply import is_whole_ply
from dlir.io.frames import RAS_TO_LPS
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.writing import replacing, writable

SURFACE_SUFFIXES = (".vtk", ".vtp", ".stl", ".obj", ".ply")

SurfaceFrame = Literal["LPS", "RAS"]

# By what a name ends in: VTK's module, reader and writer.
_CLASSES = {
    ".vtk": ("vtkIOLegacy", "vtkPolyDataReader", "vtkPolyDataWriter"),
    ".vtp": ("vtkIOXML", "vtkXMLPolyDataReader", "vtkXMLPolyDataWriter"),
    ".stl": ("vtkIOGeometry", "vtkSTLReader", "vtkSTLWriter"),
    ".obj": ("vtkIOGeometry", "vtkOBJReader", "vtkOBJWriter"),
    ".ply": ("vtkIOPLY", "vtkPLYReader", "vtkPLYWriter"),
}
# How Slicer states the frame: in a comment of the header, or in an array of this name.
_STATED, _ARRAY = re.compile(r"SPACE=(LPS|RAS)"), "SPACE"
# Of legacy files that programs older than VTK 9 read, too.
_LEGACY_VERSION = 42
_LEGACY_KINDS = ("Scalars", "Vectors", "Normals", "Tensors", "ColorScalars", "TCoords", "Fields")


@dataclass(frozen=True, eq=False)
class Surface:
    """points: (N, 3) LPS mm. frame: that of its file. data: a vtkPolyData of VTK in that frame, with cells and all
    that is known of them and of points.
    """

    points: NDArray[np.float64]
    frame: SurfaceFrame
    data: Any

    def moved(self, points: NDArray[np.float64]) -> Surface:
        """The same surface with its points at other places, (N, 3) LPS mm.

        Normals are computed anew; other data of points and cells, and the cells, stay as they are.
        """
        vtk, support = _module("vtkCommonCore"), _module("util.numpy_support")
        data = self.data.NewInstance()
        data.DeepCopy(self.data)
        own = np.ascontiguousarray(points * RAS_TO_LPS if self.frame == "RAS" else points)
        placed = vtk.vtkPoints()
        placed.SetDataType(data.GetPoints().GetDataType())
        placed.SetNumberOfPoints(len(own))
        support.vtk_to_numpy(placed.GetData())[:] = own
        data.SetPoints(placed)
        _renew_normals(data)
        return Surface(points, self.frame, data)


def read_surface(path: str | os.PathLike[str], frame: SurfaceFrame | None = None, role: str = "surface") -> Surface:
    """The surface of a file, see SURFACE_SUFFIXES.

    frame: of a file that does not state its own; None takes LPS, and a note says so. role: how messages call it.
    Raises ImageError for a file that is missing, damaged or of another kind, that states another frame, and where VTK
    is not installed.
    """
    file, name = Path(path), f"{role} '{path}'"
    suffix = _suffix(file)
    if suffix is None:
        raise ImageError(f"{name} has an unknown type; give one of {', '.join(SURFACE_SUFFIXES)}")
    if not file.is_file():
        raise ImageError(f"{name} does not exist; check the path")
    require_utf8(file, name, ImageError)
    if suffix == ".ply" and not is_whole_ply(file):
        raise ImageError(f"{name} is damaged, or holds no points; copy or export it again")
    module, kind, _ = _CLASSES[suffix]
    reader = getattr(_module(module), kind)()
    reader.SetFileName(str(file))
    if suffix == ".vtk":
        for what in _LEGACY_KINDS:
            getattr(reader, f"ReadAll{what}On")()
    told: list[str] = []
    _listen(reader, told, ["ErrorEvent", "WarningEvent"])  # of a file that is cut VTK only warns
    with quiet:
        known = suffix != ".vtk" or reader.IsFilePolyData()
        if known:
            reader.Update()
    if not known:
        raise ImageError(f"{name} holds no surface (DATASET POLYDATA); save it as one")
    data = reader.GetOutput()
    if told or data is None or not data.GetNumberOfPoints():
        raise ImageError(f"{name} is damaged, or holds no points; copy or export it again")
    own = _frame(name, _stated(suffix, reader, data), frame)
    found = np.array(_module("util.numpy_support").vtk_to_numpy(data.GetPoints().GetData()), float)
    if not np.isfinite(found).all():
        raise ImageError(f"{name} has points that are not finite; export it again")
    return Surface(found * RAS_TO_LPS if own == "RAS" else found, own, data)


def write_surface(path: Path, surface: Surface) -> None:
    """Writes a surface in its own frame, which the file states as Slicer does. Formats keep what they can: VTK's all,
    STL triangles alone.

    Raises OutputError for a name that does not end in one of SURFACE_SUFFIXES, and where it cannot be written.
    """
    suffix = _suffix(path)
    if suffix is None:
        raise OutputError(f"cannot write '{path}': a surface's name must end in {', '.join(SURFACE_SUFFIXES)}")
    module, _, kind = _CLASSES[suffix]
    writer = getattr(_module(module), kind)()
    mark, told = f"DLIR output. SPACE={surface.frame}", list[str]()
    data = _triangles(surface.data) if suffix in (".stl", ".ply") else surface.data
    if suffix == ".vtp":
        data = _with_frame(data, surface.frame)
    elif suffix == ".ply":
        writer.AddComment(mark)
        _keep_colours(writer, data)
    elif suffix != ".obj":
        writer.SetHeader(mark)
        writer.SetFileTypeToBinary()
        if suffix == ".vtk":
            writer.SetFileVersion(_LEGACY_VERSION)
    writer.SetInputData(data)
    _listen(writer, told, ["ErrorEvent"])
    with replacing(path) as temporary:
        writer.SetFileName(writable(temporary))
        with quiet:
            written = writer.Write()
        if told or not written or not temporary.is_file():
            raise OSError(f"VTK could not write it{': ' + told[0] if told else ''}")
        if suffix == ".obj":  # whose writer knows no comment
            temporary.write_bytes(f"# {mark}\n".encode() + temporary.read_bytes())


# -- frames -------------------------------------------------------------------------------------------


def _frame(name: str, stated: str | None, told: SurfaceFrame | None) -> SurfaceFrame:
    if stated is None:
        if told is None:
            note(f"{name} does not state its frame; it is taken to be in LPS (--frame says otherwise)")
        return told or "LPS"
    if told is not None and told != stated:
        raise ImageError(f"{name} states that it is in {stated}, and --frame says {told}; leave --frame out")
    return "RAS" if stated == "RAS" else "LPS"


def _stated(suffix: str, reader: Any, data: Any) -> str | None:
    if suffix == ".vtp":
        array = data.GetFieldData().GetAbstractArray(_ARRAY)
        told = f"SPACE={array.GetValue(0)}" if array is not None and array.GetNumberOfValues() else ""
    elif suffix == ".ply":
        comments = reader.GetComments()
        told = "\n".join(comments.GetValue(i) for i in range(comments.GetNumberOfValues()))
    else:
        told = (reader.GetComment() if suffix == ".obj" else reader.GetHeader()) or ""
    found = _STATED.search(told)
    return found and found[1]


def _with_frame(data: Any, frame: SurfaceFrame) -> Any:
    told = _module("vtkCommonCore").vtkStringArray()
    told.SetName(_ARRAY)
    told.InsertNextValue(frame)
    marked = data.NewInstance()
    marked.ShallowCopy(data)
    marked.GetFieldData().RemoveArray(_ARRAY)
    marked.GetFieldData().AddArray(told)
    return marked


# -- VTK ----------------------------------------------------------------------------------------------


def _suffix(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return suffix if suffix in SURFACE_SUFFIXES else None


def _module(name: str) -> Any:
    """A module of VTK. Raises ImageError where VTK is not installed."""
    try:
        return import_module(f"vtkmodules.{name}")
    except ModuleNotFoundError:
        raise ImageError(f"surfaces need VTK, which is not installed: {how_to_install('surfaces')}") from None


def _listen(algorithm: Any, told: list[str], events: Sequence[str]) -> None:
    """Has what VTK finds wrong in `told` instead of on the terminal."""

    def hear(_caller: Any, _event: str, text: str) -> None:
        told.append(" ".join(text.split()))

    hear.CallDataType = "string0"  # type: ignore[attr-defined]  # how VTK knows that the text is asked for
    for observed in (algorithm, algorithm.GetExecutive()):
        for event in events:
            observed.AddObserver(event, hear)


def _renew_normals(data: Any) -> None:
    """Those of points and cells, where there are some; cells keep their order and orientation."""
    points, cells = (part.GetNormals() for part in (data.GetPointData(), data.GetCellData()))
    if points is None and cells is None:
        return
    normals: Any = _module("vtkFiltersCore").vtkPolyDataNormals()
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.SetComputePointNormals(points is not None)
    normals.SetComputeCellNormals(cells is not None)
    normals.SetInputData(data)
    normals.Update()
    found = normals.GetOutput()
    for former, own, new in (
        (points, data.GetPointData(), found.GetPointData()),
        (cells, data.GetCellData(), found.GetCellData()),
    ):
        if former is None:
            continue
        name, count, renewed = former.GetName(), former.GetNumberOfTuples(), new.GetNormals()
        own.RemoveArray(name)
        if renewed is not None and renewed.GetNumberOfTuples() == count:  # not of lines and strips
            renewed.SetName(name)
            own.SetNormals(renewed)


def _triangles(data: Any) -> Any:
    filtered = _module("vtkFiltersCore").vtkTriangleFilter()
    filtered.SetInputData(data)
    filtered.Update()
    return filtered.GetOutput()


def _keep_colours(writer: Any, data: Any) -> None:
    """Of points, in bytes: what PLY keeps beside the geometry."""
    arrays = data.GetPointData()
    for number in range(arrays.GetNumberOfArrays()):
        array = arrays.GetArray(number)
        if array is not None and array.IsA("vtkUnsignedCharArray") and array.GetNumberOfComponents() in (3, 4):
            writer.SetArrayName(array.GetName())
            writer.SetEnableAlpha(array.GetNumberOfComponents() == 4)
            return
