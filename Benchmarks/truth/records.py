"""What is known of each pair before DLIR tries it: its score where it starts, and elastix's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlir.errors import EvaluationError
from truth.pair import TruthPair
from truth.store import ROOT, entry

RECORDS = ROOT / "Benchmarks" / "results" / "verdict_elastix.jsonl"

# A result is wrong that is so much short of elastix's.
SHORT = {"dice": 0.03, "mm": 1.0}
# So many mm that images which do not move against each other may be displaced on average: a breath, a voxel.
STILL = 1.0


@dataclass(frozen=True)
class Baseline:
    """Scores of a pair in its unit.

    before: where the pair's `start` puts the images. elastix: from there; None where elastix gave up. scanner, centers:
    without registration, from either start. seconds: that elastix took on one thread. method: whose result it is.
    problem: why elastix gave up.
    """

    before: float
    elastix: float | None
    scanner: float
    centers: float
    seconds: float | None = None
    method: str = ""
    problem: str = ""


def digest(pair: TruthPair) -> str:
    """Twelve letters that change where another registration would be another's."""
    told = {key: value for key, value in entry(pair).items() if key not in ("split", "own", "undamaged")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def baseline(pair: TruthPair) -> Baseline:
    """From the records. Raises EvaluationError for a pair without one."""
    known = recorded(RECORDS)
    if (key := (pair.name, digest(pair))) not in known:
        raise EvaluationError(f"{pair.name}: nothing is recorded; run python Benchmarks/truth_pairs.py elastix")
    return known[key]


def recorded(file: Path) -> dict[tuple[str, str], Baseline]:
    """The records by name and digest of their pair."""
    return _read(file, file.stat().st_mtime_ns) if file.exists() else {}


@lru_cache(maxsize=1)
def _read(file: Path, changed: int) -> dict[tuple[str, str], Baseline]:
    return {(row.pop("pair"), row.pop("digest")): Baseline(**row) for row in read_rows(file)}


def record(pair: TruthPair, found: Baseline, file: Path) -> None:
    """Adds a line to the records."""
    add_row(file, {"pair": pair.name, "digest": digest(pair), **asdict(found)})


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of records, none where there is no file."""
    if not file.exists():
        return []
    *lines, _ = file.read_text(encoding="utf-8").split("\n")  # what has no end yet is still being written
    return [json.loads(line) for line in lines]


def add_row(file: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to a file of records."""
    whole = file.read_bytes() if file.exists() else b""
    with file.open("ab") as stream:
        stream.truncate(whole.rfind(b"\n") + 1)  # of a run that was interrupted as it wrote
        stream.write(json.dumps(row).encode() + b"\n")


def wrong(pair: TruthPair, score: float) -> bool:
    """Whether a result is wrong: below the start, or more than SHORT of elastix on that pair, or no number."""
    return wrong_beside(baseline(pair), pair, score)


def wrong_beside(known: Baseline, pair: TruthPair, score: float) -> bool:
    """The same, by what is known of a pair."""
    sign = 1 if pair.unit == "dice" else -1
    slack = STILL if pair.truth == "still" else 0.0
    bounds = [known.before - sign * slack]
    if known.elastix is not None:
        bounds.append(known.elastix - sign * SHORT[pair.unit])
    return not math.isfinite(score) or any(sign * (score - bound) < 0 for bound in bounds)
