"""Time and memory of this checkout beside those of another one, which take turns.

    python Benchmarks/versions.py BASE_CHECKOUT [--rounds 15] [--large-rounds 3] [--threads 1 2] [--jobs ...]

Jobs: the sample cine pair alone, warm; the same through `dlir register`, warm, with labels, report and files; and the
512x512x200 pair of scaling.py, each time in a new process, so that its peak memory is its own. Prints and keeps
results/versions.md: CPU seconds (user and system), seconds on the clock and peak memory, and the ratios. On a busy
machine CPU seconds vary as well, by what others leave in the caches: the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from study import keep_tables, machine

HERE = Path(__file__).resolve().parents[1]
JOBS = {
    "registration": "cine pair, registration alone",
    "command": "cine pair, `dlir register` with labels, report and files",
    "large": "512x512x200 pair, registration alone",
}


@dataclass(frozen=True)
class Run:
    """CPU and clock seconds, and peak bytes."""

    cpu: float
    wall: float
    peak: int


class Side:
    """A checkout's process that does a job whenever it is told to."""

    def __init__(self, checkout: Path, job: str, threads: int) -> None:
        script = str(Path(__file__).with_name("one_version.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, str(checkout), job, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *reason: object) -> None:
        self._process.communicate()

    def run(self) -> Run:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} failed; run it by hand to see why")
        return Run(**json.loads(line))


def alternate(base: Path, job: str, threads: int, rounds: int) -> tuple[list[Run], list[Run]]:
    """Runs of the base and of this checkout, in turns."""
    runs: tuple[list[Run], list[Run]] = ([], [])
    if job == "large":
        for _ in range(rounds):
            for own, checkout in zip(runs, (base, HERE), strict=True):
                with Side(checkout, job, threads) as side:
                    own.append(side.run())
        return runs
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(checkout, job, threads)) for checkout in (base, HERE)]
        for _ in range(rounds):
            for own, side in zip(runs, sides, strict=True):
                own.append(side.run())
    return runs


def lines(job: str, threads: int, base: list[Run], own: list[Run]) -> list[list[str]]:
    """A line per side, and one of ratios: medians over rounds, and of the least."""

    def line(name: str, runs: list[Run]) -> list[str]:
        cpu = [run.cpu for run in runs]
        wall = statistics.median(run.wall for run in runs)
        peak = max(run.peak for run in runs) / 2**20
        return [
            JOBS[job],
            str(threads),
            name,
            f"{statistics.median(cpu):.3f}",
            f"{min(cpu):.3f}",
            f"{wall:.3f}",
            f"{peak:.0f}",
        ]

    ratio = statistics.median(b.cpu / a.cpu for a, b in zip(base, own, strict=True))
    least = min(run.cpu for run in own) / min(run.cpu for run in base)
    wall = statistics.median(b.wall / a.wall for a, b in zip(base, own, strict=True))
    peak = max(run.peak for run in own) / max(run.peak for run in base)
    ratios = [JOBS[job], str(threads), "this / base", *(f"{value:.2f}" for value in (ratio, least, wall, peak))]
    return [line("base", base), line("this", own), ratios]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", type=Path, help="checkout to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large-rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    options = parser.parse_args()
    table = [["job", "threads", "checkout", "CPU (s)", "least CPU (s)", "clock (s)", "peak memory (MiB)"]]
    for job in options.jobs:
        for threads in options.threads:
            rounds = options.large_rounds if job == "large" else options.rounds
            table += lines(job, threads, *alternate(options.base.resolve(), job, threads, rounds))
            print(*("  ".join(line) for line in table[-3:]), sep="\n", flush=True)
    notes = [f"{options.rounds} rounds, {options.large_rounds} of the large pair; medians, and ratios round by round."]
    keep_tables("versions", [("Beside the base", table)], [*notes, machine()])


if __name__ == "__main__":
    main()
