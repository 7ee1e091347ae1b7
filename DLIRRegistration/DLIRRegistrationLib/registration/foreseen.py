"""Which model would be taken for two images, found by the worker before anything is registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlir.registration.choices import AUTO_MODEL, NO_MODEL, OutputForm
from dlir.registration.progress import silent
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.worker.protocol import Choose
from DLIRRegistrationLib.registration.parcel import Parcel, compute
from DLIRRegistrationLib.registration.task import BackgroundTask, Steps
from DLIRRegistrationLib.scene.volumes import placed_volume

if TYPE_CHECKING:
    from pathlib import Path

    from DLIRRegistrationLib.worker.client import WorkerClient


@dataclass(frozen=True)
class Foreseen:
    """What "auto" would take. name: of the model; None for optimisation. distance: of the images from what it was made
    for, of which its own keep about 1; None where there is no model of such a size. doubtful: whether its networks may
    still find the images unlike their own.
    """

    name: str | None
    distance: float | None
    doubtful: bool


class ModelChoice(BackgroundTask[Foreseen]):
    """Asks the worker; what the images are is read when it starts."""

    def __init__(self, fixed: Any, moving: Any, worker: WorkerClient) -> None:
        super().__init__(worker)
        self._nodes = fixed, moving
        self._folder: Path | None = None

    def _prepare(self) -> None:
        fixed, moving = (placed_volume(node) for node in self._nodes)
        self._folder = self.worker.reserve()
        self._parcel = Parcel(self._folder)
        arrays = [
            self._parcel.add(volume.array, volume.grid, volume.source, node.GetImageData())
            for volume, node in zip((fixed, moving), self._nodes, strict=True)
        ]
        outputs = Outputs(str(self._folder), OutputForm.arrays.value)
        self._request = Choose(self._folder.name, RegistrationRequest(arrays[0], arrays[1], outputs, AUTO_MODEL))

    def _steps(self) -> Steps[Foreseen]:
        yield from self._parcel.write(silent)
        report = (yield from compute(self.worker, self._request, silent)).report
        name = None if report["name"] == NO_MODEL else report["name"]
        far = [distance for distance in report["distances"].values() if distance is not None]
        return Foreseen(name, min(far, default=None), report["doubtful"])

    def _clean(self) -> None:
        if self._folder is not None:
            self.worker.release(self._folder.name)
