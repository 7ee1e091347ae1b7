"""Where the moving image starts: as given, where the scanner placed it, by centres, or whichever of these fits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.errors import GeometryError
from dlir.io.reading import Volume
from dlir.model.preprocessing import NARROWEST, intensity_range
from dlir.model.spec import Preprocessing
from dlir.registration.choices import Initialization
from dlir.transforms.lattice import Lattice, Samples
from dlir.transforms.spatial import AffineTransform, CompositeTransform, Points

# Starts closer than this, in mm, count as equal: the header's rounding must not cost a resampling.
_EQUAL = 1e-3
# Points along each axis of the fixed image that are compared.
_SAMPLES = 32
# So much of the smaller image must lie in the other one for its similarity to count whole.
_ENOUGH = 0.25
# The start that a model expects is left only for one that is more alike by so much.
_DOUBT = 0.05

_SCANNER, _CENTERS, _MASS = "scanner positions", "image centers", "centers of mass"


@dataclass(frozen=True, eq=False)
class Start:
    """The transform applied before the networks, and its description for the report."""

    transform: CompositeTransform
    description: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A way to start. overlap: part of the fixed volume that maps inside the moving one. similarity: NCC over that,
    less where it is small; None where that was not needed, or means nothing.
    """

    name: str
    transform: CompositeTransform
    overlap: float
    similarity: float | None = None


def initialize(
    fixed: Volume, moving: Volume, initial: CompositeTransform | Start | None, mode: str, expected: str = "scanner"
) -> Start:
    """How the images are brought together before the first stage.

    initial: a given transform, used as it is. mode: "auto" compares the images as the scanner placed them, by their
    centres and by their centres of mass, and takes the most alike, in doubt the `expected` one; "centers" and "scanner"
    are taken without looking. Raises GeometryError where the two volumes do not overlap afterwards.
    """
    if isinstance(initial, Start):
        return initial
    offset = moving.grid.center - fixed.grid.center
    if initial is not None:
        tried = [_Candidate("given transform", initial, _overlap(fixed, moving, _points(fixed), initial))]
    elif mode == Initialization.auto.value:
        tried = _compared(fixed, moving, offset, expected)
    else:
        tried = _placed(fixed, moving, {mode: offset if mode == Initialization.centers.value else np.zeros(3)})
    chosen = _best(tried)
    distance = float(np.linalg.norm(offset))
    if chosen.overlap == 0 and initial is not None:
        raise GeometryError(
            f"the initial transform sends no part of '{fixed.source}' into '{moving.source}'; give one from fixed to "
            "moving points in mm, or leave it out"
        )
    if chosen.overlap == 0:
        raise GeometryError(
            f"'{fixed.source}' and '{moving.source}' do not overlap in space ({distance:.0f} mm between their "
            "centers); start from aligned centers (--initialize centers) or give an --initial-transform"
        )
    described = {"mode": chosen.name, "center_distance_mm": round(distance, 3), "overlap": round(chosen.overlap, 4)}
    return Start(chosen.transform, described | ({"reason": _reason(chosen, tried)} if len(tried) > 1 else {}))


def _placed(fixed: Volume, moving: Volume, shifts: dict[str, Points]) -> list[_Candidate]:
    """Candidates by the shift (3,) mm of each; one that is no shift is the scanner's, and of like ones the first."""
    names = {Initialization.scanner.value: _SCANNER, Initialization.centers.value: _CENTERS}
    points, candidates = _points(fixed), list[_Candidate]()
    kept: list[Points] = []
    for name, shift in shifts.items():
        if any(np.linalg.norm(shift - other) <= _EQUAL for other in kept):
            continue
        kept.append(shift)
        still = np.linalg.norm(shift) <= _EQUAL
        transform = CompositeTransform(() if still else (AffineTransform.translation(shift.tolist()),))
        shown = _SCANNER if still else names.get(name, name)
        candidates.append(_Candidate(shown, transform, _overlap(fixed, moving, points, transform)))
    return candidates


def _compared(fixed: Volume, moving: Volume, offset: Points, expected: str) -> list[_Candidate]:
    """The starts that there are to choose from, the expected one first, and how alike the images are in each."""
    centers = {Initialization.scanner.value: np.zeros(3), Initialization.centers.value: offset}
    centers = {expected: centers[expected], **centers}
    if np.linalg.norm(offset) <= _EQUAL and moving.grid.same_as(fixed.grid):
        return _placed(fixed, moving, centers)  # two images of one scan, as the phases of a cine
    images = [_scaled(volume) for volume in (fixed, moving)]
    mass = _center_of_mass(images[1], moving) - _center_of_mass(images[0], fixed)
    candidates = _placed(fixed, moving, {**centers, _MASS: mass})
    if len(candidates) == 1:
        return candidates
    values = _at(images[0], fixed, _points(fixed))
    return [_judged(candidate, values, images[1], fixed, moving) for candidate in candidates]


