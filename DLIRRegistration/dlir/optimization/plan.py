"""Which stages a pair is optimised by: resolutions and control spacings from the images, steps from the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dlir.geometry import ImageGrid
from dlir.optimization.deformable import Stage
from dlir.optimization.levels import grid_at, spacing_for

_Recipe = Sequence[tuple[int, int, int, float]]
# Spacing of the samples and of the control points, as multiples of the finest samples', steps, and what bending costs.
_COARSE_TO_FINE = ((4, 16, 40, 0.3), (2, 16, 20, 0.3), (2, 8, 50, 0.1), (1, 8, 20, 0.1), (1, 4, 40, 0.03))
# Stages after which it shows whether anything moves.
COARSE = 2
# With time left, control points as close as that. Worth it from so many samples on, and not along thick slices, which
# hold too little to place them by: hearts lose by it, heads gain .03.
_FINEST = (*_COARSE_TO_FINE, (1, 2, 50, 0.03))
_WORTH, _THICK = 600_000, 3.0
# On top of what is nearly right: of a network, or of an optimisation before.
_FINE = ((2, 8, 30, 0.1), (1, 8, 20, 0.1), (1, 4, 40, 0.03))
# What bending costs where next to nothing moves: what differs there is noise and contrast more than place.
_STIFF, _TIGHT = 10.0, 30.0
# Samples of the finest stage, at least and at most; the more the time allows, the better the result.
_FEWEST, _MOST, _RUNG = 30_000, 1_500_000, 1.2
SAMPLES = 600_000


def plan(grid: ImageGrid, samples: float, steps: int | None = None, *, fine: bool) -> tuple[Stage, ...]:
    """Stages, in the order in which they are done, for a fixed image, with about so many samples in the finest ones.

    steps: of all stages together; None for the recipe's own. fine: only on top of what is nearly right.
    """
    return _planned(grid, samples, _FINE if fine else _COARSE_TO_FINE, steps)


def affordable_plan(grid: ImageGrid, affordable: float, *, fine: bool) -> tuple[Stage, ...]:
    """The stages, with as many samples, that make for about so much `work`."""
    thick = max(grid.spacing) > _THICK * min(grid.spacing)
    if not fine and not thick:
        samples = _samples_for(grid, affordable, _FINEST)
        stages = _planned(grid, samples, _FINEST)
        if samples >= _WORTH or (work(grid, stages) <= affordable and samples >= math.prod(grid.size)):
            return stages
    recipe = _FINE if fine else _COARSE_TO_FINE
    return _planned(grid, _samples_for(grid, affordable, recipe), recipe)


def _planned(grid: ImageGrid, samples: float, recipe: _Recipe, steps: int | None = None) -> tuple[Stage, ...]:
    spacing = spacing_for(grid, min(max(samples, _FEWEST), _MOST))
    counts = _shared(steps, [count for _, _, count, _ in recipe])
    return tuple(
        Stage(image * spacing, control * spacing, count, stiffness)
        for (image, control, _, stiffness), count in zip(recipe, counts, strict=True)
        if count
    )


def stiffened(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """For images of which next to nothing moves."""
    return tuple(replace(stage, stiffness=_STIFF, tightness=_TIGHT) for stage in stages)


def work(grid: ImageGrid, stages: Sequence[Stage]) -> float:
    """Steps times samples of some stages, which their time goes by."""
    return sum(stage.steps * math.prod(grid_at(grid, stage.image).size) for stage in stages)


def _samples_for(grid: ImageGrid, affordable: float, recipe: _Recipe) -> float:
    """Samples of the finest stages for which the work is at most what is affordable; of a ladder of such numbers, so
    that a time measured a little differently makes the same plan.
    """
    rungs = [_FEWEST * _RUNG**k for k in range(1 + math.floor(math.log(_MOST / _FEWEST, _RUNG)))]
    affords = [work(grid, _planned(grid, samples, recipe)) <= affordable for samples in rungs]
    return rungs[max(0, affords.index(False) - 1) if False in affords else -1]


def _shared(total: int | None, parts: Sequence[int]) -> list[int]:
    """So many steps, shared as the recipe has them; the finest stages get what is left over."""
    if total is None:
        return list(parts)
    ends = [round(total * sum(parts[: k + 1]) / sum(parts)) for k in range(len(parts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
