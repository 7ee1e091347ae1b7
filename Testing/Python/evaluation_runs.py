"""What tests of evaluations share: a phantom at several times, data sets of it, and methods that are easy to judge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.data.pair import Pair, Scan, ordered_pairs
from dlir.errors import EvaluationError
from dlir.evaluation.methods.base import Registered
from dlir.evaluation.results import Row, Topology
from dlir.geometry import ImageGrid
from dlir.io.points import Landmarks, write_landmarks
from dlir.io.writing import write_image
from dlir.metrics.labels import LabelScores
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import make_grid

GRID = make_grid((10, 22, 24), (2.1, 1.9, 3.0), (30, -80, 55), (0.3, -0.5, 0.8))
NAN = math.nan
# To train on what `write_subjects` writes, for a moment.
CONFIG: dict[str, Any] = {
    "card": dict.fromkeys(("title", "anatomy", "modality", "data", "licence", "citation"), "test") | {"name": "tiny"},
    "model": {
        "preprocessing": {"resolution": [2.0, 2.0, 3.0]},
        "stages": [{"kind": "bspline", "channels": [4, 4, 4], "resolution": [2, 2, 3], "grid_spacing": [8, 8, 6]}],
    },
    "sources": [{"files": ["*/in.nrrd", "*/out.nrrd"]}],
    "augmentation": {"crop": [16, 16, 8], "shift": 2, "rotate90": False},
    "training": [{"iterations": 2, "batch_size": 2}],
    "validation_every": 1,
}
OFFSETS = np.array([[0.0, 0, 0], [6, -4, 5], [-5, 6, -3], [8, 3, -6]])


def body(grid: ImageGrid, shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """A smooth textured body in the middle of GRID, moved by `shift` mm (x, y, z)."""
    points = grid.voxel_centers() - GRID.center - shift
    texture = np.sin(points[..., 0] / 5) * np.cos(points[..., 1] / 6) + np.sin(points[..., 2] / 9)
    values: NDArray[np.float32] = (np.exp(-((points / 13) ** 2).sum(-1)) * (300 + 80 * texture)).astype(np.float32)
    return values


def write_phase(base: Path, shift: NDArray[np.float64], *, label: bool = True, brightness: float = 1.0) -> None:
    """BASE.nrrd, BASE_label.nrrd (1 outside, 2 inside) and BASE_landmarks.csv of the body moved by `shift` mm."""
    values = body(GRID, shift)
    base.parent.mkdir(parents=True, exist_ok=True)
    write_image(Path(f"{base}.nrrd"), np.float32(brightness) * values, GRID)
    if label:
        write_image(Path(f"{base}_label.nrrd"), label_of(values), GRID)
    write_landmarks(Path(f"{base}_landmarks.csv"), Landmarks(GRID.center + OFFSETS + shift))


def label_of(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Two nested structures."""
    return (values > 60).astype(np.uint8) + (values > 180).astype(np.uint8)


def shift_of(subject: int) -> NDArray[np.float64]:
    """How far the body of a subject moves between its two phases, in mm."""
    return np.array([2.0 + 0.3 * subject, -1.5, 2.0 - 0.2 * subject])


def write_subjects(folder: Path, count: int) -> Path:
    """A folder for `ImageFolder`: subjects s00, s01, … with phases "in" and "out", no two images alike."""
    for subject in range(count):
        for name, sign in (("in", 0.0), ("out", 1.0)):
            write_phase(folder / f"s{subject:02d}" / name, sign * shift_of(subject), brightness=1 + subject / 64)
    return folder


@dataclass
class Shift:
    """A method that moves everything by the same vector (mm), and counts how often it was asked.

    failing: pairs, by the fixed image's file name, on which it gives up.
    """

    name: str
    vector: NDArray[np.float64]
    failing: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"method": "shift", "vector": [float(v) for v in self.vector]}

    def register(self, pair: Loaded) -> Registered:
        self.calls.append(pair.fixed.source)
        if any(word in pair.fixed.source for word in self.failing):
            raise EvaluationError(f"gave up on '{pair.fixed.source}'")
        return Registered(
            CompositeTransform((AffineTransform.translation(self.vector.tolist()), *pair.start.parts)), 0.25
        )


@dataclass
class Listed:
    """A data set of given pairs."""

    listed: list[Pair]
    title: str = "listed"
    labels: Mapping[int, str] = field(default_factory=lambda: {1: "shell", 2: "core"})

    def pairs(self) -> list[Pair]:
        return self.listed


def scan(base: Path, subject: str, part: str) -> Scan:
    """The scan that `write_phase` wrote."""
    return Scan(subject, part, f"{base}.nrrd", f"{base}_label.nrrd", landmarks=f"{base}_landmarks.csv")


def two_subjects(folder: Path) -> Listed:
    """Two subjects with two phases each: four pairs."""
    write_subjects(folder, 2)
    pairs = []
    for name in ("s00", "s01"):
        pairs += ordered_pairs([scan(folder / name / part, name, part) for part in ("in", "out")])
    return Listed(pairs)


def make_row(pair: str = "p ES-to-ED", method: str = "A", **changes: object) -> Row:
    """A row of made-up figures with some changed."""
    row = Row(
        data="ACDC",
        pair=pair,
        fixed_subject="p",
        moving_subject="p",
        method=method,
        settings=f"{method}-digest",
        seconds=1.25,
        device="cpu",
        threads=2,
        size=(10, 20, 30),
        masked=False,
        topology=Topology(0.5, 0.2, 0.3, -0.1, 2.0),
        labels={"LV": LabelScores(0.9, 5.0, 3.0, 1.0, 100, 90)},
    )
    return replace(row, **changes)  # type: ignore[arg-type]
