"""Figures of one result that tell right from wrong: what a verdict looks at and no report needs for other reasons.

They are taken where the networks work, at the resolution of the first stage, so they cost little beside the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.losses.similarity import local_ncc, ncc
from dlir.metrics.scores import defined
from dlir.model.domain import OTHER_SIZE, Domain, Observed, image_figures
from dlir.model.preprocessing import Prepared, shows
from dlir.model.spec import ModelSpec
from dlir.optimization.optimise import there_and_back
from dlir.registration.oneshot import Prediction, Registration
from dlir.registration.progress import silent
from dlir.transforms.lattice import Lattice, inside, lookup
from dlir.transforms.spatial import CompositeTransform

# Points at most at which distances are taken.
_POINTS = 4_000
# The displacement that so many per cent of the points stay below.
_MOST = 95


@dataclass(frozen=True)
class Assessment:
    """None for what is not defined.

    inverse_consistency_mm: median of |B(T(x)) - x| over the points x of the fixed image that show something; B is the
    registration with the roles exchanged. Without a model what 75 % of the points at edges stay below, see
    `assess_optimised`. displacement_mm: 95th percentile of how far the stages move a point.
    similarity_before, similarity_after: NCC of both images as the networks see them, by the start and by the result,
    so that padding and single voxels do not count. local_before, local_after: the same in small windows.
    images_distance: of the images from the model's domain, by what they look like; networks_distance: of the pair, by
    what the networks make of it in either direction. The model's own are within about 1; OTHER_SIZE for images of
    another order of size. ambiguity: the objective of the second distinct affine optimum, as a part of the best one's.
    affine_volume: determinant of the affine part, where a pair was optimised. affine_turn_degrees: how far it turns.
    mirrored: how alike the images are by the best affine map that mirrors, as a part of the best one's. sample_mm:
    spacing at which such a pair's figures were taken. not_turned: 1 where somebody ended such a pair's way back before
    its end.
    """

    inverse_consistency_mm: float | None
    displacement_mm: float | None
    local_before: float | None
    local_after: float | None
    images_distance: float | None = None
    networks_distance: float | None = None
    similarity_before: float | None = None
    similarity_after: float | None = None
    ambiguity: float | None = None
    affine_volume: float | None = None
    affine_turn_degrees: float | None = None
    mirrored: float | None = None
    sample_mm: float | None = None
    not_turned: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Rounded for a report."""
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


def assess(
    registration: Registration,
    found: Prediction,
    domain: Domain | None = None,
    offer: Callable[[Assessment], None] = silent,
) -> Assessment:
    """Figures of a result that `registration` found for a pair; the networks see the pair the other way round as well.

    domain: of the model; None leaves its distance out. offer: told all that is known before that.
    """
    spec, pair = registration.spec, found.pair
    points = _foreground(found, spec)
    sent = found.transform.apply(points)
    moved = np.linalg.norm(sent - pair.start.apply(points), axis=1)
    (before, local_before), (after, local_after) = _similarities(spec, found)
    images, networks = (None, None) if domain is None else _distances(spec, found, domain)
    displaced = float(np.percentile(moved, _MOST))
    one_way = Assessment(None, displaced, local_before, local_after, images, networks, before, after)
    offer(one_way)
    back, apart = _there_and_back(registration, found, points, sent)
    if domain is not None and networks is not None and back is not None:
        networks = max(networks, domain.stage_distance(_features(back)))
    return replace(one_way, inverse_consistency_mm=defined(apart), networks_distance=networks)


def _distances(spec: ModelSpec, found: Prediction, domain: Domain) -> tuple[float, float]:
    """Of a pair from a domain, by its images and by what the networks make of them."""
    seen = observed(spec, found)
    if any(map(domain.size_differs, (found.pair.fixed, found.pair.moving))):
        return OTHER_SIZE, domain.stage_distance(seen.stages)
    return max(map(domain.image_distance, seen.images)), domain.stage_distance(seen.stages)


def observed(spec: ModelSpec, found: Prediction) -> Observed:
    """What the domain of a model compares."""
    fixed, moving = (image_figures(image.numpy()) for image in _coarse(found, spec))
    return Observed((fixed, moving), _features(found))


def _features(found: Prediction) -> tuple[NDArray[np.float64], ...]:
    """What the network of each stage makes of a pair, (F,) each."""
    return tuple(features[0].double().numpy() for features in found.features)


def seen_figures(image: Prepared, spec: ModelSpec) -> NDArray[np.float64]:
    """`image_figures` at the resolution of the first stage, as a pair's are taken."""
    seen = image.seen(spec.padded_shape(image.working.shape), spec.factors(0))
    return image_figures(_whole(seen, image.working, spec).numpy())


