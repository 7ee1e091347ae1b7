"""From what was found to what suits it: resolution, stages, windows of training, similarity, steps.

The rules say for the images that the presets were made for about what these presets say; nothing else was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlir.losses.choices import Similarity
from dlir.networks.spec import StageSpec
from dlir.training.plan.look import Look

# Voxels of an image on the finest grid: more take a CPU minutes a step.
_MOST_VOXELS = 2.5e6
# Cells of the coarsest stage across the smallest image; of the finest one, voxels in small images and in larger ones.
_CELLS_ACROSS = 3.5
_FINEST_SMALL, _FINEST, _SMALL = 4, 8, 64
_COARSEST = 32
# Downsamplings of a network at most: coarser stages see coarser images instead.
_LEVELS = 3
_CHANNELS = {1: (32, 64), 2: (32, 64, 64), 3: (16, 32, 64, 64)}
_AFFINE_CHANNELS = (32, 32, 64)
# Edge of a training window, voxels, where slices are thick and else.
_WINDOW_THICK, _WINDOW = 128, 96
# Bytes of a pair in a step for each voxel and channel of the first layer, and of a micro batch at most.
_BYTES, _MEMORY = 32, 3e9
# Who are fewer than this cannot spare anybody.
_ENOUGH = 5


@dataclass(frozen=True)
class Planned:
    """What suits the data. Lengths in mm (x, y, z); crop in voxels, None for whole images.

    stages: as the model will have them. alphas, similarities, batches, micro_batches: one for each. micro_together: of
    the fine-tuning.
    """

    look: Look
    resolution: tuple[float, float, float]
    coarsened: bool
    window: tuple[int, int] | None
    stages: tuple[StageSpec, ...]
    crop: tuple[int, int, int] | None
    trim: float
    translation: float
    similarities: tuple[Similarity, ...]
    alphas: tuple[float, ...]
    batches: tuple[int, ...]
    micro_batches: tuple[int, ...]
    micro_together: int
    held_out: bool

    @property
    def between(self) -> bool:
        """Whether images of different persons, or on different grids, are registered."""
        return self.look.pairs != "intra"


def planned(look: Look) -> Planned:
    """Raises ModelError where no network suits such images."""
    resolution, coarsened = _resolution(look)
    sizes = look.extents / np.array(resolution)
    small, typical = np.percentile(sizes, 10, axis=0), np.median(sizes, axis=0)
    between = look.pairs != "intra"
    deformable = _deformable(look, resolution, small, float(np.prod(typical)))
    stages = ((_affine(look, resolution, small),) if between else ()) + deformable
    crop = None if between else _crop(look, resolution, typical, deformable[0])
    voxels = math.prod(crop) if crop else float(np.prod(typical))
    memory = [_memory(stage, resolution, voxels) for stage in stages]
    batches = tuple(8 if need < _MEMORY / 4 else 4 if need < _MEMORY else 2 for need in memory)
    similarities = _similarities(look, len(stages), between)
    shortest = float(np.percentile(look.extents, 10, axis=0).min())
    return Planned(
        look=look,
        resolution=resolution,
        coarsened=coarsened,
        window=(-1000, max(200, int(-(-look.tissue // 100) * 100))) if look.ct == look.read else None,
        stages=stages,
        crop=crop,
        trim=_nice(0.05 * shortest) if between else 0.0,
        translation=_nice(0.1 * shortest),
        similarities=similarities,
        alphas=tuple(_alpha(stage, similarity) for stage, similarity in zip(stages, similarities, strict=True)),
        batches=batches,
        micro_batches=tuple(_micro(batch, need) for batch, need in zip(batches, memory, strict=True)),
        micro_together=_micro(batches[-1], sum(memory)),
        held_out=look.subjects >= _ENOUGH,
    )


def _nice(length: float) -> float:
    """Two significant digits."""
    return float(f"{length:.2g}")


def _power_of_two(number: float) -> int:
    """The largest that is not larger, and 1 at least."""
    return int(2 ** math.floor(math.log2(max(number, 1))))


# -- images -------------------------------------------------------------------------------------------


def _resolution(look: Look) -> tuple[tuple[float, float, float], bool]:
    """mm per voxel (x, y, z) of the finest stage, and whether it had to be coarser than the images."""
    x, y, z = (float(s) for s in np.median(look.spacings, axis=0))
    own = math.sqrt(x * y) if look.thick else (x * y * z) ** (1 / 3)
    extent = np.median(look.extents, axis=0)
    voxels = float(np.prod(extent)) / (own * own * (z if look.thick else own))
    factor = max(1.0, voxels / _MOST_VOXELS) ** (1 / (2 if look.thick else 3))
    r = _nice(own * factor)
    return (r, r, _nice(z)) if look.thick else (r, r, r), factor > 1


def _crop(
    look: Look, resolution: tuple[float, float, float], typical: Sequence[float], coarsest: StageSpec
) -> tuple[int, int, int]:
    """Whole cells of the coarsest stage, so that training pads no more than a registration will."""
    assert coarsest.grid_spacing is not None
    most = _WINDOW_THICK if look.thick else _WINDOW
    sizes = []
    for n, cell, r in zip(typical, coarsest.grid_spacing, resolution, strict=True):
        voxels = round(cell / r)
        sizes.append(max(1, int(min(n, most) + 0.5) // voxels) * voxels)
    x, y, z = sizes
    return x, y, z


# -- stages -------------------------------------------------------------------------------------------


def _deformable(
    look: Look, resolution: tuple[float, float, float], small: Sequence[float], voxels: float
) -> tuple[StageSpec, ...]:
    """Grid spacings halve from stage to stage."""
    even = min(small[:2]) if look.thick else min(small)
    finest = _FINEST if even >= _SMALL else _FINEST_SMALL
    cell = max(2, min(_COARSEST, _power_of_two(even / _CELLS_ACROSS)))
    cells = [cell]
    while cells[-1] > finest:
        cells.append(cells[-1] // 2)
    deepest = _power_of_two(small[2] / _CELLS_ACROSS)
    stages = []
    for cell in cells:
        factor = max(1, cell >> _LEVELS)
        if cell == cells[-1] == _FINEST and voxels > _MOST_VOXELS / 2:
            factor = 2  # a quarter of the time, or less, and hardly less precise
        levels = (cell // factor).bit_length() - 1
        along_z, factor_z = cell, factor
        if look.thick:
            along_z = min(deepest, max(1, 2 ** round(math.log2(max(1.0, cell * resolution[0] / resolution[2])))))
            factor_z = max(1, along_z >> levels)
        r = np.array(resolution)
        seen, spacing = r * (factor, factor, factor_z), r * (cell, cell, along_z)
        stages.append(StageSpec("bspline", _lengths(seen.tolist()), _CHANNELS[levels], _lengths(spacing.tolist())))
    return tuple(stages)


def _lengths(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(f"{value:.6g}") for value in values)
    return x, y, z


def _affine(look: Look, resolution: tuple[float, float, float], small: Sequence[float]) -> StageSpec:
    factor = min(4, _power_of_two(min(small[:2] if look.thick else small) / 16))
    seen = np.array(resolution) * (factor, factor, 1 if look.thick else factor)
    return StageSpec("affine", _lengths(seen.tolist()), _AFFINE_CHANNELS)


# -- training -----------------------------------------------------------------------------------------


def _similarities(look: Look, count: int, between: bool) -> tuple[Similarity, ...]:
    if 0 < look.ct < look.read:
        first, then = Similarity.mutual_information, Similarity.mind_ssc
    elif between or look.changing:
        first, then = Similarity.ncc, Similarity.local_ncc
    else:
        first = then = Similarity.ncc
    return (first, *[then] * (count - 1)) if between else (then,) * count


def _alpha(stage: StageSpec, similarity: Similarity) -> float:
    """The bending energy is in 1/mm², so a coarser grid needs more of it."""
    if stage.grid_spacing is None:
        return 0.0
    least = 0.05 if similarity is Similarity.ncc else 0.5
    return max(least, _nice(0.3 * (stage.grid_spacing[0] / 10) ** 2))


def _memory(stage: StageSpec, resolution: tuple[float, float, float], voxels: float) -> float:
    """Bytes of a pair in a training step, about."""
    seen = voxels * math.prod(resolution) / math.prod(stage.resolution)
    return seen * stage.channels[0] * _BYTES


def _micro(batch: int, need: float) -> int:
    while batch > 1 and batch * need > _MEMORY:
        batch //= 2
    return batch
