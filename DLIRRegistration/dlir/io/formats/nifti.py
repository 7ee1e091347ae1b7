"""What a NIfTI header says and SimpleITK does not tell: version 1, version 2, and Analyze 7.5.

SimpleITK reads the voxels. But ITK takes the voxel size from one of two statements without a look at the other, reads
NaN and infinity as 0, applies the offset of a scaling that is switched off, fills up what a short file lacks, and
knows neither version 2 nor compressed files without ".gz".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.geometry import Vector3
from dlir.io.formats.packed import beginning, blocks, is_gzip
from dlir.io.source import ending_of

ENDINGS = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")

# Where version 1 and version 2 keep what is used here: struct's letters and a byte offset. `kind` is the intent's first
# parameter.
_FIELDS = {
    1: {
        "dim": ("8h", 40),
        "kind": ("f", 56),
        "intent": ("h", 68),
        "datatype": ("h", 70),
        "bits": ("h", 72),
        "pixdim": ("8f", 76),
        "offset": ("f", 108),
        "scaling": ("2f", 112),
        "units": ("B", 123),
        "codes": ("2h", 252),
        "qform": ("6f", 256),
        "rows": ("12f", 280),
        "intent_name": ("16s", 328),
    },
    2: {
        "dim": ("8q", 16),
        "kind": ("d", 80),
        "intent": ("i", 504),
        "datatype": ("h", 12),
        "bits": ("h", 14),
        "pixdim": ("8d", 104),
        "offset": ("q", 168),
        "scaling": ("2d", 176),
        "units": ("i", 500),
        "codes": ("2i", 344),
        "qform": ("6d", 352),
        "rows": ("12d", 400),
        "intent_name": ("16s", 508),
    },
}
_LENGTHS = {1: 348, 2: 540}
_MAGICS = (b"n+1", b"ni1", b"n+2", b"ni2")
_REAL = {16: "f4", 64: "f8"}
_UNITS = {1: ("m", 1000.0), 3: ("um", 1e-3)}  # others are mm or say nothing
_TIMES = {8: 1.0, 16: 1e-3, 24: 1e-6}  # s, ms, us
_START = 352


@dataclass(frozen=True)
class NiftiHeader:
    """A header, and which file holds the voxels. fields: by the names of `_FIELDS`. order: struct's "<" or ">"."""

    voxels: Path
    fields: dict[str, Any]
    version: int
    order: str
    is_analyze: bool

    @property
    def size(self) -> tuple[int, ...]:
        """Numbers of voxels along each axis, at least three."""
        rank, *sizes = self.fields["dim"]
        return tuple(max(n, 1) for n in [*sizes[:rank], 1, 1][: max(rank, 3)])

    @property
    def end(self) -> int:
        """Bytes that the file of voxels must have."""
        return int(self.fields["offset"]) + math.prod(self.size) * int(self.fields["bits"]) // 8

    @property
    def codes(self) -> tuple[int, int]:
        """Of qform and sform, 0 for one that is not stated."""
        return (0, 0) if self.is_analyze else self.fields["codes"]

    @property
    def spacing(self) -> Vector3 | None:
        """The voxel size in pixdim, in mm; None where it states none."""
        x, y, z = (abs(v) * self.unit[1] for v in self.fields["pixdim"][1:4])
        return (x, y, z) if all(0 < v < math.inf for v in (x, y, z)) else None

    def numbers(self, lengths: Sequence[float]) -> list[float]:
        """Lengths in mm as the header writes them."""
        return [length / self.unit[1] for length in lengths]

    @property
    def sform(self) -> NDArray[np.float64] | None:
        """(3, 4), from index to LPS mm; None where it is not stated, or no grid has it: its axes not perpendicular."""
        matrix = self._in_lps(np.reshape(self.fields["rows"], (3, 4)))
        if self.codes[1] <= 0 or not np.isfinite(matrix).all():
            return None
        lengths = np.linalg.norm(matrix[:, :3], axis=0)
        if not lengths.all():
            return None
        unit = matrix[:, :3] / lengths
        return matrix if np.allclose(unit.T @ unit, np.eye(3), atol=1e-3) else None

    @property
    def qform(self) -> NDArray[np.float64] | None:
        """(3, 4), from index to LPS mm, for voxels of length 1; None where it is not stated."""
        b, c, d, *offset = self.fields["qform"]
        if self.codes[0] <= 0 or not np.isfinite(self.fields["qform"]).all():
            return None
        a = math.sqrt(max(1 - b * b - c * c - d * d, 0))
        matrix = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c), offset[0]],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b), offset[1]],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b, offset[2]],
            ]
        )
        if self.fields["pixdim"][0] < 0:
            matrix[:, 2] *= -1
        return self._in_lps(matrix)

    def _in_lps(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        in_lps: NDArray[np.float64] = matrix * np.array([[-1.0], [-1.0], [1.0]]) * self.unit[1]
        return in_lps

    @property
    def unit(self) -> tuple[str, float]:
        """The unit of the header's lengths, and what it is in mm."""
        mm = ("mm", 1.0)
        return mm if self.is_analyze else _UNITS.get(self.fields["units"] & 7, mm)

    @property
    def seconds(self) -> float | None:
        """From one time point to the next; None where it does not say."""
        step = self.fields["pixdim"][4] * _TIMES.get(self.fields["units"] & 56, 0.0)
        return float(f"{step:.7g}") if not self.is_analyze and 0 < step < math.inf else None  # single precision

    @property
    def _scaling(self) -> tuple[float, float]:
        """Slope and offset as the standard means them: a slope of 0, or none, switches both off."""
        slope, offset = self.fields["scaling"]
        if slope == 0 or not math.isfinite(slope):
            return 1.0, 0.0
        return slope, offset if math.isfinite(offset) else 0.0

    @property
    def misleads_itk(self) -> bool:
        """Whether ITK needs it `rewritten` to read what it says."""
        named = self.voxels.name.lower().endswith(".gz")
        slope, offset = self.fields["scaling"]
        switched_off = not self.is_analyze and self._scaling == (1.0, 0.0) and slope != 1 and offset != 0
        return self.version == 2 or switched_off or (is_gzip(self.voxels) and not named)

    @property
    def intent(self) -> tuple[int, str, float]:
        """What the voxels mean, as far as it is said: its code, its name, and the first parameter."""
        code, name, kind = (self.fields[key] for key in ("intent", "intent_name", "kind"))
        return code, name.split(b"\0")[0].decode("latin-1"), kind

    def vectors(self) -> NDArray[np.float32]:
        """(z, y, x, component): what a file of real numbers with five dimensions, one time point, holds.

        As it stands there: some releases of ITK change vectors on the way, others do not. Raises OSError, and EOFError
        or zlib.error for a file that does not hold all voxels.
        """
        content = b"".join(blocks(self.voxels))
        if len(content) < self.end:
            raise EOFError
        kind = np.dtype(self.order + _REAL[self.fields["datatype"]])
        values = np.frombuffer(content, kind, math.prod(self.size), int(self.fields["offset"]))
        planes = np.moveaxis(values.reshape(self.size[4], *self.size[2::-1]), 0, -1)
        slope, offset = self._scaling
        return np.array(planes if (slope, offset) == (1, 0) else planes * slope + offset, np.float32, order="C")

    @property
    def is_real(self) -> bool:
        """Whether its voxels are stored as real numbers."""
        return self.fields["datatype"] in _REAL

    def rewritten(self, path: Path) -> None:
        """Write the same image to `path` as one plain file of version 1.

        Raises OSError, EOFError or zlib.error for voxels that cannot be read, struct.error for a size that version 1
        cannot state.
        """
        header = bytearray(_START)
        scaling = self.fields["scaling"] if self.is_analyze else self._scaling
        for name, value in {**self.fields, "scaling": scaling, "offset": _START}.items():
            letters, place = _FIELDS[1][name]
            struct.pack_into(self.order + letters, header, place, *(value if isinstance(value, tuple) else (value,)))
        struct.pack_into(self.order + "i", header, 0, _LENGTHS[1])
        header[344:347] = b"n+1"
        skip = int(self.fields["offset"])
        with path.open("wb") as file:
            file.write(header)
            for block in blocks(self.voxels):
                file.write(block[skip:])
                skip = max(skip - len(block), 0)

    def lacks_voxels(self) -> bool:
        """Whether the file of voxels ends early. Raises OSError, and EOFError or zlib.error for a broken stream."""
        return sum(map(len, blocks(self.voxels))) < self.end

    def wild_voxels(self, phase: int = 0, phases: int = 1) -> NDArray[np.int64]:
        """Which voxels of a time point, or of so many from there on, counted as they are stored, are NaN or infinite.

        Raises OSError, and EOFError or zlib.error for a file that does not hold all voxels.
        """
        kind = np.dtype(self.order + _REAL.get(self.fields["datatype"], "f4"))
        count = math.prod(self.size[:3]) if self.fields["datatype"] in _REAL else 0
        begin = int(self.fields["offset"]) + phase * count * kind.itemsize
        count *= phases
        found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        seen, total, rest = 0, 0, b""
        for block in blocks(self.voxels):
            part = rest + block[max(begin - total, 0) : max(begin + count * kind.itemsize - total, 0)]
            values = np.frombuffer(part, kind, len(part) // kind.itemsize)
            found.append(seen + np.flatnonzero(~np.isfinite(values)))
            seen, rest, total = seen + len(values), part[values.nbytes :], total + len(block)
        if total < self.end:
            raise EOFError
        return np.concatenate(found)


def has_mixed_ending(path: Path) -> bool:
    """Whether a name ends in small letters and capitals, which ITK takes for no name of a NIfTI file."""
    ending = ending_of(path.name, ENDINGS)
    return ending not in (ending.lower(), ending.upper())


def read_nifti_header(path: Path) -> NiftiHeader | None:
    """The header of a file called as NIfTI files are; None where it has another name or is none.

    Raises OSError, and EOFError or zlib.error for a compressed file that ends within it.
    """
    if not path.name.lower().endswith(ENDINGS):
        return None
    file = _beside(path, ".img", ".hdr")
    content = beginning(file, _LENGTHS[2])
    for version, length in _LENGTHS.items():
        for order in "<>":
            if content.startswith(struct.pack(order + "i", length)) and len(content) >= length:
                return _parsed(file, content, version, order)
    return None


def _parsed(file: Path, content: bytes, version: int, order: str) -> NiftiHeader | None:
    fields: dict[str, Any] = {}
    for name, (letters, place) in _FIELDS[version].items():
        values = struct.unpack_from(order + letters, content, place)
        fields[name] = values if len(values) > 1 else values[0]
    magic = content[4:7] if version == 2 else content[344:347]
    if not 1 <= fields["dim"][0] <= 7 or not 0 <= fields["offset"] < math.inf:
        return None
    if magic.startswith(b"n+"):
        fields["offset"] = max(fields["offset"], _LENGTHS[version])
    else:
        file = _beside(file, ".hdr", ".img")
    return NiftiHeader(file, fields, version, order, magic not in _MAGICS)


def _beside(path: Path, ending: str, other: str) -> Path:
    """The other file of a pair: the one called `other` where `path` ends in `ending`, compressed or not."""
    name = path.name
    stem = name[:-3] if name.lower().endswith(".gz") else name
    if not stem.lower().endswith(ending):
        return path
    stem, other = stem[: -len(ending)], other if stem[-1].islower() else other.upper()
    candidates = [path.with_name(stem + other + packed) for packed in (name[len(stem) + 4 :], "", ".gz")]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])
