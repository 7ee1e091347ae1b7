"""What a model was made for, in figures that a new pair is held against. Needs no torch.

A domain is learned when training ends, from pairs that it trained with and pairs that were held out: how large their
images are, how bright, what each network makes of them, and how consistent the results are. Lengths are mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlir.errors import ModelError
from dlir.geometry import ImageGrid

Vector = NDArray[np.float64]

# Parts of the brightness of an image, from dark to bright, whose values describe it.
_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# Of the variance, so much is taken from the features alone, without what they have in common: there are hardly more
# pairs than features.
_SHRINKAGE = 0.2
# Pairs are told apart from those that a domain was learned from in so many turns.
_FOLDS = 5
# The distance that this part of the model's own pairs keep is 1.
_OWN = 0.95
# An image so many times larger or smaller than all of the model's own is of another kind.
_SIZES = 3.0
# Its distance.
OTHER_SIZE = 1e3
# The unit is a distance of few features: of the order of 1, and a damaged file's where it is far from that.
_MOST_APART = 1e3
# Digits that are kept of each figure.
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Observed:
    """One pair as a model sees it.

    images: of the fixed and the moving one, `image_figures`. stages: of each stage, the features (F,) of its network.
    """

    images: tuple[Vector, Vector]
    stages: tuple[Vector, ...]


@dataclass(frozen=True, eq=False)
class Range:
    """A cloud of vectors (F,): mean, covariance (F, F), and the distance of its own outermost members."""

    mean: Vector
    covariance: Vector
    unit: float

    @classmethod
    def of(cls, samples: Vector, together: int = 1) -> Range:
        """The cloud of samples (N, F), of which so many in a row belong together.

        The unit is the distance that most of them keep from a cloud that they are no part of: from the cloud that they
        helped to make, few samples of many features are always near.
        """
        turns = np.arange(len(samples)) // together % _FOLDS
        apart: list[float] = []
        for turn in range(_FOLDS):
            others = _moments(samples[turns != turn])
            apart += [_distance(sample, *others) for sample in samples[turns == turn]]
        return cls(*_moments(samples), max(float(np.quantile(apart, _OWN)), np.finfo(float).tiny))

    def distance(self, vector: Vector) -> float:
        """Mahalanobis distance from the mean; 1 is as far as the outermost of its own.

        Raises ModelError for a vector of another length, which a model gives whose file was put together by hand.
        """
        if vector.shape != self.mean.shape:
            raise ModelError(
                f"the domain of the model knows {len(self.mean)} features and the model gives {vector.size}; "
                "learn it anew"
            )
        return _distance(vector, self.mean, self.covariance) / self.unit

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; of the covariance, which is symmetric, one half."""
        half = self.covariance[np.tril_indices(len(self.mean))]
        return {"mean": _plain(self.mean), "covariance": _plain(half), "unit": _rounded(self.unit)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Range:
        """The inverse of `to_dict`. Raises KeyError, TypeError and ValueError."""
        mean = np.array(values["mean"], float)
        covariance = np.zeros((len(mean), len(mean)))
        half = np.array(values["covariance"], float)
        if half.shape != (len(mean) * (len(mean) + 1) // 2,):
            raise ValueError("a covariance that does not fit its mean")
        covariance[np.tril_indices(len(mean))] = half
        covariance += np.tril(covariance, -1).T
        unit = float(values["unit"])
        if mean.ndim != 1 or not (np.isfinite(mean).all() and np.isfinite(covariance).all() and 0 < unit < _MOST_APART):
            raise ValueError("figures that are not finite, or no distances")
        np.linalg.cholesky(covariance)  # LinAlgError, a ValueError, for what is no covariance
        return cls(mean, covariance, unit)


def in_words(extent: Iterable[float]) -> str:
    """The size of an image (x, y, z), mm, as every text has it: "300 x 280 x 120"."""
    return " x ".join(f"{length:.0f}" for length in extent)


@dataclass(frozen=True, eq=False)
class Domain:
    """What a model was made for.

    pairs: how many it was learned from, whole and cropped. spacing, extent: smallest and largest (x, y, z), mm, of the
    grids of whole images. images: of the figures of images. stages: of the features of each stage. figures: what most
    of the model's own pairs stay below, by names of `dlir.registration.judging.assessment`.
    """

    pairs: int
    spacing: tuple[Vector, Vector]
    extent: tuple[Vector, Vector]
    images: Range
    stages: tuple[Range, ...]
    figures: Mapping[str, float]

    @classmethod
    def of(cls, pairs: Sequence[Observed], grids: Sequence[ImageGrid], figures: Mapping[str, float]) -> Domain:
        """From some tens of pairs, of persons as different as can be, each whole and then cropped, and the grids on
        which the model sees their images.
        """
        spacing, extent = (np.array([getattr(grid, name) for grid in grids]) for name in ("spacing", "extent"))
        stages = zip(*(pair.stages for pair in pairs), strict=True)
        return cls(
            len(pairs) // 2,
            (spacing.min(0), spacing.max(0)),
            (extent.min(0), extent.max(0)),
            Range.of(np.array([image for pair in pairs for image in pair.images]), 4),
            tuple(Range.of(np.array(stage), 2) for stage in stages),
            dict(figures),
        )

    @property
    def sizes(self) -> str:
        """From the smallest to the largest of its images, in words: "90 x 90 x 40 to 300 x 280 x 120 mm"."""
        smallest, largest = map(in_words, self.extent)
        return f"{smallest} to {largest} mm"

    def size_differs(self, grid: ImageGrid) -> bool:
        """Whether an image is of another order of size than those that the model saw, along any axis."""
        extent = np.array(grid.extent)
        return bool((extent < self.extent[0] / _SIZES).any() or (extent > self.extent[1] * _SIZES).any())

    def image_distance(self, image: Vector) -> float:
        """How far an image is from those of the domain, by its `image_figures`; its own are within about 1."""
        return self.images.distance(image)

    def stage_distance(self, stages: Sequence[Vector]) -> float:
        """How far a pair is from the domain, by the features of each stage; its own are within about 1."""
        return max(own.distance(features) for own, features in zip(self.stages, stages, strict=True))

    def summary(self) -> dict[str, Any]:
        """What of it people can read, as plain values."""
        return {
            "pairs": self.pairs,
            "spacing": [_plain(end) for end in self.spacing],
            "extent": [_plain(end) for end in self.extent],
            "figures": {name: _rounded(value) for name, value in self.figures.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        stages = [stage.to_dict() for stage in self.stages]
        return self.summary() | {"images": self.images.to_dict(), "stages": stages}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Domain:
        """The inverse of `to_dict`. Raises ModelError for anything else."""
        try:
            (a, b), (c, d) = (np.array(values[name], float).reshape(2, 3) for name in ("spacing", "extent"))
            figures = {str(name): float(value) for name, value in values["figures"].items()}
            known = np.array([*figures.values(), *a, *c])
            if not (np.isfinite(known).all() and (known > 0).all() and (a <= b).all() and (c <= d).all()):
                raise ValueError("figures or lengths that are none")
            return cls(
                int(values["pairs"]),
                (a, b),
                (c, d),
                Range.from_dict(values["images"]),
                tuple(Range.from_dict(stage) for stage in values["stages"]),
                figures,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"its domain is not valid: {error}") from None


def image_figures(image: NDArray[Any]) -> Vector:
    """(13,): brightness and sharpness of an image (z, y, x) in [0, 1]."""
    image = np.asarray(image, float)
    edges = [float(np.abs(np.diff(image, axis=axis)).mean()) if image.shape[axis] > 1 else 0.0 for axis in range(3)]
    shares = [float((image < 0.05).mean()), float((image >= 1).mean())]
    return np.array([*np.quantile(image, _QUANTILES), image.std(), *shares, *edges])


def _moments(samples: Vector) -> tuple[Vector, Vector]:
    """Mean (F,) and covariance (F, F) of samples (N, F), drawn towards one without correlations."""
    mean, covariance = samples.mean(0), np.cov(samples, rowvar=False, bias=True).reshape(samples.shape[1], -1)
    variances = np.diag(covariance)
    # A feature that is hardly ever other than its mean must not decide alone.
    least = max(float(np.median(variances)) * 1e-3, 1e-12)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(variances) + least * np.eye(len(mean))
    return mean, np.asarray(shrunk, float)


def _distance(vector: Vector, mean: Vector, covariance: Vector) -> float:
    apart = np.asarray(vector, float) - mean
    square = float(apart @ np.linalg.solve(covariance, apart))
    return float(np.sqrt(max(0.0, square) / len(mean)))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _plain(values: Vector) -> list[float]:
    return [_rounded(value) for value in np.asarray(values, float).reshape(-1).tolist()]
