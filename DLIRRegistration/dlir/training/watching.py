"""What can be watched while a run goes on: TensorBoard's curves and pictures. Loads TensorBoard on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dlir.training.validation import Pictures


class Watcher(Protocol):
    """Hears of every row of the history."""

    def record(self, phase: str, iteration: int, row: dict[str, float], pictures: Pictures | None) -> None:
        """phase: its name. iteration: over all phases. row: as in the history. pictures: of the first held-out pair."""


class Nobody:
    """Watches nothing: for processes other than the first, and for tests."""

    def record(self, phase: str, iteration: int, row: dict[str, float], pictures: Pictures | None) -> None:
        pass


class Board:
    """Writes for TensorBoard. first: the iteration from which on a former run's entries are replaced."""

    def __init__(self, folder: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first)

    def record(self, phase: str, iteration: int, row: dict[str, float], pictures: Pictures | None) -> None:
        for name, value in row.items():
            if name not in ("phase", "iteration"):
                group = "validation" if name.startswith("validation_") else "training"
                self._writer.add_scalar(f"{group}/{name.removeprefix('validation_')}", value, iteration)
        self._writer.add_text("phase", phase, iteration)
        if pictures is not None:
            for name, image in vars(pictures).items():
                gray = jacobian_shade(image) if name == "jacobian" else np.clip(image, 0, 1)
                self._writer.add_image(
                    f"validation/{name}", gray, iteration, dataformats="HWC" if gray.ndim == 3 else "HW"
                )
        self._writer.flush()


def jacobian_shade(determinant: NDArray[np.float32]) -> NDArray[np.float32]:
    """(y, x, 3): gray from 0 to 2, and bright red where the image folds (Figure 6)."""
    gray = np.clip(determinant / 2, 0, 1)[..., None].repeat(3, -1)
    gray[determinant <= 0] = (1, 0, 0)
    return np.asarray(gray, np.float32)
