"""What a verdict is worth: every pair with truth through the models, judged, and held against what labels say.

    python Benchmarks/verdict.py [--only GROUP ...] [--models MODEL ...] [--data DATA]

The pairs are those of `truth_pairs.py`, each with the half that it belongs to: limits are chosen on *tune*, the tables
show *report* and say so. A result is wrong where it is below the start, or more than .03 Dice or 1 mm short of elastix
on that pair, else well. An interrupted run goes on where it was; results/verdict.jsonl keeps the figures of each pair,
and the tables in results/verdict.md are made of these with the limits as they are now.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from study import KEPT, keep_tables, machine
from truth.pair import TruthPair
from truth.records import RECORDS as BASELINES
from truth.records import digest, recorded, wrong
from truth.store import default_data, pairs

from dlir.errors import DLIRError
from dlir.io.source import without_folders
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header
from dlir.registration.judging.assessment import Assessment
from dlir.registration.judging.verdict import LEVELS, verdict_on
from dlir.registration.loading import Loaded
from dlir.registration.pipeline import expected_start
from dlir.registration.results.report import build_report
from dlir.registration.session import Session

RECORDS = KEPT / "verdict.jsonl"
# What of a report a verdict looks at.
_SECTIONS = ("similarity", "jacobian", "initialization")

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--only", nargs="*", help="groups to run; without a name only the tables are made")
    parser.add_argument("--models", nargs="+", help="only these; an image far larger than a model's own takes long")
    options = parser.parse_args()
    listed = pairs(options.data)
    known = {(record["pair"], record["digest"], record["model"]): record for record in _read()}
    session = Session()
    for pair in listed:
        for model in pair.models:
            key = (pair.name, digest(pair), model)
            left_out = options.only is not None and pair.group not in options.only
            if key in known or left_out or (options.models and model not in options.models):
                continue
            known[key] = _measured(session, pair, model)
            with RECORDS.open("a") as file:
                file.write(json.dumps(known[key]) + "\n")
    _write_tables(listed, known)


def _read() -> Iterable[Record]:
    if RECORDS.exists():
        yield from map(json.loads, RECORDS.read_text().splitlines())


def _measured(session: Session, pair: TruthPair, model: str) -> Record:
    """The figures of one pair and model, whatever the limits are."""
    record: Record = {"pair": pair.name, "digest": digest(pair), "model": model}
    path, started = resolve_model(model), time.perf_counter()
    try:
        fixed, moving = pair.load()
        header = session.load(path)
        loaded = Loaded(fixed, moving, expected=expected_start(header))
        result = session.register(loaded, path).value
        assessment = session.assess(result, path)
        report = build_report(loaded, result, header, "cpu")
    except DLIRError as error:
        return record | {"refused": without_folders(str(error))}
    sections = {name: report[name] for name in _SECTIONS} | {"fixed": {"shape": report["fixed"]["shape"]}}
    assert assessment is not None
    score = pair.score(result.transform)
    print(f"{pair.name} {model}: {score:.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    return record | {"weights": header.digest, "score": score, "report": sections, "assessment": vars(assessment)}


# -- tables -------------------------------------------------------------------------------------------


def _write_tables(listed: Sequence[TruthPair], known: dict[tuple[str, str, str], Record]) -> None:
    judged, missing = [], 0
    for pair in listed:
        for model in pair.models:
            record = known.get((pair.name, digest(pair), model))
            if record is None or (pair.name, digest(pair)) not in recorded(BASELINES):
                missing += 1
            else:
                judged.append((pair, model, *_judged(pair, record)))
    sections = []
    for split in ("report", "tune"):
        rows = [row for row in judged if row[0].split == split]
        kinds = sorted({(pair.kind(model), pair.group) for pair, model, *_ in rows})
        table = [["kind", "group", "result", *LEVELS, "refused"]]
        for kind, group in kinds:
            for outcome in ("well", "wrong"):
                found = [level for pair, m, o, level in rows if (pair.kind(m), pair.group, o) == (kind, group, outcome)]
                if found:
                    table.append([kind, group, outcome, *(str(found.count(name)) for name in (*LEVELS, "refused"))])
        for outcome in ("well", "wrong"):
            found = [level for *_, o, level in rows if o == outcome]
            table.append(["all", "", outcome, *(str(found.count(name)) for name in (*LEVELS, "refused"))])
        sections.append((f"Verdicts against truth, {split} half", table))
        sections.append((f"What that comes to, {split} half", _summary(rows)))
    notes = [
        "A result is wrong where it is below the start or more than .03 Dice (1 mm) short of elastix, else well. own: "
        "the model's own kind of pair; foreign: of another; damaged: own pairs that something was done to.",
        f"{len(judged)} results of {len({pair.name for pair, *_ in judged})} pairs; {missing} are not measured.",
        machine(),
    ]
    keep_tables("verdict", sections, notes)


def _judged(pair: TruthPair, record: Record) -> tuple[str, str]:
    """What the result is, and what the verdict on it is, or "refused"."""
    if "refused" in record:
        return "wrong", "refused"
    header = read_header(resolve_model(record["model"]))
    verdict = verdict_on(record["report"], header, Assessment(**record["assessment"]))
    return ("wrong" if wrong(pair, record["score"]) else "well"), verdict.level


def _summary(rows: Sequence[tuple[TruthPair, str, str, str]]) -> list[list[str]]:
    good = [outcome for *_, outcome, level in rows if level == "good"]
    own = [level for pair, model, outcome, level in rows if outcome == "well" and pair.kind(model) == "own"]
    return [
        ["figure", "of", "share"],
        ["wrong of those called good", str(len(good)), _share(good.count("wrong"), len(good))],
        ["called good of the well registered own pairs", str(len(own)), _share(own.count("good"), len(own))],
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


if __name__ == "__main__":
    main()
