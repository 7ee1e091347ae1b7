"""Opens everything that a training would use, before hours are spent: what is usable, what is not, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlir.errors import ConfigError
from dlir.training.cache import Cache, DryCache
from dlir.training.config import TrainingConfig
from dlir.training.data import Prepares, load_data
from dlir.training.draws import Draw, ListedPairs


@dataclass
class DataReport:
    """What was found. left_out: images and subjects that cannot be used, and why. error: why nothing can be trained."""

    images: int = 0
    sources: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    error: str | None = None

    @property
    def exit_code(self) -> int:
        """0 where all can be used, 1 where some is left out, 2 where nothing can be trained."""
        return 2 if self.error else 1 if self.left_out else 0


def check_data(config: TrainingConfig, data: Path, cache: Path | None, prepares: Prepares) -> DataReport:
    """Read and prepare every image that the configuration names in `data`.

    cache: where to keep what is prepared, so that a training need not do it again; None keeps nothing.
    """
    report = DataReport()

    def notice(what: str, why: str) -> None:
        report.left_out.append({"what": what, "why": why})

    chosen = DryCache(Path(), config.spec) if cache is None else Cache(cache, config.spec)
    try:
        draws = load_data(config, data, chosen, notice, prepares)
    except ConfigError as error:
        report.error = str(error)
        return report
    for source, draw in zip(config.sources, draws, strict=True):
        training, validation = draw.counts()
        kind = "listed" if isinstance(draw, ListedPairs) else source.pairs
        report.sources.append({"pairs": kind, "training": training, "validation": validation, **_sizes(draw)})
    report.images = sum(entry["images"] for entry in report.sources)
    return report


def _sizes(draw: Draw) -> dict[str, Any]:
    """Smallest and largest working grid among the images to be trained with, voxels (x, y, z)."""
    sizes = list(zip(*(image.grid.size for image in draw.images()), strict=True))
    return {
        "images": len(draw.images()),
        "smallest": [min(axis) for axis in sizes],
        "largest": [max(axis) for axis in sizes],
    }
