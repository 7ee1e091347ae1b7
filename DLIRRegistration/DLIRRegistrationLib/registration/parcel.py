"""What the worker needs of the scene: read at once, as it is at that moment, and handed over slab by slab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlir.io.arrays import write_array
from dlir.registration.choices import OutputForm
from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import silent
from dlir.registration.request import ArrayFile, Outputs, RegistrationRequest
from dlir.worker.protocol import Done, Failed, Notice, Progress, Provisional, Register, Work
from DLIRRegistrationLib.registration.task import WAITING, WORKING, RunError, Steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dlir.geometry import ImageGrid
    from dlir.registration.progress import Curve, Offer
    from dlir.registration.progress import Progress as Report
    from DLIRRegistrationLib.registration.requests import RegistrationInputs
    from DLIRRegistrationLib.registration.sequence_requests import SequenceInputs
    from DLIRRegistrationLib.worker.client import WorkerClient

# Bytes that are copied when they are added: some 10 ms. What is larger is written from where it lies in the scene.
_COPIED_BYTES = 1 << 25


class Parcel:
    """Arrays for one request, or for several, in a folder of the worker's.

    An array that is too large to be copied at once is written from the scene's memory within the next moments; should
    it change before that is done, the request is refused instead of mixing two images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: list[tuple[Path, NDArray[Any]]] = []
        self._watched: list[tuple[str, Any, int]] = []
        self._copied = 0

    def add(self, array: NDArray[Any], grid: ImageGrid, name: str, image: Any | None = None) -> ArrayFile:
        """An array (z, y, x) on `grid`, which messages call `name`. image: the vtkImageData whose memory it may be."""
        if self._copied + array.nbytes <= _COPIED_BYTES:
            self._copied += array.nbytes
            array = array.copy()
        elif image is not None:
            self._watched.append((name, image, image.GetMTime()))
        path = self.folder / f"input_{len(self._waiting)}.npy"
        self._waiting.append((path, array))
        return ArrayFile(str(path), grid.to_dict(), name)

    def write(self, report: Report) -> Steps[None]:
        """Write what has been added. Raises OutputError where the disk is full, RunError for what has changed."""
        total = sum(array.nbytes for _, array in self._waiting) or 1
        before = 0
        for path, array in self._waiting:
            for fraction in write_array(path, array):
                report("handing over", (before + fraction * array.nbytes) / total)
                yield WORKING
            before += array.nbytes
        for name, image, modified in self._watched:
            if image.GetMTime() != modified:
                raise RunError(f"'{name}' was changed while it was being read; run again")

    def delete(self) -> Steps[None]:
        """Delete what has been written and is no longer needed."""
        for path, _ in self._waiting:
            path.unlink()
            yield WORKING


def worker_request(
    inputs: RegistrationInputs | SequenceInputs,
    folder: Path,
    model: str,
    fixed: ArrayFile,
    moving: ArrayFile,
    **more: Any,
) -> Register:
    """What is asked for in Slicer as the worker is asked: the one place where the one becomes the other.

    folder: the worker's, for the results. model: as of `asked_model`. more: fields of `RegistrationRequest` beyond
    what both kinds of inputs have.
    """
    started = more.get("initial_transform") is not None
    asked = RegistrationRequest(
        fixed,
        moving,
        Outputs(str(folder), OutputForm.arrays.value),
        model,
        inputs.device,
        inputs.refine,
        inputs.kind,
        initialize=None if started else inputs.initialize,
        **more,
    )
    return Register(folder.name, asked)


def compute(
    worker: WorkerClient, request: Work, report: Report, offer: Offer = silent, curve: Curve = silent
) -> Steps[Done]:
    """Have the worker do it. Closed before its end, it stops the worker.

    offer: gets the verdict so far, before the last check. curve: gets the objective while the pair is optimised, each
    time before the report. Raises RunError where the worker fails.
    """
    events: list[Any] = []
    ended = False
    worker.submit(request, events.append)
    try:
        while True:
            while events:
                event = events.pop(0)
                ended = isinstance(event, Done | Failed)
                if isinstance(event, Done):
                    return event
                if isinstance(event, Failed):
                    raise RunError(event.message, event.kind)
                if isinstance(event, Notice):
                    report(event.message, 0.0)
                elif isinstance(event, Progress):
                    if event.stage is not None and event.value is not None:
                        curve(event.stage, event.value)
                    report(event.step, event.fraction)
                elif isinstance(event, Provisional):
                    offer(Verdict.from_dict(event.verdict))
            yield WAITING
    finally:
        if not ended:
            worker.cancel(request.id)
