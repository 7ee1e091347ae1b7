"""Who is there: the images of each subject, and who is kept for validation. Opens headers only."""

from __future__ import annotations

import csv
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from dlir.errors import ConfigError, GeometryError, ImageError
from dlir.io.reading import count_phases
from dlir.training.config import Source

# Hears what is left out, an image or a subject, and why.
Notice = Callable[[str, str], None]

_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".zip")
_ROLE = "training image"
_PAIR_COLUMNS = ("fixed", "moving")
_COLUMNS = {
    "image": ("image", "mask", "subject", "split"),
    "pair": ("fixed", "moving", "fixed_mask", "moving_mask", "subject", "split"),
}
_SPLITS = {"": None, "train": False, "validation": True}


@dataclass(frozen=True)
class ImageFile:
    """One volume: its image specification, its mask's or None, and the subject that it belongs to.

    validation: what a manifest says of the subject; None where it leaves the split to the configuration.
    """

    image: str
    mask: str | None
    subject: str
    validation: bool | None = None


@dataclass(frozen=True)
class PairFile:
    """One pair of a manifest, fixed and moving image.

    subject: as the manifest calls it, or the pair's own name. Pairs of one subject are held out together or not at all.
    """

    fixed: ImageFile
    moving: ImageFile
    subject: str


Found = list[ImageFile] | list[PairFile]


def find(source: Source, data: Path, notice: Notice) -> Found:
    """The volumes of a source, or its pairs where these are listed; `notice` hears of files that are no images.

    data: a folder, or a manifest (CSV). Raises ConfigError where there is nothing, or for a manifest that is not valid.
    """
    if data.is_file():
        return _read_manifest(source, data, notice)
    if source.pairs == "listed":
        raise ConfigError(f"'{data}' is no manifest, and listed pairs come from one; give --data a .csv file")
    return find_images(source, data, notice)


def find_images(source: Source, root: Path, notice: Notice) -> list[ImageFile]:
    """The volumes of a source below the folder `root`, by name. Raises ConfigError where there is no file."""
    matching = {f for pattern in source.files for f in glob.glob(pattern, root_dir=root, recursive=True)}
    files = sorted({_series_of(f) for f in matching})
    if not files:
        raise ConfigError(f"no file matches {source.files} under '{root}'; check the data folder and the patterns")
    masks = {file: _mask_beside(source, root, Path(file)) for file in files}
    taken = set(masks.values())
    found: list[ImageFile] = []
    for file, mask in masks.items():
        path = Path(file)
        subject = path if source.subject_is_file else path.parent
        if str(root / file) not in taken:
            found += _volumes(str(root / file), mask, subject, path, notice)
    return found


def _series_of(file: str) -> str:
    """A slice of a DICOM series stands for the folder that holds it."""
    return str(Path(file).parent) if file.lower().endswith(".dcm") else file


def _volumes(spec: str, mask: str | None, subject: Path, itself: Path, notice: Notice) -> list[ImageFile]:
    """The phases of one file; one that holds several is a subject itself."""
    try:
        phases = count_phases(spec, role=_ROLE)
    except (ImageError, GeometryError) as error:
        notice(spec, str(error))
        return []
    if phases == 1:
        return [ImageFile(spec, mask, subject.as_posix())]
    return [ImageFile(f"{spec}#{i}", mask, itself.as_posix()) for i in range(phases)]


def _mask_beside(source: Source, root: Path, file: Path) -> str | None:
    if source.mask is None:
        return None
    path = root / source.mask.format(folder=file.parent.as_posix(), stem=stem(file.name))
    return str(path) if path.is_file() else None


