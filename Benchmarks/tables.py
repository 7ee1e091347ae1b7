"""Print measured registrations side by side: a markdown table, one line per method.

    python Benchmarks/tables.py results/elastix_cine.jsonl dlir.jsonl

One JSON object a line, a `Row`:

    {"method": "elastix multi", "patient": "081", "direction": "ES-to-ED", "run": 0, "seconds": 17.6,
     "size": [154, 224, 17], "folding_percent": 0.22, "jacobian_sd": 0.25, "jacobian_min": -2.5, "jacobian_max": 10.5,
     "labels": {"RV": {"dice": 0.86, "hd": 32.5, "hd95": 7.8, "asd": 1.86, "fixed_voxels": 13383,
                       "warped_voxels": 10945}, "MYO": {...}, "LV": {...}}}

The methods are compared on the pairs (patient and direction) that all of them have; `--methods` leaves some out.
A score that is not defined (`null` in JSON) is left out of its mean.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlir.evaluation.metrics import LabelScores

# ACDC's label values and the names under which rows hold them.
LABELS = {1: "RV", 2: "MYO", 3: "LV"}


@dataclass(frozen=True)
class Row:
    """One registration of one pair by one method; repetitions of the same differ in `run`.

    direction: "ES-to-ED" registers moving ES to fixed ED. seconds: the registration call alone, with the
    images in memory. size: voxels (x, y, z) of the fixed image. folding_percent: voxels of the whole fixed
    image with a Jacobian determinant of 0 or less. labels: scores by name ("RV", "MYO", "LV"), of the moving
    label carried over with nearest neighbour against the fixed image's own.
    """

    method: str
    patient: str
    direction: str
    run: int
    seconds: float
    size: tuple[int, int, int]
    folding_percent: float
    jacobian_sd: float
    jacobian_min: float
    jacobian_max: float
    labels: dict[str, LabelScores]


def row_key(row: Row) -> tuple[str, str, str, int]:
    """What makes a row unique in a file."""
    return row.method, row.patient, row.direction, row.run


def append_row(path: Path, row: Row) -> None:
    """Add one line; JSON has no `nan`, so what is undefined is written as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain(asdict(row)), allow_nan=False) + "\n")


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSON-lines file."""

    def restored(fields: dict[str, Any]) -> dict[str, Any]:
        return {key: float("nan") if value is None else value for key, value in fields.items()}

    result = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = restored(json.loads(line))
        fields["size"] = tuple(fields["size"])
        fields["labels"] = {name: LabelScores(**restored(scores)) for name, scores in fields["labels"].items()}
        result.append(Row(**fields))
    return result


def common_pairs(rows: Sequence[Row]) -> list[Row]:
    """The rows of those pairs (patient and direction) that every method has."""
    pairs: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        pairs.setdefault(row.method, set()).add((row.patient, row.direction))
    shared = set.intersection(*pairs.values()) if pairs else set()
    return [row for row in rows if (row.patient, row.direction) in shared]


def markdown_table(rows: Sequence[Row]) -> str:
    """One line per method, in order of appearance: means over its rows, the median for seconds.

    Dice, HD, 95th percentile of HD and ASD (mm) stand as RV / MYO / LV.
    """
    names = " / ".join(LABELS.values())
    titles = ["method", "pairs", f"Dice {names}", f"HD mm {names}", f"HD95 mm {names}", f"ASD mm {names}"]
    titles += ["folding %", "SD Jacobian", "min Jacobian", "seconds"]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        pairs = {(row.patient, row.direction) for row in own}
        lines.append(_line([method, str(len(pairs)), *_cells(own)]))
    return "\n".join(lines)


def _cells(rows: Sequence[Row]) -> list[str]:
    """The figures of one method's line."""

    def per_label(score: Callable[[LabelScores], float], digits: int) -> str:
        return " / ".join(f"{_mean(score(row.labels[name]) for row in rows):.{digits}f}" for name in LABELS.values())

    return [
        per_label(lambda scores: scores.dice, 3),
        per_label(lambda scores: scores.hd, 1),
        per_label(lambda scores: scores.hd95, 1),
        per_label(lambda scores: scores.asd, 2),
        f"{_mean(row.folding_percent for row in rows):.3f}",
        f"{_mean(row.jacobian_sd for row in rows):.3f}",
        f"{min(row.jacobian_min for row in rows):.2f}",
        f"{statistics.median(row.seconds for row in rows):.2f}",
    ]


def _mean(values: Iterable[float]) -> float:
    """The mean of the values that are defined."""
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else float("nan")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="JSON-lines files of rows")
    parser.add_argument("--methods", nargs="+", help="the methods to compare; all by default")
    options = parser.parse_args()
    rows = [row for path in options.files for row in read_rows(path)]
    print(markdown_table(common_pairs([row for row in rows if not options.methods or row.method in options.methods])))


if __name__ == "__main__":
    main()
