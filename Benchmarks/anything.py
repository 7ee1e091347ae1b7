"""Any pair, without training: DLIR beside elastix, Greedy and SyN on every kind of pair with truth.

    python Benchmarks/anything.py run --data DATA --elastix-python PYTHON --greedy-python PYTHON --syn-python PYTHON \\
        --dlir "dlir 15s=--model none --refine 15s"
    python Benchmarks/anything.py table

DATA holds acdc/, hippocampus/, headneck_ct/ and the rest of the real data. The pairs are those of truth/compared.json,
which `list` writes: a recipe is chosen on *tune* and told of *report*. Each method runs in a process of its own on one
thread; a peer whose Python is not given is left out. Each PYTHON has one package: itk-elastix, picsl-greedy and
SimpleITK, or antspyx. `--dlir NAME=OPTIONS` is `dlir register` with such options, as often as wanted. An interrupted
run goes on where it was; results/anything.jsonl keeps the figures of each pair, results/anything.md the tables. About
a quarter of an hour for a method on the pairs that are reported.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from methods.base import Compared, Nothing
from methods.peers import PEERS, Peer
from methods.product import Product
from study import KEPT, keep_tables, machine
from truth.compared import compared
from truth.pair import TruthPair
from truth.records import add_row, digest, read_rows
from truth.store import COMPARED, default_data, pairs, write_pairs
from truth_pairs import in_turn, summary

from dlir.errors import DLIRError
from dlir.evaluation.tables import markdown
from dlir.io.source import without_folders

RECORDS = KEPT / "anything.jsonl"

Row = dict[str, Any]
# The last record of each pair, by its name and the method's.
Known = Mapping[tuple[str, str], Row]


def main() -> None:
    options = _parser().parse_args()
    if options.what == "list":
        found = compared(options.data)
        write_pairs(found, COMPARED)
        print(summary(found))
        return
    listed = pairs(options.data, COMPARED)
    if options.what == "run":
        torch.set_num_threads(1)
        run(chosen(listed, options.split, options.only), methods(options), options)
    sections = tables(listed, last(read_rows(options.records)), options.methods)
    if options.records == RECORDS and options.methods is None:
        keep_tables("anything", sections, [*NOTES, machine()])
    else:
        print("\n\n".join(f"{title}\n\n{markdown(table)}" for title, table in sections))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table", "list"))
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument(
        "--records", type=Path, default=RECORDS, help="file of the records; of another, no table is kept"
    )
    parser.add_argument("--split", nargs="+", choices=("report", "tune"), default=["report"], help="to run")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="groups to run")
    for name in PEERS:
        parser.add_argument(f"--{name}-python", type=Path, help=f"Python that has {name}")
    parser.add_argument("--dlir", nargs="+", default=[], metavar="NAME=OPTIONS", help="dlir register with such options")
    parser.add_argument("--again", action="store_true", help="also what is recorded already")
    parser.add_argument("--threads", type=int, default=1, help="of each method")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="columns of the tables, which are printed only")
    return parser


def methods(options: argparse.Namespace) -> list[Compared]:
    """Those that are asked for."""
    found: list[Compared] = [Nothing()]
    for name in PEERS:
        if python := getattr(options, f"{name}_python"):
            found.append(Peer(name, python))
    return [*found, *map(Product.from_text, options.dlir)]


def chosen(listed: Sequence[TruthPair], splits: Sequence[str], groups: Sequence[str] | None) -> list[TruthPair]:
    """The first of each group, then the second of each and so on."""
    return in_turn([pair for pair in listed if pair.split in splits and (groups is None or pair.group in groups)])


# -- runs ---------------------------------------------------------------------------------------------


def run(listed: Sequence[TruthPair], several: Sequence[Compared], options: argparse.Namespace) -> None:
    """Records what is missing, pair by pair with all methods."""
    known = last(read_rows(options.records))
    for number, pair in enumerate(listed, 1):
        for method in several:
            key = identity(pair, method, options.threads)
            if not options.again and known.get((pair.name, method.name), {}).items() >= key.items():
                continue
            row = key | measured(pair, method, options.threads)
            add_row(options.records, row)
            told = (
                row.get("problem") or f"{row['score']:.3f}, {row['seconds'] or 0:.1f} s, {row['folding']:.2f} % folds"
            )
            print(f"{number}/{len(listed)}  {pair.name}  {method.name}: {told}", flush=True)


def identity(pair: TruthPair, method: Compared, threads: int) -> Row:
    """What makes a record that of this pair and method and no other."""
    text = json.dumps(method.settings(pair), sort_keys=True)
    settings = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {"pair": pair.name, "digest": digest(pair), "method": method.name, "settings": settings, "threads": threads}


def measured(pair: TruthPair, method: Compared, threads: int) -> Row:
    """The figures of one pair, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = method.register(pair, Path(folder), threads)
        except DLIRError as error:
            return {"problem": without_folders(str(error))}
    figures = pair.measured(found.transform)
    if not math.isfinite(figures["score"]):
        return {"problem": "its transform is not finite"}
    times = {"seconds": found.seconds, **({} if found.used is None else vars(found.used))}
    rounded = {name: None if value is None else round(value, 2) for name, value in times.items()}
    return {name: round(value, 5) for name, value in figures.items()} | rounded | dict(found.told)