def stem(name: str) -> str:
    """A file name without the suffixes of an image."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


# -- manifests ----------------------------------------------------------------------------------------


def _read_manifest(source: Source, path: Path, notice: Notice) -> Found:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read manifest '{path}': {error}; give a CSV file in UTF-8") from None
    kind = "pair" if source.pairs == "listed" else "image"
    known = _COLUMNS[kind]
    needed = _PAIR_COLUMNS if kind == "pair" else ("image",)
    wrong = [str(column) for column in columns if column not in known]
    if wrong or not all(column in columns for column in needed):
        told = f"has no column '{wrong[0]}' to have" if wrong else "lacks a column"
        raise ConfigError(
            f"manifest '{path}' {told}: {source.pairs} pairs need {' and '.join(needed)}, and may have "
            f"{', '.join(c for c in known if c not in needed)}"
        )
    if longer := [number for number, row in enumerate(rows, 2) if None in row]:
        raise ConfigError(f"manifest '{path}', line {longer[0]}: it has more entries than the first line names columns")
    if kind == "pair":
        pairs = [_pair_row(path, number, row) for number, row in enumerate(rows, 2)]
        _check_splits(path, [(pair.subject, pair.fixed.validation) for pair in pairs])
        return pairs
    images = [i for number, row in enumerate(rows, 2) for i in _image_row(path, number, row, source, notice)]
    _check_splits(path, [(image.subject, image.validation) for image in images])
    return images


def _check_splits(path: Path, stated: Sequence[tuple[str, bool | None]]) -> None:
    """Raises ConfigError for a subject that is both trained with and validated on."""
    training, validation = ({name for name, value in stated if value is wanted} for wanted in (False, True))
    if both := sorted(training & validation):
        raise ConfigError(f"manifest '{path}': subject '{both[0]}' is in train and in validation; choose one")


def _image_row(path: Path, number: int, row: dict[str, str], source: Source, notice: Notice) -> list[ImageFile]:
    spec = _entry(path, number, row, "image")
    file = Path(row["image"])
    given = (row.get("subject") or "").strip()
    subject = Path(given) if given else file if source.subject_is_file else file.parent
    mask = _beside(path, row.get("mask"))
    split = _split(path, number, row)
    volumes = _volumes(spec, mask, subject, Path(given) if given else file, notice)
    return [ImageFile(v.image, v.mask, v.subject, split) for v in volumes]


def _pair_row(path: Path, number: int, row: dict[str, str]) -> PairFile:
    split = _split(path, number, row)
    fixed, moving = (
        ImageFile(_entry(path, number, row, name), _beside(path, row.get(f"{name}_mask")), row[name], split)
        for name in _PAIR_COLUMNS
    )
    given = (row.get("subject") or "").strip()
    return PairFile(fixed, moving, given or f"{fixed.subject} to {moving.subject}")


def _entry(path: Path, number: int, row: dict[str, str], column: str) -> str:
    spec = _beside(path, row[column])
    if spec is None:
        raise ConfigError(f"manifest '{path}', line {number}: '{column}' is empty; name an image")
    return spec


def _beside(path: Path, entry: str | None) -> str | None:
    """A manifest's entry as a path: relative ones start from the manifest's folder."""
    return str(path.parent / entry.strip()) if entry and entry.strip() else None


def _split(path: Path, number: int, row: dict[str, str]) -> bool | None:
    value = (row.get("split") or "").strip().lower()
    if value not in _SPLITS:
        raise ConfigError(f"manifest '{path}', line {number}: split '{value}' is neither train nor validation")
    return _SPLITS[value]


# -- who is held out ----------------------------------------------------------------------------------


def held_out(names: Sequence[str], source: Source, seed: int) -> set[str]:
    """The subjects kept for validation, of all the subjects of a source in order of their names."""
    if source.validation_last:
        return set(names[-source.validation_last :])
    if source.validation_fraction:
        count = max(1, round(source.validation_fraction * len(names)))
        return {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:count]}
    return {name for name in names if _matches(name, source.validation)}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    *folders, last = name.split("/")
    return any(fnmatch(part, pattern) for part in (name, *folders, last, stem(last)) for pattern in patterns)
