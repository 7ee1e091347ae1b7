"""Pairs with truth, by which verdicts are calibrated: lists them, and runs elastix on each.

    python Benchmarks/truth_pairs.py list --data DATA
    python Benchmarks/truth_pairs.py elastix --data DATA

DATA holds acdc/, hippocampus/, headneck_ct/ and the rest of the real data. `list` writes Benchmarks/truth/pairs.json:
which pairs, with what damage, for tuning or for report. `elastix` adds what is missing to
results/verdict_elastix.jsonl: the score of each pair where it starts and after elastix with its default settings; about
15 s a pair on one thread, hearts that table2.py has done need none. An interrupted run goes on where it was. Needs the
eval and bench extras; set ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from truth.pair import TruthPair
from truth.store import default_data, pairs, write_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("list", "elastix"))
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the data")
    options = parser.parse_args()
    if options.what == "list":
        from truth.listing import listed

        found = listed(options.data)
        write_pairs(found)
        print(summary(found))
    else:
        run_elastix(pairs(options.data))


def run_elastix(every: Sequence[TruthPair]) -> None:
    """Records what is missing: own pairs, then foreign, then damaged ones, each group in turn."""
    import torch
    from truth.elastix import measured
    from truth.records import RECORDS, digest, record, recorded

    torch.set_num_threads(1)
    known = recorded(RECORDS)
    missing = [pair for pair in in_turn(every) if (pair.name, digest(pair)) not in known]
    print(f"{len(every) - len(missing)} of {len(every)} pairs are recorded", flush=True)
    for number, pair in enumerate(missing, 1):
        found = measured(pair)
        record(pair, found, RECORDS)
        after = "gave up" if found.elastix is None else f"{found.elastix:.3f}"
        print(f"{number}/{len(missing)}  {pair.name}: {found.before:.3f} -> {after} {found.problem}", flush=True)


def in_turn(every: Sequence[TruthPair]) -> list[TruthPair]:
    """The first of each group, then the second of each and so on, so that a run cut short has some of all."""
    seen: Counter[tuple[str, str]] = Counter()
    turns = []
    for pair in every:
        turns.append((bool(pair.damage), not pair.own, seen[pair.group, pair.damage]))
        seen[pair.group, pair.damage] += 1
    return [every[i] for i in sorted(range(len(every)), key=lambda i: turns[i])]


def summary(found: Sequence[TruthPair]) -> str:
    """How many pairs there are of each group and damage in each split."""
    counts = Counter((pair.damage or pair.group, pair.split) for pair in found)
    names = dict.fromkeys(name for name, _ in counts)
    lines = [f"{name:20}  tune {counts[name, 'tune']:3}  report {counts[name, 'report']:3}" for name in names]
    return "\n".join([*lines, f"{len(found)} pairs"])


if __name__ == "__main__":
    main()
