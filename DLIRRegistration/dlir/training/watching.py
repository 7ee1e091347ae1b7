"""What can be watched while a run goes on: TensorBoard's curves and pictures. Loads TensorBoard on first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dlir.errors import OutputError

if TYPE_CHECKING:
    from dlir.training.validation import Pictures


# What each phase measures in its own way: another similarity, other weights. A chart of all would mix them.
_OF_A_PHASE = ("loss", "similarity", "bending")


class Board:
    """Writes for TensorBoard. last: the iteration behind which a former run's entries are replaced.

    Raises OutputError where it cannot.
    """

    def __init__(self, folder: Path, last: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        threading.excepthook = _not_of_tensorboard
        with self._explained():
            self._writer = SummaryWriter(str(folder), purge_step=last + 1)

    def record(self, phase: str, iteration: int, row: dict[str, float], pictures: Pictures | None) -> None:
        """phase: its name. iteration: over all phases. row: as in the history. pictures: of the first held-out pair."""
        with self._explained():
            for name, value in row.items():
                if name not in ("phase", "iteration"):
                    group = "validation" if name.startswith("validation_") else "training"
                    chart = f", {phase.replace('/', ' of ')}" if name in _OF_A_PHASE else ""
                    self._writer.add_scalar(f"{group}/{name.removeprefix('validation_')}{chart}", value, iteration)
            self._writer.add_text("phase", phase, iteration)
            for name, image in vars(pictures).items() if pictures is not None else ():
                gray = jacobian_shade(image) if name == "jacobian" else np.clip(image, 0, 1)
                self._writer.add_image(
                    f"validation/{name}", gray, iteration, dataformats="HWC" if gray.ndim == 3 else "HW"
                )
            self._writer.flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"cannot write into '{self._folder}': {error.strerror}; free some space, then continue the run"
            raise OutputError(reason) from None


def _not_of_tensorboard(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread hands its error to the next call of the writer as well: that is where it is told."""
    if not type(failed.thread).__module__.startswith("tensorboard"):
        threading.__excepthook__(failed)


def jacobian_shade(determinant: NDArray[np.float32]) -> NDArray[np.float32]:
    """(y, x, 3): gray from 0 to 2, and bright red where the image folds (Figure 6)."""
    gray = np.clip(determinant / 2, 0, 1)[..., None].repeat(3, -1)
    gray[determinant <= 0] = (1, 0, 0)
    return np.asarray(gray, np.float32)
