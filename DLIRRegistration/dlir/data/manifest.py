"""The one table of pairs or of images that every command reads: CSV, TSV or JSON, with paths from its own folder.

The form is checked here. Whether the files that it names are there and can be read is found where they are opened, row
by row, and each command decides what a bad row means.
"""

from __future__ import annotations

import csv
import io
import json
import math
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dlir.data.pair import Pair, Scan, ordered_pairs
from dlir.errors import DLIRError, EvaluationError, ManifestError, nearest
from dlir.io.source import stem

TEST = "test"
SPLITS = ("train", "validation", TEST)

_ROLES = ("fixed", "moving")
_OF_BOTH = [f"{role}_{kind}" for kind in ("label", "mask", "landmarks", "subject") for role in _ROLES]
_OF_PAIRS = (*_ROLES, *_OF_BOTH, "subject", "group", "split", "model")
_OF_IMAGES = ("image", "label", "mask", "subject", "time", "split")
_NEEDED = "the columns fixed and moving for pairs, or image for images"

# A row: its line or entry, for messages, and its entries by column. A table: where each column is named, and the rows.
_Row = tuple[str, dict[str, str]]
_Table = tuple[dict[str, str], list[_Row]]


class Manifest:
    """A manifest as a data set: its pairs, or those that its images make, as `ImageFolder` makes them.

    Images of one subject are registered to each other in both directions, in order of time where that is given. Where
    every subject has one image, the subjects are, those of one split. A subject that is not named is the image itself.
    """

    labels: Mapping[int, str] = {}

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = path.stem

    def pairs(self) -> list[Pair]:
        """All pairs. Raises ManifestError as `read_manifest`, EvaluationError where the images make no pair."""
        rows = read_manifest(self.path)
        listed = [row for row in rows if isinstance(row, Pair)]
        scans = dict.fromkeys(scan for row in rows if isinstance(row, Scan) for scan in _phases(row))
        found = listed or [pair for group in in_groups(scans) for pair in ordered_pairs(group)]
        if not found:
            raise EvaluationError(f"manifest '{self.path}' lists no two images of one kind; add some, or list pairs")
        return found


def _phases(row: Scan) -> list[Scan]:
    """What there is at an image's path; where that cannot be told, a scan that has this problem."""
    try:
        phases = row.phases()
    except DLIRError as error:
        phases = [replace(row, problem=str(error))]
    return [scan if scan.subject else replace(scan, subject=scan.part, part="") for scan in phases]


def in_groups(scans: Iterable[Scan]) -> list[list[Scan]]:
    """Those to be registered to each other: of a subject, or of a split where nobody has two."""
    subjects: dict[str, list[Scan]] = {}
    splits: dict[str, list[Scan]] = {}
    for scan in scans:
        subjects.setdefault(scan.subject, []).append(scan)
        splits.setdefault(scan.split, []).append(scan)
    if all(len(group) == 1 for group in subjects.values()):
        return list(splits.values())
    return [sorted(group, key=lambda scan: math.inf if scan.time is None else scan.time) for group in subjects.values()]


def read_manifest(path: Path) -> Sequence[Pair | Scan]:
    """The rows of a table (.json: a list of objects; else CSV or TSV), all of them pairs or all of them single images.

    Columns of pairs: fixed, moving; if wanted, fixed_label, moving_label and so on with mask, landmarks and subject, or
    one subject for both, group, split and model. Of images: image; if wanted label, mask, subject, time (a number) and
    split. A row without a split takes that of its subject's other rows. An image is called by its file's name, or as
    the table writes it where two share that. A single image's subject is empty where the table gives none.

    Raises ManifestError, naming file, line and remedy, for a file that cannot be read and a form that is wrong.
    """
    text = _text(path)
    columns, rows = _objects(path, text) if path.suffix.lower() == ".json" else _lines(path, text)
    needed = _needed(path, columns)
    if not rows:
        raise _wrong(path, "", f"it has no row; below {_NEEDED}, give one for each")
    for where, row in rows:
        if empty := [column for column in needed if not row.get(column)]:
            raise _wrong(path, where, f"'{empty[0]}' is empty; name an image")
    written = {row[column] for _, row in rows for column in needed}
    alike = Counter(map(stem, written))
    names = {image: image if alike[stem(image)] > 1 else stem(image) for image in written}
    for (_, row), split in zip(rows, _splits(path, rows), strict=True):
        row["split"] = split
    if "image" in needed:
        return [_image(path, where, row, names[row["image"]]) for where, row in rows]
    return [_pair(row, *(_scan(path, row, role, names[row[role]]) for role in _ROLES)) for _, row in rows]


def splits_of(path: Path, rows: Iterable[tuple[str, Iterable[str], str]]) -> dict[str, str]:
    """The split of each subject, as far as the rows (where, subjects, split) say. Raises ManifestError for two."""
    stated: dict[str, str] = {}
    for where, subjects, split in rows:
        for subject in subjects if split else ():
            if stated.setdefault(subject, split) != split:
                first, second = sorted((stated[subject], split), key=SPLITS.index)
                raise _wrong(path, where, f"subject '{subject}' is in {first} and in {second}; choose one")
    return stated


# -- rows ---------------------------------------------------------------------------------------------


