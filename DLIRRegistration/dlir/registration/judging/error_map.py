"""The error to expect of a registration, voxel by voxel: from what finds back, what is found again, and how alike the
images are there.

Signs of it are taken on a coarse grid, measured in samples of that, and weighed as known errors of other pairs taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.metrics.scores import defined
from dlir.model.preprocessing import resample_axes, shows
from dlir.optimization.levels import Level, Pyramid, spacing_for, warped
from dlir.registration.loading import Loaded
from dlir.registration.oneshot import Registration
from dlir.registration.optimising import Optimising
from dlir.registration.request import structure_name
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.spatial import CompositeTransform

# Samples of the fixed image at which signs are taken, about.
SAMPLES = 60_000
# What of the logarithm of the error, in samples, each sign makes up, after a constant: `Benchmarks/error_map.py` prints
# these, of pairs for tuning.
ONE_SHOT = (0.533, 0.274, 0.463, 0.759)
OPTIMISED = (0.211, 0.308, 0.422, 0.170, 0.325)
# Added to a distance, in samples, before its logarithm is taken: less than that is nothing.
_LEAST, _LEAST_PRECISION = 0.05, 0.01
# Voxels (z, y, x) of the windows in which images are compared.
_WINDOW = 5
# Added to variances, and to what gradients say, so that flat windows say little instead of nothing.
_FLAT, _NOISE, _SLOPE = 1e-7, 1e-5, 1e-4


@dataclass(frozen=True, eq=False)
class Signs:
    """What tells of the error of a pair's result.

    values: (S, z, y, x) on `grid`, a coarse one of the fixed image. sample: its spacing in mm, in the mean. shows:
    where the fixed image shows something, and counts, and has a counterpart. weights: of a constant and of the signs.
    """

    values: NDArray[np.float32]
    grid: ImageGrid
    sample: float
    shows: NDArray[np.bool_]
    weights: tuple[float, ...]

    def expected(self) -> NDArray[np.float32]:
        """The error in mm on `grid`, (z, y, x)."""
        constant, *weights = self.weights
        logarithm = constant + np.tensordot(np.array(weights), self.values, 1)
        return np.asarray(self.sample * np.exp(logarithm), np.float32)

    def map_on(self, grid: ImageGrid) -> NDArray[np.float32]:
        """The same on the fixed image's own grid."""
        return np.asarray(resample_axes(torch.from_numpy(self.expected()), self.grid, grid).numpy(), np.float32)


def signs_of(loaded: Loaded, result: RegistrationResult, registration: Registration | None) -> Signs:
    """Of a result of `Session.register`. registration: with the model that found it; None for a pair that was
    optimised, on top of a model or alone.
    """
    if result.optimising is not None:
        return _optimised(result.optimising)
    if registration is None or result.prediction is None:
        raise ValueError("a result of a model is judged with that model")
    found, volumes = result.prediction, (loaded.fixed, loaded.moving)
    masks = (loaded.fixed_mask, loaded.moving_mask)
    spacing = spacing_for(loaded.fixed.grid, SAMPLES)
    fixed, moving = (Pyramid(volume, mask).at(spacing) for volume, mask in zip(volumes, masks, strict=True))
    places = fixed.grid.voxel_centers().reshape(-1, 3)
    parts = found.transform.parts
    if not found.pair.start.linear:  # the networks see the moving image brought through it, both ways
        parts = parts[: len(parts) - len(found.pair.start.parts)]
    back = registration.turned(found).transform.apply(CompositeTransform(parts).apply(places))
    return _signs(fixed, moving, found.transform, np.linalg.norm(back - places, axis=1), (), ONE_SHOT)


def _optimised(done: Optimising) -> Signs:
    fixed, moving = done.optimisation.levels(SAMPLES)
    places = fixed.grid.voxel_centers().reshape(-1, 3)
    transform = done.found.transform
    sent = transform.apply(places)
    with torch.inference_mode(False), torch.enable_grad():
        # Who ends an optimisation still wants the map that was asked for.
        back = done.back or done.optimisation.turned(done.found, done.budget, done.aim)
        assert back is not None
        again = done.optimisation.found_again(done.found)
    apart = [np.linalg.norm(way.apply(places) - sent, axis=1) for way in again]
    return _signs(fixed, moving, transform, np.linalg.norm(back.apply(sent) - places, axis=1), apart, OPTIMISED)


