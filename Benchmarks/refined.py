"""What refinement adds to a model's result: hearts that cardiac-cine has not seen, ED and ES both ways.

    python Benchmarks/refined.py [--refine 5s] [--patients 81-100]

Registers each pair twice in this process, on one thread, by the pipeline that `dlir register` calls: as the model
gives it, and with refinement. Prints and keeps results/refined.md: mean Dice of each structure, the smallest of a pair,
folding, seconds of the networks and of the optimisation. Recipes were chosen on other patients.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from study import keep_tables, machine
from truth.store import default_data

from dlir.data.layouts.acdc import Acdc
from dlir.data.pair import Pair, select
from dlir.registration.pipeline import run
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.session import Session

STRUCTURES = {"1": "RV", "2": "MYO", "3": "LV"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--refine", default="5s")
    parser.add_argument("--patients", default="81-100")
    options = parser.parse_args()
    torch.set_num_threads(1)
    first, last = map(int, options.patients.split("-"))
    wanted = [f"patient{number:03d}" for number in range(first, last + 1)]
    session, reports = Session(), dict[str, list[dict[str, Any]]]()
    for pair in select(Acdc(options.data / "acdc").pairs(), wanted):
        for refine in ("off", options.refine):
            reports.setdefault(refine, []).append(registered(pair, refine, session))
        told = [f"{mean(report):.3f}" for report in (own[-1] for own in reports.values())]
        print(pair.name, *told, flush=True)
    table = [("", *STRUCTURES.values(), "mean", "worst", "folding (%)", "seconds")]
    table += [row(refine, own) for refine, own in reports.items()]
    count = len(reports["off"])
    title = (
        f"cardiac-cine with --refine, ACDC {options.patients}, {count} pairs: mean Dice, median seconds on one thread"
    )
    if options.patients == "81-100":
        keep_tables("refined", [(title, table)], [machine()])
    else:
        print(table)


def registered(pair: Pair, refine: str, session: Session) -> dict[str, Any]:
    """The report on a pair."""
    with tempfile.TemporaryDirectory() as folder:
        request = RegistrationRequest(
            pair.fixed.image,
            pair.moving.image,
            Outputs(folder),
            model="cardiac-cine",
            refine=refine,
            moving_labels=(pair.moving.label,),
            fixed_labels=(pair.fixed.label,),
        )
        return run(request, session).report


def dice(report: dict[str, Any], label: str) -> float:
    found: float = report["labels"][label]["after"]["dice"]
    return found


def mean(report: dict[str, Any]) -> float:
    return statistics.mean(dice(report, label) for label in STRUCTURES)


def row(refine: str, reports: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of one way."""
    seconds = [sum(report["seconds"].get(step, 0.0) for step in ("networks", "refine")) for report in reports]
    means = [mean(report) for report in reports]
    return (
        f"--refine {refine}",
        *(f"{statistics.mean(dice(report, label) for report in reports):.3f}" for label in STRUCTURES),
        f"{statistics.mean(means):.3f}",
        f"{min(means):.3f}",
        f"{statistics.mean(report['jacobian']['folding_percent'] for report in reports):.3f}",
        f"{statistics.median(seconds):.1f}",
    )


if __name__ == "__main__":
    main()
