"""What there is to train on: which files are images, whose they are, how large, of what kind. Reads some, not all."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dlir.data.pair import Pair, Scan
from dlir.errors import ConfigError, GeometryError, ImageError
from dlir.io.reading import Volume, count_phases, read_image
from dlir.io.source import ending_of, files_matching
from dlir.training.cache import is_label_map
from dlir.training.config import ANY_IMAGE, Source
from dlir.training.subjects import Notice, find

Pairs = Literal["intra", "inter", "listed"]

# Images that are read, and of a group of files alike in name; what is found in them is taken for all.
_READ, _READ_ALIKE = 24, 2
# More kinds of names than this are none.
_MOST_PATTERNS = 6
# Folders that say what their files are; and images of one person at most, as long as nobody says that they are.
_MOST_KINDS, _MOST_OF_A_PERSON = 4, 30
# Of the values of a label map, so many at most; and of its neighbours where there is something, less than this differ.
_MOST_LABELS, _STREWN = 1000, 0.5
# Below this Hounsfield number is air, which a CT has and other images have not.
_AIR = -500
# Of the mean of another image of the same person: a contrast agent, or another sequence. Cines change by 0.03 at most.
_OTHER_MEAN = 0.06


@dataclass(frozen=True)
class Look:
    """What was found.

    files: patterns of the images below the folder. images: how many; subjects: whose they are, as pairs are to be made.
    pairs: how, and why so in words. by_folder: whether the files of a folder are one person's. grids: of the images
    that were read: size in voxels (x, y, z) and mm per voxel, as they would be turned (`oriented`). thick: whether
    slices are thick. ct: how many of those read are CT. tissue: of a CT, the Hounsfield number below which nearly all
    lies. changing: whether images of one person differ in contrast.
    """

    name: str
    files: tuple[str, ...]
    images: int
    subjects: int
    pairs: Pairs
    why: str
    by_folder: bool
    extents: NDArray[np.float64]
    spacings: NDArray[np.float64]
    thick: bool
    ct: int
    read: int
    tissue: float
    changing: bool


def look(data: Path, notice: Notice, pairs: Pairs | None = None) -> Look:
    """data: a folder or a manifest. notice: hears of files that are not used, and why. pairs: instead of a guess.

    Raises ConfigError where there is nothing to train on.
    """
    if data.is_file():
        patterns: tuple[str, ...] = ANY_IMAGE
    else:
        patterns = _image_patterns(data, notice)
    # A folder that is called by its name is nobody's.
    persons = (
        data.is_file() or pairs == "intra" or any(glob.has_magic(os.path.dirname(pattern)) for pattern in patterns)
    )
    found = find(Source.model_validate({"files": patterns, "subject": "folder" if persons else "file"}), data, notice)
    listed = any(isinstance(entry, Pair) for entry in found)
    scans = [s for e in found for s in ((e,) if isinstance(e, Scan) else (e.fixed, e.moving))]
    groups: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        groups[scan.subject].append(scan)
    volumes = _read_some(groups, notice)
    kind, why = ("listed", "the manifest lists them") if listed else _kind_of_pairs(groups, volumes, data.is_file())
    if pairs is not None and not listed:
        kind, why = pairs, "as you said"
    several = len(groups) > 1 and _of_a_person_each(groups)
    subjects = len(groups) if kind != "inter" or several else len(scans)
    read = [volume for own in volumes.values() for volume in own]
    thick = bool(np.median([max(v.grid.spacing) / min(v.grid.spacing) for v in read]) >= 2.5)
    cts = [volume for volume in read if _is_ct(volume.array)]
    grids = [_turned(volume, thick) for volume in read]
    return Look(
        name=data.stem if data.is_file() else data.resolve().name,
        files=patterns,
        images=len({scan.image for scan in scans}),
        subjects=subjects,
        pairs=kind,  # type: ignore[arg-type]
        why=why,
        by_folder=several,
        extents=np.array([extent for extent, _ in grids]),
        spacings=np.array([spacing for _, spacing in grids]),
        thick=thick,
        ct=len(cts),
        read=len(read),
        tissue=_tissue(cts),
        changing=any(_differs(own) for own in volumes.values() if len(own) > 1 and kind == "intra"),
    )


# -- which files are images ---------------------------------------------------------------------------


def _image_patterns(folder: Path, notice: Notice) -> tuple[str, ...]:
    """Patterns of the images below a folder, without its label maps, which are told by what they hold."""
    files = files_matching(folder, ANY_IMAGE)
    if not files:
        raise ConfigError(f"no image lies below '{folder}'; give a folder of NIfTI, NRRD, MHA or DICOM, or a manifest")
    alike = _alike(files, _kinds(folder, files))
    labels = {pattern: own for pattern, own in alike.items() if _hold_labels(folder, own)}
    for pattern, own in labels.items():
        notice(pattern, f"'{pattern}' ({len(own)} files) holds label maps, which are not trained with")
    images = [pattern for pattern in alike if pattern not in labels]
    if not images:
        raise ConfigError(f"all files below '{folder}' are label maps; give the folder of the images")
    images = _of_most_phases(folder, {pattern: alike[pattern] for pattern in images}, notice)
    if len(images) <= _MOST_PATTERNS:
        return tuple(images)
    # Names that have nothing in common.
    wide = tuple(dict.fromkeys(f"{'*/' * f.count('/')}*{_ending(f)}" for p in images for f in alike[p]))
    if labels:
        notice(str(folder), "label maps lie among images that are called in no common way; move them elsewhere")
    return wide


def _of_most_phases(folder: Path, alike: Mapping[str, list[str]], notice: Notice) -> list[str]:
    """Where there are 4D files, these alone: each is a person's, and others beside them are no part of it."""

    def phases(file: str) -> int:
        try:
            return count_phases(str(folder / file))
        except (ImageError, GeometryError):
            return 1

    several = [pattern for pattern, own in alike.items() if not own[0].lower().endswith(".dcm") and phases(own[0]) > 1]
    for pattern in set(alike) - set(several) if several else ():
        notice(
            pattern, f"'{pattern}' ({len(alike[pattern])} files) are 3D, beside 4D files that make pairs in themselves"
        )
    return several or list(alike)