def _judged(
    candidate: _Candidate, values: NDArray[np.float64], image: torch.Tensor, fixed: Volume, moving: Volume
) -> _Candidate:
    sent = candidate.transform.apply(_points(fixed))
    inside = moving.grid.contains(sent)
    a, b = values[inside], _at(image, moving, sent[inside])
    if np.count_nonzero(inside) < _SAMPLES or a.std() == 0 or b.std() == 0:
        return candidate
    smaller = min(1.0, float(np.prod(moving.grid.extent) / np.prod(fixed.grid.extent)))
    share = min(1.0, candidate.overlap / smaller / _ENOUGH)
    similarity = float(np.corrcoef(a, b)[0, 1]) * share
    return _Candidate(candidate.name, candidate.transform, candidate.overlap, similarity)


def _best(candidates: list[_Candidate]) -> _Candidate:
    """The most alike; the first of the list, the expected one, unless another is so by more than doubt."""

    def worth(candidate: _Candidate) -> float:
        return -2.0 if candidate.similarity is None else candidate.similarity

    first, best = candidates[0], max(candidates, key=worth)
    if first.overlap > 0 and worth(best) <= worth(first) + _DOUBT:
        return first
    return best if best.overlap > 0 else max(candidates, key=lambda candidate: candidate.overlap)


def _reason(chosen: _Candidate, tried: list[_Candidate]) -> str:
    """Why, in words: how alike the images are in each start."""
    told = [
        f"{candidate.name}: " + ("not comparable" if candidate.similarity is None else f"{candidate.similarity:.2f}")
        for candidate in (chosen, *(other for other in tried if other is not chosen))
    ]
    return f"similarity of the overlap at low resolution: {'; '.join(told)}"


# -- samples ------------------------------------------------------------------------------------------


def _points(volume: Volume) -> Points:
    """(N, 3) mm: points spread evenly over a volume."""
    axes = [np.linspace(-0.5, n - 0.5, 2 * min(_SAMPLES, 2 * n) + 1)[1::2] for n in volume.grid.size]
    return volume.grid.to_physical(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))


def _overlap(fixed: Volume, moving: Volume, points: Points, transform: CompositeTransform) -> float:
    return float(moving.grid.contains(transform.apply(points)).mean())


def _scaled(volume: Volume) -> torch.Tensor:
    """(z, y, x) in [0, 1], with a voxel for some tens along each axis, each the mean of those around it."""
    factors = [max(1, n // (2 * _SAMPLES)) for n in volume.array.shape]
    low, high = intensity_range(volume.array[tuple(slice(None, None, f) for f in factors)], Preprocessing((1, 1, 1)))
    image = torch.from_numpy(np.asarray(volume.array, np.float32))[None, None]
    coarse = torch.nn.functional.avg_pool3d(image, factors) if max(factors) > 1 else image
    return ((coarse[0, 0] - low) / max(high - low, NARROWEST)).clamp(0, 1)


def _lattice(image: torch.Tensor, volume: Volume) -> Lattice:
    """Where the voxels of a coarse image lie among those of its volume."""
    fx, fy, fz = (n // m for n, m in zip(volume.array.shape[::-1], image.shape[::-1], strict=True))
    z, y, x = image.shape
    return Lattice.pooled((z, y, x), (fx, fy, fz))


def _at(image: torch.Tensor, volume: Volume, points: Points) -> NDArray[np.float64]:
    """(N,): the image of a volume at points (N, 3) mm."""
    index = torch.from_numpy(volume.grid.to_index(points))[None]
    found: NDArray[np.float64] = Samples(image[None, None], _lattice(image, volume)).at(index)[0, 0].numpy()
    return found


def _center_of_mass(image: torch.Tensor, volume: Volume) -> Points:
    """(3,) mm: of what is brighter than the mean; the middle of the volume where nothing is."""
    points = _lattice(image, volume).points(dtype=torch.float64).reshape(-1, 3)
    # Not the background, of which there is much.
    weights = (image - image.mean()).clamp(min=0).reshape(-1).double()
    if float(weights.sum()) == 0:
        return volume.grid.center
    return volume.grid.to_physical(((points * weights[:, None]).sum(0) / weights.sum()).numpy())
