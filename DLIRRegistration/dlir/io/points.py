"""Landmarks in the formats of the field: CSV, elastix point files, Slicer markups. In memory always LPS, mm."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, OutputError
from dlir.geometry import ImageGrid
from dlir.io.frames import RAS_TO_LPS
from dlir.io.text import decode
from dlir.io.writing import write_text

POINT_SUFFIXES = (".csv", ".txt", ".pts", ".json", ".fcsv")

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/"
    "Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
)
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Corresponding points. points: (N, 3) LPS mm, (x, y, z). labels: N names, or none."""

    points: NDArray[np.float64]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3 or len(self.labels) not in (0, len(self.points)):
            raise ValueError(f"points of shape {self.points.shape} with {len(self.labels)} labels are not (N, 3)")


def mismatch(fixed: Landmarks, moving: Landmarks) -> str | None:
    """Why landmarks do not correspond one by one, for messages; None where nothing speaks against it."""
    if len(fixed.points) != len(moving.points):
        return f"{len(fixed.points)} fixed and {len(moving.points)} moving landmarks do not correspond; correct them"
    if sorted(fixed.labels) == sorted(moving.labels) and fixed.labels != moving.labels:
        pairs = enumerate(zip(fixed.labels, moving.labels, strict=True), 1)
        at, one, other = next((i, _short([a]), _short([b])) for i, (a, b) in pairs if a != b)
        return f"landmarks are in another order: point {at} is '{one}' (fixed) and '{other}' (moving); order them alike"
    return None


class _Parsed(NamedTuple):
    """Rows as they stand in a file; `frame` is "unstated" where the file does not say what they are."""

    rows: Sequence[Sequence[object]]
    labels: tuple[str, ...]
    frame: Literal["LPS", "RAS", "index", "unstated"]


class _FormatError(Exception):
    """What is wrong with the file's content and what to do; `read_landmarks` puts the file's name before it."""


def read_landmarks(
    path: str | os.PathLike[str], grid: ImageGrid | None = None, *, indices: bool = False, role: str = "landmarks"
) -> Landmarks:
    """Landmarks of a file, in LPS mm.

    path: .csv (x, y, z in LPS mm, with or without a header that may name a label column; with one, semicolons or tabs
    may separate and commas stand for points), .txt or .pts (elastix: 'point' or 'index', count, rows), .mrk.json or
    .fcsv (Slicer); in any encoding that `decode` knows. grid: the image on which voxel indices count.
    indices: the rows are voxel indices (x, y, z) although the file does not say so. role: how messages call it.
    Raises ImageError for a file that cannot be read or does not hold what it should; GeometryError for indices
    without a grid or outside of it.
    """
    file = Path(path)
    name = f"{role} '{file}'"
    parse = next((parse for suffix, parse in _PARSERS.items() if file.name.lower().endswith(suffix)), None)
    if parse is None:
        raise ImageError(f"{name} has an unknown type; give one of {', '.join(POINT_SUFFIXES)}")
    try:
        parsed = parse(decode(file.read_bytes()))
        points = _numbers(parsed)
        frame = _frame(parsed, file, indices)
    except OSError as error:
        raise ImageError(f"{name} cannot be opened ({error.strerror}); check the path") from error
    except csv.Error as error:
        raise ImageError(f"{name} is not a table of comma-separated values ({error}); correct the file") from error
    except _FormatError as error:
        raise ImageError(f"{name}: {error}") from error
    except ValueError as error:
        raise ImageError(f"{name} is not a text file; export the landmarks again") from error
    if frame == "index":
        points = _from_indices(name, points, grid)
    elif frame == "RAS":
        points = points * RAS_TO_LPS
    return Landmarks(points, parsed.labels)


