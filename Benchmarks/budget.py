"""What a budget costs: seconds beyond it, the way back, and how soon an optimisation ends when somebody wants it to.

    python Benchmarks/budget.py [--data DATA] [--budgets 2 5 10 15]

A heart, a head and neck, a whole head, a hippocampus, and a phantom of 512x512x200, each optimised on one thread from
nothing and then the other way round, as a verdict asks for it. Overshoot: seconds of the optimisation beyond the
budget, in per cent of it; less than nothing where the plan is done before. CPU: seconds of the processor per second of
the budget; where it is much less than one, other work had the machine, and the overshoot is that of a busy one. Gap:
the longest time in which nobody asked whether to end, so that to keep the best so far takes no longer. `--own` counts
the time that this process computed instead of the clock on the wall, as on a machine where nothing else runs. Prints
and keeps results/budget.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from scaling import phantom
from study import keep_tables, machine, on_own_time
from truth.store import COMPARED, default_data, pairs

from dlir.io.reading import Volume
from dlir.optimization.budget import Budget
from dlir.optimization.optimise import Aim, Optimisation

GROUPS = ("acdc", "headneck_ct", "brain_t1", "hippocampus")
SLICES = 200
HEAD = ("pair", "budget", "seconds", "overshoot", "CPU", "stages", "gap", "way back", "of the budget", "its gap")


@dataclass
class Asked:
    """The longest time between two questions whether to end."""

    now: Callable[[], float]
    longest: float = 0.0
    last: float = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.now()

    def __call__(self) -> bool:
        now = self.now()
        self.longest, self.last = max(self.longest, now - self.last), now
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--budgets", type=float, nargs="+", default=[2, 5, 10, 15])
    parser.add_argument("--own", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, most, gaps = list[tuple[str, ...]](), 0.0, 0.0
    with on_own_time() if options.own else nullcontext(time.perf_counter) as now:
        for name, fixed, moving in images(options.data):
            for seconds in options.budgets:
                row, over, gap = measured(name, fixed, moving, seconds, now)
                rows.append(row)
                most, gaps = max(most, over), max(gaps, gap)
                print(*row, flush=True)
    clock = "its own time" if options.own else f"the wall, load {os.getloadavg()[2]:.1f}"
    notes = [f"Largest overshoot {most:.1f} %, longest gap {gaps:.2f} s; seconds of {clock}.", machine()]
    keep_tables("budget", [("Optimisation within a budget", [HEAD, *rows])], notes)


def images(data: Path) -> Iterator[tuple[str, Volume, Volume]]:
    listed = pairs(data, COMPARED)
    for group in GROUPS:
        yield group, *next(pair for pair in listed if pair.group == group and pair.split == "tune").load()
    yield f"512x512x{SLICES}", phantom(SLICES, 0.0), phantom(SLICES, 0.02)


def measured(
    name: str, fixed: Volume, moving: Volume, seconds: float, now: Callable[[], float]
) -> tuple[tuple[str, ...], float, float]:
    """A row of the table, the overshoot in per cent, and the longest gap in seconds."""
    pair, budget = Optimisation(fixed, moving), Budget(seconds=seconds)
    asked, began = Asked(now), time.process_time()
    found = pair.run(budget, stop=asked)
    asked()
    used = time.process_time() - began
    back, began = Asked(now), now()
    pair.turned(found, budget, Aim(), back)
    back()
    turned, over = now() - began, 100 * (found.seconds / seconds - 1)
    row = (
        *(name, f"{seconds:g} s", f"{found.seconds:.2f}", f"{over:+.1f} %", f"{used / seconds:.2f}"),
        *(f"{len(found.stages)} of {found.planned}", f"{asked.longest:.2f} s"),
        *(f"{turned:.2f} s", f"{100 * turned / seconds:.0f} %", f"{back.longest:.2f} s"),
    )
    return row, over, max(asked.longest, back.longest)


if __name__ == "__main__":
    main()
