"""Anybody's data: a folder whose names say what belongs together."""

from __future__ import annotations

import os
from pathlib import Path

from dlir.data.pair import DataFolder, Pair, Scan, ordered_pairs
from dlir.errors import EvaluationError, note
from dlir.io.points import POINT_SUFFIXES
from dlir.io.source import IMAGE_ENDINGS, ending_of, stem, with_ending_as_written

_LABEL_ENDINGS = ("_label", "_labels", "_gt", "_seg")
_MASK_ENDING, _POINTS_ENDING = "_mask", "_landmarks"


class ImageFolder(DataFolder):
    """Images with their labels, masks and landmarks beside them: NAME.nii.gz, NAME_label.nii.gz, NAME_mask.nii.gz,
    NAME_landmarks.csv; NIfTI, NRRD or MHA, "_gt" or "_seg" instead of "_label", any landmark file DLIR reads.

    With subfolders, each one is a subject and its images are registered to each other; without, each image is a
    subject and is registered to all others. Both ways.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.title = folder.resolve().name

    def groups(self) -> list[list[Scan]]:
        """The images that belong together, by name, as their names alone tell. Raises EvaluationError for a folder that
        cannot be read.
        """
        subfolders = sorted(path for path in _entries(self.folder) if path.is_dir() and _shown(path) and _images(path))
        if subfolders:
            if beside := _images(self.folder):
                note(
                    f"'{self.folder}' has subfolders of images, each a subject, and {len(beside)} images beside them, "
                    f"such as '{beside[0].name}', which are left out; give them a folder of their own"
                )
            return [[_scan(path, folder.name, stem(path)) for path in _images(folder)] for folder in subfolders]
        return [[_scan(path, stem(path), "") for path in _images(self.folder)]]

    def pairs(self) -> list[Pair]:
        """All ordered pairs of images that belong together."""
        pairs = [pair for group in self.groups() for pair in ordered_pairs(group)]
        if not pairs:
            raise EvaluationError(f"folder '{self.folder}' holds no two images of one kind; see the layout it needs")
        return pairs


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise EvaluationError(f"folder '{folder}' cannot be read ({error.strerror}); check its permissions") from None


def _images(folder: Path) -> list[Path]:
    """The images of a folder that are not labels or masks of others."""
    # A link that leads nowhere is an image, too: one that is missing.
    files = [
        path
        for path in _entries(folder)
        if ending_of(path.name, IMAGE_ENDINGS) and _shown(path) and (path.is_file() or not os.path.exists(path))
    ]
    return sorted(path for path in files if not stem(path).endswith((*_LABEL_ENDINGS, _MASK_ENDING)))


def _shown(path: Path) -> bool:
    """Whether it is not hidden, as what other systems leave beside files ("._NAME.nii.gz") is."""
    return not path.name.startswith(".")


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
    candidates = (with_ending_as_written(Path(f"{base}{ending}{suffix}")) for ending in endings for suffix in suffixes)
    # os.path, for which a name that is too long is that of no file.
    return next((str(path) for path in candidates if os.path.exists(path)), "")
