"""Images whose headers have been changed at random, the same for the same seed; and a worker that reads them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlir.cohort.figures import Figures, figures_of
from dlir.cohort.rows import Row
from dlir.geometry import ImageGrid
from dlir.io.reading import read_image
from dlir.io.writing import write_image
from fake_rows import report_of

# Bytes of the header, by the ending of the name.
_HEADERS = {".nii": 352, ".nrrd": 260, ".mha": 260}


def write_mutated(folder: Path, count: int) -> Path:
    """A table of pairs of `count` changed images and one that is whole."""
    grid = ImageGrid((6, 7, 8), (1.5, 1.2, 2.0), (10.0, -20.0, 30.0))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    whole = {}
    for ending in _HEADERS:
        write_image(folder / f"whole{ending}", values, grid, compress=False)
        whole[ending] = (folder / f"whole{ending}").read_bytes()
    lines = ["fixed,moving"]
    for seed in range(count):
        chance = random.Random(seed)
        ending = chance.choice(list(_HEADERS))
        content = bytearray(whole[ending])
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(_HEADERS[ending])
            content[place] = chance.choice([0, 255, chance.randrange(256), content[place] ^ 1 << chance.randrange(8)])
        (folder / f"seed{seed}{ending}").write_bytes(bytes(content))
        lines.append(f"seed{seed}{ending},whole.nrrd")
    table = folder / "mutated.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@dataclass(frozen=True)
class Reader:
    """Reads the two images of a row, and does no more."""

    device: str = "cpu"

    def __call__(self, row: Row) -> Figures:
        read_image(row.pair.fixed.image, "fixed image")
        read_image(row.pair.moving.image, "moving image")
        return figures_of(report_of(row))
