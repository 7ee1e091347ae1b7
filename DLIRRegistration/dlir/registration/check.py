"""Whether a model file can be used, from its first byte to a registration with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlir.errors import DLIRError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.metrics.folding import jacobian_statistics
from dlir.model.file import ModelHeader, load_model
from dlir.model.multistage import MultiStageModel
from dlir.registration.oneshot import Registration

# What a user must know before trusting a model.
CARD_ENTRIES = ("name", "title", "anatomy", "modality", "data", "licence", "citation")
# Cells of the coarsest stage along each axis of the pair that is tried, and how it lies.
_CELLS = 2
_DIRECTION = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. problem: None where it is as it should be."""

    what: str
    problem: str | None


def check_model(path: Path) -> list[Finding]:
    """Look at everything that can be wrong with a model file; raises nothing for what is."""
    try:
        model, header = load_model(path)
    except DLIRError as error:
        return [Finding("file, specification and checksum", str(error))]
    findings = [Finding("file, specification and checksum", None)]
    tests: dict[str, Callable[[MultiStageModel, ModelHeader], str | None]] = {
        "weights are numbers": _weights,
        "card says what a user must know": _card,
        "card says how it was trained": _training,
        "registers a pair": _registers,
    }
    return findings + [Finding(what, test(model, header)) for what, test in tests.items()]


def _weights(model: MultiStageModel, header: ModelHeader) -> str | None:
    wrong = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    return f"{wrong[0]} holds values that are not finite; train it again" if wrong else None


def _card(model: MultiStageModel, header: ModelHeader) -> str | None:
    lacking = [name for name in CARD_ENTRIES if not header.card.get(name)]
    return f"it lacks {', '.join(lacking)}; complete the configuration's card" if lacking else None


def _training(model: MultiStageModel, header: ModelHeader) -> str | None:
    training = header.card.get("training")
    needed = ("hours", "device", "subjects", "config", "last_validation")
    lacking = needed if not isinstance(training, dict) else [name for name in needed if name not in training]
    return f"it lacks {', '.join(lacking)}; nobody can tell how it came about" if lacking else None


def _registers(model: MultiStageModel, header: ModelHeader) -> str | None:
    fixed, moving = (_volume(header, seed) for seed in (0, 1))
    try:
        result = Registration(model, torch.device("cpu"))(fixed, moving)
    except DLIRError as error:
        return str(error)
    if not np.isfinite(result.warped).all() or not np.isfinite(result.jacobian).all():
        return "the result is not finite; train it again"
    folded = jacobian_statistics(result.jacobian).folding_count
    if header.spec.fold_free and folded:
        return f"{folded} voxels fold, although its specification excludes that; report this"
    return None


def _volume(header: ModelHeader, seed: int) -> Volume:
    """A smooth image, of another size for each seed, somewhere in space and turned."""
    spec = header.spec
    rng = np.random.default_rng(seed)
    x, y, z = (max(4, _CELLS * n) + seed for n in spec.smallest)
    grid = ImageGrid((z, y, x), spec.preprocessing.resolution, (10.0 * seed, -20.0, 5.0), _DIRECTION)
    low, high = spec.preprocessing.window or (0.0, 1000.0)
    index = np.meshgrid(*(np.linspace(0, 1, n) for n in grid.shape), indexing="ij")
    image: Any = np.zeros(grid.shape)
    for _ in range(12):
        center, width = rng.uniform(0.1, 0.9, 3), rng.uniform(0.08, 0.2)
        image += np.exp(-sum((i - c) ** 2 for i, c in zip(index, center, strict=True)) / (2 * width**2))
    scaled = low + (high - low) * image / image.max()
    return Volume(scaled.astype(np.float32), grid, "the image made for the check")
