"""What a verdict is worth on pairs that are optimised: without a model, and on top of a model.

    python Benchmarks/verdict_optimised.py run [--split tune report] [--kinds none refined] [--only GROUP ...]
    python Benchmarks/verdict_optimised.py table

The pairs are those of `anything.py` and those of the models' own kind, undamaged and damaged, each with its half:
limits are chosen on *tune*. *none*: without a model, 10 s of one thread's own time; *refined*: undamaged pairs by their
model with --refine 5s. A result is wrong where it is below the start, or more than .03 Dice or 1 mm
short of elastix on that pair, else well; a damaged pair on which elastix was not run is held to the undamaged one. An
interrupted run goes on where it was; results/verdict_optimised.jsonl keeps the figures of each pair, and the tables in
results/verdict_optimised.md are made of these with the limits as they are now. About 20 s a pair. elastix on the pairs
that tune:

    python Benchmarks/anything.py run --split tune --elastix-python PYTHON \\
        --records Benchmarks/results/verdict_optimised_elastix.jsonl
"""

from __future__ import annotations

import own_time  # noqa: F401

# isort: split
import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from study import KEPT, keep_tables, machine
from truth.optimised import baseline, optimised_pairs
from truth.pair import TruthPair
from truth.records import add_row, digest, read_rows, wrong_beside
from truth.store import default_data
from truth_pairs import in_turn

from dlir.errors import DLIRError
from dlir.io.source import without_folders
from dlir.model.catalogue import resolve_model
from dlir.model.file import read_header
from dlir.registration.choices import NO_MODEL, Kind, budget_of
from dlir.registration.judging.assessment import Assessment
from dlir.registration.judging.verdict import LEVELS, verdict_on
from dlir.registration.loading import Loaded
from dlir.registration.optimising import Refinement
from dlir.registration.pipeline import expected_start
from dlir.registration.results.report import build_report
from dlir.registration.session import Session

RECORDS = KEPT / "verdict_optimised.jsonl"
# What of a report a verdict looks at.
_SECTIONS = ("similarity", "jacobian", "initialization", "refinement")
ALONE, REFINED = "none", "refined"
_BUDGETS = {ALONE: "10s", REFINED: "5s"}
_TITLES = {ALONE: "no model", REFINED: "model, refined"}
_SPLITS = ("tune", "report")
_LEVELS = (*LEVELS, "refused")

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--split", nargs="+", choices=_SPLITS, default=_SPLITS)
    parser.add_argument("--kinds", nargs="+", choices=tuple(_BUDGETS), default=list(_BUDGETS))
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="groups to run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    listed = optimised_pairs(options.data)
    if options.what == "run":
        for kind, pair in to_run(listed, options.kinds, options.split, options.only):
            if (pair.name, digest(pair), kind) not in known():
                add_row(RECORDS, measured(pair, kind))
    write_tables(listed)


def to_run(
    listed: Sequence[TruthPair], kinds: Sequence[str], splits: Sequence[str], groups: Sequence[str] | None
) -> Iterator[tuple[str, TruthPair]]:
    """The first of each group and damage, then the second of each and so on; only undamaged ones have a model."""
    for split in splits:
        some = [pair for pair in listed if pair.split == split and (groups is None or pair.group in groups)]
        for kind in kinds:
            yield from ((kind, pair) for pair in in_turn(some) if kind == ALONE or (pair.own and not pair.damage))


def known() -> dict[tuple[str, str, str], Row]:
    """The last record of each pair and kind."""
    return {(row["pair"], row["digest"], row["kind"]): row for row in read_rows(RECORDS)}


# -- runs ---------------------------------------------------------------------------------------------