def _signs(
    fixed: Level,
    moving: Level,
    transform: CompositeTransform,
    back: NDArray[np.float64],
    again: Sequence[NDArray[np.float64]],
    weights: tuple[float, ...],
) -> Signs:
    """back: (N,) mm, how far each voxel of the fixed level ends from where it began, there and back. again: of each
    result that was found again, how far it is from the first.
    """
    grid, sample = fixed.grid, float(np.prod(fixed.grid.spacing) ** (1 / 3))
    image, counts = warped(moving, transform, grid)
    counts = torch.ones_like(image) if counts is None else counts
    shown = shows(fixed.image, fixed.weight) & (counts > 0.5)
    if fixed.weight is not None:
        counts = counts * fixed.weight
    likeness, precision = _compared(fixed.image, image, counts, grid, sample)
    distances = [_grid_values(back, fixed)]
    if again:
        distances.append(_mean(_grid_values(np.mean(np.square(again), 0), fixed), 3).sqrt())
    values = [(distance / sample + _LEAST).log() for distance in distances]
    values += [(precision + _LEAST_PRECISION).log(), 1 - likeness]
    stacked = torch.cat([value[0] for value in values]).cpu().numpy().astype(np.float32)
    return Signs(stacked, grid, sample, shown[0, 0].cpu().numpy(), weights)


def _grid_values(values: NDArray[np.float64], fixed: Level) -> Tensor:
    return torch.from_numpy(values).float().to(fixed.image.device).reshape(fixed.image.shape)


def _compared(fixed: Tensor, image: Tensor, counts: Tensor, grid: ImageGrid, sample: float) -> tuple[Tensor, Tensor]:
    """(1, 1, z, y, x) each, of windows: correlation, and how exactly, in samples, noise and gradients let them be
    placed (Cramér and Rao's bound).
    """
    share = _mean(counts).clamp(min=1e-3)

    def mean(values: Tensor) -> Tensor:
        return _mean(counts * values) / share

    mean_f, mean_w = mean(fixed), mean(image)
    variance_f = (mean(fixed * fixed) - mean_f**2).clamp(min=0)
    variance_w = (mean(image * image) - mean_w**2).clamp(min=0)
    covariance = mean(fixed * image) - mean_f * mean_w
    likeness = (covariance / (variance_f * variance_w + _FLAT).sqrt()).clamp(-1, 1)
    left = (variance_w - covariance**2 / (variance_f + _NOISE / 10)).clamp(min=0)
    spacing = [s / sample for s in grid.spacing[::-1]]
    slopes = _slopes(_mean(image, 3)[0, 0], spacing)
    tensor = torch.stack([mean((a * b)[None, None])[0, 0] for a in slopes for b in slopes], -1)
    tensor = tensor.reshape(*tensor.shape[:-1], 3, 3) + _SLOPE * torch.eye(3, device=tensor.device)
    spread = torch.linalg.inv(tensor).diagonal(dim1=-2, dim2=-1).sum(-1)
    return likeness, ((left[0, 0] + _NOISE) * spread / _WINDOW**3).sqrt()[None, None]


def _slopes(image: Tensor, spacing: Sequence[float]) -> list[Tensor]:
    """Derivatives (z, y, x) of an image along each axis that has several voxels; 0 along others."""
    found = []
    for axis, step in enumerate(spacing):
        several = image.shape[axis] > 1
        found.append(torch.gradient(image, spacing=step, dim=axis)[0] if several else torch.zeros_like(image))
    return found


def _mean(image: Tensor, window: int = _WINDOW) -> Tensor:
    return F.avg_pool3d(image, window, 1, window // 2, count_include_pad=False)


# -- what a report says of it -------------------------------------------------------------------------


def describe_error(signs: Signs) -> dict[str, Any]:
    """Over what the fixed image shows; None where it shows nothing that has a counterpart."""
    errors = signs.expected()[signs.shows]
    median, most = np.percentile(errors, (50, 95)) if errors.size else (np.nan, np.nan)
    return {"median_mm": defined(float(median)), "p95_mm": defined(float(most))}


def structure_errors(
    errors: NDArray[np.float32], layers: Sequence[NDArray[Any]], names: dict[tuple[int, int], str]
) -> dict[str, float]:
    """Median in mm over each structure of layers of labels on the grid of the map, by name; without one, by value, and
    by layer too where there are several. names: by layer and value.
    """
    found = dict[str, float]()
    for number, layer in enumerate(layers):
        for value in np.unique(layer[layer > 0]).tolist():
            name = names.get((number, value)) or structure_name(number, value, several=len(layers) > 1)
            found[name] = round(float(np.median(errors[layer == value])), 4)
    return found
