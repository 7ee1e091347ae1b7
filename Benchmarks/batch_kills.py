"""`dlir batch` killed at random moments, the parent and a child in turn, and gone on with: what is lost or half there.

    python Benchmarks/batch_kills.py --data DATA/hippocampus [--kills 20]

Each batch is begun again until it is done; then there is another one. Prints and keeps results/batch_kills.md. Linux
only: it reads /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from batch import MODEL, POLL, done, family, half_written, rows_of, start_batch, states, write_table
from study import keep_tables, machine

# Rows of a batch, which is killed after up to so many more are done, and up to so many seconds after that.
KILLED_ROWS, MORE, AFTER = 16, 3, 1.0


@dataclass
class Kills:
    """What was found after kills. done: results that there were, counted after each kill; changed: those of them that
    were not as before. wrong: rows of finished batches without a result or with two, and files that are left.
    """

    parents: int = 0
    children: int = 0
    batches: int = 0
    done: int = 0
    changed: int = 0
    wrong: int = 0

    def finish(self, output: Path, scratch: Path) -> None:
        self.batches += 1
        folders = [path for path in output.iterdir() if path.is_dir() and path.name != ".dlir-batch"]
        self.wrong += abs(len(folders) - KILLED_ROWS) + states(output).count("error") + half_written(output, scratch)


def results(output: Path) -> dict[Path, tuple[bytes, int]]:
    """The files of every pair that is done, with their content and when they were written."""
    files = (file for report in output.glob("*/report.json") for file in report.parent.iterdir() if file.is_file())
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def registers(pid: int) -> bool:
    """Whether a process is one of those that register, and not the one that tells them what."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone meanwhile
        return False


def kill(process: subprocess.Popen[bytes], output: Path, chance: random.Random, *, child: bool) -> bool:
    """At a random moment, unless it has ended by then; whether it was killed."""
    target = min(done(output) + chance.randint(0, MORE), KILLED_ROWS)
    while process.poll() is None and done(output) < target:
        time.sleep(POLL)
    time.sleep(chance.uniform(0, AFTER))
    children = [pid for pid in family(process.pid) if registers(pid)]
    if process.poll() is not None or (child and not children):
        return False
    try:
        os.kill(chance.choice(children) if child else process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return False
    return True


def killed(table: Path, folder: Path, scratch: Path, count: int) -> Kills:
    """Batches that are killed `count` times in all and begun again each time, until each is done."""
    chance, found = random.Random(0), Kills()
    while found.parents + found.children < count:
        output, before = folder / f"killed-{found.batches}", dict[Path, tuple[bytes, int]]()
        while True:
            child = found.parents > found.children
            process = start_batch(table, output, scratch)
            if found.parents + found.children < count and kill(process, output, chance, child=child):
                found.children, found.parents = found.children + child, found.parents + (not child)
            code = process.wait()
            while family(process.pid):  # the processes of one that was killed end by themselves
                time.sleep(POLL)
            now = results(output)
            found.done += len(before)
            found.changed += sum(now.get(file) != held for file, held in before.items())
            before = now
            if code == 0:
                break
        found.finish(output, scratch)
    return found


def kill_table(kills: Kills) -> list[list[str]]:
    return [
        ["what", "count"],
        ["kills of the parent", str(kills.parents)],
        ["kills of a child", str(kills.children)],
        ["batches that were done in the end", str(kills.batches)],
        ["files of results that were there before a kill", str(kills.done)],
        ["of these, changed afterwards", str(kills.changed)],
        ["rows lost, done twice or half written", str(kills.wrong)],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images and labels of hippocampi")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, scratch = Path(work), Path(work) / "scratch"
        scratch.mkdir()
        table = write_table(folder / "pairs.csv", rows_of(options.data, KILLED_ROWS))
        kills = killed(table, folder, scratch, options.kills)
    notes = [f"Batches of {KILLED_ROWS} pairs of hippocampi with labels, model `{MODEL}`.", machine()]
    keep_tables("batch_kills", [("Killed by SIGKILL", kill_table(kills))], notes)


if __name__ == "__main__":
    main()
