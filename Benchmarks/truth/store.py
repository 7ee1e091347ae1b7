"""The committed list of pairs as a file: read, written, and where the data that it names is looked for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlir.data.pair import Pair, Scan
from dlir.io.writing import write_text
from truth.pair import TruthPair

ROOT = Path(__file__).resolve().parents[2]
# The pairs that verdicts are calibrated on, and those that methods are compared on.
LIST, COMPARED = (Path(__file__).with_name(name) for name in ("pairs.json", "compared.json"))

_PLAIN = ("name", "group", "split", "truth", "start", "own", "damage", "undamaged", "seed")
_SCAN = ("subject", "part", "image", "label", "landmarks")


def default_data() -> Path:
    """The folder of the real data: as for the tests, `DLIR_TEST_DATA` or shared/data beside the repository."""
    return Path(os.environ.get("DLIR_TEST_DATA") or ROOT.parent / "shared" / "data")


def pairs(data: Path | None = None, file: Path = LIST) -> list[TruthPair]:
    """All pairs of a committed list, in its order. data: folder; default_data() where None."""
    folder = default_data() if data is None else data
    return [_from_entry(entry, folder) for entry in json.loads(file.read_text(encoding="utf-8"))]


def write_pairs(listed: Sequence[TruthPair], file: Path = LIST) -> None:
    """Replaces a committed list, one pair a line."""
    lines = ",\n".join(json.dumps(entry(pair)) for pair in listed)
    write_text(file, f"[\n{lines}\n]\n")


def entry(pair: TruthPair) -> dict[str, Any]:
    """A pair in plain values, without what is empty."""
    values: dict[str, Any] = {key: getattr(pair, key) for key in _PLAIN if getattr(pair, key)}
    if pair.labels:
        values["labels"] = {str(old): new for old, new in pair.labels.items()}
    for role in ("fixed", "moving"):
        scan = getattr(pair.pair, role)
        values[role] = {key: getattr(scan, key) for key in _SCAN if getattr(scan, key)}
    return values


def _from_entry(values: dict[str, Any], data: Path) -> TruthPair:
    plain = {key: values[key] for key in _PLAIN if key in values}
    labels = {int(old): new for old, new in values.get("labels", {}).items()}
    return TruthPair(pair=Pair(Scan(**values["fixed"]), Scan(**values["moving"])), labels=labels, data=data, **plain)
