"""Pairs times methods: registered, measured and recorded, what is there already left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from dlir.data.pair import DataSet, Pair, Scan, both_ways, distinct
from dlir.errors import DLIRError, OutputError
from dlir.evaluation.methods.base import Method, Registered, settings_digest
from dlir.evaluation.results import Key, Results, Row, common_cases
from dlir.evaluation.scoring import LoadedPair, LoadedScan, load_pair, load_scan, score
from dlir.evaluation.summary import pairs_table
from dlir.io.writing import writable
from dlir.registration.progress import Progress, silent
from dlir.transforms.files import save_transform

RESULTS, TRANSFORMS = "results.jsonl", "transforms"


@dataclass(frozen=True)
class Problem:
    """What could not be evaluated and why. method: empty where it is the pair itself."""

    pair: str
    method: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """rows: of all pairs and methods asked for, as far as there are any, pair by pair. problems: of the rest."""

    rows: list[Row]
    problems: list[Problem]


class Study:
    """An evaluation in a folder: `results.jsonl` and the transforms in `transforms/`.

    mode: where every method starts from, see `initialize`; part of what tells rows apart. Raises OutputError for a
    folder that cannot be used, or that holds other results than those of an evaluation.
    """

    def __init__(self, folder: Path, mode: str = "centers") -> None:
        self.folder, self.mode = folder, mode
        writable(folder)
        try:
            (folder / TRANSFORMS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot use '{folder}' as a folder: {error.strerror}; choose another") from error
        self.results = Results(folder / RESULTS)

    def key(self, data: DataSet, pair: Pair, method: Method) -> Key:
        """Of the row of a pair and a method."""
        return data.title, pair.name, self._settings(method)

    def _settings(self, method: Method) -> str:
        return f"{settings_digest(method)}-{self.mode}"

    def run(
        self,
        data: DataSet,
        pairs: Sequence[Pair],
        methods: Sequence[Method],
        progress: Progress = silent,
    ) -> Outcome:
        """Evaluates what is missing.

        A pair or a method that fails is reported and left out; only errors of writing, and pairs that are not
        `distinct`, end the run. Pairs of the same two scans are taken together, for their inverse consistency, and the
        methods in turn for each of them, so that whatever else the machine does falls on all alike.
        """
        problems: list[Problem] = []
        groups = both_ways(distinct(pairs))
        for number, group in enumerate(groups):
            missing = [m for m in methods if any(self.key(data, p, m) not in self.results.rows for p in group)]
            if missing:
                progress(group[0].name, number / len(groups))
                loaded, found = self._load(data, group)
                problems += found
                for method in missing:
                    problems += self._evaluate(data, loaded, method)
        keys = [self.key(data, pair, method) for group in groups for pair in group for method in methods]
        # The same result may be asked for under another name than it was recorded with.
        names = {self._settings(method): method.name for method in methods}
        rows = [replace(row, method=names[row.settings]) for row in self.results.of(keys)]
        return Outcome(rows, problems)

    def transform_file(self, name: str) -> Path:
        """Where the transform is that a row names."""
        return self.folder / TRANSFORMS / name

    def has_transform(self, name: str) -> bool:
        """Whether a row names a transform and that is still there."""
        return bool(name) and self.transform_file(name).is_file()

    # -- one group of pairs ----------------------------------------------------------------------

    def _load(self, data: DataSet, group: Sequence[Pair]) -> tuple[list[LoadedPair], list[Problem]]:
        scans: dict[str, LoadedScan | DLIRError] = {}
        loaded, problems = [], []
        for pair in group:
            try:
                fixed, moving = (_scan(scan, scans) for scan in (pair.fixed, pair.moving))
                loaded.append(load_pair(pair, fixed, moving, data.labels, self.mode))
            except DLIRError as error:
                problems.append(Problem(pair.name, "", str(error)))
        return loaded, problems

    def _evaluate(self, data: DataSet, group: Sequence[LoadedPair], method: Method) -> list[Problem]:
        """Registers a group by one method and records all of it at once."""
        problems: list[Problem] = []
        found: dict[tuple[str, str], Registered] = {}
        rows = []
        for loaded in group:
            try:
                ends = loaded.pair.fixed.name, loaded.pair.moving.name
                found[ends] = method.register(loaded.task)
            except DLIRError as error:
                problems.append(Problem(loaded.pair.name, method.name, str(error)))
        for loaded in group:
            ends = loaded.pair.fixed.name, loaded.pair.moving.name
            if ends not in found:
                continue
            back, key = found.get(ends[::-1]), self.key(data, loaded.pair, method)
            try:
                row = score(loaded, method, found[ends], None if back is None else back.transform, key)
            except DLIRError as error:
                problems.append(Problem(loaded.pair.name, method.name, str(error)))
                continue
            name = hashlib.sha256("|".join(key).encode()).hexdigest()[:16]
            file = save_transform(self.folder / TRANSFORMS, name, found[ends].transform)
            rows.append(replace(row, transform=file))
        self.results.add(row for row in rows if row.key not in self.results.rows)
        return problems


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation.

    histories: name and file of each training run whose curves are shown. seen, notes: as `HeldOut` has them.
    """

    study: Study
    data: DataSet
    pairs: Sequence[Pair]
    methods: Sequence[Method]
    outcome: Outcome
    histories: Sequence[tuple[str, Path]] = ()
    seen: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """`pairs_table` of all that was evaluated."""
        return pairs_table(self.outcome.rows, self.seen)

    @cached_property
    def shared(self) -> pd.DataFrame:
        """`pairs_table` of the pairs that every method has: only these can be compared."""
        return pairs_table(common_cases(self.outcome.rows), self.seen)


def _scan(scan: Scan, known: dict[str, LoadedScan | DLIRError]) -> LoadedScan:
    """A scan of a group, read once, and its error raised as often as it is asked for."""
    if scan.name not in known:
        try:
            known[scan.name] = load_scan(scan)
        except DLIRError as error:
            known[scan.name] = error
    result = known[scan.name]
    if isinstance(result, DLIRError):
        raise result
    return result
