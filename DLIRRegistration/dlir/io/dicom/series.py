"""DICOM series from a folder or a zip archive: slices sorted in space and, at each position, in time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import GeometryError, ImageError, shown
from dlir.geometry import ImageGrid
from dlir.io.dicom.header import CONTRASTS, Slice, claims_image, header, new_reader, unknown_compression
from dlir.io.dicom.time import order_in_time, seconds_of
from dlir.io.formats.archive import unpacked
from dlir.io.formats.files import FilePhases
from dlir.io.formats.integrity import is_dicom_cut
from dlir.io.memory import memory_limit
from dlir.io.names import require_utf8
from dlir.io.quiet import quiet
from dlir.io.source import Source

_SAME_POSITION_MM = 0.01  # scanners repeat a position to a few micrometres
_UNEVEN = 0.05  # largest distance of a slice from its place on the grid, in slice spacings
_BYTES = 4  # of a voxel in memory
_LISTED = 5  # series, or kinds of image
# Relative difference of settings that are meant to be one: among images of one slice, and among slices, which may
# each have a time of inversion that suits them.
_SAME_CONTRAST, _SIMILAR_CONTRAST = 0.01, 0.5
_COMPONENTS = {"M": "magnitude", "P": "phase", "R": "real part", "I": "imaginary part", "W": "water", "F": "fat"}


def is_dicom_source(source: Source) -> bool:
    """Whether the source is to be read as a DICOM series: a folder or a .zip file."""
    return source.path.is_dir() or source.path.suffix.lower() == ".zip"


def count_dicom_phases(source: Source) -> int:
    """Number of time points of a series, from its headers. Raises as `read_dicom`."""
    with _files(source) as files:
        positions = _sort(source, files)
    _grid(source, [slices[0] for slices in positions])
    return len(positions[0])


def read_dicom(source: Source) -> tuple[NDArray[Any], ImageGrid]:
    """Voxels (z, y, x), rescaled to their real-world values, and grid of a series or one time point of it.

    Slices are ordered along their normal (rows x columns). Files that are no DICOM images are passed over. Several
    series are read where each is one slice of the same stack.
    Raises ImageError for a folder with no series or several, with several kinds of image (magnitude and phase,
    echoes), and for files that make no volume; GeometryError for slices that are not parallel, not evenly spaced,
    or stacked obliquely.
    """
    with _files(source) as files:
        positions = _sort(source, files)
        phase = source.choose_phase(len(positions[0]))
        slices = [slices[phase] for slices in positions]
        grid = _grid(source, slices)
        return _read_pixels(source, slices), grid


def read_dicom_phases(source: Source) -> FilePhases:
    """All time points of a series, in order of acquisition; the files are looked for and sorted once.

    Raises as `read_dicom`.
    """
    with _files(source) as files:
        positions = _sort(source, files)
        grid = _grid(source, [slices[0] for slices in positions])
        count = len(positions[0])
        if _BYTES * count * math.prod(grid.shape) > memory_limit():
            raise ImageError(f"{source.name} has {count} time points, more than the memory holds; give some of them")
        phases = [_read_pixels(source, [slices[phase] for slices in positions]) for phase in range(count)]
    return FilePhases(np.stack(phases), grid, seconds_of(np.array([[s.clocks for s in group] for group in positions])))


def instance_positions(source: Source) -> dict[int, NDArray[np.float64]]:
    """LPS mm of the first voxel of every image of a series, or of the time point that was asked for, by its number.

    Raises as `read_dicom`, and ImageError for images that share a number.
    """
    with _files(source) as files:
        positions = _sort(source, files)
    if source.phase is not None:
        phase = source.choose_phase(len(positions[0]))
        positions = [[slices[phase]] for slices in positions]
    found = [s for slices in positions for s in slices if np.isfinite(s.instance)]
    numbered = {int(s.instance): s.position for s in found}
    if len(numbered) < len(found):
        raise ImageError(f"{source.name} has images that share an instance number; give the original series")
    return numbered


@contextmanager
def series_files(source: Source) -> Iterator[tuple[list[Path], ImageGrid]]:
    """The files of the slices of a series, or of one time point of it, in their order, and the grid they lie on.

    Raises as `read_dicom`.
    """
    with _files(source) as files:
        positions = _sort(source, files)
        phase = source.choose_phase(len(positions[0]))
        slices = [slices[phase] for slices in positions]
        yield [s.file for s in slices], _grid(source, slices)


@contextmanager
def _files(source: Source) -> Iterator[dict[Path, str]]:
    """The files of a folder and its subfolders or of an archive, in the order of their names, with these."""
    if source.path.is_dir():
        found: dict[Path, str] = {}
        for parent, folders, files in os.walk(source.path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = [Path(parent) / name for name in sorted(files) if not name.startswith(".")]
            found.update({path: str(path.relative_to(source.path)) for path in paths})
        yield found
    else:
        with unpacked(source) as names:
            yield names


def _scan(source: Source, files: dict[Path, str]) -> list[Slice]:
    """The headers of all DICOM images among the files."""
    slices, reader = [], new_reader()
    with quiet:
        for file, name in files.items():
            reader.SetFileName(require_utf8(file, f"file '{shown(name)}' of {source.name}", ImageError))
            try:
                reader.ReadImageInformation()
            except RuntimeError as error:
                if claims_image(file, name):
                    raise _unreadable(source, file, name) from error
                continue  # a report, a note, an index: folders of scanners hold more than images
            slices.append(header(file, name, reader))
    if not slices:
        raise ImageError(f"{source.name} holds no DICOM image; give a DICOM folder or an image file")
    return slices


def _unreadable(source: Source, file: Path, name: str) -> ImageError:
    if compression := unknown_compression(file):
        return ImageError(
            f"{source.name} is compressed in a way that cannot be read here ({compression}, file '{shown(name)}'); "
            "convert it to uncompressed DICOM, or export it so"
        )
    return ImageError(f"{source.name} has a damaged DICOM file ('{shown(name)}'); copy or export the series again")


def _sort(source: Source, files: dict[Path, str]) -> list[list[Slice]]:
    """The images of the one series by position along the normal and, within each, by time.

    The same number at every position.
    """
    slices = _only_series(source, _scan(source, files))
    _require_place(source, slices)
    positions = _positions(slices)
    _require_one_kind(source, positions)
    counts = sorted({len(group) for group in positions})
    if len(counts) > 1:
        raise ImageError(
            f"{source.name} has {counts[0]} time points at some slice positions and {counts[-1]} at others; "
            "export the complete series"
        )
    clocks = np.array([[s.clocks for s in group] for group in positions])
    orders = order_in_time(clocks, source.name)
    return [[group[i] for i in order] for group, order in zip(positions, orders, strict=True)]


# -- one series ---------------------------------------------------------------------------------------


def _only_series(source: Source, slices: Sequence[Slice]) -> Sequence[Slice]:
    """The slices, once they are known to be plain images of one series or of one stack with a series per slice."""
    series: dict[str, list[Slice]] = {}
    for s in slices:
        series.setdefault(s.series, []).append(s)
    if len(series) > 1 and not _is_stack(list(series.values())):
        listed = [f"'{members[0].title or 'without name'}' of {len(members)} files" for members in series.values()]
        more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
        raise ImageError(
            f"{source.name} holds {len(series)} DICOM series: {', '.join(listed[:_LISTED])}{more}; "
            "give a folder with one of them, or with all of one stack if each slice is a series (alike in kind, size, "
            "orientation, frame of reference and number of time points)"
        )
    if any(s.is_multiframe for s in slices):
        raise ImageError(f"{source.name} is a multi-frame DICOM file; convert it to NIfTI, for example with dcm2niix")
    if any(s.components != 1 for s in slices):
        raise ImageError(f"{source.name} holds colour images; give an image with one value per voxel")
    return slices


def _is_stack(series: list[list[Slice]]) -> bool:
    """Whether every series is another slice of one stack: in nothing but their positions do they differ.

    Each may hold several kinds of image, the same in all.
    """
    slices = [s for members in series for s in members]
    first = slices[0]
    alike = all(
        s.frame == first.frame != ""
        and s.size == first.size
        and np.allclose(s.spacing, first.spacing, rtol=1e-4)
        and np.allclose(s.direction, first.direction, atol=1e-3)
        for s in slices
    )
    if not alike or not np.isfinite([s.position for s in slices]).all():
        return False
    ordered = [sorted(members, key=lambda s: (s.kind, s.contrasts)) for members in series]
    if any(len(members) != len(ordered[0]) for members in ordered) or any(
        len({s.kind for s in group}) > 1 or _contrasts(group, _SIMILAR_CONTRAST) for group in zip(*ordered, strict=True)
    ):
        return False
    positions = _positions(slices)
    return len(positions) == len(series) and all(len({s.series for s in group}) == 1 for group in positions)


def _require_place(source: Source, slices: Sequence[Slice]) -> None:
    """Raises ImageError or GeometryError unless the slices state where they lie, and lie beside each other."""
    for what, stated in (
        ("a slice position (ImagePositionPatient)", [s.position for s in slices]),
        ("a valid orientation (ImageOrientationPatient)", [s.direction for s in slices]),
        ("a pixel spacing (PixelSpacing)", [s.spacing for s in slices]),
    ):
        if missing := [shown(s.name) for s, value in zip(slices, stated, strict=True) if np.isnan(value).any()]:
            raise ImageError(
                f"{source.name} has DICOM files without {what}, for example '{missing[0]}'; export the original series"
            )
    first = slices[0]
    if not all(np.allclose(s.direction, first.direction, atol=1e-3) for s in slices):
        raise GeometryError(f"{source.name} has slices that are not parallel; give a series without localizers")
    if len({s.size for s in slices}) > 1 or not np.allclose([s.spacing for s in slices], first.spacing, rtol=1e-4):
        raise GeometryError(f"{source.name} has slices of different size or pixel spacing; give one series")


def _positions(slices: Sequence[Slice]) -> list[list[Slice]]:
    """The slices by where they lie along the normal."""
    heights = np.array([s.position @ slices[0].direction[:, 2] for s in slices])
    order = np.argsort(heights, kind="stable")
    breaks = np.flatnonzero(np.diff(heights[order]) > _SAME_POSITION_MM) + 1
    return [[slices[i] for i in group] for group in np.split(order, breaks)]


# -- one kind of image --------------------------------------------------------------------------------


def _require_one_kind(source: Source, positions: list[list[Slice]]) -> None:
    """Raises ImageError for a series of several contrasts, which are no time points of each other."""
    slices = [s for group in positions for s in group]
    # What an image is comes third in its type, after how it was made, which matters only among images of one slice.
    kinds = next((group for group in positions if len({s.kind for s in group}) > 1), [])
    found = _types(kinds) if kinds else _types(slices, start=2)
    if len(found) < 2:
        found = next((found for group in positions if (found := _contrasts(group, _SAME_CONTRAST))), [])
    if not found:
        found = _contrasts(slices, _SIMILAR_CONTRAST)
    if found:
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        raise ImageError(
            f"{source.name} holds {len(found)} kinds of image: {', '.join(found[:_LISTED])}{more}; "
            "give a folder with the files of one kind (dcm2niix, for example, tells them apart)"
        )


def _types(slices: Sequence[Slice], start: int = 0) -> list[str]:
    """The different image types, in words; only one where all are alike."""
    types = sorted({s.kind[start:] for s in slices})
    common = set.intersection(*(set(values) for values in types))
    shown = []
    for values in types:
        own = [value for value in values if value and value not in common]
        word = next((_COMPONENTS[value] for value in own if value in _COMPONENTS), "")
        text = "\\".join(own) or "plain"
        shown.append(f"{word} ({text})" if word else text)
    return shown


def _contrasts(slices: Sequence[Slice], tolerance: float) -> list[str]:
    """The different values of the first setting of the scanner that divides the slices; empty where none does."""
    for i, (name, (_, unit)) in enumerate(CONTRASTS.items()):
        values = np.sort(np.unique([s.contrasts[i] for s in slices]))  # NaN, not stated, comes last
        new = np.diff(values, prepend=-np.inf) > tolerance * np.abs(values)
        different = values[new | np.isnan(values)]
        if len(different) > 1:
            return [f"no {name}" if np.isnan(value) else f"{name} {value:g}{unit}" for value in different]
    return []


# -- one volume ---------------------------------------------------------------------------------------


def _grid(source: Source, slices: Sequence[Slice]) -> ImageGrid:
    """The grid on which a stack of slices lies, sorted along the normal."""
    first = slices[0]
    if len(slices) == 1:
        raise ImageError(
            f"{source.name} is 2D: it has slices at one position only; give the folder of a whole series, "
            "or one with all series of a stack if each slice is a series"
        )
    origins = np.array([s.position for s in slices])
    step = (origins[-1] - origins[0]) / (len(slices) - 1)
    spacing = float(step @ first.direction[:, 2])
    away = np.linalg.norm(origins - origins[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if away.max() > _UNEVEN * spacing:
        gaps = np.diff(origins @ first.direction[:, 2])
        if np.ptp(gaps) <= _UNEVEN * spacing:
            raise GeometryError(
                f"{source.name} has slices shifted sideways, up to {away.max():.3g} mm out of line; "
                "resample it onto a straight grid"
            )
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
    size, lengths = (len(slices), rows, columns), (*first.spacing.tolist(), spacing)
    try:
        return ImageGrid(size, lengths, tuple(origins[0]), tuple(first.direction.ravel()))
    except GeometryError as error:
        raise GeometryError(f"{source.name}: {error}") from error


def _read_pixels(source: Source, slices: Sequence[Slice]) -> NDArray[Any]:
    """(z, y, x). File by file, because the rescaling of each may differ and ITK's series reader takes the first's."""
    import SimpleITK as sitk

    reader, planes = new_reader(), []
    for s in slices:
        reader.SetFileName(str(s.file))
        try:
            with quiet:
                planes.append(sitk.GetArrayFromImage(reader.Execute()).reshape(s.size[1], s.size[0]))
        except RuntimeError as error:
            raise _unreadable(source, s.file, s.name) from error
        bits = int(reader.GetMetaData("0028|0100"))
        if is_dicom_cut(s.file, s.size[0] * s.size[1] * bits // 8):
            raise _unreadable(source, s.file, s.name)
    return np.stack(planes)