def _splits(path: Path, rows: Sequence[_Row]) -> list[str]:
    """The split of every row; one that states none goes with its subjects, so that nobody is on two sides."""
    places, entries = zip(*rows, strict=True)
    subjects = [[row[c] for c in ("subject", "fixed_subject", "moving_subject") if row.get(c)] for row in entries]
    splits = [row.get("split", "").lower() for row in entries]
    for where, split in zip(places, splits, strict=True):
        if split and split not in SPLITS:
            hint = nearest(split, SPLITS)
            raise _wrong(path, where, f"split '{split}' is neither {' nor '.join(SPLITS)}{hint}; write one")
    before: list[str] = []
    while splits != before:
        before, stated = splits, splits_of(path, zip(places, subjects, splits, strict=True))
        found = (next((stated[subject] for subject in own if subject in stated), "") for own in subjects)
        splits = [split or other for split, other in zip(splits, found, strict=True)]
    return splits


def _pair(row: Mapping[str, str], fixed: Scan, moving: Scan) -> Pair:
    of_both = fixed.subject if fixed.part and fixed.subject == moving.subject else ""
    more = [row.get(column, "") for column in ("group", "split", "model")]
    return Pair(fixed, moving, row.get("subject") or of_both, *more)


def _scan(path: Path, row: Mapping[str, str], role: str, name: str) -> Scan:
    """The fixed or the moving image of a row. Without a subject, an image is its own."""
    subject = row.get(f"{role}_subject") or row.get("subject")
    label, mask, landmarks = (_beside(path, row, f"{role}_{kind}") for kind in ("label", "mask", "landmarks"))
    return Scan(subject or name, name if subject else "", _beside(path, row, role), label, mask, landmarks)


def _image(path: Path, where: str, row: Mapping[str, str], name: str) -> Scan:
    image, label, mask = (_beside(path, row, column) for column in ("image", "label", "mask"))
    written = row.get("time")
    try:
        time = float(written) if written else None
    except ValueError:
        time = math.nan
    if time is not None and not math.isfinite(time):
        raise _wrong(path, where, f"time '{written}' is no number; give seconds, percent or an index, or no time")
    return Scan(row.get("subject", ""), name, image, label, mask, time=time, split=row["split"])


def _beside(path: Path, row: Mapping[str, str], column: str) -> str:
    """An entry as a path: relative ones start from the manifest's folder."""
    return str(path.parent / row[column]) if row.get(column) else ""


# -- form ---------------------------------------------------------------------------------------------


def _wrong(path: Path, where: str, what: str) -> ManifestError:
    return ManifestError(f"manifest '{path}'{where and ', ' + where}: {' '.join(what.splitlines())}")


def _needed(path: Path, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The columns in which every row has an entry: they say of which kind the table is."""
    pairs = [column for column in _ROLES if column in columns]
    if pairs and "image" in columns:
        raise _wrong(path, "", f"it has the columns {pairs[0]}, of pairs, and image, of images; list one kind")
    known = (
        _OF_PAIRS if pairs else _OF_IMAGES if "image" in columns else tuple(dict.fromkeys((*_OF_PAIRS, *_OF_IMAGES)))
    )
    for column in (column for column in columns if column not in known):
        what = f"column '{column}' is unknown{nearest(column, known)}"
        raise _wrong(path, columns[column], f"{what}; give {_NEEDED}, and any of {', '.join(known)}")
    if len(pairs) == 1:
        raise _wrong(path, "", "it lacks a column: listed pairs need fixed and moving; add it")
    if not pairs and "image" not in columns:
        raise _wrong(path, "", f"it lacks a column: give {_NEEDED}")
    return _ROLES if pairs else ("image",)


def _lines(path: Path, text: str) -> _Table:
    """A table of lines, separated as its first line is: by commas, tabs, or semicolons as some spreadsheets do."""
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",\t;", key=first.count))
    try:
        lines = [(f"line {reader.line_num}", [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise _wrong(path, f"line {reader.line_num}", f"it cannot be read ({error}); give a CSV file") from None
    lines = [(where, cells) for where, cells in lines if any(cells)]
    if not lines:
        return {}, []
    where, head = lines.pop(0)
    if twice := [column for column in head if head.count(column) > 1]:
        raise _wrong(path, where, f"it names the column '{twice[0]}' twice; leave one out")
    if longer := [place for place, cells in lines if len(cells) > len(head)]:
        raise _wrong(path, longer[0], "it has more entries than the first line names columns; quote or remove them")
    return dict.fromkeys(head, where), [(w, dict(zip(head, cells, strict=False))) for w, cells in lines]


def _objects(path: Path, text: str) -> _Table:
    """A JSON list of objects; what one of them leaves out, or has as null, is an empty entry."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "", f"it is not valid JSON ({error}); correct it") from None
    if not isinstance(content, list):
        raise _wrong(path, "", "it is no list; give a JSON list with an object for each pair or image")
    columns: dict[str, str] = {}
    rows = []
    for where, entry in ((f"entry {number}", entry) for number, entry in enumerate(content, 1)):
        if not isinstance(entry, dict):
            raise _wrong(path, where, "it is no object; give one whose keys are the columns")
        for column, value in entry.items():
            columns.setdefault(column, where)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
                raise _wrong(path, where, f"'{column}' is neither text nor a number; correct it")
        rows.append((where, {c: "" if value is None else str(value).strip() for c, value in entry.items()}))
    return columns, rows


def _text(path: Path) -> str:
    """UTF-8, or UTF-16 where the file begins by saying so, as spreadsheets' "Unicode text" does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"manifest '{path}' cannot be read ({error.strerror}); check the path") from None
    try:
        text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
        if "\0" not in text:
            return text
        place = text.count("\n", 0, text.index("\0"))
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start)
    what = "it cannot be read: its encoding is not UTF-8 but perhaps Latin-1"
    raise _wrong(path, f"line {place + 1}", f"{what}; give a CSV file in UTF-8, in spreadsheets 'CSV UTF-8'")