def measured(pair: TruthPair, kind: str) -> Row:
    """The figures of one pair, whatever the limits are."""
    model = pair.own if kind == REFINED else NO_MODEL
    key = {"pair": pair.name, "digest": digest(pair), "kind": kind, "model": model}
    session, path, started = Session(), resolve_model(model) if kind == REFINED else None, time.perf_counter()
    header = None if path is None else session.load(path)
    refinement = Refinement(budget_of(_BUDGETS[kind]), Kind.deformable, None, 0.0, False, lambda: False)
    try:
        loaded = Loaded(*pair.load(), expected=expected_start(header))
        result = session.register(loaded, path, "cpu", refinement=refinement).value
        assessment = session.assess(result, path, "cpu")
        report = build_report(loaded, result, header, "cpu")
    except DLIRError as error:
        return key | {"refused": without_folders(str(error))}
    assert assessment is not None
    score = pair.score(result.transform)
    print(f"{pair.name} {kind}: {score:.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    sections = {name: report[name] for name in _SECTIONS} | {"fixed": {"shape": report["fixed"]["shape"]}}
    return key | {"score": score, "report": sections, "assessment": assessment.to_dict()}


# -- tables -------------------------------------------------------------------------------------------

# What is judged: its kind, its pair, "well" or "wrong", and the level of its verdict, or "refused".
Judged = tuple[str, TruthPair, str, str]


def write_tables(listed: Sequence[TruthPair]) -> None:
    """Of all records, by the limits as they are now."""
    records, judged, missing = known(), list[Judged](), 0
    for split in _SPLITS:
        for kind, pair in to_run(listed, tuple(_BUDGETS), [split], None):
            row, peer = records.get((pair.name, digest(pair), kind)), baseline(pair, listed)
            if row is None or peer is None:
                missing += 1
                continue
            wrong = "refused" in row or wrong_beside(peer, pair, row["score"])
            judged.append((kind, pair, "wrong" if wrong else "well", level_of(row)))
    sections = []
    for split in ("report", "tune"):
        rows = [row for row in judged if row[1].split == split]
        sections.append((f"Verdicts against truth, {split} half", _counts(rows)))
        sections.append((f"What that comes to, {split} half", _summary(rows)))
    notes = [
        "A result is wrong where it is below the start or more than .03 Dice (1 mm) short of elastix, else well. "
        f"{_TITLES[ALONE]}: optimised for 10 s; {_TITLES[REFINED]}: by the pair's own model, and --refine 5s.",
        f"{len(judged)} results of {len({pair.name for _, pair, *_ in judged})} pairs; {missing} are not measured.",
        machine(),
    ]
    keep_tables("verdict_optimised", sections, notes)


def level_of(row: Row) -> str:
    """The verdict on a record by the limits as they are now, or "refused"."""
    if "refused" in row:
        return "refused"
    header = None if row["model"] == NO_MODEL else read_header(resolve_model(row["model"]))
    return verdict_on(row["report"], header, Assessment(**row["assessment"])).level


def _counts(rows: Sequence[Judged]) -> list[list[str]]:
    table = [["result of", "pairs", "group", "result", *_LEVELS]]
    kinds = dict.fromkeys((kind, _damage(pair), pair.group) for kind, pair, *_ in rows)
    for which in [*sorted(kinds, key=lambda which: which[:2]), None]:
        for outcome in ("well", "wrong"):
            some = [
                level
                for kind, pair, result, level in rows
                if result == outcome and which in ((kind, _damage(pair), pair.group), None)
            ]
            if some:
                kind, damage, group = which or ("all", "", "")
                table.append(
                    [_TITLES.get(kind, kind), damage, group, outcome, *(str(some.count(name)) for name in _LEVELS)]
                )
    return table


def _summary(rows: Sequence[Judged]) -> list[list[str]]:
    table = [["result of", "pairs", "called good", "of these wrong", "well registered", "of these called good"]]
    for kind, damage in dict.fromkeys((kind, _damage(pair)) for kind, pair, *_ in rows):
        some = [(result, level) for one, pair, result, level in rows if (one, _damage(pair)) == (kind, damage)]
        good = [result for result, level in some if level == "good"]
        well = [level for result, level in some if result == "well"]
        shares = (_share(good.count("wrong"), len(good)), _share(well.count("good"), len(well)))
        table.append([_TITLES[kind], damage, str(len(good)), shares[0], str(len(well)), shares[1]])
    return table


def _damage(pair: TruthPair) -> str:
    return "damaged" if pair.damage else "undamaged"


def _share(part: int, whole: int) -> str:
    return f"{part}, {100 * part / whole:.1f} %" if whole else "–"


if __name__ == "__main__":
    main()
