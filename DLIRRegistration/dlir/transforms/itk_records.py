"""ITK's text (.tfm, .txt) and Matlab (.mat) formats of transforms, taken apart and checked before ITK sees them.

ITK takes the first of several transforms for all of them, passes over a line that is missing and the end of a file that
is cut, and for some types reads past the end of too few numbers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NO_TRANSFORM = "is damaged or no ITK transform; give an .h5, .tfm or .txt file that ITK wrote"
HEADER = "#Insight Transform File V1.0\n"
_WANTED = ("Parameters", "FixedParameters")
COMPOSITE, _BSPLINE, _FIELD = "CompositeTransform", "BSplineTransform", "DisplacementFieldTransform"
# Numbers of parameters and of fixed parameters; those of a B-spline and of a field depend on their grids.
_COUNTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "IdentityTransform": (0, (0,)),
    "TranslationTransform": (3, (0,)),
    "ScaleTransform": (3, (3,)),
    "ScaleLogarithmicTransform": (3, (3,)),
    "Euler3DTransform": (6, (3, 4)),
    "CenteredEuler3DTransform": (9, (3, 4)),
    "QuaternionRigidTransform": (7, (3,)),
    "VersorTransform": (3, (3,)),
    "VersorRigid3DTransform": (6, (3,)),
    "Similarity3DTransform": (7, (3,)),
    "ScaleVersor3DTransform": (9, (3,)),
    "ScaleSkewVersor3DTransform": (15, (3,)),
    "ComposeScaleSkewVersor3DTransform": (12, (3,)),
    "AffineTransform": (12, (3,)),
    "MatrixOffsetTransformBase": (12, (3,)),
    "FixedCenterOfRotationAffineTransform": (12, (3,)),
    "CenteredAffineTransform": (15, (3,)),
}
_GRID_COUNT = 18
_CUT = "is damaged: its end is missing; copy or write it again"
# Of a Matlab variable: type, rows, columns, whether complex, length of its name. The type tells byte order, storage
# order, which vectors have none of, and precision.
_MATLAB_HEAD = struct.Struct("<5i")
_MATLAB_TYPES = {
    kind + storage + order: form
    for kind, form in ((0, "f8"), (10, "f4"))
    for storage in (0, 100)
    for order in (0, 1000)
}
_LONGEST_NAME = 200


class FormatError(Exception):
    """What is wrong with a file and what to do; `read_transform` puts the file's name before it."""


