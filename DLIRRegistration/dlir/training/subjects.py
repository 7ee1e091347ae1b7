"""Who is there: the images of each subject, and who is kept for validation. Opens headers only."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from dlir.data.manifest import TEST, read_manifest, splits_of
from dlir.data.pair import Pair, Scan
from dlir.errors import ConfigError, GeometryError, ImageError, note
from dlir.io.source import files_matching, stem, with_ending_as_written
from dlir.training.config import Source

# Hears what is left out, an image or a subject, and why.
Notice = Callable[[str, str], None]

_ROLE = "training image"
# Subjects that a validation needs at least, and a training.
_FEWEST = {"intra": 1, "listed": 1, "inter": 2}


def find(source: Source, data: Path, notice: Notice) -> Sequence[Pair | Scan]:
    """The volumes of a source, or the pairs of a manifest that lists pairs, each with its subject.

    data: a folder, or a manifest, of which the rows for testing are not opened. notice: hears of files that are no
    images. Raises ConfigError where there is nothing, or for a manifest that is not valid.
    """
    if source.pairs == "listed" and not data.is_file():
        raise ConfigError(f"'{data}' is no manifest, and listed pairs come from one; give --data a .csv file")
    found = _of_manifest(source, data, notice) if data.is_file() else find_images(source, data, notice)
    names = sorted({entry.subject for entry in found})
    if not source.test_last or any(entry.split for entry in found):
        return found
    if len(names) <= source.test_last:
        raise ConfigError(
            f"test_last {source.test_last} keeps all {len(names)} subjects in '{data}' for testing; lower it, or add "
            "more"
        )
    kept = set(names[-source.test_last :])
    note(f"kept for testing, so not opened: the last {len(kept)} of {len(names)} subjects in '{data}' (test_last)")
    return [entry for entry in found if entry.subject not in kept]


def _of_manifest(source: Source, data: Path, notice: Notice) -> Sequence[Pair | Scan]:
    rows = read_manifest(data)
    if source.pairs == "listed" and not isinstance(rows[0], Pair):
        raise ConfigError(f"manifest '{data}' lists images, not pairs; leave out the configuration's `pairs: listed`")
    if all(row.split == TEST for row in rows):
        raise ConfigError(f"manifest '{data}' keeps all its rows for testing; mark some with split train")
    found: list[Pair | Scan] = []
    for row in rows:
        if isinstance(row, Pair):
            found.append(replace(row, subject=row.subject or called(row, data)))
            continue
        file = Path(_below(row.image, data.parent))
        subject = row.subject or source.subject_of(file).as_posix()
        if row.split == TEST:
            found.append(replace(row, subject=subject))
        else:
            found += _volumes(row, subject, row.subject or file.as_posix(), notice)
    stated = splits_of(data, (("", [row.subject], row.split) for row in found))
    found = [replace(row, split=stated.get(row.subject, "")) for row in found]
    return [row for row in found if row.split != TEST]


def called(pair: Pair, manifest: Path) -> str:
    """A pair by its images, as the manifest writes them."""
    return f"{_below(pair.fixed.image, manifest.parent)} to {_below(pair.moving.image, manifest.parent)}"


def _below(image: str, folder: Path) -> str:
    return Path(image.removeprefix(f"{folder}{os.sep}")).as_posix()


def find_images(source: Source, root: Path, notice: Notice) -> list[Scan]:
    """The volumes of a source below the folder `root`, by name. Raises ConfigError where there is no file."""
    files = sorted({_series_of(f) for f in files_matching(root, source.files)})
    if not files:
        raise ConfigError(f"no file matches {source.files} under '{root}'; check the data folder and the patterns")
    masks = {file: _mask_beside(source, root, Path(file)) for file in files}
    taken = set(masks.values())
    found: list[Scan] = []
    for file, mask in masks.items():
        path = Path(file)
        if str(root / file) not in taken:
            scan = Scan("", image=str(root / file), mask=mask)
            found += _volumes(scan, source.subject_of(path).as_posix(), path.as_posix(), notice)
    return found


def _series_of(file: str) -> str:
    """A slice of a DICOM series stands for the folder that holds it."""
    return str(Path(file).parent) if file.lower().endswith(".dcm") else file


def _volumes(scan: Scan, subject: str, itself: str, notice: Notice) -> list[Scan]:
    """The phases of one file; one that holds several is a subject itself."""
    try:
        phases = scan.phases(_ROLE)
    except (ImageError, GeometryError) as error:
        notice(scan.image, str(error))
        return []
    return [replace(phase, subject=itself if len(phases) > 1 else subject) for phase in phases]


def _mask_beside(source: Source, root: Path, file: Path) -> str:
    if source.mask is None:
        return ""
    path = with_ending_as_written(root / source.mask.format(folder=file.parent.as_posix(), stem=stem(file)))
    return str(path) if path.is_file() else ""


# -- who is held out ----------------------------------------------------------------------------------


def held_out(names: Sequence[str], source: Source, seed: int) -> set[str]:
    """The subjects kept for validation, of all the subjects of a source in order of their names."""
    if source.validation_last:
        return set(names[-source.validation_last :])
    if source.validation_fraction:
        fewest = _FEWEST[source.pairs]
        count = max(fewest, round(source.validation_fraction * len(names)))
        count = count if len(names) - count >= fewest else 0
        return {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:count]}
    return {name for name in names if _matches(name, source.validation)}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    *folders, last = name.split("/")
    return any(fnmatch(part, pattern) for part in (name, *folders, last, stem(last)) for pattern in patterns)
