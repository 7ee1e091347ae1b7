"""The folder of a batch: who works in it, and what it knows of each row."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dlir.cohort.figures import Figures, figures_of
from dlir.cohort.origin import differences, read_result
from dlir.cohort.rows import Options, Row
from dlir.errors import OptionError, OutputError, notes_to, shown
from dlir.io.writing import replacing, settle, writable, write_json
from dlir.registration.progress import silent
from dlir.registration.results.former import own_names, read_former

TABLE, PAGE = "summary.csv", "summary.html"

_WORK = ".dlir-batch"
# Seconds until a process that lost the one that started it has ended, and until a lock of a moment is free.
_ENDING = 60.0


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`: every so-manieth row, so that parts take about as long."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of text such as "2/8". Raises OptionError."""
        found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise OptionError(f"--shard is '{text}'; give I/N, where I counts from 1 to N, such as 1/8")
        return cls(int(found[1]), int(found[2]))

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row.number % self.count == self.number % self.count]

    @property
    def name(self) -> str:
        return f"{self.number}-of-{self.count}"


@dataclass(frozen=True)
class Line:
    """What is known of a row: figures where it is done, an error where it failed; neither where it is to be done."""

    row: Row
    figures: Figures | None = None
    error: str = ""

    @property
    def waits(self) -> bool:
        return self.figures is None and not self.error


class BatchFolder:
    """path: made by `held`."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self._options = path, options
        self.work = path / _WORK

    def of(self, row: Row) -> Path:
        """Where the files of a row go."""
        return self.path / row.name

    def table(self, shard: Shard) -> Path:
        """The summary of a part, or of all where there is one part."""
        return self.path / (TABLE if shard.count == 1 else f"summary.{shard.name}.csv")

    # -- who works here ---------------------------------------------------------------------------

    def check(self, source: Path, *, overwrite: bool) -> None:
        """Raises OutputError, before any work, where something else would be written over."""
        writable(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"output folder '{self.path}' is a file; choose another name")
        if source.is_dir() and self.path.exists() and os.path.samefile(source, self.path):
            raise OutputError(f"'{self.path}' is the folder of the images; choose another output folder")
        for file in (self.path / TABLE, self.path / PAGE):
            if file.exists() and source.exists() and os.path.samefile(file, source):
                raise OutputError(f"cannot write '{file}': it would replace the table; choose another output folder")
            if os.path.lexists(file) and not (overwrite or self.work.is_dir()):
                raise OutputError(
                    f"'{file}' is there already, and of no batch; choose another output folder, or give --overwrite to "
                    "have it replaced"
                )

    @contextmanager
    def held(self, shard: Shard) -> Iterator[None]:
        """Within, nobody else works on the rows of the part. Raises OutputError where somebody does."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write '{shown(self.path)}': {error.strerror}; choose another output folder"
            ) from None
        with ExitStack() as stack:
            with self.alone():
                running = self._running()
                if shard in running:
                    raise OutputError(
                        f"another batch works in '{self.path}'; wait for it or end it, or have both share the rows by "
                        "--shard 1/2 and --shard 2/2"
                    )
                if other := next((part for part in running if part.count != shard.count), None):
                    raise OutputError(
                        f"'{self.path}' is shared by --shard of {other.count} parts now; wait for them or end them"
                    )
                stack.enter_context(_lock(self._lock(shard), 0))
            for file in self.work.glob("job.*.lock"):  # of a batch that was killed, whose processes end by themselves
                if not any(file.name.startswith(f"job.{part.name}.") for part in running):
                    with _lock(file, _ENDING):
                        pass
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other batch begins or ends here."""
        with _lock(self.work / "door.lock", _ENDING):
            yield

    def _lock(self, shard: Shard) -> Path:
        return self.work / f"run.{shard.name}.lock"

    def _running(self) -> list[Shard]:
        """The parts that are being worked on."""
        found = []
        for file in self.work.glob("run.*.lock"):
            number, _, count = file.name.split(".")[1].partition("-of-")
            try:
                with _lock(file, 0):
                    pass
            except OutputError:
                found.append(Shard(int(number), int(count)))
        return found

    # -- rows -------------------------------------------------------------------------------------

    def settle(self, row: Row) -> None:
        """Bring the folder of a row in order, should a process have been killed that wrote into it."""
        folder = self.of(row)
        settle(folder, alone=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def line(self, row: Row, *, inputs: bool = True) -> tuple[Line, list[str]]:
        """What is known of a row, and where its result no longer stands, why. inputs: whether its files are looked at.

        Raises OptionError where the row and the options contradict each other, and ModelError.
        """
        with notes_to(silent):  # they are told where it is registered
            request = self._options.request(row, self.of(row))
        report = read_result(self.of(row))
        if report is not None:
            try:
                figures = figures_of(report)
            except (KeyError, TypeError, ValueError, AttributeError):
                return Line(row), ["its report"]
            changed = differences(report, request, inputs=inputs)
            return Line(row, None if changed else figures), changed
        return Line(row, error=self._error(row)), []

    def keep_files(self, row: Row) -> None:
        """Note which files of a row its report names, for when that can no longer be read. Raises OutputError."""
        former = read_former(self.of(row))
        if former is not None and former.names != written_by_batch(self.path, row):
            file = _record(self.path, row)
            file.parent.mkdir(exist_ok=True)
            with replacing(file, durable=False) as temporary:
                temporary.write_text(json.dumps(sorted(former.names)), encoding="utf-8")

    def keep_error(self, row: Row, message: str) -> None:
        """For the summary of all parts. Raises OutputError."""
        self._errors.mkdir(exist_ok=True)
        write_json(self._error_file(row), {"error": message})

    def forget_error(self, row: Row) -> None:
        self._error_file(row).unlink(missing_ok=True)

    def _error(self, row: Row) -> str:
        try:
            return str(json.loads(self._error_file(row).read_bytes())["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def _errors(self) -> Path:
        return self.work / "errors"

    def _error_file(self, row: Row) -> Path:
        return self._errors / f"{row.name}.json"


def written_by_batch(output: Path, row: Row) -> frozenset[str]:
    """The files in a row's folder that a batch into the folder `output` is known to have written, be they there or not:
    whatever has become of the report that names them.
    """
    try:
        names = json.loads(_record(output, row).read_bytes())
    except (OSError, ValueError):
        return frozenset()
    return own_names(names) if isinstance(names, list) else frozenset()


def _record(output: Path, row: Row) -> Path:
    return output / _WORK / "files" / f"{row.name}.json"


@contextmanager
def _lock(file: Path, seconds: float) -> Iterator[None]:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise OutputError(f"'{shown(file)}' is held by another process; wait for it or end it") from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"cannot lock '{shown(file)}': {error}; choose another output folder") from None
    try:
        yield
    finally:
        lock.release()
