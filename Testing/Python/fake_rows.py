"""A batch without torch: rows whose images are a few bytes, and a worker that does with them what these say."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dlir.cohort.batch import Batch, Workers
from dlir.cohort.figures import Figures, figures_of
from dlir.cohort.folder import BatchFolder, Shard, written_by_batch
from dlir.cohort.origin import origin_of, stamped
from dlir.cohort.rows import Options, Row, Source
from dlir.errors import DiskFullError, ImageError
from dlir.io.writing import write_bytes, write_json
from dlir.registration.pipeline import open_outputs
from dlir.registration.results.former import take_over

OUTPUTS = {"warped": "warped.nrrd", "jacobian": "jacobian.nrrd", "transform": "transform.h5", "report": "report.json"}


@dataclass(frozen=True)
class FakeWorker:
    """Writes what a registration writes, of the fixed image's bytes. seconds: between one file and the next."""

    options: Options
    output: Path
    seconds: float = 0.0
    device: str = "cpu"

    def __call__(self, row: Row) -> Figures:
        request = self.options.request(row, self.output / row.name)
        origin = origin_of(request)
        content = Path(row.pair.fixed.image).read_bytes()
        match content:
            case b"refused":
                raise ImageError(f"fixed image '{row.pair.fixed.image}' is refused; give another")
            case b"full":
                raise DiskFullError("cannot write 'x': the disk is full; free some space or choose another folder")
            case b"bug":
                raise ValueError("nobody\nthought of this")
            case b"killed":
                os.kill(os.getpid(), signal.SIGKILL)
        with open_outputs(request) as outputs:
            outputs.claimed = written_by_batch(self.output, row)
            for name in OUTPUTS.values():
                outputs.file(name)
            take_over(outputs, OUTPUTS.values(), overwrite=request.outputs is not None and request.outputs.overwrite)
            for name in list(OUTPUTS.values())[:-1]:
                time.sleep(self.seconds)
                write_bytes(outputs.file(name), content * 1000)
            report = report_of(row)
            path = outputs.file("report.json")
            write_json(path, stamped(report, origin, path.parent))
        return figures_of(report)


def report_of(row: Row, level: str = "good", dice: float = 0.8) -> dict[str, Any]:
    """As much of a report as a summary needs."""
    scores = {when: {"dice": dice / by, "asd_mm": 1.0} for when, by in (("before", 2), ("after", 1))}
    return {
        "report_version": 1,
        "fixed": {"file": Path(row.pair.fixed.image).name},
        "moving": {"file": Path(row.pair.moving.image).name},
        "verdict": {"level": level, "reason": f"It is {level}.", "inputs": {}},
        "similarity": {"before": 0.5, "after": 0.9},
        "labels": {"1": scores},
        "jacobian": {"folding_percent": 0.0},
        "seconds": {"read": 0.5, "networks": 1.0},
        "model": {"name": "none", "sha256": None},
        "device": "cpu",
        "notes": [],
        "outputs": OUTPUTS,
    }


def write_table(folder: Path, contents: Sequence[bytes]) -> Path:
    """A table of pairs: fixed images of these bytes, and one moving image for all."""
    lines = ["fixed,moving"]
    (folder / "m.nrrd").write_bytes(b"moving")
    for number, content in enumerate(contents):
        (folder / f"f{number}.nrrd").write_bytes(content)
        lines.append(f"f{number}.nrrd,m.nrrd")
    table = folder / "pairs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def fake_batch(
    table: Path, output: Path, options: Options | None = None, shard: Shard | None = None, seconds: float = 0.0
) -> Batch:
    """A batch that is done by `FakeWorker`."""
    chosen = options or Options(model="none")
    folder = BatchFolder(output, chosen)
    return Batch(Source(table), folder, chosen, shard or Shard(), partial(FakeWorker, chosen, output, seconds))


def main() -> None:
    """For a process of its own: the table, the output, seconds between files, and the part, such as 1/2."""
    table, output, seconds, part = sys.argv[1:]
    batch = fake_batch(Path(table), Path(output), shard=Shard.parse(part), seconds=float(seconds))
    batch.run(Workers(2))


if __name__ == "__main__":
    main()