@dataclass
class Record:
    """One transform of a file. kind: as ITK calls it, with its number type and dimensions. values: its two lines."""

    kind: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kind without number type and dimensions."""
        return self.kind.partition("_")[0]

    @property
    def whole(self) -> bool:
        """Whether no line is missing; a composite needs none."""
        return self.name == COMPOSITE or len(self.values) == len(_WANTED)

    def text(self) -> str:
        """The record as lines of a file."""
        return "".join(f"{tag}: {value}\n" for tag, value in [("Transform", self.kind), *self.values.items()])


def parse(text: str) -> tuple[list[Record], str | None]:
    """The transforms of a file in ITK's order, of which the last is applied first, and what the user should know.

    Raises FormatError for what is damaged, foreign, of another dimension, or leaves open how its transforms belong
    together.
    """
    _refuse_foreign(text)
    records = _records(text.splitlines())
    for record in records:
        _check(record)
    if records[0].name == COMPOSITE:
        records = records[1:]
    elif len(records) > 1 and any(record.name == _BSPLINE for record in records):
        raise FormatError(
            f"lists {len(records)} transforms with a B-spline among them, which some programs add and others apply one "
            "after the other; write them as one CompositeTransform"
        )
    if any(record.name == COMPOSITE for record in records):
        raise FormatError("has a CompositeTransform behind its first transform; write all as one CompositeTransform")
    if not records:
        raise FormatError(_CUT)
    open_end = text[-1] not in "\r\n" and not text.splitlines()[-1].lstrip().startswith("#")
    note = "ends without a line break; make sure that its last number is whole" if open_end else None
    return records, note


def matlab_as_text(data: bytes) -> str:
    """A Matlab file (level 4) as ITK's text format. It has a variable called as the transform, and one called "fixed".

    Raises FormatError for a file that ends early, and for one of something else.
    """
    lines, at = [HEADER], 0
    while at < len(data):
        head = data[at : at + _MATLAB_HEAD.size]
        big = head[:2] == b"\0\0" and head[3:4] != b"\0"
        order = ">" if big else "<"
        if len(head) < _MATLAB_HEAD.size:
            raise FormatError(_CUT)
        kind, rows, columns, imaginary, length = struct.unpack(order + _MATLAB_HEAD.format[1:], head)
        if kind not in _MATLAB_TYPES or imaginary or min(rows, columns) < 0 or not 0 < length < _LONGEST_NAME:
            raise FormatError(NO_TRANSFORM)
        start = at + len(head) + length
        numbers = np.dtype(order + _MATLAB_TYPES[kind])
        at = start + rows * columns * numbers.itemsize
        if at > len(data):
            raise FormatError(_CUT)
        name = data[start - length : start].rstrip(b"\0").decode("latin-1")
        values = " ".join(map(repr, np.frombuffer(data[start:at], numbers).tolist()))
        lines.append(
            f"FixedParameters: {values}\n" if name == "fixed" else f"Transform: {name}\nParameters: {values}\n"
        )
    return "".join(lines)


def unknown(name: str) -> str:
    """What is wrong with a file that holds a transform of this type."""
    return f"holds a {name}; DLIR reads linear ones, cubic B-splines and displacement fields, so convert it first"


def _refuse_foreign(text: str) -> None:
    if re.search(r"^\s*\(Transform ", text, re.MULTILINE):
        raise FormatError(
            "is a parameter file of elastix, not an ITK transform; let elastix write one, by "
            '(ITKTransformOutputFileNameExtension "h5") and (WriteITKCompositeTransform "true")'
        )
    try:
        numbers = np.array(text.split(), float)
    except ValueError:
        return
    if numbers.size in (12, 16):
        raise FormatError(
            "is a plain matrix, as FSL, greedy and c3d write, not an ITK transform; convert it, for example by "
            "c3d_affine_tool with -oitk"
        )


def _records(lines: list[str]) -> list[Record]:
    records: list[Record] = []
    for number, line in _content(lines):
        tag, colon, value = (part.strip() for part in line.partition(":"))
        if colon and tag == "Transform":
            records.append(Record(value))
        elif colon and records and tag in _WANTED and tag not in records[-1].values:
            records[-1].values[tag] = value
        elif number < len(lines) and records:
            raise FormatError(f"has a line that ITK does not know: line {number}, '{line[:40]}'; correct the file")
        else:
            break  # the last line, cut, or a file of something else
    else:
        # Where a file is cut between two transforms, ITK's comment above the second may still be there.
        last = lines[-1] if lines else ""
        begun = last.startswith("#") and ("#Transform".startswith(last) or re.fullmatch(r"#Transform \d*", last))
        if records and not begun and all(record.whole for record in records):
            return records
    if not records and any(True for _ in _content(lines)):
        raise FormatError(NO_TRANSFORM)
    raise FormatError(
        "is damaged: its end or a line is missing, of 'Transform', 'Parameters' and 'FixedParameters' for each "
        "transform; copy or write it again"
    )


def _content(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The lines that ITK reads, with their numbers from 1."""
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _check(record: Record) -> None:
    match = re.fullmatch(r"(\w+)_(double|float)_(\d+)_\d+", record.kind)
    if match is None:
        raise FormatError(f"has a transform of the unknown type '{record.kind[:60]}'; give one that ITK wrote")
    if match[3] != "3":
        raise FormatError("is not three-dimensional; give a 3D transform")
    numbers = {tag: _numbers(record.name, value) for tag, value in record.values.items()}
    if record.name == COMPOSITE:
        return
    fixed = numbers["FixedParameters"]
    if record.name in (_BSPLINE, _FIELD):
        grid = fixed[:3] if fixed.size == _GRID_COUNT and np.isfinite(fixed).all() else np.zeros(3)
        wanted: dict[str, tuple[int, ...]] = {"Parameters": (int(3 * grid.prod()),), "FixedParameters": (_GRID_COUNT,)}
    elif record.name in _COUNTS:
        wanted = {"Parameters": _COUNTS[record.name][:1], "FixedParameters": _COUNTS[record.name][1]}
    else:
        raise FormatError(unknown(record.name))
    for tag in reversed(_WANTED):
        if numbers[tag].size not in wanted[tag]:
            raise FormatError(
                f"is damaged: its {record.name} has {numbers[tag].size} {tag} instead of {wanted[tag][0]}; "
                "copy or write it again"
            )


def _numbers(name: str, value: str) -> NDArray[np.float64]:
    words = value.split()
    try:
        return np.array(words, float)
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
    raise FormatError(f"is damaged: '{wrong[:40]}' in its {name} is not a number; copy or write it again")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
