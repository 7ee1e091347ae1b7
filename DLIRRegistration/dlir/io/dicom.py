"""DICOM series from a folder or a zip archive: slices sorted in space and, at each position, in time."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, shown
from dlir.geometry import ImageGrid
from dlir.io.archive import unpacked
from dlir.io.integrity import is_dicom_cut
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.source import Source

if TYPE_CHECKING:
    import SimpleITK as sitk

_POSITION, _SERIES, _SERIES_NUMBER, _SERIES_TITLE = "0020|0032", "0020|000e", "0020|0011", "0008|103e"
# Trigger time, temporal position, acquisition number, instance number: the first that differs decides.
_TIME_TAGS = ("0018|1060", "0020|0100", "0020|0012", "0020|0013")

_SAME_POSITION_MM = 0.01  # scanners repeat a position to a few micrometres
_UNEVEN = 0.05  # largest distance of a slice from its place on the grid, in slice spacings
_SERIES_LISTED = 5
# CT, MR, nuclear and PET images, as the file's first lines state it.
_IMAGE_CLASS = re.compile(
    rb"DICM.{,64}\x02\x00\x02\x00UI..1\.2\.840\.10008\.5\.1\.4\.1\.1\.(2|2\.1|4|4\.1|20|128)[\x00\x02]", re.S
)


@dataclass(frozen=True)
class _Slice:
    """The header of one DICOM file.

    size: (columns, rows, frames). spacing: mm, (x, y). placed: whether the file states its position. position: (3,)
    LPS mm of the first voxel. direction: (3, 3), its columns are the x, y and slice axes. times: values of
    _TIME_TAGS, NaN where the file has none.
    """

    file: Path
    series: str
    title: str
    size: tuple[int, int, int]
    components: int
    spacing: tuple[float, float]
    placed: bool
    position: NDArray[np.float64]
    direction: NDArray[np.float64]
    times: tuple[float, ...]


def is_dicom_source(source: Source) -> bool:
    """Whether the source is to be read as a DICOM series: a folder or a .zip file."""
    return source.path.is_dir() or source.path.suffix.lower() == ".zip"


def count_dicom_phases(source: Source) -> int:
    """Number of time points of a series, from its headers. Raises as `read_dicom`."""
    with _folder(source) as folder:
        return len(_sort(source, _only_series(source, _scan(source, folder)))[0])


def read_dicom(source: Source) -> tuple[NDArray[Any], ImageGrid]:
    """Voxels (z, y, x), rescaled to their real-world values, and grid of a series or one time point of it.

    Slices are ordered along their normal (rows x columns). Files that are no DICOM images are passed over.
    Raises ImageError for a folder with no series or several, and for files that make no volume; GeometryError
    for slices that are not parallel, not evenly spaced, or stacked obliquely.
    """
    with _folder(source) as folder:
        positions = _sort(source, _only_series(source, _scan(source, folder)))
        phase = source.choose_phase(len(positions[0]))
        slices = [slices[phase] for slices in positions]
        grid = _grid(source, slices)
        return _read_pixels(source, slices), grid


@contextmanager
def _folder(source: Source) -> Iterator[Path]:
    if source.path.is_dir():
        yield source.path
    else:
        with unpacked(source) as folder:
            yield folder


def _new_reader() -> sitk.ImageFileReader:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    return reader


def _scan(source: Source, folder: Path) -> list[_Slice]:
    """The headers of all DICOM images in a folder and its subfolders, in the order of their names."""
    slices, reader = [], _new_reader()
    with quiet:
        for parent, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                file = Path(parent) / name
                what = f"file '{shown(file.name)}' of {source.name}"
                reader.SetFileName(require_utf8(file, what, ImageError))
                try:
                    reader.ReadImageInformation()
                except RuntimeError as error:
                    if _claims_image(file):
                        raise _damaged(source, file) from error
                    continue  # a report, a note, an index: folders of scanners hold more than images
                slices.append(_header(file, reader))
    if not slices:
        raise ImageError(f"{source.name} holds no DICOM image; give a DICOM folder or an image file")
    return slices


def _claims_image(file: Path) -> bool:
    """Whether a file says that it is a DICOM image; one that then cannot be read is a damaged slice."""
    try:
        with file.open("rb") as opened:
            return _IMAGE_CLASS.search(opened.read(512)) is not None
    except OSError:  # a broken link or a file of somebody else's
        return False


def _damaged(source: Source, file: Path) -> ImageError:
    return ImageError(f"{source.name} has a damaged DICOM file ('{file.name}'); copy or export the series again")


def _header(file: Path, reader: sitk.ImageFileReader) -> _Slice:
    def text(tag: str) -> str:
        value = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        return " ".join(value.encode("utf-8", "replace").decode("utf-8").split())

    def number(tag: str) -> float:
        try:
            return float(text(tag))
        except ValueError:
            return math.nan

    columns, rows, *frames = reader.GetSize()
    return _Slice(
        file=file,
        series=text(_SERIES),
        title=" ".join([text(_SERIES_NUMBER), text(_SERIES_TITLE)]).strip(),
        size=(columns, rows, math.prod(frames)),
        components=reader.GetNumberOfComponents(),
        spacing=(reader.GetSpacing()[0], reader.GetSpacing()[1]),
        placed=bool(text(_POSITION)),
        position=np.array(reader.GetOrigin())[:3],
        direction=np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3],
        times=tuple(number(tag) for tag in _TIME_TAGS),
    )


def _only_series(source: Source, slices: Sequence[_Slice]) -> Sequence[_Slice]:
    """The slices, once they are known to be plain slices of one series."""
    series: dict[str, list[_Slice]] = {}
    for s in slices:
        series.setdefault(s.series, []).append(s)
    if len(series) > 1:
        listed = [f"'{members[0].title}' of {len(members)} files" for members in series.values()]
        more = f" and {len(listed) - _SERIES_LISTED} more" if len(listed) > _SERIES_LISTED else ""
        raise ImageError(
            f"{source.name} holds {len(series)} DICOM series: {', '.join(listed[:_SERIES_LISTED])}{more}; "
            "give a folder with one of them"
        )
    if any(s.size[2] > 1 for s in slices):
        raise ImageError(f"{source.name} is a multi-frame DICOM file; convert it to NIfTI, for example with dcm2niix")
    if any(s.components != 1 for s in slices):
        raise ImageError(f"{source.name} holds colour images; give an image with one value per voxel")
    if not all(s.placed for s in slices):
        raise ImageError(f"{source.name} has DICOM files without a slice position; export the original series")
    return slices


def _sort(source: Source, slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """Slices by position along the normal and, within each, by time; the same number at every position."""
    if not all(np.allclose(s.direction, slices[0].direction, atol=1e-3) for s in slices):
        raise GeometryError(f"{source.name} has slices that are not parallel; give a series without localizers")
    if len({s.size for s in slices}) > 1 or not np.allclose([s.spacing for s in slices], slices[0].spacing, rtol=1e-4):
        raise GeometryError(f"{source.name} has slices of different size or pixel spacing; give one series")
    heights = np.array([s.position @ slices[0].direction[:, 2] for s in slices])
    order = np.argsort(heights, kind="stable")
    breaks = np.flatnonzero(np.diff(heights[order]) > _SAME_POSITION_MM) + 1
    # A tag that some files lack cannot order them.
    tags = [i for i in range(len(_TIME_TAGS)) if not any(math.isnan(s.times[i]) for s in slices)]
    positions = [
        sorted((slices[i] for i in group), key=lambda s: [s.times[i] for i in tags])
        for group in np.split(order, breaks)
    ]
    counts = sorted({len(group) for group in positions})
    if len(counts) > 1:
        raise ImageError(
            f"{source.name} has {counts[0]} time points at some slice positions and {counts[-1]} at others; "
            "export the complete series"
        )
    for group in positions:
        if len({tuple(s.times[i] for i in tags) for s in group}) < len(group):
            raise ImageError(
                f"{source.name} has files at one slice position with the same trigger time and instance number; "
                "remove copies, or export the original series"
            )
    return positions


def _grid(source: Source, slices: Sequence[_Slice]) -> ImageGrid:
    """The grid on which a stack of slices lies, sorted along the normal."""
    first = slices[0]
    if len(slices) == 1:
        raise ImageError(f"{source.name} is 2D: it has slices at one position only; give the folder of a whole series")
    origins = np.array([s.position for s in slices])
    step = (origins[-1] - origins[0]) / (len(slices) - 1)
    spacing = float(step @ first.direction[:, 2])
    away = np.linalg.norm(origins - origins[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if away.max() > _UNEVEN * spacing:
        gaps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
        raise GeometryError(
            f"{source.name} has unevenly spaced slices ({gaps.min():.4g} to {gaps.max():.4g} mm); "
            "a slice may be missing: export the complete series"
        )
    sideways = np.linalg.norm(step - spacing * first.direction[:, 2]) * (len(slices) - 1)
    if sideways > min(first.spacing) / 2:
        raise GeometryError(
            f"{source.name} has slices stacked at a slant (gantry tilt); resample it onto a straight grid"
        )
    columns, rows, _ = first.size
    try:
        return ImageGrid(
            (len(slices), rows, columns), (*first.spacing, spacing), tuple(origins[0]), tuple(first.direction.ravel())
        )
    except GeometryError as error:
        raise GeometryError(f"{source.name}: {error}") from error


def _read_pixels(source: Source, slices: Sequence[_Slice]) -> NDArray[Any]:
    """(z, y, x). File by file, because the rescaling of each may differ and ITK's series reader takes the first's."""
    import SimpleITK as sitk

    reader, planes = _new_reader(), []
    for s in slices:
        reader.SetFileName(str(s.file))
        try:
            with quiet:
                planes.append(sitk.GetArrayFromImage(reader.Execute()).reshape(s.size[1], s.size[0]))
        except RuntimeError as error:
            raise _damaged(source, s.file) from error
        bits = int(reader.GetMetaData("0028|0100"))
        if is_dicom_cut(s.file, s.size[0] * s.size[1] * bits // 8):
            raise _damaged(source, s.file)
    return np.stack(planes)
