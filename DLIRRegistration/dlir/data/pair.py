"""What an evaluation reads: scans, pairs of them, and data sets that list the pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from dlir.errors import EvaluationError
from dlir.io.points import Landmarks, read_landmarks
from dlir.io.reading import Volume, count_phases, read_image, read_label, read_mask


@dataclass(frozen=True)
class Scan:
    """One image and what is known of it, as names of files: nothing is read before it is asked for.

    subject: whose image it is; all pairs of one subject are taken together when data are divided. part: which of the
    subject's images, for example "ED"; empty where there is one. image: as for `read_image`. landmarks: a file that
    `read_landmarks` knows. indices: whether its rows are voxel indices without saying so. problem: why the scan
    cannot be used, where its adapter already knows. time: orders the images of a subject. split: "train", "validation"
    or "test", where something is said of it.
    """

    subject: str
    part: str = ""
    image: str = ""
    label: str = ""
    mask: str = ""
    landmarks: str = ""
    indices: bool = False
    problem: str = ""
    time: float | None = None
    split: str = ""

    @property
    def name(self) -> str:
        """What makes the scan unique in its data set."""
        return f"{self.subject} {self.part}".strip()

    def phases(self, role: str = "image") -> list[Scan]:
        """The scan, or one for each time point of an image that holds several, which is a subject where none is named.

        role: how messages call the image. Its mask serves all; its labels have time points too. Raises ImageError and
        GeometryError where the image's header cannot be read.
        """
        count = count_phases(self.image, role)
        if count == 1:
            return [self]
        subject, name = self.subject or self.part, f"{self.part}#" if self.subject else ""
        labels = [self.label and f"{self.label}#{i}" for i in range(count)]
        return [
            replace(self, subject=subject, part=f"{name}{i}", image=f"{self.image}#{i}", label=label)
            for i, label in enumerate(labels)
        ]

    def read_image(self) -> Volume:
        """The image. Raises the errors of `read_image`, and EvaluationError for a scan with a problem."""
        if self.problem:
            raise EvaluationError(self.problem)
        return read_image(self.image, "image")

    def read_label(self, image: Volume) -> Volume | None:
        """The label map on the image's voxels; None where there is none."""
        return read_label(self.label, image, "label") if self.label else None

    def read_mask(self, image: Volume) -> Volume | None:
        """The mask on the image's voxels; None where there is none."""
        return read_mask(self.mask, image, "mask") if self.mask else None

    def read_landmarks(self, image: Volume) -> Landmarks | None:
        """The landmarks in LPS mm; None where there are none."""
        return read_landmarks(self.landmarks, image.grid, indices=self.indices) if self.landmarks else None


@dataclass(frozen=True)
class Pair:
    """A moving scan to be registered to a fixed one, and what a manifest says of the two.

    subject: whose pair it is, where it is one's: pairs of a subject are held out together. split: as of a scan.
    group: the name under which tables of results take pairs together. model: by which a batch registers the pair.
    """

    fixed: Scan
    moving: Scan
    subject: str = ""
    group: str = ""
    split: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """What makes the pair unique in its data set, such as "patient081 ES-to-ED"."""
        if self.fixed.subject == self.moving.subject:
            return f"{self.fixed.subject} {self.moving.part}-to-{self.fixed.part}"
        return f"{self.moving.name}-to-{self.fixed.name}"


class DataSet(Protocol):
    """Pairs with something to measure by. A new one is a class with these three members.

    title: what it is called, also in the records. labels: value and name of every structure that is scored; where
    it is empty, whatever a pair's two label maps have in common is scored under "label N".
    """

    title: str
    labels: Mapping[int, str]

    def pairs(self) -> list[Pair]:
        """All pairs, in an order that does not change. Raises EvaluationError where there are none."""
        ...


class DataFolder:
    """What data sets in a folder have in common. Raises EvaluationError where there is no such folder."""

    title = "image"
    labels: Mapping[int, str] = {}

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise EvaluationError(f"{self.title} folder '{folder}' does not exist; give the folder of the data set")
        self.folder = folder


# -- lists of pairs -----------------------------------------------------------------------------------


def ordered_pairs(scans: Sequence[Scan]) -> list[Pair]:
    """Every scan registered to every other, both ways. All are of one split."""
    both = ((x, y) for i, a in enumerate(scans) for b in scans[i + 1 :] for x, y in ((a, b), (b, a)))
    return [Pair(x, y, split=x.split) for x, y in both]


def both_ways(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs, those of the same two scans together."""
    groups: dict[frozenset[str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(frozenset((pair.fixed.name, pair.moving.name)), []).append(pair)
    return list(groups.values())


def distinct(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs, each of them once. Raises EvaluationError where two scans have one name: results are kept by names."""
    scans: dict[str, Scan] = {}
    found: dict[str, Pair] = {}
    for pair in pairs:
        for scan in (pair.fixed, pair.moving):
            known = scans.setdefault(scan.name, scan)
            if known != scan:
                unlike = [key for key, value in vars(scan).items() if value != vars(known).get(key)]
                raise EvaluationError(
                    f"two scans are called '{scan.name}' but differ in {', '.join(unlike)}; a manifest must say the "
                    "same of an image in all its rows, or give different images different subjects or names"
                )
        found.setdefault(pair.name, pair)
    return list(found.values())


def select(pairs: Sequence[Pair], subjects: Sequence[str] = (), limit: int | None = None) -> list[Pair]:
    """The pairs both of whose subjects match one of the patterns, and of these `limit`, spread over the whole list.

    subjects: shell patterns of subjects or of their images; none means all. Pairs of the same two scans stay together,
    so the result may be one pair short of `limit`. Raises EvaluationError where nothing is left, and for names that are
    not `distinct`.
    """
    chosen = [
        pair
        for pair in distinct(pairs)
        if not subjects or all(_called(scan, subjects) for scan in (pair.fixed, pair.moving))
    ]
    if not chosen:
        known = ", ".join(list(dict.fromkeys(pair.fixed.subject for pair in pairs))[:5])
        raise EvaluationError(f"no pair has subjects that match {', '.join(subjects)}; they are called {known}, …")
    groups = both_ways(chosen)
    if limit is not None and len(chosen) > limit:
        wanted = max(1, limit * len(groups) // len(chosen))
        groups = [groups[round(i * (len(groups) - 1) / max(1, wanted - 1))] for i in range(wanted)]
    return [pair for group in groups for pair in group]


def _called(scan: Scan, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in (scan.subject, scan.part) for pattern in patterns)


# -- files --------------------------------------------------------------------------------------------


def existing(path: Path) -> str:
    """The path as text where there is such a file or folder, else nothing."""
    return str(path) if path.exists() else ""
