"""What the user typed to name an image: a path, or a path and one time point of it, as `cine.nii.gz#7`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlir.errors import ImageError, shown

# Of the images that are one file (or a header beside its voxels).
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_ENDINGS = (*IMAGE_ENDINGS, ".zip")  # and of a packed DICOM series
_ANY_ENDINGS = (*_ENDINGS, ".dcm", ".hdr", ".img", ".hdr.gz", ".img.gz")


@dataclass(frozen=True)
class Source:
    """An existing file or folder and the time point asked for.

    role: what the image is to the run ("fixed image"). typed: as the user wrote it. path: the file or folder.
    phase: index of a time point from 0, None where none was named.
    """

    role: str
    typed: str
    path: Path
    phase: int | None

    @property
    def name(self) -> str:
        """How messages call it, in one line."""
        return _name(self.role, self.typed)

    def choose_phase(self, count: int) -> int:
        """Index of the time point to read from `count`. Raises ImageError where the choice does not fit."""
        if self.phase is None and count > 1:
            raise ImageError(
                f"{self.name} holds {count} time points; choose one, for example '{self.typed}#0' (#0 to #{count - 1})"
            )
        if self.phase is not None and count == 1:
            raise ImageError(f"{self.name} is 3D and has no time points; leave out '#{self.phase}'")
        if self.phase is not None and not 0 <= self.phase < count:
            raise ImageError(f"{self.name} has no time point {self.phase}; choose one of #0 to #{count - 1}")
        return self.phase or 0


def split_spec(typed: str) -> tuple[str, str | None]:
    """Path and text after '#' of an image specification; a name that exists is never split."""
    if os.path.exists(typed) or "#" not in typed:
        return typed, None
    path, _, phase = typed.rpartition("#")
    return path, phase


def stem(spec: str | os.PathLike[str]) -> str:
    """The name of an image's file without its ending and time point; a folder's name, or one of another kind, whole."""
    name = re.sub("#[0-9]+$", "", os.path.basename(spec))
    return name[: len(name) - len(ending_of(name))]


def ending_of(name: str, endings: Sequence[str] = _ENDINGS) -> str:
    """Which of `endings` a name has, as it is written there: they may be in capitals. "" for none of them."""
    return next((name[-len(ending) :] for ending in endings if name.lower().endswith(ending)), "")


def files_matching(root: Path, patterns: Iterable[str]) -> list[str]:
    """What lies below a folder and matches a glob pattern, relative to it, by name. An image's ending that a pattern
    spells out matches capitals, too.
    """
    found: set[str] = set()
    for pattern in patterns:
        ending = ending_of(pattern, _ANY_ENDINGS)
        any_case = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in ending)
        spelled = pattern[: len(pattern) - len(ending)] + any_case
        found.update(glob.glob(spelled, root_dir=root, recursive=True))
    return sorted(found)


def with_ending_as_written(path: Path) -> Path:
    """The file of this name; where there is none, the one whose ending is in capitals, if there is that."""
    ending = ending_of(path.name, _ANY_ENDINGS)
    capitals = path.with_name(path.name[: len(path.name) - len(ending)] + ending.upper())
    # os.path, for which a name that is too long is that of no file.
    return capitals if not os.path.exists(path) and os.path.exists(capitals) else path


def reported_name(name: str, *, full: bool = False) -> str:
    """What a report that is passed on calls an image: the file without the folders above it.

    A folder is not named at all, because folders of DICOM are often called as the patient. full: the whole path in
    either case. A name that is no path, as of a node in Slicer, stays.
    """
    path, phase = split_spec(name)
    if not os.path.exists(path):  # no longer, where it is one
        return os.path.basename(name) if os.path.isabs(name) and not full else name
    if full:
        shown = os.path.abspath(path)
    else:
        shown = "DICOM folder" if os.path.isdir(path) else os.path.basename(path)
    return shown if phase is None else f"{shown}#{phase}"


def without_folders(message: str) -> str:
    """A message as it may be passed on: files, in quotes or given from the root on, without the folders above them."""
    quoted = re.sub(r"'([^'\n]*[/\\][^'\n]*)'", lambda found: f"'{_last(found[1])}'", message)
    return re.sub(r"(?<![^\s(])(?:/|[A-Za-z]:\\)[^\s/\\]+[/\\]\S+", lambda found: _last(found[0]), quoted)


def _last(path: str) -> str:
    if os.path.exists(split_spec(path)[0]):
        return reported_name(path)
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def parse_source(spec: str | os.PathLike[str], role: str) -> Source:
    """The source that `spec` names. Raises ImageError where there is none, or no number follows the '#'."""
    typed = os.fspath(spec)
    path, phase = split_spec(typed)
    if not os.path.exists(path):
        raise ImageError(f"{_name(role, typed)} does not exist or its folder may not be read; check the path")
    if not (os.path.isfile(path) or os.path.isdir(path)):  # reading a pipe would wait for whoever writes into it
        raise ImageError(f"{_name(role, typed)} is neither a file nor a folder; give one")
    if phase is not None and not re.fullmatch(r"-?[0-9]+", phase):
        raise ImageError(f"{_name(role, typed)}: '{phase}' is not a time point; write a number from 0 after the '#'")
    return Source(role, typed, Path(path), None if phase is None else int(phase))


def _name(role: str, typed: str) -> str:
    return f"{role} '{shown(typed)}'"
