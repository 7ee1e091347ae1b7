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

from dlir.io.reading import Volume
from dlir.losses.similarity import local_ncc, ncc
from dlir.metrics.scores import defined
from dlir.model.domain import OTHER_SIZE, Domain, Observed, image_figures
from dlir.model.preprocessing import Prepared
from dlir.model.spec import ModelSpec
from dlir.registration.oneshot import Prediction, Registration
from dlir.registration.progress import silent
from dlir.transforms.lattice import Lattice, inside, lookup
from dlir.transforms.resample import resample
from dlir.transforms.spatial import AffineTransform, CompositeTransform

# Of the range from dark to bright, where the image shows something.
_SOMETHING = 0.1
# Points at most at which distances are taken.
_POINTS = 20_000
# The displacement that so many per cent of the points stay below.
_MOST = 95


@dataclass(frozen=True)
class Assessment:
    """None for what is not defined.

    inverse_consistency_mm: median of |B(T(x)) - x| over the points x of the fixed image that show something; B is the
    registration with the roles exchanged. displacement_mm: 95th percentile of how far the stages move a point.
    similarity_before, similarity_after: NCC of both images as the networks see them, by the start and by the result,
    so that padding and single voxels do not count. local_before, local_after: the same in small windows.
    images_distance: of the images from the model's domain, by what they look like; networks_distance: of the pair, by
    what the networks make of it in either direction. The model's own are within about 1; OTHER_SIZE for images of
    another order of size.
    """

    inverse_consistency_mm: float | None
    displacement_mm: float | None
    local_before: float | None
    local_after: float | None
    images_distance: float | None = None
    networks_distance: float | None = None
    similarity_before: float | None = None
    similarity_after: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Rounded for a report."""
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


def assess(
    registration: Registration,
    fixed: Volume,
    moving: Volume,
    start: CompositeTransform,
    found: Prediction,
    domain: Domain | None = None,
    offer: Callable[[Assessment], None] = silent,
) -> Assessment:
    """Figures of a result that `registration` found for a pair; it registers the pair the other way round as well.

    domain: of the model; None leaves its distance out. offer: told all but that last, which takes as long as the
    registration itself, before it begins. Raises as `Registration`.
    """
    points = _foreground(found.pair.fixed, registration.spec)
    sent = found.transform.apply(points)
    moved = np.linalg.norm(sent - start.apply(points), axis=1)
    (before, local_before), (after, local_after) = _similarities(registration, found)
    images, networks = (None, None) if domain is None else _distances(registration.spec, found, domain)
    one_way = Assessment(
        None,
        float(np.percentile(moved, _MOST)),
        local_before,
        local_after,
        images,
        networks,
        before,
        after,
    )
    offer(one_way)
    back, apart = _consistency(registration, fixed, moving, start, found, points)
    if domain is not None and networks is not None and back is not None:
        networks = max(networks, domain.stage_distance(observed(registration.spec, back)))
    return replace(one_way, inverse_consistency_mm=defined(apart), networks_distance=networks)


def _distances(spec: ModelSpec, found: Prediction, domain: Domain) -> tuple[float, float]:
    """Of a pair from a domain, by its images and by what the networks make of them."""
    seen = observed(spec, found)
    if any(domain.size_differs(image.working) for image in (found.pair.fixed, found.pair.moving)):
        return OTHER_SIZE, domain.stage_distance(seen)
    return max(map(domain.image_distance, seen.images)), domain.stage_distance(seen)


def observed(spec: ModelSpec, found: Prediction) -> Observed:
    """What the domain of a model compares."""
    fixed, moving = (seen_figures(image, spec) for image in (found.pair.fixed, found.pair.moving))
    return Observed((fixed, moving), tuple(features[0].double().numpy() for features in found.features))


def seen_figures(image: Prepared, spec: ModelSpec) -> NDArray[np.float64]:
    """`image_figures` at the resolution of the first stage."""
    return image_figures(_coarse(image, spec).numpy())


def _coarse(image: Prepared, spec: ModelSpec) -> Tensor:
    """(z, y, x) at the resolution of the first stage, without what is padded."""
    factors = spec.factors(0)
    whole = tuple(max(f, n // f * f) for n, f in zip(image.working.shape, factors[::-1], strict=True))
    z, y, x = (n // f for n, f in zip(whole, factors[::-1], strict=True))
    return image.seen(spec.padded_shape(image.working.shape), factors)[:z, :y, :x]


def _lattice(image: Prepared, spec: ModelSpec) -> Lattice:
    """Where the voxels of `_coarse` lie in the working grid."""
    z, y, x = _coarse(image, spec).shape
    return Lattice.pooled((z, y, x), spec.factors(0))


def _foreground(image: Prepared, spec: ModelSpec) -> NDArray[np.float64]:
    """(N, 3) LPS mm: voxels of an image that show something; all of them where none does."""
    coarse = _coarse(image, spec)
    index = _lattice(image, spec).points(dtype=torch.float64).reshape(-1, 3).numpy()
    shows = (coarse > _SOMETHING).reshape(-1).numpy()
    chosen = index[shows] if shows.any() else index
    return image.working.to_physical(chosen[:: 1 + len(chosen) // _POINTS])


# -- there and back -----------------------------------------------------------------------------------


def _consistency(
    registration: Registration,
    fixed: Volume,
    moving: Volume,
    start: CompositeTransform,
    found: Prediction,
    points: NDArray[np.float64],
) -> tuple[Prediction | None, float]:
    """What the networks make of the pair the other way round, and the median of |B(T(x)) - x|, mm, over points (N, 3)
    that T sends into the moving image; None and `nan` where there are none.

    A start that is not linear is no part of the comparison: the moving image is brought through it first.
    """
    there = found.transform
    if start.linear:
        back = CompositeTransform((AffineTransform(np.asarray(np.linalg.inv(start.matrix), float)),))
    else:
        warped = resample(np.asarray(moving.array, np.float32), moving.grid, start, fixed.grid)
        moving, back = Volume(warped, fixed.grid, moving.source), CompositeTransform(())
        there = CompositeTransform(there.parts[: len(there.parts) - len(start.parts)])
    sent = there.apply(points)
    within = moving.grid.contains(sent)
    if not within.any():
        return None, float("nan")
    again = registration.predict(moving, fixed, back)
    returned = again.transform.apply(sent[within])
    return again, float(np.median(np.linalg.norm(returned - points[within], axis=1)))


# -- similarity ---------------------------------------------------------------------------------------


def _similarities(registration: Registration, found: Prediction) -> list[tuple[float | None, float | None]]:
    """Before and after: NCC, and local NCC, of what overlaps; None where nothing does."""
    spec = registration.spec
    fixed, moving = (_coarse(image, spec)[None, None] for image in (found.pair.fixed, found.pair.moving))
    lattice, source = _lattice(found.pair.fixed, spec), _lattice(found.pair.moving, spec)
    matrix = torch.from_numpy(found.pair.matrix).float()
    started = lattice.points().reshape(1, -1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    ways = [started.reshape(1, *lattice.shape, 3), found.progressed.points(lattice).cpu().movedim(1, -1)]
    figures: list[tuple[float | None, float | None]] = []
    for points in ways:
        overlap = inside(source, points)[:, None].float()
        warped = lookup(moving, source, points)
        known = bool(overlap.any())
        figures.append(
            (float(ncc(fixed, warped, overlap)), float(local_ncc(fixed, warped, overlap))) if known else (None, None)
        )
    return figures