def last(rows: Iterable[Row]) -> Known:
    """The last record of each pair and method."""
    return {(row["pair"], row["method"]): row for row in rows}


# -- tables -------------------------------------------------------------------------------------------

NOTES = (
    "Each cell: mean / worst pair / median seconds of one thread / per cent of the fixed image's voxels that fold. "
    "Dice of the labels by nearest neighbour, averaged in each pair, but for groups in mm, where less is better: "
    "lung_ct, error of landmarks; ct_mr, mean error of a known motion put on the MR, within the body; no harm, mean "
    "displacement of a body between whose images contrast arrives and nothing moves; 2 mm motion, median error of a "
    "smooth field of 2 mm root mean square put on the same pairs.",
    "nothing: as the scanner placed the images. elastix: its default rigid, affine and B-spline maps, mutual "
    "information (correlation for hearts), grid 10 mm (hippocampi 5). greedy: affine and deformable by weighted NCC "
    "(mutual information for ct_mr), 100x50x10 steps. syn: ANTs' default SyN. These start from the image centres "
    "between two persons and for lung_ct. Seconds without reading and writing, nor the share of the time in which "
    "other work had the processors; a number in brackets is that of the pairs that have a result, where it is not all.",
)


def tables(listed: Sequence[TruthPair], known: Known, only: Sequence[str] | None) -> list[tuple[str, list[list[str]]]]:
    """Groups by methods, for each split of which there are records."""
    names = [name for name in dict.fromkeys(name for _, name in known) if only is None or name in only]
    lines = [["split", "group", "n", *names]]
    for split in ("report", "tune"):
        for group in dict.fromkeys(pair.group for pair in listed):
            some = [pair for pair in listed if (pair.split, pair.group) == (split, group)]
            cells = [cell(some, [known.get((pair.name, name)) for pair in some]) for name in names]
            if any(cells):
                lines.append([split, f"{group}, {some[0].unit}", str(len(some)), *(text or "–" for text in cells)])
    return [("Methods beside each other", lines)]


def cell(some: Sequence[TruthPair], rows: Sequence[Row | None]) -> str:
    """The figures of a group by one method; rows: its records, one a pair, None where there is none."""
    current = [row for pair, row in zip(some, rows, strict=True) if row and row["digest"] == digest(pair)]
    done = [row for row in current if "problem" not in row]
    gave_up = f"gave up: {len(current) - len(done)}" if len(current) > len(done) else ""
    if not done:
        return gave_up
    dice = some[0].unit == "dice"
    scores, digits = [row["score"] for row in done], 3 if dice else 2
    seconds = [undisturbed(row) for row in done if row["seconds"] is not None]
    figures = [f"{statistics.mean(scores):.{digits}f}", f"{(min if dice else max)(scores):.{digits}f}"]
    figures += [f"{statistics.median(seconds):.1f} s"] if seconds else []
    figures.append(f"{statistics.mean(row['folding'] for row in done):.2f} %")
    number = "" if len(done) == len(some) else f" ({len(done)})"
    return ", ".join([" / ".join(figures) + number, *filter(None, [gave_up])])


def undisturbed(row: Row) -> float:
    """Seconds of a record without the share of the time in which other work had the processors."""
    share = row["cpu"] / row["wall"] / row["threads"] if "cpu" in row else 1.0
    return float(row["seconds"] * min(1.0, share))


if __name__ == "__main__":
    main()
