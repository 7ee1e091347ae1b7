"""Whether a NIfTI file is whole. ITK neither notices a file that ends early nor a write that failed."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, cast

_BLOCK = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"


def is_single_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file with header and voxels in one."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_damaged(path: Path) -> bool:
    """Whether a NIfTI file holds fewer bytes than its header promises, or its compressed stream is broken.

    Raises OSError where the file cannot be opened.
    """
    try:
        expected = _expected_bytes(path)
    except RuntimeError:  # SimpleITK's word for a header that is cut short
        return True
    try:
        with _open(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(_BLOCK), b"")) < expected
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return True


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    compressed = file.read(2) == _GZIP_MAGIC
    if not compressed:
        file.seek(0)
        return file
    file.close()
    return cast("IO[bytes]", gzip.open(path, "rb"))


def _expected_bytes(path: Path) -> int:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    rank = int(reader.GetMetaData("dim[0]"))
    voxels = math.prod(max(int(reader.GetMetaData(f"dim[{i}]")), 1) for i in range(1, rank + 1))
    return int(float(reader.GetMetaData("vox_offset"))) + voxels * int(reader.GetMetaData("bitpix")) // 8
