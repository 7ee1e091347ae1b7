"""The folder of each pair: a name that can be read, that any system takes, and that no other pair of the table has.

A name says of a pair what may be passed on: subjects and files, without the folders above them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from dlir.data.pair import Pair, Scan
from dlir.io.source import ending_of, stem

# Longest part of a name that an image, a subject or a model gets, in bytes, of the 255 that file systems take.
_LONGEST = 70
_DIGEST = 8


def folder_names(pairs: Sequence[Pair], root: Path) -> list[str]:
    """A name for each pair. root: the folder that the table's paths start from.

    The name depends on the pair alone, unless pairs before it have the same: then on what the table says of it, too. So
    rows that are added at the end of a table change no name.
    """
    taken: set[str] = set()
    return [_free(_name(pair), pair, root, taken) for pair in pairs]


def _name(pair: Pair) -> str:
    name = f"{_called(pair.moving)}-to-{_called(pair.fixed)}"
    return f"{name}_{_plain(stem(pair.model).removesuffix('.safetensors'))}" if pair.model else name


def _called(scan: Scan) -> str:
    path, phase = re.fullmatch("(.*?)(?:#([0-9]+))?", scan.image, re.DOTALL).groups()  # type: ignore[union-attr]
    # What has no ending is a folder of DICOM, which is often called as the patient.
    file = stem(path) if ending_of(path) else "dicom"
    words = [file] if phase is None else [file, phase]
    # Without a subject in the table, its place is taken by the image itself.
    if scan.part and scan.subject and scan.subject not in file:
        words.insert(0, scan.subject)
    return _plain(" ".join(words))


def _plain(text: str) -> str:
    """Letters, digits, hyphens and underscores only, so that it is no path and means the same on every system."""
    plain = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", text)).strip("_-") or "x"
    if len(plain.encode()) <= _LONGEST:
        return plain
    kept = plain.encode()[: _LONGEST - _DIGEST - 1].decode(errors="ignore").rstrip("_-")
    return f"{kept}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:_DIGEST]}"


def _free(name: str, pair: Pair, root: Path, taken: set[str]) -> str:
    digest = hashlib.sha256("\0".join(_said(pair, root)).encode(errors="surrogateescape")).hexdigest()[:_DIGEST]
    candidate, count = name, 1
    while (alike := unicodedata.normalize("NFKC", candidate).casefold()) in taken:
        candidate = f"{name}-{digest}" if count == 1 else f"{name}-{digest}-{count}"
        count += 1
    taken.add(alike)
    return candidate


def _said(pair: Pair, root: Path) -> list[str]:
    """What the table says of a pair, as it is written there."""
    files = [
        getattr(scan, kind) for scan in (pair.fixed, pair.moving) for kind in ("image", "label", "mask", "landmarks")
    ]
    below = [Path(file.removeprefix(str(root)).lstrip("/\\")).as_posix() if file else "" for file in files]
    return [*below, pair.subject, pair.group, pair.model]
