"""What tests of the command line share: a tiny model file, a small pair on disk, and ways to run and to refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from dlir.cli import app
from dlir.geometry import ImageGrid
from dlir.io.writing import write_image
from dlir.model.file import save_model
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from grids import make_grid

SOURCE = Path(__file__).resolve().parents[2] / "DLIRRegistration"

# Two stages at 2 mm, the finer with control points 8 mm apart: an image must measure 16 mm along each axis.
STAGES = (
    StageSpec("bspline", (2, 2, 2), (4, 4, 4, 4), (16, 16, 16)),
    StageSpec("bspline", (2, 2, 2), (4, 4, 4), (8, 8, 8)),
)
CARD = {
    "name": "tiny",
    "title": "Untrained, for tests",
    "anatomy": "none",
    "modality": "any",
    "licence": "CC0",
    "training": {"hours": 0.5, "config": {"seed": 1}},
}
FIXED = make_grid((14, 22, 26), (2.1, 1.9, 3.0), (30, -80, 55), (0.3, -0.5, 0.8))


def make_model(path: Path, *, seed: int = 0, scale: float = 20.0, card: Mapping[str, Any] = CARD) -> Path:
    """A model file with random networks; `scale` makes their displacements as large as millimetres."""
    torch.manual_seed(seed)
    model = MultiStageModel(ModelSpec(Preprocessing((2.0, 2.0, 2.0)), STAGES)).requires_grad_(False)
    for network in model.networks:
        network.output.weight.mul_(scale)
    save_model(path, model, dict(card))
    return path


def body(grid: ImageGrid, center: NDArray[np.float64], shift: float) -> NDArray[np.float32]:
    """A smooth textured body at `center`, shifted by `shift` mm along every axis."""
    points = grid.voxel_centers() - center - shift
    texture = np.sin(points[..., 0] / 5) * np.cos(points[..., 1] / 6) + np.sin(points[..., 2] / 9)
    values: NDArray[np.float32] = (np.exp(-((points / 15) ** 2).sum(-1)) * (300 + 80 * texture)).astype(np.float32)
    return values


@dataclass(frozen=True)
class Pair:
    """Files of a small pair on oblique, anisotropic grids of unequal size, and of what belongs to it."""

    folder: Path
    fixed: Path
    moving: Path
    fixed_label: Path
    moving_label: Path
    model: Path

    def register(self, output: Path, *more: str | Path, **changes: str | Path) -> list[str]:
        """Arguments of `dlir register` for this pair; `changes` replace a path or take one away (empty)."""
        named = {"fixed": self.fixed, "moving": self.moving, "model": self.model, "output": output, **changes}
        given = [text for name, value in named.items() if value for text in (f"--{name.replace('_', '-')}", str(value))]
        return ["register", "--device", "cpu", *given, *map(str, more)]


def write_pair(folder: Path, model: Path) -> Pair:
    """A body and the same body 3 mm away, with two labels each."""
    moving_grid = make_grid((15, 24, 23), (2.2, 2.0, 2.7), angles=(0.25, -0.45, 0.85))
    offset = FIXED.center + np.array([2.0, -1.0, 2.0]) - moving_grid.center
    moving_grid = replace(moving_grid, origin=tuple(offset))
    pair = Pair(
        folder, *(folder / f"{name}.nrrd" for name in ("fixed", "moving", "fixed_label", "moving_label")), model
    )
    for grid, shift, image, label in (
        (FIXED, 0.0, pair.fixed, pair.fixed_label),
        (moving_grid, 3.0, pair.moving, pair.moving_label),
    ):
        values = body(grid, FIXED.center, shift)
        write_image(image, values, grid)
        write_image(label, (values > 60).astype(np.uint8) + (values > 180).astype(np.uint8), grid)
    return pair


def read(path: Path) -> NDArray[np.generic]:
    """The voxels of an image file."""
    array: NDArray[np.generic] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its content, hidden ones and folders (None) included."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


class StoppedClock:
    """What `time.monotonic` says: seconds, that a test moves on."""

    seconds = 100.0


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> StoppedClock:
    """Time stands still for what the command line tells, until the clock that this gives is moved."""
    clock = StoppedClock()
    monkeypatch.setattr(
        "dlir.cli.common.time", SimpleNamespace(monotonic=lambda: clock.seconds, strftime=time.strftime)
    )
    return clock


def succeed(arguments: Sequence[str | Path]) -> str:
    """Run a command in this process; what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def refuse(arguments: Sequence[str | Path], folder: Path, *words: str) -> str:
    """Run a command that must fail as every error does: code 2, one line that has all `words`, `folder` untouched."""
    before = snapshot(folder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert result.stdout == ""
    line = result.stderr
    assert line.startswith("error: ")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    for word in words:
        assert word in line
    assert snapshot(folder) == before
    return line


def start(arguments: Sequence[str | Path], before: str = "") -> subprocess.Popen[str]:
    """Start the real command in a process of its own, after the Python statements `before`."""
    typed = ["dlir", *map(str, arguments)]
    code = f"import sys\n{before}\nsys.argv = {typed!r}\nfrom dlir.cli import main\nmain()"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
