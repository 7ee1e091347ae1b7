"""Whether an image file is whole.

ITK reads a NIfTI file that ends early without complaint and does not notice that writing one failed; its
releases before 5.4 (SimpleITK 2.4) do the same with MetaImage and DICOM files. NRRD files need no check.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, cast

_BLOCK = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"

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

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_LENGTH_OFFSETS = (4, 8)  # of implicit and of explicit value representation


def is_damaged(path: Path) -> bool:
    """Whether a NIfTI or MetaImage file holds less than its header promises, or its compressed stream is broken.

    False for any other file. Raises OSError where the file cannot be opened.
    """
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti_bytes(path) < _promised_by_nifti(path)
        if name.endswith((".mha", ".mhd")):
            return _meta_lacks_bytes(path)
    except (EOFError, zlib.error, gzip.BadGzipFile):  # a broken stream
        return True
    except (RuntimeError, KeyError, ValueError):  # a broken header, in the words of SimpleITK and of the code below
        return True
    return False


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


def _nifti_bytes(path: Path) -> int:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    with cast("IO[bytes]", gzip.open(path, "rb")) if compressed else path.open("rb") as file:
        return sum(len(block) for block in iter(lambda: file.read(_BLOCK), b""))


def _promised_by_nifti(path: Path) -> int:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    rank = int(reader.GetMetaData("dim[0]"))
    voxels = math.prod(max(int(reader.GetMetaData(f"dim[{i}]")), 1) for i in range(1, rank + 1))
    return int(float(reader.GetMetaData("vox_offset"))) + voxels * int(reader.GetMetaData("bitpix")) // 8


def _meta_lacks_bytes(path: Path) -> bool:
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
