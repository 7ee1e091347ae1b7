"""What the header of one DICOM image says: where it lies, when and how it was acquired, how it is compressed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dlir.io.dicom.time import CLOCKS

if TYPE_CHECKING:
    import SimpleITK as sitk

# What tells two contrasts of one anatomy apart, with its unit. The b-value of older files is private to each maker.
CONTRASTS = {
    "echo time": (("0018|0081",), " ms"),
    "b-value": (("0018|9087", "0019|100c", "0043|1039", "2001|1003"), " s/mm²"),
    "inversion time": (("0018|0082",), " ms"),
    "flip angle": (("0018|1314",), "°"),
    "tube voltage": (("0018|0060",), " kV"),
}
# GE states in a private number whether an image is magnitude, phase, real or imaginary.
_GE_COMPONENT, _GE_COMPONENTS = "0043|102f", {"0": "M", "1": "P", "2": "R", "3": "I"}
_GE_LARGE_B = 1_000_000_000  # is added to some b-values

# Images of several frames, with what is said here elsewhere: enhanced CT, MR and PET, new and converted from the old.
_ENHANCED = tuple(f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2.1", "2.2", "4.1", "4.4", "128.1", "130"))
# Images of one frame that a scanner makes, but no spectra (4.2).
_IMAGE_CLASS = re.compile(
    rb"DICM.{,64}\x02\x00\x02\x00UI..1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?!4\.2[\x00\x02])"
    rb"(1|2|4|6|7|20|128|130)(\.\d+)*[\x00\x02]",
    re.S,
)
_TRANSFER_SYNTAX = re.compile(rb"DICM.{,1024}?\x02\x00\x10\x00UI..([0-9.]+)", re.S)
# Without compression, deflated, JPEG, JPEG-LS, JPEG 2000, RLE: GDCM reads these.
_READABLE = re.compile(r"1\.2\.840\.10008\.1\.2(\.1|\.2|\.1\.99|\.5|\.4\.(50|51|57|70|80|81|90|91))?")
_PREAMBLE, _FIRST_BYTES = 132, 2048
_ROUNDED = 1e-2  # of direction cosines


@dataclass(frozen=True)
class Slice:
    """The header of one DICOM image.

    name: of the file, as the user knows it. frame: UID of the frame of reference. size: (columns, rows, frames).
    spacing: (2,) mm, x and y. position: (3,) LPS mm of the first voxel. direction: (3, 3), its columns are the x, y
    and slice axes. These three are NaN where the file does not state them. clocks: values of CLOCKS, NaN where the
    file has none. kind: values of ImageType, at least two, and what else tells kinds of image
    apart. contrasts: values of CONTRASTS.
    """

    file: Path
    name: str
    series: str
    title: str
    frame: str
    is_multiframe: bool
    size: tuple[int, int, int]
    components: int
    spacing: NDArray[np.float64]
    position: NDArray[np.float64]
    direction: NDArray[np.float64]
    clocks: tuple[float, ...]
    kind: tuple[str, ...]
    contrasts: tuple[float, ...]

    @property
    def instance(self) -> float:
        """Its number, NaN where the file has none."""
        return self.clocks[CLOCKS.index("instance number")]


def new_reader() -> sitk.ImageFileReader:
    """A reader of DICOM files alone, with what their makers say in private."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.LoadPrivateTagsOn()
    return reader