def write_landmarks(path: Path, landmarks: Landmarks) -> None:
    """Writes landmarks in LPS mm, in the format of the suffix (see `read_landmarks`); elastix files keep no labels.

    Raises OutputError for an unknown suffix and where the file cannot be written.
    """
    name = path.name.lower()
    if name.endswith(".csv"):
        text = _format_csv(landmarks)
    elif name.endswith(".fcsv"):
        text = _format_fcsv(landmarks)
    elif name.endswith(".json"):
        text = _format_markups(landmarks)
    elif name.endswith((".txt", ".pts")):
        rows = [" ".join(map(repr, row)) for row in landmarks.points.tolist()]
        text = "\n".join(["point", str(len(rows)), *rows]) + "\n"
    else:
        raise OutputError(f"cannot write '{path}': landmarks are written as {', '.join(POINT_SUFFIXES)}; rename it")
    write_text(path, text)


# -- from rows to points ------------------------------------------------------------------------------


def _numbers(parsed: _Parsed) -> NDArray[np.float64]:
    """(N, 3) finite numbers, in the file's frame."""
    if not parsed.rows:
        raise _FormatError("holds no points; export the landmarks again")
    points = np.empty((len(parsed.rows), 3))
    for i, row in enumerate(parsed.rows):
        try:
            points[i] = [float(value) for value in row]  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise _FormatError(f"point {i + 1} is not three numbers ({_short(row)}); correct the file") from error
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise _FormatError(f"point {bad + 1} is not finite ({_short(parsed.rows[bad])}); correct the file")
    return points


def _frame(parsed: _Parsed, file: Path, indices: bool) -> Literal["LPS", "RAS", "index"]:
    if indices and parsed.frame in ("LPS", "RAS"):
        raise _FormatError("holds points in mm, not voxel indices; read it without asking for indices")
    if indices:
        return "index"
    if parsed.frame == "unstated":
        # CSV means mm by DLIR's convention; an elastix file without its first word may be either.
        if file.suffix.lower() != ".csv":
            raise _FormatError("does not say what its rows are; put 'point' (mm) or 'index' (voxels) in the first line")
        return "LPS"
    return parsed.frame


def _from_indices(name: str, indices: NDArray[np.float64], grid: ImageGrid | None) -> NDArray[np.float64]:
    if grid is None:
        raise GeometryError(f"{name} holds voxel indices, which need an image; give the image they were placed on")
    points = grid.to_physical(indices)
    outside = np.flatnonzero(~grid.contains(points))
    if outside.size:
        first = int(outside[0])
        raise GeometryError(
            f"{name}: point {first + 1} at index {_short(indices[first].tolist())} lies outside the image of "
            f"{'×'.join(map(str, grid.size))} voxels; give the image they were placed on"
        )
    return points


def _short(row: Sequence[object]) -> str:
    text = ", ".join(str(value) for value in row)
    return " ".join(text[:60].split())


# -- parsing ------------------------------------------------------------------------------------------


