"""A cohort by `dlir batch`, beside the same pairs one after the other: time, memory, and what is left.

    python Benchmarks/batch.py --data DATA/hippocampus [--rows 200]

Pairs of hippocampi with labels, by the model that ships. The warm calls are made in one process that has the model and
has made a call before it is timed; half of them before the batch and half after, because a machine may have other work
to do. `dlir register` runs for some pairs before and some after, and is multiplied. The batch is timed from the command
to its end.
Prints and keeps results/batch.md. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from study import Section, keep_tables, machine

from dlir.registration.pipeline import run
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.session import Session
from dlir.registration.threads import use_threads

MODEL = "hippocampus"
COLUMNS = ("fixed", "moving", "fixed_label", "moving_label")
# Of all rows, those by which memory at the beginning and at the end is compared.
SHARE = 4
# `dlir register` runs so often, as it takes longer.
CALLS = 10
POLL = 0.2
SEED = 14

Row = dict[str, str]


def rows_of(data: Path, count: int) -> list[Row]:
    """Each image with the next one, then each with the one after that, and so on; shuffled, so that images of one kind
    do not lie together and memory at the end is compared with memory for the same work at the beginning.
    """
    files = sorted((data.resolve() / "images").glob("*.nii*"))
    every = len(files)
    pairs = [(files[i], files[(i + step) % every]) for step in range(1, every) for i in range(every)][:count]
    random.Random(SEED).shuffle(pairs)
    labels = data.resolve() / "labels"
    return [
        dict(zip(COLUMNS, map(str, (fixed, moving, labels / fixed.name, labels / moving.name)), strict=True))
        for fixed, moving in pairs
    ]


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


# -- one after the other ------------------------------------------------------------------------------

_session: Session


def enter(row: Row, output: Path) -> None:
    """Makes this process one with a warm model."""
    global _session
    use_threads()
    _session = Session()
    calls([row], output)


def calls(rows: Sequence[Row], output: Path) -> float:
    """Seconds of the registrations of `rows`, one after the other."""
    start = time.perf_counter()
    for number, row in enumerate(rows):
        request = RegistrationRequest(
            row["fixed"],
            row["moving"],
            Outputs(str(output / str(number)), overwrite=True),
            MODEL,
            "cpu",
            fixed_labels=(row["fixed_label"],),
            moving_labels=(row["moving_label"],),
        )
        run(request, _session)
    return time.perf_counter() - start


def commands(rows: Sequence[Row], output: Path) -> list[float]:
    """Seconds of `dlir register` for each row."""
    seconds = []
    for number, row in enumerate(rows):
        options = [text for column, file in row.items() for text in (f"--{column.replace('_', '-')}", file)]
        start = time.perf_counter()
        command = ["register", *options, "--model", MODEL, "--device", "cpu", "--output", str(output / str(number))]
        subprocess.run([sys.executable, "-m", "dlir", *command], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return seconds


# -- the batch ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Of the batch and its processes at one moment: rows done, bytes in memory, open files, processes."""

    done: int
    memory: int
    files: int
    processes: int


def start_batch(table: Path, output: Path, scratch: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, by which its processes are found."""
    command = [sys.executable, "-m", "dlir", "batch", str(table), "--output", str(output), "--model", MODEL]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    return subprocess.Popen(
        [*command, "--device", "cpu"], env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def states(output: Path) -> list[str]:
    """Of the rows, by the summary."""
    with (output / "summary.csv").open(newline="", encoding="utf-8") as file:
        return [row["state"] for row in csv.DictReader(file)]


def done(output: Path) -> int:
    return len(list(output.glob("*/report.json")))


def half_written(output: Path, scratch: Path) -> int:
    """Temporary files and folders that are left."""
    return len([*scratch.iterdir(), *output.glob("*/.dlir-*"), *output.glob(".dlir-[0-9a-f]*.*")])


def family(session: int) -> list[int]:
    """The processes of a batch, itself included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def sample(process: subprocess.Popen[bytes], output: Path) -> Sample | None:
    memory, files, processes = 0, 0, family(process.pid)
    try:
        for pid in processes:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            memory += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (OSError, StopIteration):  # one has ended meanwhile
        return None
    return Sample(done(output), memory, files, len(processes))


def timed_batch(table: Path, output: Path, scratch: Path) -> tuple[float, list[Sample]]:
    """Seconds, and samples of the processes meanwhile."""
    start, samples = time.perf_counter(), []
    process = start_batch(table, output, scratch)
    while process.poll() is None:
        found = sample(process, output)
        samples += [] if found is None else [found]
        time.sleep(POLL)
    return time.perf_counter() - start, samples


# -- tables -------------------------------------------------------------------------------------------


def memory_table(samples: Sequence[Sample], rows: int) -> list[list[str]]:
    """Of the samples for which all processes were there."""
    full = [s for s in samples if s.processes == max(s.processes for s in samples)]
    first = [s for s in full if 0 < s.done <= rows // SHARE]
    last = [s for s in full if rows - rows // SHARE < s.done < rows]
    table = [["rows", "memory of all processes (MiB), mean", "largest", "open files", "processes"]]
    for name, own in ((f"first {rows // SHARE}", first), (f"last {rows // SHARE}", last)):
        memory = [s.memory / 2**20 for s in own]
        others = [f"{statistics.median(getattr(s, key) for s in own):.0f}" for key in ("files", "processes")]
        table.append([name, f"{statistics.mean(memory):.0f}", f"{max(memory):.0f}", *others])
    ratios = [which(s.memory for s in last) / which(s.memory for s in first) for which in (statistics.mean, max)]
    return [*table, ["last / first", *(f"{ratio:.3f}" for ratio in ratios), "", ""]]


def time_table(batch: float, warm: float, single: Sequence[float], rows: int) -> list[list[str]]:
    loop = rows * statistics.mean(single)
    return [
        ["way", "seconds", "times the batch"],
        ["dlir batch", f"{batch:.0f}", "1.00"],
        [f"{rows} warm calls in one process", f"{warm:.0f}", f"{warm / batch:.2f}"],
        [f"a shell loop of dlir register, from {len(single)} of them", f"{loop:.0f}", f"{loop / batch:.1f}"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images and labels of hippocampi")
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    rows = rows_of(options.data, options.rows)
    half = len(rows) // 2
    with tempfile.TemporaryDirectory() as work:
        folder, scratch = Path(work), Path(work) / "scratch"
        scratch.mkdir()
        table = write_table(folder / "pairs.csv", rows)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=enter, initargs=(rows[0], folder / "warm")) as pool:
            pool.submit(len, []).result()  # it has begun
            single = commands(rows[: CALLS // 2], folder / "first")
            warm = pool.submit(calls, rows[:half], folder / "warm").result()
            seconds, samples = timed_batch(table, folder / "batch", scratch)
            warm += pool.submit(calls, rows[half:], folder / "warm").result()
            single += commands(rows[: CALLS - CALLS // 2], folder / "second")
        assert states(folder / "batch") == ["done"] * len(rows)
        left = half_written(folder / "batch", scratch)
    sections: list[Section] = [
        ("Time", time_table(seconds, warm, single, len(rows))),
        ("Memory", memory_table(samples, len(rows))),
    ]
    notes = [
        f"{len(rows)} pairs of hippocampi with labels, model `{MODEL}`, {os.cpu_count()} processors that had other "
        f"work, too. Temporary and half written files left by the batch: {left}. Memory is the proportional set "
        "size, sampled while these rows were done and all processes were there.",
        machine(),
    ]
    keep_tables("batch", sections, notes)


if __name__ == "__main__":
    main()
