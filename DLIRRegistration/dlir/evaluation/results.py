"""The record of an evaluation: one row per pair and method, kept as JSON lines so that nothing is computed twice."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dlir.errors import OutputError
from dlir.metrics.consistency import InverseConsistency
from dlir.metrics.labels import LabelScores

Key = tuple[str, str, str]

# How every line starts, so that one that was cut short is known from a file of something else.
_START = b'{"data": '


@dataclass(frozen=True)
class Topology:
    """What the Jacobian determinant says of a deformation (§4). folding_percent: of the voxels that count."""

    folding_percent: float
    sd: float
    log_sd: float
    min: float
    max: float


@dataclass(frozen=True)
class Row:
    """One registration of one pair by one method.

    data: title of the data set. pair: its name there. settings: digest of the method's. seconds: of the registration
    alone, None where nothing was done. threads: of the CPU. size: voxels (x, y, z) of the fixed image. masked:
    whether the topology counts inside the fixed mask only. labels: scores by structure. before, after: distance of
    each landmark from its counterpart in mm, at the start and registered; empty where there are none.
    inverse_consistency: None where the pair was not registered the other way round. transform: file of it.
    """

    data: str
    pair: str
    fixed_subject: str
    moving_subject: str
    method: str
    settings: str
    seconds: float | None
    device: str
    threads: int
    size: tuple[int, int, int]
    masked: bool
    topology: Topology
    labels: dict[str, LabelScores]
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()
    inverse_consistency: InverseConsistency | None = None
    transform: str = ""

    @property
    def key(self) -> Key:
        """What makes a row unique."""
        return self.data, self.pair, self.settings

    @property
    def case(self) -> tuple[str, str]:
        """Which pair of which data set it is."""
        return self.data, self.pair


class Results:
    """The rows in a file of JSON lines, to which rows are only ever added.

    A line is written by a single call, so that an interrupted run leaves at most the start of one behind, which is
    taken away when the file is opened again. Raises OutputError for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        if path.exists():
            *lines, torn = path.read_bytes().split(b"\n")
            for number, line in enumerate(lines, 1):
                row = _parse(line, f"'{path}', line {number}")
                self.rows[row.key] = row
            if torn and not torn.startswith(_START[: len(torn)]):
                _parse(torn, f"'{path}', line {len(lines) + 1}")
            os.truncate(path, sum(len(line) + 1 for line in lines))

    def add(self, rows: Iterable[Row]) -> None:
        """Appends rows, all of them or none, and waits until they are on the disk. Raises OutputError."""
        rows = list(rows)
        text = "".join(json.dumps(_plain(asdict(row)), allow_nan=False, ensure_ascii=False) + "\n" for row in rows)
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise OutputError(f"cannot write '{self.path}': {error.strerror}; free some space and run again") from error
        self.rows.update({row.key: row for row in rows})

    def of(self, keys: Iterable[Key]) -> list[Row]:
        """The rows of these keys that there are, in the keys' order."""
        return [self.rows[key] for key in keys if key in self.rows]


def common_cases(rows: Sequence[Row]) -> list[Row]:
    """The rows of those pairs that every method has: only these can be compared."""
    cases: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        cases.setdefault(row.method, set()).add(row.case)
    shared = set.intersection(*cases.values()) if cases else set()
    return [row for row in rows if row.case in shared]


# -- JSON, which has no nan ---------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in values.items()}


def _parse(line: bytes, where: str) -> Row:
    try:
        values = json.loads(line)
        known = {field.name for field in fields(Row)}
        values = {key: value for key, value in values.items() if key in known}
        values["topology"] = Topology(**_numbers(values["topology"]))
        values["labels"] = {name: LabelScores(**_numbers(scores)) for name, scores in values["labels"].items()}
        if values.get("inverse_consistency") is not None:
            values["inverse_consistency"] = InverseConsistency(**_numbers(values["inverse_consistency"]))
        for name in ("size", "before", "after"):
            values[name] = tuple(values[name])
        return Row(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{where} is no row of an evaluation ({error}); move the file away or choose another output folder"
        ) from None