def _parse_csv(text: str) -> _Parsed:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    separator = next((mark for mark in ";\t" if lines and _is_header(lines[0].split(mark))), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    if not rows or _is_number(rows[0][0]):
        return _Parsed(rows, (), "unstated")
    header = [cell.lower() for cell in rows[0]]
    if not _is_header(header):
        raise _FormatError(f"columns x, y and z are missing in the header ({_short(rows[0])}); name them, in LPS mm")
    columns = [header.index(axis) for axis in "xyz"]
    short = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if short is not None:
        raise _FormatError(f"point {short} has {len(rows[short])} columns instead of {len(header)}; correct the file")
    labels = tuple(row[header.index("label")] for row in rows[1:]) if "label" in header else ()
    decimals = str.maketrans(",", ".") if separator != "," else {}
    return _Parsed([[row[i].translate(decimals) for i in columns] for row in rows[1:]], labels, "unstated")


def _is_header(cells: Sequence[str]) -> bool:
    return {"x", "y", "z"} <= {cell.strip(' "').lower() for cell in cells}


def _parse_elastix(text: str) -> _Parsed:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    word = " ".join(lines[0]).lower() if lines else ""
    frame: Literal["LPS", "index", "unstated"] = "unstated"
    if word in ("point", "index"):
        frame = "LPS" if word == "point" else "index"
        lines = lines[1:]
    if not lines or len(lines[0]) != 1 or not lines[0][0].isdecimal():
        raise _FormatError("does not begin with 'point' or 'index' and the number of points; correct the file")
    count, rows = int(lines[0][0]), lines[1:]
    if count != len(rows):
        raise _FormatError(f"announces {count} points and holds {len(rows)}; correct the file")
    return _Parsed(rows, (), frame)


def _parse_markups(text: str) -> _Parsed:
    try:
        markups = json.loads(text)["markups"]
        if len(markups) != 1:
            raise _FormatError(f"holds {len(markups)} markups; save the points as one markups node")
        node = markups[0]
        controls: list[dict[str, Any]] = node["controlPoints"]
        labels = tuple(str(point.get("label", "")) for point in controls)
        placed = [point.get("positionStatus", "defined") == "defined" and "position" in point for point in controls]
        frame, units = str(node.get("coordinateSystem", "LPS")), node.get("coordinateUnits", "mm")
        rows = [point.get("position", ()) for point in controls]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _FormatError("is not a Slicer markups file; save the points from Slicer as .mrk.json") from error
    if not all(placed):
        raise _FormatError(f"point '{_short([labels[placed.index(False)]])}' has no position; place it or remove it")
    if frame not in ("LPS", "RAS") or units != "mm":
        raise _FormatError(f"is in '{_short([frame, units])}'; save it in LPS or RAS and mm")
    return _Parsed(rows, labels if any(labels) else (), "LPS" if frame == "LPS" else "RAS")


def _parse_fcsv(text: str) -> _Parsed:
    comments = [line.lstrip("# ").partition("=") for line in text.splitlines() if line.startswith("#")]
    stated = {key.strip().lower(): value.strip() for key, _, value in comments}
    system = stated.get("coordinatesystem", "RAS").upper()  # old files do not state it and are RAS
    systems: dict[str, Literal["LPS", "RAS"]] = {"RAS": "RAS", "0": "RAS", "LPS": "LPS", "1": "LPS"}
    if system not in systems:
        raise _FormatError(f"is in coordinate system '{_short([system])}'; save it from Slicer in LPS or RAS")
    rows = list(csv.reader(line for line in text.splitlines() if line.strip() and not line.startswith("#")))
    columns = [column.strip() for column in stated.get("columns", _FCSV_COLUMNS).split(",")]
    where = [columns.index(axis) if axis in columns else len(columns) for axis in "xyz"]
    at = columns.index("label") if "label" in columns else len(columns)
    labels = tuple(row[at] if at < len(row) else "" for row in rows)
    cells = [[row[i] for i in where if i < len(row)] for row in rows]
    return _Parsed(cells, labels if any(labels) else (), systems[system])


_PARSERS = {
    ".csv": _parse_csv,
    ".fcsv": _parse_fcsv,
    ".json": _parse_markups,
    ".txt": _parse_elastix,
    ".pts": _parse_elastix,
}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- formatting ---------------------------------------------------------------------------------------


def _format_csv(landmarks: Landmarks) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["x", "y", "z", *(["label"] if landmarks.labels else [])])
    for i, row in enumerate(landmarks.points.tolist()):
        writer.writerow([*map(repr, row), *landmarks.labels[i : i + 1]])
    return text.getvalue()


def _format_fcsv(landmarks: Landmarks) -> str:
    text = io.StringIO()
    text.write(f"# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n# columns = {_FCSV_COLUMNS}\n")
    writer = csv.writer(text, lineterminator="\n")
    for i, (row, label) in enumerate(zip(landmarks.points.tolist(), _labels(landmarks), strict=True)):
        writer.writerow([i + 1, *map(repr, row), 0, 0, 0, 1, 1, 1, 0, label, "", ""])
    return text.getvalue()


def _format_markups(landmarks: Landmarks) -> str:
    controls = [
        {"id": str(i + 1), "label": label, "position": row, "positionStatus": "defined"}
        for i, (row, label) in enumerate(zip(landmarks.points.tolist(), _labels(landmarks), strict=True))
    ]
    node = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": controls}
    return json.dumps({"@schema": _SCHEMA, "markups": [node]}, indent=2, ensure_ascii=False) + "\n"


def _labels(landmarks: Landmarks) -> tuple[str, ...]:
    """Labels for a format that needs them; empty ones where there are none."""
    return landmarks.labels or ("",) * len(landmarks.points)