def _kinds(folder: Path, files: Sequence[str]) -> set[str]:
    """Folders that say what their files are, not whose: `images` and `labels`, with files of the same names."""
    names: dict[str, set[str]] = defaultdict(set)
    for file in files:
        names[os.path.dirname(file)].add(os.path.basename(file))
    shared = [place for place in names if any(names[place] & names[other] for other in names if other != place)]
    if not 2 <= len(shared) <= _MOST_KINDS:
        return set()
    told = {_hold_labels(folder, [f for f in files if os.path.dirname(f) == place]) for place in shared}
    return set(shared) if len(told) == 2 else set()


def _alike(files: Sequence[str], kinds: set[str]) -> Mapping[str, list[str]]:
    """Files by a pattern that says what their names have in common: folders may be called anyhow, digits change.

    kinds: folders that are called by their names.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for file in files:
        folders[os.path.basename(file)].add(os.path.dirname(file))
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        place, name = os.path.split(file)
        if name.lower().endswith(".dcm"):
            common = "*.dcm"
        elif len(folders[name]) > 1 and place not in kinds:
            common = glob.escape(name)
        else:
            ending = _ending(name)
            stem = glob.escape(name[: len(name) - len(ending)])
            common = re.sub("[0-9]", lambda digit: "[0-9]", stem) + ending
        above = glob.escape(place) + "/" if place in kinds else "*/" * file.count("/")
        groups[above + common].append(file)
    return groups


def _ending(name: str) -> str:
    """In small letters, which match capitals, too."""
    return (ending_of(name) or os.path.splitext(name)[1]).lower()


def _hold_labels(folder: Path, files: Sequence[str]) -> bool:
    """Whether those that are looked at, of files that are alike in name, are all label maps."""
    if files[0].lower().endswith(".dcm"):
        return False
    told = []
    for file in (files[0], files[-1])[:_READ_ALIKE]:
        try:
            path = str(folder / file)
            told.append(_are_labels(read_image(path if count_phases(path) == 1 else f"{path}#0").array))
        except (ImageError, GeometryError):
            continue
    return bool(told) and all(told)


def _are_labels(array: NDArray[Any]) -> bool:
    """Whether an array is what training refuses as a label map, or one of more structures: of whole numbers, not too
    many, most of which have neighbours along x of their own value, the background apart.
    """
    if is_label_map(array):
        return True
    values, counts = np.unique(array, return_counts=True)
    if len(values) > _MOST_LABELS or not np.array_equal(values, np.round(values)):
        return False
    marked = array != values[counts.argmax()]
    either = np.count_nonzero(marked[..., 1:] | marked[..., :-1])
    return bool(np.count_nonzero(array[..., 1:] != array[..., :-1]) < _STREWN * either)


# -- whose they are -----------------------------------------------------------------------------------


def _read_some(groups: Mapping[str, list[Scan]], notice: Notice) -> dict[str, list[Volume]]:
    """Some images of some subjects: of each the first and the last. Raises ConfigError where none can be read."""
    names = list(groups)
    chosen = names[:: max(1, -(-2 * len(names) // _READ))]
    found: dict[str, list[Volume]] = {}
    for name in chosen:
        own = groups[name]
        at = sorted({0, len(own) - 1} if len(names) > 1 else set(np.linspace(0, len(own) - 1, _READ // 2, dtype=int)))
        for scan in (own[k] for k in at):
            try:
                found.setdefault(name, []).append(read_image(scan.image, "training image"))
            except (ImageError, GeometryError) as error:
                notice(scan.image, str(error))
    if not found:
        raise ConfigError("none of the images can be read; check them with `dlir data check`")
    return found


def _of_a_person_each(groups: Mapping[str, list[Scan]]) -> bool:
    """Whether most folders hold several files, and no more than one person has."""
    sizes = [1 if name in ("", ".") else len(own) for name, own in groups.items()]
    return sum(1 < size <= _MOST_OF_A_PERSON for size in sizes) > len(groups) / 2


def _kind_of_pairs(
    groups: Mapping[str, list[Scan]], volumes: Mapping[str, list[Volume]], manifest: bool
) -> tuple[str, str]:
    """Within a person or between persons, and the reason."""
    if 2 * sum(any("#" in scan.image for scan in own) for own in groups.values()) >= len(groups):
        return "intra", "a 4D file is one person's"
    if not _of_a_person_each(groups):
        return "inter", "most subjects have one image" if manifest else "each file is taken for a person's"
    what = "images with one subject in the manifest" if manifest else "the images of a folder"
    if all(own[0].grid.same_as(volume.grid) for own in volumes.values() for volume in own[1:]):
        return "intra", f"{what} lie on one grid, so they are taken for one person's"
    if len(groups) == 1:
        return "inter", "the images lie on different grids, so each is taken for a person's"
    return "inter", f"{what} lie on different grids, on which no pairs within a person are trained"


# -- what they are ------------------------------------------------------------------------------------


def _turned(volume: Volume, thick: bool) -> tuple[list[float], list[float]]:
    """Extent and spacing, mm (x, y, z), with the axes as the preprocessing will have them."""
    grid = volume.grid
    if thick:
        last = max(range(3), key=lambda a: (grid.spacing[a], a))
        grid = grid.permuted([a for a in range(3) if a != last] + [last])
    else:
        grid = grid.canonical()
    return list(grid.extent), list(grid.spacing)


def _is_ct(array: NDArray[np.float32]) -> bool:
    """Hounsfield numbers have air far below zero, and tissue about it."""
    return bool(array.min() < _AIR and array.max() > 100 and np.median(array[array > _AIR]) > -200)


def _tissue(cts: Sequence[Volume]) -> float:
    return max((float(np.percentile(v.array[v.array > _AIR], 99.5)) for v in cts), default=0.0)


def _differs(own: Sequence[Volume]) -> bool:
    """Whether the contrast changes between the first and the last of one person's images."""
    first, last = (float(volume.array.mean() - volume.array.min()) for volume in (own[0], own[-1]))
    return abs(last - first) > _OTHER_MEAN * max(first, last)
