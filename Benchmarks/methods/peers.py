"""Other methods, each in a Python of its own that has nothing of ours: images in, a transform out, by files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from truth.elastix import default_maps
from truth.pair import TruthPair

from dlir.evaluation.methods.base import before_shift
from dlir.evaluation.methods.elastix import part_of
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.io.writing import write_image
from dlir.model.preprocessing import intensity_range
from dlir.model.spec import Preprocessing
from dlir.registration.initialization import initialize
from dlir.registration.loading import Loaded
from dlir.transforms.spatial import AffineTransform, CompositeTransform, DisplacementTransform, Part
from methods.base import Found, read_json, run_alone

SCRIPTS = Path(__file__).with_name("scripts")
# Groups of two modalities, whose intensities no correlation compares.
_ACROSS = ("ct_mr",)
GREEDY_STEPS = "100x50x10"


@dataclass(frozen=True)
class Peer:
    """A method in another process.

    name: also of its script. python: of an environment that has what the script imports.
    """

    name: str
    python: Path

    def settings(self, pair: TruthPair) -> Any:
        """What the script is told."""
        return _SETTINGS[self.name](pair)

    def register(self, pair: TruthPair, folder: Path, threads: int) -> Found:
        """From where the pair's `start` puts the images, by the centres between two persons."""
        fixed, moving = map(scaled, pair.load())
        placed, shift = before_shift(Loaded(fixed, moving, initialize(fixed, moving, None, pair.start).transform))
        for name, volume in (("fixed", fixed), ("moving", placed)):
            write_image(folder / f"{name}.nrrd", volume.array, volume.grid, compress=False)
        told = {"settings": self.settings(pair), "threads": threads}
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
        used = run_alone([self.python, SCRIPTS / f"{self.name}.py", folder], threads)
        found = read_json(folder / "found.json")
        parts = parts_of(found, folder, fixed.grid)
        return Found(CompositeTransform((*parts, *shift.parts)), found["seconds"], used, {"version": found["version"]})


def scaled(volume: Volume) -> Volume:
    """From 0 to 1, without padding and single bright voxels, by which the bins of a histogram would be spread."""
    low, high = intensity_range(volume.array, Preprocessing((1, 1, 1), percentile=99.9))
    array = (volume.array.clip(low, high) - low) / max(high - low, 1e-12)
    return replace(volume, array=array.astype(np.float32))


def parts_of(found: dict[str, Any], folder: Path, fixed: ImageGrid) -> list[Part]:
    """What a script left: elastix's own parameters, or a field on the fixed grid in LPS mm and a matrix after it."""
    if "maps" in found:
        return [part_of(parameters) for parameters in found["maps"]]
    field = np.load(folder / found["field"]).astype(np.float32)
    return [DisplacementTransform(field, fixed), AffineTransform(np.array(found["matrix"]))]


def _greedy(pair: TruthPair) -> Any:
    metric = "MI" if pair.group in _ACROSS else "WNCC 2x2x2"
    return {"metric": metric, "affine_steps": GREEDY_STEPS, "steps": GREEDY_STEPS}


_SETTINGS = {
    "elastix": lambda pair: {"maps": default_maps(pair)},
    "greedy": _greedy,
    "syn": lambda pair: {"type_of_transform": "SyN"},
}
PEERS = tuple(_SETTINGS)
