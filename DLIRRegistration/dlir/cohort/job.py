"""One row of a batch, in a process that keeps torch and the model warm."""

from __future__ import annotations

from pathlib import Path

from dlir.cohort.figures import Figures, figures_of
from dlir.cohort.folder import written_by_batch
from dlir.cohort.origin import origin_of, stamped
from dlir.cohort.picture import PICTURE, write_picture
from dlir.cohort.rows import Options, Row
from dlir.errors import notes_to
from dlir.io.memory import give_back_memory, keep_large_blocks_apart
from dlir.io.source import without_folders


class RowWorker:
    """Registers a row with everything that `dlir register` writes, a picture, and what it was made of.

    Made in the process that works. Raises DeviceError.
    """

    def __init__(self, options: Options, output: Path) -> None:
        from dlir.registration.devices import choose_device
        from dlir.registration.session import Session

        keep_large_blocks_apart()
        self._options, self._output, self._session = options, output, Session()
        self.device = choose_device(options.device).type

    def __call__(self, row: Row) -> Figures:
        """Raises the errors of the pipeline; nothing is written then."""
        from dlir.io import write_json
        from dlir.registration.pipeline import open_outputs, run_into
        from dlir.registration.results.former import take_over

        notes: list[str] = []
        with notes_to(notes.append):
            request = self._options.request(row, self._output / row.name)
            origin = origin_of(request)
            with open_outputs(request) as outputs:
                outputs.claimed = written_by_batch(self._output, row)
                outputs.file(PICTURE)
                take_over(outputs, [PICTURE], overwrite=self._options.overwrite)
                finished = run_into(outputs, request, self._session)
                write_picture(outputs.file(PICTURE), finished)
                report = finished.report
                report["outputs"]["picture"] = PICTURE
                report["notes"] = notes if self._options.full_paths else list(map(without_folders, notes))
                path = outputs.file(report["outputs"]["report"])
                write_json(path, stamped(report, origin, path.parent))
        del finished
        give_back_memory()
        return figures_of(report)
