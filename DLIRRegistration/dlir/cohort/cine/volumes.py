"""What the volumes of structures over a cycle say of the heart: end-diastole, end-systole, ejection fraction."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dlir.io.text import as_cell

# Of each structure, in ml, by name; phase by phase.
Volumes = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Ejection:
    """Of one structure. Phases from 0, volumes in ml.

    largest_phase, smallest_phase: of the structure itself; ejection_percent: (largest - smallest) / largest.
    ed_phase, es_phase: of the heart, see `heart_phases`; ed_to_es_percent: (ed - es) / ed. None for what has no volume.
    """

    name: str
    largest_phase: int
    largest_ml: float
    smallest_phase: int
    smallest_ml: float
    ejection_percent: float | None
    ed_phase: int
    ed_ml: float
    es_phase: int
    es_ml: float
    ed_to_es_percent: float | None

    def to_dict(self) -> dict[str, Any]:
        """Rounded for a report."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


def heart_phases(volumes: Volumes) -> tuple[int, int]:
    """End-diastole and end-systole: where the structure whose volume changes most, in ml, is largest and smallest."""
    name = max(volumes[0], key=lambda name: _most(volumes, name) - _least(volumes, name))
    return _extremes(volumes, name)


def ejections(volumes: Volumes) -> list[Ejection]:
    """Structure by structure, in the order in which they are given."""
    ed, es = heart_phases(volumes)
    found = []
    for name in volumes[0]:
        own = [row[name] for row in volumes]
        largest, smallest = _extremes(volumes, name)
        found.append(
            Ejection(
                name,
                largest,
                own[largest],
                smallest,
                own[smallest],
                _percent(own[largest], own[smallest]),
                ed,
                own[ed],
                es,
                own[es],
                _percent(own[ed], own[es]),
            )
        )
    return found


def volumes_table(volumes: Volumes, seconds: Sequence[float] | None) -> str:
    """CSV: phase, time_s, and a column for each structure; the time is empty where it is not known."""
    head = ["phase", "time_s", *(f"{name}_ml" for name in volumes[0])]
    times = [""] * len(volumes) if seconds is None else [f"{time:.6g}" for time in seconds]
    rows = [
        [phase, time, *(f"{ml:.4f}" for ml in row.values())]
        for phase, (time, row) in enumerate(zip(times, volumes, strict=True))
    ]
    return _csv([head, *rows])


def ejection_table(found: Sequence[Ejection]) -> str:
    """CSV: a row for each structure."""
    rows = [one.to_dict() for one in found]
    return _csv([list(rows[0]), *([("" if value is None else value) for value in row.values()] for row in rows)])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([as_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _most(volumes: Volumes, name: str) -> float:
    return max(row[name] for row in volumes)


def _least(volumes: Volumes, name: str) -> float:
    return min(row[name] for row in volumes)


def _extremes(volumes: Volumes, name: str) -> tuple[int, int]:
    """The first phase of the largest volume, and of the smallest."""
    own = [row[name] for row in volumes]
    return own.index(max(own)), own.index(min(own))


def _percent(large: float, small: float) -> float | None:
    return 100 * (large - small) / large if large else None