def _whole(seen: Tensor, grid: ImageGrid, spec: ModelSpec) -> Tensor:
    """An image (z, y, x) at the resolution of the first stage, without what is padded; grid: its working grid."""
    z, y, x = (max(1, n // f) for n, f in zip(grid.shape, spec.factors(0)[::-1], strict=True))
    return seen[:z, :y, :x]


def _coarse(found: Prediction, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Both images of a pair, (z, y, x), as `_whole`."""
    pair = found.pair
    fixed, moving = (image[0, 0].cpu() for image in pair.images[spec.factors(0)])
    return _whole(fixed, pair.fixed, spec), _whole(moving, pair.moving, spec)


def _lattice(image: Tensor, spec: ModelSpec) -> Lattice:
    """Where the voxels of such an image lie in its working grid."""
    z, y, x = image.shape
    return Lattice.pooled((z, y, x), spec.factors(0))


def _foreground(found: Prediction, spec: ModelSpec) -> NDArray[np.float64]:
    """(N, 3) LPS mm: voxels of the fixed image that show something; all of them where none does."""
    coarse, _ = _coarse(found, spec)
    index = _lattice(coarse, spec).points(dtype=torch.float64).reshape(-1, 3).numpy()
    found_there = shows(coarse).reshape(-1).numpy()
    chosen = index[found_there] if found_there.any() else index
    return found.pair.fixed.to_physical(chosen[:: 1 + len(chosen) // _POINTS])


def _there_and_back(
    registration: Registration, found: Prediction, points: NDArray[np.float64], sent: NDArray[np.float64]
) -> tuple[Prediction | None, float]:
    """What the networks make of the pair the other way round, and the median of |B(T(x)) - x|, mm, over points x (N, 3)
    that T sends into the moving image; None and `nan` where there are none. sent: T(x).

    A start that is not linear is no part of the comparison: the networks see the moving image brought through it.
    """
    start, parts = found.pair.start, found.transform.parts
    if not start.linear:
        sent = CompositeTransform(parts[: len(parts) - len(start.parts)]).apply(points)
    within = found.pair.moving.contains(sent)
    if not within.any():
        return None, float("nan")
    back = registration.turned(found)
    return back, there_and_back(points, sent, back.transform, found.pair.moving)


# -- similarity ---------------------------------------------------------------------------------------


def _similarities(spec: ModelSpec, found: Prediction) -> list[tuple[float | None, float | None]]:
    """Before and after: NCC, and local NCC, of what overlaps; None where nothing does."""
    fixed, moving = _coarse(found, spec)
    lattice, source = _lattice(fixed, spec), _lattice(moving, spec)
    fixed, moving = fixed[None, None], moving[None, None]
    matrix = torch.from_numpy(found.pair.matrix).float()
    started = lattice.points().reshape(1, -1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    ways = [started.reshape(1, *lattice.shape, 3), found.progressed.points(lattice).cpu().movedim(1, -1)]
    return [_similarity(fixed, moving, source, points) for points in ways]


def _similarity(fixed: Tensor, moving: Tensor, source: Lattice, points: Tensor) -> tuple[float | None, float | None]:
    """Of a moving image, its voxels on `source`, looked up at points (1, z, y, x, 3)."""
    overlap = inside(source, points)[:, None].float()
    if not bool(overlap.any()):
        return None, None
    warped = lookup(moving, source, points)
    return float(ncc(fixed, warped, overlap)), float(local_ncc(fixed, warped, overlap))


def refined(known: Assessment, spec: ModelSpec, found: Prediction, transform: CompositeTransform) -> Assessment:
    """What is known of a result of the networks, with the similarities of a better transform: taken on the same voxels,
    as the model's limits are.

    transform: what the networks found, with more before it.
    """
    pair, parts = found.pair, transform.parts
    if not pair.start.linear:  # the networks see the moving image brought through it
        parts = parts[: len(parts) - len(pair.start.parts)]
    fixed, moving = _coarse(found, spec)
    lattice, source = _lattice(fixed, spec), _lattice(moving, spec)
    places = pair.fixed.to_physical(lattice.points(dtype=torch.float64).reshape(-1, 3).numpy())
    index = pair.moving.to_index(CompositeTransform(parts).apply(places))
    points = torch.from_numpy(index).float().reshape(1, *lattice.shape, 3)
    similarity, local = _similarity(fixed[None, None], moving[None, None], source, points)
    return replace(known, similarity_after=similarity, local_after=local)
