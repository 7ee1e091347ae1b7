"""What a batch does: a row for each pair of a table or a folder, and how each row is registered.

Nothing but the table, or the names in the folder, is read here: what a row's files are is found when it is its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from dlir.cohort.choices import Pairing
from dlir.cohort.names import folder_names
from dlir.data.layouts.folder import ImageFolder
from dlir.data.manifest import in_groups, read_manifest
from dlir.data.pair import Pair, Scan, ordered_pairs
from dlir.errors import ManifestError, OptionError, note
from dlir.registration.choices import (
    AUTO_MODEL,
    AUTO_SIMILARITY,
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    NO_MODEL,
    Device,
    Kind,
)
from dlir.registration.request import Outputs, RegistrationRequest


@dataclass(frozen=True)
class Options:
    """What holds for all rows, as for a `RegistrationRequest`. model: of rows that name none."""

    model: str = DEFAULT_MODEL
    refine: str | None = None
    kind: str = Kind.deformable.value
    similarity: str = AUTO_SIMILARITY
    initialize: str | None = None
    device: str = "auto"
    displacement: bool = False
    error_map: bool = False
    full_paths: bool = False
    overwrite: bool = False
    format: str = DEFAULT_FORMAT

    def __post_init__(self) -> None:
        """Raises OptionError for what contradicts itself, whatever the pair, ModelError and DeviceError for what is not
        there.
        """
        from dlir.model.catalogue import resolve_model
        from dlir.model.file import read_header

        RegistrationRequest("fixed", "moving", Outputs("output", format=self.format), **self._asked(self.model))
        if self.model not in (AUTO_MODEL, NO_MODEL):
            read_header(resolve_model(self.model))
        if self.device not in (Device.auto.value, Device.cpu.value):  # these are there, and torch takes its time
            from dlir.registration.devices import choose_device

            choose_device(self.device)

    def _asked(self, model: str) -> dict[str, Any]:
        names = ("refine", "kind", "similarity", "initialize", "device", "error_map")
        return {"model": model, **{name: getattr(self, name) for name in names}}

    def request(self, row: Row, folder: Path) -> RegistrationRequest:
        """How a row is registered into its folder. A note tells what of the row cannot be used.

        Raises OptionError where the row and the options contradict each other.
        """
        fixed, moving = row.pair.fixed, row.pair.moving
        for kind in ("label", "landmarks"):
            if getattr(fixed, kind) and not getattr(moving, kind):
                what = kind.removesuffix("s")
                note(f"the {what}s of the fixed image are not used: the moving image has none to compare with")
        return RegistrationRequest(
            fixed.image,
            moving.image,
            Outputs(str(folder), "files", self.displacement, self.full_paths, self.overwrite, self.format),
            **self._asked(row.pair.model or self.model),
            fixed_mask=fixed.mask or None,
            moving_mask=moving.mask or None,
            moving_labels=(moving.label,) if moving.label else (),
            fixed_labels=(fixed.label,) if fixed.label and moving.label else (),
            fixed_landmarks=(fixed.landmarks or None) if moving.landmarks else None,
            moving_landmarks=moving.landmarks or None,
        )


@dataclass(frozen=True)
class Row:
    """number: its place in the table, from 1. name: of its folder."""

    number: int
    name: str
    pair: Pair


@dataclass(frozen=True)
class Source:
    """A table or a folder of images, and how images are paired. onto: the image that all others are registered to."""

    path: Path
    pairing: Pairing | None = None
    onto: Path | None = None

    @cached_property
    def rows(self) -> list[Row]:
        """Raises ManifestError for a table of a wrong form, EvaluationError and OptionError for what makes no pair."""
        pairs = self._pairs()
        root = self.path if self.path.is_dir() else self.path.parent
        return [
            Row(i, name, pair) for i, (name, pair) in enumerate(zip(folder_names(pairs, root), pairs, strict=True), 1)
        ]

    def _pairs(self) -> Sequence[Pair]:
        if self.path.is_dir():
            return self._paired(ImageFolder(self.path).groups())
        listed = read_manifest(self.path)
        scans = [row for row in listed if isinstance(row, Scan)]
        if scans:
            return self._paired(in_groups(scans))
        if self.pairing or self.onto:
            raise OptionError(f"'{self.path}' lists pairs; leave out --pairs and --to, which are for images")
        return [row for row in listed if isinstance(row, Pair)]

    def _paired(self, groups: Sequence[Sequence[Scan]]) -> list[Pair]:
        if self.onto is not None:
            return self._to_one([scan for group in groups for scan in group], self.onto)
        if self.pairing is None:
            counts = ", ".join(f"{rule.value} ({sum(len(_PAIRINGS[rule](g)) for g in groups)})" for rule in Pairing)
            raise OptionError(
                f"'{self.path}' lists images; say which are registered by --to IMAGE or --pairs: {counts}"
            )
        found = [pair for group in groups for pair in _PAIRINGS[self.pairing](group)]
        if not found:
            raise ManifestError(f"'{self.path}' holds no two images that belong together; add some, or list pairs")
        return found

    def _to_one(self, scans: Sequence[Scan], onto: Path) -> list[Pair]:
        """Every image to the one that `onto` names: as it is written in the table, or where it lies."""
        if self.pairing:
            raise OptionError("--to and --pairs exclude each other; leave one out")
        names = {str(onto), str(self.path / onto), str(self.path.parent / onto)}
        fixed = next((scan for scan in scans if scan.image in names), None)
        if fixed is None:
            raise OptionError(f"--to '{onto}' is no image of '{self.path}'; give it as it is named there")
        return [Pair(fixed, scan, split=scan.split) for scan in scans if scan is not fixed]


_PAIRINGS = {
    Pairing.consecutive: lambda group: [Pair(a, b, split=b.split) for a, b in pairwise(group)],
    Pairing.first: lambda group: [Pair(group[0], b, split=b.split) for b in group[1:]],
    Pairing.all: ordered_pairs,
}
