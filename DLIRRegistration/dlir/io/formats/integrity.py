"""Whether an image file is whole.

ITK reads a short NIfTI, GIPL, VTK, MRC or TIFF file without complaint and does not notice that writing one failed; its
releases before 5.4 (SimpleITK 2.4) do the same with MetaImage and DICOM files. NRRD and HDF5 files need no check.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dlir.io.formats.nifti import ENDINGS, read_nifti_header
from dlir.io.formats.packed import beginning, blocks

_BLOCK = 1 << 22

# Bytes of a MetaImage voxel. MET_LONG has 4 or 8, by platform; the fewer never condemns a whole file.
_META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}

_GIPL_HEADER, _GIPL_MAGICS = 256, (0xEFFFE9B0, 0x2AE389B8)
_GIPL_BYTES = {1: 1, 7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}
_MRC_HEADER = 1024
_MRC_BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 16: 3}
# A long has 4 or 8, as in MetaImage.
_VTK_BYTES = {
    **dict.fromkeys(("char", "unsigned_char"), 1),
    **dict.fromkeys(("short", "unsigned_short"), 2),
    **dict.fromkeys(("int", "unsigned_int", "long", "unsigned_long", "float"), 4),
    **dict.fromkeys(("double", "vtktypeint64", "vtktypeuint64"), 8),
}

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_LENGTH_OFFSETS = (4, 8)  # of implicit and of explicit value representation


def is_damaged(path: Path) -> bool:
    """Whether a file holds less than its header promises, or its compressed stream is broken.

    Looks at what is called as NIfTI, MetaImage, GIPL, VTK, MRC and TIFF files are; False for any other file. Raises
    OSError where the file cannot be opened.
    """
    lacks = next((check for endings, check in _CHECKS.items() if path.name.lower().endswith(endings)), None)
    try:
        return lacks is not None and lacks(path)
    except (EOFError, zlib.error):  # a broken stream
        return True
    except (KeyError, ValueError, struct.error):  # a broken header
        return True


def is_dicom_cut(path: Path, pixel_bytes: int) -> bool:
    """Whether an uncompressed DICOM file ends before its `pixel_bytes` bytes of pixels; False for a compressed one."""
    data = path.read_bytes()
    at = data.find(_PIXEL_DATA)
    while at >= 0:
        for offset in _LENGTH_OFFSETS:
            length = int.from_bytes(data[at + offset : at + offset + 4], "little")
            if length == pixel_bytes + pixel_bytes % 2:  # the same four bytes elsewhere are not followed by it
                return at + offset + 4 + pixel_bytes > len(data)
        at = data.find(_PIXEL_DATA, at + 1)
    return False


def _nifti_lacks(path: Path) -> bool:
    header = read_nifti_header(path)
    return header is None or header.lacks_voxels()


def _meta_lacks(path: Path) -> bool:
    with path.open("rb") as file:
        header = _meta_header(file)
        place = header.get("ElementDataFile", "")
        if not _is_true(header.get("BinaryData", "True")) or header.get("ElementType") not in _META_BYTES:
            return place == ""
        promised = math.prod(map(int, header["DimSize"].split())) * int(header.get("ElementNumberOfChannels", 1))
        promised *= _META_BYTES[header["ElementType"]]
        compressed = _is_true(header.get("CompressedData", "False"))
        if place == "LOCAL":
            return _count(file, compressed) < promised
    beside = path.parent / place
    if not beside.is_file():  # a list or a pattern of files, each of which ITK opens for itself
        return False
    with beside.open("rb") as file:
        file.seek(max(int(header.get("HeaderSize", 0)), 0))
        return _count(file, compressed) < promised


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _meta_header(file: IO[bytes]) -> dict[str, str]:
    """Keys and values up to the voxels, where the file is left."""
    header: dict[str, str] = {}
    while "ElementDataFile" not in header and (line := file.readline(1 << 16)):
        key, _, value = line.decode("latin-1").partition("=")
        header[key.strip()] = value.strip()
    return header


def _count(file: IO[bytes], compressed: bool) -> int:
    """Number of bytes up to the file's end, after decompression. Raises EOFError, zlib.error for a broken stream."""
    stream, total = zlib.decompressobj(), 0
    while block := file.read(_BLOCK):
        total += len(stream.decompress(block)) if compressed else len(block)
    if compressed and not stream.eof:
        raise EOFError
    return total


def _gipl_lacks(path: Path) -> bool:
    header = beginning(path, _GIPL_HEADER)
    (magic,) = struct.unpack_from(">I", header, 252)
    *sizes, kind = struct.unpack_from(">5H" if magic in _GIPL_MAGICS else "<5H", header)
    promised: int = math.prod(max(n, 1) for n in sizes) * _GIPL_BYTES[kind]
    return sum(map(len, blocks(path))) < _GIPL_HEADER + promised


def _mrc_lacks(path: Path) -> bool:
    header = beginning(path, _MRC_HEADER)
    order = "<" if struct.unpack_from("<i", header, 12)[0] in _MRC_BYTES else ">"
    *sizes, mode = struct.unpack_from(order + "4i", header)
    (further,) = struct.unpack_from(order + "i", header, 92)
    promised: int = _MRC_HEADER + further + math.prod(sizes) * _MRC_BYTES[mode]
    return path.stat().st_size < promised


def _vtk_lacks(path: Path) -> bool:
    with path.open("rb") as file:
        _, _, form = (file.readline(1 << 16) for _ in range(3))
        header: dict[str, list[str]] = {}
        while "LOOKUP_TABLE" not in header:
            place, line = file.tell(), file.readline(1 << 16)
            words = line.decode("latin-1").split()
            if "SCALARS" in header and words[:1] != ["LOOKUP_TABLE"]:
                file.seek(place)  # the table's name may be left out
                break
            if not line or words[:1] in (["VECTORS"], ["COLOR_SCALARS"], ["TENSORS"]):
                return not line
            header |= {words[0]: words[1:]} if words else {}
        count = math.prod(map(int, header["DIMENSIONS"])) * int((header["SCALARS"] + ["1"])[2])
        if form.strip().upper() == b"ASCII":
            return len(file.read().split()) < count
        return path.stat().st_size - file.tell() < count * _VTK_BYTES[header["SCALARS"][1].lower()]


def _tiff_lacks(path: Path) -> bool:
    """Whether the chain of its slices' headers leads out of the file."""
    with path.open("rb") as file:
        start = file.read(8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(start[:4])
        if order is None:  # with offsets of 64 bits, or none at all
            return False
        (place,) = struct.unpack(order + "I", start[4:])
        while place:
            file.seek(place)
            (count,) = struct.unpack(order + "H", file.read(2))
            file.seek(12 * count, 1)
            (place,) = struct.unpack(order + "I", file.read(4))
    return False


_CHECKS: dict[tuple[str, ...], Callable[[Path], bool]] = {
    ENDINGS: _nifti_lacks,
    (".mha", ".mhd"): _meta_lacks,
    (".gipl", ".gipl.gz"): _gipl_lacks,
    (".vtk",): _vtk_lacks,
    (".mrc", ".rec"): _mrc_lacks,
    (".tif", ".tiff"): _tiff_lacks,
}