def header(file: Path, name: str, reader: sitk.ImageFileReader) -> Slice:
    """The header that `reader` has read from `file`.

    Position, orientation and pixel spacing are taken from the file's own words, because GDCM puts a default in the
    place of what is missing, and for some classes of images in the place of what is there.
    """

    def text(tag: str) -> str:
        value = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())

    is_mr = text("0008|0060") == "MR"

    def setting(tag: str) -> float:
        if int(tag[:4], 16) % 2 and not is_mr:  # a private tag, which may mean anything elsewhere
            return math.nan
        value = _number(text(tag).split("\\")[0])
        return value % _GE_LARGE_B if value >= _GE_LARGE_B else value

    columns, rows, *frames = reader.GetSize()
    down, across = _numbers(text("0028|0030"), 2)
    component = _GE_COMPONENTS.get(text(_GE_COMPONENT) if is_mr else "", text("0008|9208"))
    return Slice(
        file=file,
        name=name,
        series=text("0020|000e"),
        title=" ".join([text("0020|0011"), text("0008|103e")]).strip(),
        frame=text("0020|0052"),
        is_multiframe=math.prod(frames) > 1 or text("0008|0016") in _ENHANCED,
        size=(columns, rows, math.prod(frames)),
        components=reader.GetNumberOfComponents(),
        spacing=np.array([across, down]) if down > 0 and across > 0 else np.full(2, np.nan),
        position=_numbers(text("0020|0032"), 3),
        direction=_axes(_numbers(text("0020|0037"), 6)),
        clocks=_clocks(text),
        kind=_kind(text("0008|0008"), component, text("0018|0020"), text("0018|0021")),
        contrasts=tuple(
            next((value for tag in tags if not math.isnan(value := setting(tag))), math.nan)
            for tags, _ in CONTRASTS.values()
        ),
    )


def claims_image(file: Path, name: str) -> bool:
    """Whether a file says that it is an image, by its first bytes or, where it has hardly any, by its `name`.

    One that then cannot be read is a damaged slice.
    """
    start = _first_bytes(file)
    if len(start) < _PREAMBLE and name.lower().endswith((".dcm", ".ima")):
        return True
    return _IMAGE_CLASS.search(start) is not None


def unknown_compression(file: Path) -> str:
    """The transfer syntax UID of a file where it is none that is known to be readable, else empty."""
    match = _TRANSFER_SYNTAX.search(_first_bytes(file))
    uid = match[1].decode() if match else ""
    return "" if _READABLE.fullmatch(uid) else uid


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_FIRST_BYTES)
    except OSError:  # a broken link or a file of somebody else's
        return b""


def _number(text: str) -> float:
    try:
        return value if math.isfinite(value := float(text)) else math.nan
    except ValueError:
        return math.nan


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    """(count,): the values of a tag, all NaN where it has not so many finite ones."""
    values = np.array([_number(value) for value in text.split("\\")])
    return values if len(values) == count and not np.isnan(values).any() else np.full(count, np.nan)


def _axes(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): x, y and slice axis in its columns; NaN where the two given ones are no perpendicular unit vectors.

    They are rounded to some digits; x is turned until it is exactly perpendicular to y, as ITK does.
    """
    x, y = np.split(cosines, 2)
    if not np.allclose([x @ x, y @ y, x @ y], [1, 1, 0], atol=_ROUNDED):
        return np.full((3, 3), np.nan)
    y = y / np.linalg.norm(y)
    z = np.cross(x, y)
    z /= np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], axis=1)


def _kind(image_type: str, *more: str) -> tuple[str, ...]:
    values = image_type.upper().split("\\")
    values += [""] * (2 - len(values))
    return (*values, *(value for text in more for value in text.upper().split("\\")))


def _clocks(text: Callable[[str], str]) -> tuple[float, ...]:
    acquired = _moment(text("0008|002a"))
    if math.isnan(acquired):
        acquired = _moment(text("0008|0022"), text("0008|0032"))
    values = {
        "temporal position": _number(text("0020|0100")),
        "frame reference time": _number(text("0054|1300")),
        "acquisition time": acquired,
        "trigger time": _number(text("0018|1060")),
        "acquisition number": _number(text("0020|0012")),
        "content time": _moment(text("0008|0023"), text("0008|0033")),
        "instance number": _number(text("0020|0013")),
    }
    return tuple(values[name] for name in CLOCKS)


def _moment(date: str, time: str | None = None) -> float:
    """Seconds since some day, from a date and a time or from both in one; NaN where there is no time.

    A date that is none, as some that hide when a patient came, counts as the same day.
    """
    if time is None:
        date, time = date[:8], date[8:]
    match = re.match(r"(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)?", time)
    if match is None:
        return math.nan
    try:
        day = datetime.strptime(date.replace(".", ""), "%Y%m%d").toordinal()
    except ValueError:
        day = 0
    return day * 86400 + int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3] or 0)
