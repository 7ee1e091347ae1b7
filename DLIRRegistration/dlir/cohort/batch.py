"""Every row of a table registered, by processes that stay warm: what is done stays, what fails stops nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from dlir.cohort.folder import PAGE, TABLE, BatchFolder, Line, Shard
from dlir.cohort.job import RowWorker
from dlir.cohort.pool import Done, Failed, Pool, Worker
from dlir.cohort.rows import Options, Row, Source
from dlir.cohort.summary import write_page, write_table
from dlir.errors import DiskFullError, DLIRError
from dlir.io.memory import memory_limit
from dlir.registration.progress import Notify, Progress, silent
from dlir.registration.threads import available_cores, use_threads

# Seconds between two tables while the rows are worked on.
_EVERY = 5.0
# Bytes that a process needs: libraries, model, a pair of usual size.
_MEMORY = 1.5e9
# Processes that share a graphics card: while one reads and writes, others compute.
_PER_CARD = 4


@dataclass(frozen=True)
class Workers:
    """How many processes there are, each with how many threads; None for what is best here, see `jobs`."""

    processes: int | None = None
    threads: int | None = None

    def jobs(self, device: str) -> int:
        """As many processes as there are cores for their threads, and memory: two of one thread do more than one of
        two. Less than that on a graphics card, which they share.
        """
        if self.processes is not None:
            return self.processes
        cores = available_cores()
        jobs = min(cores // use_threads(self.threads, cores), int(memory_limit() / _MEMORY))
        return max(1, jobs if device == "cpu" else min(jobs, _PER_CARD))

    def each(self, jobs: int) -> int:
        """Threads of each of so many processes, which begin with them."""
        return use_threads(self.threads, jobs)


@dataclass
class Batch:
    """source, folder, shard: which rows, and where to. enter: makes the worker for them, in its process."""

    source: Source
    folder: BatchFolder
    options: Options
    shard: Shard = field(default_factory=Shard)
    enter: Callable[[], Worker] | None = None
    lines: dict[int, Line] = field(init=False, default_factory=dict)
    _written: float = field(init=False, default=0.0)

    def run(self, workers: Workers, progress: Progress = silent, tell: Notify = silent) -> None:
        """Register what is not done yet, and write the summary. `lines` has what came of each row of the shard.

        tell: gets a line for each row that failed, and for each result that no longer stands. Raises OutputError and
        DiskFullError where nothing more can be written, and OutputError where another batch is at work here; what is
        done is kept, and so it is on an interrupt.
        """
        rows = self.shard.rows(self.source.rows)
        with self.folder.held(self.shard):
            self.lines = {row.number: Line(row) for row in rows}
            todo = [row for row in rows if not self._is_done(row, tell)]
            for row in todo:
                self.folder.forget_error(row)
            self._write_table()
            with self._pool(workers) as pool:
                done = len(rows) - len(todo)
                progress(f"{done} of {len(rows)}", done / max(1, len(rows)))
                for row, outcome in pool.results(todo):
                    self._take(row, outcome, tell)
                    done += 1
                    progress(f"{done} of {len(rows)}", done / len(rows))
                    if time.monotonic() - self._written > _EVERY:
                        self._write_table()
        self.summarize()

    def summarize(self) -> list[Line]:
        """What is known of each row of all parts; written as the summary, unless some part has not done its own yet.

        Raises OutputError.
        """
        with self.folder.alone():
            rows = self.source.rows
            lines = [self.lines[row.number] if row.number in self.lines else self._known(row) for row in rows]
            others = [line for line in lines if line.row.number not in self.lines]
            if not self.lines or not any(line.waits for line in others):
                full = self.options.full_paths
                write_table(self.folder.path / TABLE, lines, full_paths=full)
                title = f"Registrations of {self.source.path.name}"
                write_page(self.folder.path / PAGE, title, lines, self.folder, full_paths=full)
        return lines

    # -- rows -------------------------------------------------------------------------------------

    def _known(self, row: Row) -> Line:
        """By what the folder says, wherever the images are now."""
        try:
            return self.folder.line(row, inputs=False)[0]
        except DLIRError as error:
            return Line(row, error=str(error))

    def _is_done(self, row: Row, tell: Notify) -> bool:
        self.folder.settle(row)
        try:
            line, changed = self.folder.line(row)
        except DLIRError:  # as its turn will tell
            return False
        if changed:
            tell(f"row {row.number}, {row.name}: done again, because another than before: {', '.join(changed)}")
        if line.figures is None:
            return False
        self.folder.keep_files(row)  # as a batch that was killed has not
        self.lines[row.number] = line
        return True

    def _take(self, row: Row, outcome: Done | Failed, tell: Notify) -> None:
        if isinstance(outcome, Done):
            self.lines[row.number] = Line(row, outcome.value)
            self.folder.keep_files(row)
            self.folder.forget_error(row)
            return
        self.folder.settle(row)
        if outcome.disk_full:
            raise DiskFullError(outcome.message)
        self.lines[row.number] = Line(row, error=outcome.message)
        self.folder.keep_error(row, outcome.message)
        tell(f"row {row.number}, {row.name}: {outcome.message}")

    @contextmanager
    def _pool(self, workers: Workers) -> Iterator[Pool[Row]]:
        """However this ends, so do the processes, what they were writing is taken back, and the table is up to date."""
        enter: Callable[[], Worker] = self.enter or partial(RowWorker, self.options, self.folder.path)
        pool: Pool[Row] = Pool(enter, workers.jobs, workers.each, self.folder.work, f"job.{self.shard.name}")
        try:
            yield pool
        finally:
            rows = pool.under_way
            pool.close()
            for row in rows:
                self.folder.settle(row)
            self._write_table(durable=True)

    def _write_table(self, *, durable: bool = False) -> None:
        lines = list(self.lines.values())
        write_table(self.folder.table(self.shard), lines, full_paths=self.options.full_paths, durable=durable)
        self._written = time.monotonic()
