"""What goes wrong with images: each damage changes a moving image and its labels alike, so the labels still tell.

Where geometry changes, labels change with it; where only intensities do, they stay. Chance decides the details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import EvaluationError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume

# An image and its label map.
Labelled = tuple[Volume, Volume]
Damage = Callable[[Volume, Volume, np.random.Generator], Labelled]

# Pairs of two different patients, or of two sides of the body, as of one: nothing is changed, the pair is the damage.
WRONG_PATIENT, WRONG_SIDE = "wrong patient", "wrong side"


def damaged(image: Volume, label: Volume, kind: str, seed: int) -> Labelled:
    """The image and its labels with one of DAMAGES. Raises EvaluationError for a kind that is not there."""
    if kind not in DAMAGES:
        raise EvaluationError(f"damage '{kind}' is unknown; use one of {', '.join(DAMAGES)}")
    broken, its_label = DAMAGES[kind](image, label, np.random.default_rng(seed))
    return replace(broken, array=np.ascontiguousarray(broken.array, np.float32)), its_label


# -- where the image lies -----------------------------------------------------------------------------


def _shifted(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """By 20 to 60 mm in any direction, in the header."""
    direction = rng.normal(size=3)
    offset = rng.uniform(20, 60) * direction / np.linalg.norm(direction)
    return _on(image, label, replace(image.grid, origin=_vector(image.grid.origin + offset)))


def _rotated(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """By 20 to 90° about one of its axes and its centre, in the header."""
    angle = np.deg2rad(rng.uniform(20, 90)) * rng.choice([-1, 1])
    grid, axis = image.grid, int(rng.integers(3))
    x, y, z = angle * grid.direction_matrix[:, axis]
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / angle
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    origin = grid.center + matrix @ (np.array(grid.origin) - grid.center)
    direction = tuple((matrix @ grid.direction_matrix).ravel())
    return _on(image, label, replace(grid, origin=_vector(origin), direction=direction))


def _wrong_spacing(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """A header in which all voxels, or those of one axis, are half to 3/4 or 4/3 to 2 times as long."""
    factor = rng.uniform(4 / 3, 2) ** rng.choice([-1, 1])
    which = np.ones(3, bool) if rng.random() < 0.5 else np.arange(3) == rng.integers(3)
    spacing = np.where(which, factor, 1) * image.grid.spacing
    return _on(image, label, replace(image.grid, spacing=_vector(spacing)))


def _on(image: Volume, label: Volume, grid: ImageGrid) -> Labelled:
    return replace(image, grid=grid), replace(label, grid=grid)


def _vector(values: NDArray[Any]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


# -- which voxels there are ---------------------------------------------------------------------------


def _flipped(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """The voxels of one axis in reverse order under the same header."""
    axis = int(rng.integers(3))
    return tuple(replace(v, array=np.flip(v.array, axis).copy()) for v in (image, label))  # type: ignore[return-value]


def _padded(value: float) -> Damage:
    def pad(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
        """With a band of 10 to 40 % of the image's width at some of its six sides."""
        sides = rng.random((3, 2)) < 0.4
        sides[rng.integers(3), rng.integers(2)] = True
        width = np.ceil(rng.uniform(0.1, 0.4, (3, 2)) * np.array(image.grid.shape)[:, None]).astype(int) * sides
        size = [n + int(band) for n, band in zip(image.grid.shape, width.sum(1), strict=True)]
        grid = image.grid.lattice(tuple(-width[::-1, 0]), (1, 1, 1), size[::-1])
        return (
            replace(image, array=np.pad(image.array, width, constant_values=value), grid=grid),
            replace(label, array=np.pad(label.array, width), grid=grid),
        )

    return pad


def _cropped(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """To 50 to 70 % of its width along the two axes with the most voxels, anywhere about the labels' middle."""
    axes = np.argsort(image.grid.shape)[1:]
    box = [slice(0, n) for n in image.grid.shape]
    middle = np.argwhere(label.array > 0).mean(0)
    for axis in axes:
        count = image.grid.shape[axis]
        width = int(np.ceil(rng.uniform(0.5, 0.7) * count))
        first = int(np.clip(middle[axis] - width * rng.uniform(0.3, 0.7), 0, count - width))
        box[axis] = slice(first, first + width)
    return _part(image, label, box)


def _slices_missing(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """Without a third to half of the slices that have labels, at one end."""
    held = np.flatnonzero((label.array > 0).any((1, 2)))
    lost = int(np.ceil(rng.uniform(1 / 3, 1 / 2) * len(held)))
    count = image.grid.shape[0]
    kept = slice(int(held[lost]), count) if rng.random() < 0.5 else slice(0, int(held[-lost]))
    if kept.stop - kept.start < 2:
        kept = slice(0, 2) if kept.start == 0 else slice(count - 2, count)
    return _part(image, label, [kept, *(slice(0, n) for n in image.grid.shape[1:])])


def _part(image: Volume, label: Volume, box: list[slice]) -> Labelled:
    grid = image.grid.part(box)
    return tuple(replace(v, array=v.array[tuple(box)].copy(), grid=grid) for v in (image, label))  # type: ignore[return-value]


# -- what the voxels hold -----------------------------------------------------------------------------


def _range(image: Volume) -> tuple[float, float]:
    low, high = np.percentile(image.array, (0.5, 99.5))
    return float(low), float(high)


def _noise_only(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """Nothing but noise of the image's mean and spread."""
    return replace(image, array=rng.normal(image.array.mean(), image.array.std(), image.array.shape)), label


def _noisy(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """Noise of 20 to 80 % of the range of intensities on top."""
    low, high = _range(image)
    noise = rng.normal(0, rng.uniform(0.2, 0.8) * (high - low), image.array.shape)
    return replace(image, array=image.array + noise), label


def _inverted(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """Bright for dark."""
    low, high = _range(image)
    return replace(image, array=low + high - np.clip(image.array, low, high)), label


def _gamma(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    """To the power of 2 to 4, or of 1/4 to 1/2."""
    low, high = _range(image)
    exponent = rng.uniform(2, 4) ** rng.choice([-1, 1])
    return replace(
        image, array=low + (high - low) * np.clip((image.array - low) / (high - low), 0, 1) ** exponent
    ), label


def _as_it_is(image: Volume, label: Volume, rng: np.random.Generator) -> Labelled:
    return image, label


DAMAGES: Mapping[str, Damage] = {
    "padded with -1000": _padded(-1000),
    "padded with 30000": _padded(30000),
    "shifted": _shifted,
    "rotated": _rotated,
    "flipped": _flipped,
    "wrong spacing": _wrong_spacing,
    "cropped": _cropped,
    "slices missing": _slices_missing,
    "noise only": _noise_only,
    "noisy": _noisy,
    "inverted": _inverted,
    "gamma": _gamma,
    WRONG_PATIENT: _as_it_is,
    WRONG_SIDE: _as_it_is,
}
