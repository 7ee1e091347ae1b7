"""Figures that tell right from wrong of a result that was optimised for its pair, in the place of a model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.losses.similarity import local_ncc, ncc
from dlir.metrics.scores import defined
from dlir.model.preprocessing import shows
from dlir.optimization.levels import Level, warped
from dlir.optimization.optimise import there_and_back
from dlir.registration.judging.assessment import Assessment
from dlir.registration.optimising import Optimising
from dlir.registration.progress import Clock, silent
from dlir.transforms.spatial import CompositeTransform, Points

# Points at most at which distances are taken; the displacement that so many per cent of them stay below.
_POINTS, _MOST = 4_000, 95
# The steepest part of what shows something is edges, and the error there and back that so many per cent of these stay
# below. Within an organ a point has nothing to be found by, and there right results come back far off, too; of wrong
# ones a part comes back, so that the median tells less.
_STEEP, _BACK = 0.3, 75
# Samples of the images at which similarities are taken.
_SAMPLES = 100_000


@torch.enable_grad()
def assess_optimised(
    done: Optimising, offer: Callable[[Assessment], None] = silent, clock: Clock | None = None
) -> Assessment:
    """Of a pair that was optimised without a model; it is optimised the other way round as well, for less long. What
    that says is taken at the edges of the fixed image.

    offer: told all that is known before that. clock: times that by itself.
    """
    fixed, moving = done.optimisation.levels(_SAMPLES)
    transform = done.found.transform
    linear = transform.affine_part
    points, edges = _foreground(fixed), _edges(fixed)
    moved = np.linalg.norm(transform.apply(points) - linear.apply(points), axis=1)
    before, after = (_similarities(fixed, moving, way) for way in (done.start, transform))
    ranked = [one.value for one in done.found.affines]
    known = Assessment(
        None,
        float(np.percentile(moved, _MOST)),
        before[1],
        after[1],
        similarity_before=before[0],
        similarity_after=after[0],
        ambiguity=ranked[1] / ranked[0] if len(ranked) > 1 and ranked[0] > 0 else None,
        sample_mm=float(np.prod(fixed.grid.spacing) ** (1 / 3)),
        affine_volume=float(np.linalg.det(linear.matrix[:3, :3])),
        affine_turn_degrees=_turn(linear.matrix[:3, :3]),
    )
    offer(known)
    with (clock or Clock()).step("way back"):
        back = done.back
        if back is None:
            return replace(known, not_turned=1.0)
        if done.found.alike:
            known = replace(known, mirrored=done.optimisation.mirrored(done.found, done.budget, done.stop))
    apart = there_and_back(edges, transform.apply(edges), back, moving.grid, _BACK)
    return replace(known, inverse_consistency_mm=defined(apart))


def _turn(matrix: NDArray[np.float64]) -> float:
    """Degrees: of the rotation that is nearest to (3, 3)."""
    left, _, right = np.linalg.svd(matrix)
    return float(np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1))))


def _foreground(level: Level) -> Points:
    """(N, 3) LPS mm: voxels that show something, and count; all of them where none does."""
    return _some(level, _shown(level))


def _edges(level: Level) -> Points:
    """(N, 3) LPS mm: of these, the part where the image is steepest."""
    shown = _shown(level)
    along = [axis for axis, size in enumerate(level.image.shape) if size > 1]
    slopes = torch.gradient(level.image, dim=along) if along else [torch.zeros_like(level.image)]
    steep = torch.stack(tuple(slopes)).square().sum(0).cpu().numpy().ravel()
    return _some(level, shown & (steep >= np.quantile(steep[shown], 1 - _STEEP)) if shown.any() else shown)


def _shown(level: Level) -> NDArray[np.bool_]:
    """(voxels,): what shows something, and counts."""
    found: NDArray[np.bool_] = shows(level.image, level.weight).cpu().numpy().ravel()
    return found


def _some(level: Level, chosen: NDArray[np.bool_]) -> Points:
    """(N, 3) LPS mm: of the voxels that are chosen, or of all where none is."""
    points = level.grid.voxel_centers().reshape(-1, 3)[chosen if chosen.any() else slice(None)]
    some: Points = points[:: 1 + len(points) // _POINTS]
    return some


def _similarities(fixed: Level, moving: Level, transform: CompositeTransform) -> tuple[float | None, float | None]:
    """NCC, and local NCC, of what overlaps; None where nothing does."""
    image, counts = warped(moving, transform, fixed.grid)
    weight: Tensor = torch.ones_like(image) if counts is None else counts
    if fixed.weight is not None:
        weight = weight * fixed.weight
    if not bool(weight.any()):
        return None, None
    return float(ncc(fixed.image, image, weight)), float(local_ncc(fixed.image, image, weight))
