"""Anybody's data: a folder whose names say what belongs together, or a table that does."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from dlir.data.pair import IMAGE_ENDINGS, Pair, Scan, ordered_pairs, require_folder, stem
from dlir.errors import EvaluationError
from dlir.io.points import POINT_SUFFIXES

_LABEL_ENDINGS = ("_label", "_labels", "_gt", "_seg")
_MASK_ENDING, _POINTS_ENDING = "_mask", "_landmarks"


class ImageFolder:
    """Images with their labels, masks and landmarks beside them: NAME.nii.gz, NAME_label.nii.gz, NAME_mask.nii.gz,
    NAME_landmarks.csv; NIfTI, NRRD or MHA, "_gt" or "_seg" instead of "_label", any landmark file DLIR reads.

    With subfolders, each one is a subject and its images are registered to each other; without, each image is a
    subject and is registered to all others. Both ways.
    """

    labels: Mapping[int, str] = {}

    def __init__(self, folder: Path) -> None:
        require_folder(folder, "image")
        self.folder = folder
        self.title = folder.resolve().name

    def pairs(self) -> list[Pair]:
        """All ordered pairs of images that belong together."""
        subfolders = sorted(path for path in self.folder.iterdir() if path.is_dir() and _images(path))
        if subfolders:
            groups = [[_scan(path, folder.name, stem(path)) for path in _images(folder)] for folder in subfolders]
        else:
            groups = [[_scan(path, stem(path), "") for path in _images(self.folder)]]
        pairs = [pair for group in groups for pair in ordered_pairs(group)]
        if not pairs:
            raise EvaluationError(f"folder '{self.folder}' holds no two images of one kind; see the layout it needs")
        return pairs


def _images(folder: Path) -> list[Path]:
    """The images of a folder that are not labels or masks of others."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name.endswith(IMAGE_ENDINGS)]
    return sorted(path for path in files if not stem(path).endswith((*_LABEL_ENDINGS, _MASK_ENDING)))


def _scan(image: Path, subject: str, part: str) -> Scan:
    base = image.parent / stem(image)
    return Scan(
        subject,
        part,
        str(image),
        _beside(base, _LABEL_ENDINGS, IMAGE_ENDINGS),
        _beside(base, (_MASK_ENDING,), IMAGE_ENDINGS),
        _beside(base, (_POINTS_ENDING,), (".mrk.json", *POINT_SUFFIXES)),
    )


def _beside(base: Path, endings: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    candidates = (Path(f"{base}{ending}{suffix}") for ending in endings for suffix in suffixes)
    return next((str(path) for path in candidates if path.exists()), "")


class Manifest:
    """A CSV table with one pair a row, in the direction it says. Paths count from the table's folder.

    Columns: fixed and moving (images); optional fixed_label, moving_label, fixed_mask, moving_mask,
    fixed_landmarks, moving_landmarks, fixed_subject, moving_subject. Without subjects, an image is its own. An image is
    called by its file's name, or, where two files or phases share that, as the table writes it.
    """

    labels: Mapping[int, str] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = path.stem

    def pairs(self) -> list[Pair]:
        """The rows. Raises EvaluationError for a table that cannot be read or lacks a column."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise EvaluationError(f"manifest '{self.path}' cannot be read ({error}); give a CSV table") from None
        if not rows or not {"fixed", "moving"} <= set(rows[0]):
            raise EvaluationError(f"manifest '{self.path}' needs the columns fixed and moving and a row; correct it")
        written = {row.get(role) or "" for row in rows for role in ("fixed", "moving")}
        alike = Counter(stem(Path(image)) for image in written)
        names = {image: image if alike[stem(Path(image))] > 1 else stem(Path(image)) for image in written}
        return [Pair(self._scan(row, "fixed", names), self._scan(row, "moving", names)) for row in rows]

    def _scan(self, row: Mapping[str, str | None], role: str, names: Mapping[str, str]) -> Scan:
        def path(column: str) -> str:
            name = row.get(column) or ""
            return str(self.path.parent / name) if name else ""

        image = row.get(role) or ""
        name = names[image]
        subject = row.get(f"{role}_subject") or ""
        return Scan(
            subject or name,
            name if subject else "",
            path(role),
            path(f"{role}_label"),
            path(f"{role}_mask"),
            path(f"{role}_landmarks"),
            problem="" if image else f"manifest '{self.path}' has a row without a {role} image; correct the file",
        )
