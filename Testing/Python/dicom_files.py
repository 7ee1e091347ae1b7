"""DICOM files of one image with exactly the tags that a test asks for; ITK's writer adds and replaces some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EXPLICIT = "1.2.840.10008.1.2.1"
_MR = "1.2.840.10008.5.1.4.1.1.4"

_PIXELS, _ITEM, _SEQUENCE_END = (bytes.fromhex(tag) for tag in ("e07f1000", "feff00e0", "feffdde0"))
_REPRESENTATIONS = {
    "CS": "0008|0005 0008|0008 0008|0060 0008|9208 0018|0020 0028|0004",
    "DA": "0008|0022 0008|0023",
    "DS": "0018|0060 0018|0081 0018|0082 0018|0088 0018|1060 0018|1164 0018|1314 0018|2010 0020|0032 0020|0037 "
    "0028|0030 0028|1052 0028|1053 0054|1300",
    "DT": "0008|002a",
    "FD": "0018|9087",
    "LO": "0010|0020",
    "PN": "0010|0010",
    "IS": "0019|100c 0020|0011 0020|0012 0020|0013 0020|0100 0043|1039",
    "SS": "0043|102f",
    "TM": "0008|0032 0008|0033",
    "UI": "0008|0016 0008|0018 0020|000d 0020|000e 0020|0052",
    "US": "0028|0002 0028|0010 0028|0011 0028|0100 0028|0101 0028|0102 0028|0103",
}
_OF_TAG = {tag: representation for representation, tags in _REPRESENTATIONS.items() for tag in tags.split()}


def write_dicom(
    path: Path,
    plane: NDArray[np.int16],
    tags: Mapping[str, object],
    *,
    position: tuple[float, float, float] = (0, 0, 0),
    syntax: str = EXPLICIT,
) -> None:
    """An MR image of 16 bits with pixels 1.5 mm wide and 2 mm high.

    tags: by "gggg|eeee"; None leaves one out. syntax: UID that the file states; what claims to be compressed is not.
    """
    rows, columns = plane.shape
    values: dict[str, object] = {
        "0008|0008": "ORIGINAL\\PRIMARY\\M",
        "0008|0016": _MR,
        "0008|0018": f"1.2.3.{abs(hash(str(path)))}",
        "0008|0060": "MR",
        "0020|000d": "1.2.3",
        "0020|000e": "1.2.3.4",
        "0020|0032": "\\".join(f"{value:g}" for value in position),
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0052": "1.2.9",
        "0028|0002": 1,
        "0028|0004": "MONOCHROME2",
        "0028|0010": rows,
        "0028|0011": columns,
        "0028|0030": "2\\1.5",
        "0028|0100": 16,
        "0028|0101": 16,
        "0028|0102": 15,
        "0028|0103": 1,
    }
    values.update(tags)
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = sorted((tag, value) for tag, value in values.items() if value is not None)
    data = b"".join(_element(tag, _OF_TAG[tag], value) for tag, value in stated)
    pixels = plane.astype("<i2").tobytes()
    if syntax == EXPLICIT:
        data += _PIXELS + b"OW\0\0" + len(pixels).to_bytes(4, "little") + pixels
    else:  # an empty table of offsets, one fragment, and the end of the sequence
        data += _PIXELS + b"OB\0\0" + b"\xff" * 4 + _ITEM + bytes(4)
        data += _ITEM + len(pixels).to_bytes(4, "little") + pixels + _SEQUENCE_END + bytes(4)
    meta = b"".join(
        _element(tag, "UI", value) for tag, value in (("0002|0002", str(values["0008|0016"])), ("0002|0010", syntax))
    )
    length = _element("0002|0000", "UL", len(meta))
    path.write_bytes(bytes(128) + b"DICM" + length + meta + data)


def _element(tag: str, representation: str, value: object) -> bytes:
    group, element = (int(part, 16).to_bytes(2, "little") for part in tag.split("|"))
    formats = {"US": "<u2", "SS": "<i2", "UL": "<u4", "FD": "<f8"}
    if representation in formats:
        data = np.array(value, formats[representation]).tobytes()
    else:
        data = str(value).encode("latin-1")
        data += (b"\0" if representation == "UI" else b" ") * (len(data) % 2)
    return group + element + representation.encode() + len(data).to_bytes(2, "little") + data
