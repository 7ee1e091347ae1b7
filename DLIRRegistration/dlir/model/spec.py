"""The specification of a whole model, as stored in its file. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from dlir.errors import ModelError
from dlir.geometry import ImageGrid, Shape3, Vector3
from dlir.networks.spec import StageSpec
from dlir.transforms import INJECTIVITY_BOUND

ORIENTATIONS = ("canonical", "slices")

# Rows of a 3x3 matrix whose columns are directions.
Axes: TypeAlias = "tuple[tuple[float, float, float], ...]"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what the networks saw in training.

    resolution: mm per voxel (x, y, z) of the finest stage; others are windowed averages of it.
    native_axes: axes (x, y, z) that are not interpolated: their voxels are kept, or averaged by a whole
        number, to come closest to the resolution. For thick slices, where interpolation would blur.
    orientation: "canonical" turns the axes to the closest of LPS; "slices" makes the thickest axis z.
    window: intensities mapped to 0 and 1, clipped. None: from each image, minimum and `percentile` (§6.1).
    percentile: of an image's intensities, the per cent that lie below what becomes 1, where there is no window.
    """

    resolution: Vector3
    native_axes: tuple[bool, bool, bool] = (False, False, False)
    orientation: str = "canonical"
    window: tuple[float, float] | None = None
    percentile: float = 99.0

    def __post_init__(self) -> None:
        for name in ("resolution", "native_axes", "window"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.orientation not in ORIENTATIONS:
            raise ModelError(f"orientation '{self.orientation}' is unknown; use one of {', '.join(ORIENTATIONS)}")
        if len(self.resolution) != 3 or not all(0 < r < math.inf for r in self.resolution):
            raise ModelError(f"resolution {self.resolution} must be three positive lengths in mm")
        if len(self.native_axes) != 3:
            raise ModelError(f"native_axes {self.native_axes} must say yes or no for each of three axes")
        if self.window is not None and not (len(self.window) == 2 and self.window[0] < self.window[1]):
            raise ModelError(f"intensity window {self.window} must be two numbers that rise")
        if not 0 < self.percentile <= 100:
            raise ModelError(f"percentile {self.percentile} must lie in (0, 100]")

    def oriented(self, grid: ImageGrid, along: Axes | None = None) -> ImageGrid:
        """`grid` with its axes permuted and flipped, never interpolated.

        along: the direction, LPS, of each axis of the image that this one is registered to; "slices" makes these axes
        lie closest to them, for how a file runs through them says nothing of what it shows.
        """
        if self.orientation == "canonical":
            return grid.canonical()
        thickest = max(range(3), key=lambda a: (grid.spacing[a], a))
        axes = [a for a in range(3) if a != thickest] + [thickest]
        if along is None:
            return grid.permuted(axes)
        # Rounded, so that of perpendicular axes none is turned by chance.
        cosines = (np.asarray(along).T @ grid.direction_matrix).round(6)
        orders = (axes, [axes[1], axes[0], axes[2]])
        best = max(orders, key=lambda order: sum(abs(cosines[new, old]) for new, old in enumerate(order)))
        return grid.permuted(best, [bool(cosines[new, old] < 0) for new, old in enumerate(best)])

    def working_grid(self, grid: ImageGrid, along: Axes | None = None) -> ImageGrid:
        """The grid on which the finest stage sees an image that lies on `grid`. along: see `oriented`."""
        return _working_grid(self, grid, along)


@lru_cache(maxsize=64)  # every step of a registration asks for it, and images of one scan share it
def _working_grid(preprocessing: Preprocessing, grid: ImageGrid, along: Axes | None) -> ImageGrid:
    oriented = preprocessing.oriented(grid, along)
    spacing = [
        own * max(1, round(nominal / own)) if native else nominal
        for own, nominal, native in zip(
            oriented.spacing, preprocessing.resolution, preprocessing.native_axes, strict=True
        )
    ]
    return oriented.with_spacing(spacing)


@dataclass(frozen=True)
class ModelSpec:
    """Stages in the order they are applied, and the preprocessing they share.

    preprocessing: how an image becomes what they see. stages: coarse to fine.
    Raises ModelError unless an affine stage comes first and every stage's resolution is a whole multiple
    of the preprocessing's.
    """

    preprocessing: Preprocessing
    stages: tuple[StageSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ModelError("a model needs at least one stage")
        if any(stage.kind == "affine" for stage in self.stages[1:]):
            raise ModelError("an affine stage can only be the first one")
        for stage in self.stages:
            for own, base in zip(stage.resolution, self.preprocessing.resolution, strict=True):
                ratio = own / base
                if ratio < 0.99 or abs(ratio - round(ratio)) > 0.01:
                    raise ModelError(
                        f"stage resolution {stage.resolution} mm is no multiple of {self.preprocessing.resolution} mm"
                    )

    def factors(self, stage: int) -> tuple[int, int, int]:
        """Windowed averaging (x, y, z) from the working grid to the images of a stage."""
        pairs = zip(self.stages[stage].resolution, self.preprocessing.resolution, strict=True)
        x, y, z = (round(own / base) for own, base in pairs)
        return x, y, z

    def control_spacing(self, stage: int) -> tuple[int, int, int]:
        """Control-point spacing (x, y, z) of a B-spline stage in voxels of the working grid."""
        x, y, z = (f * s for f, s in zip(self.factors(stage), self.stages[stage].spacing_voxels, strict=True))
        return x, y, z

    @property
    def smallest(self) -> tuple[int, int, int]:
        """Voxels (x, y, z) of the working grid that an image needs at least: a cell of the coarsest stage."""
        cells = [self.control_spacing(k) for k in range(len(self.stages))]
        x, y, z = (max(cell[a] for cell in cells) for a in range(3))
        return x, y, z

    def padded_shape(self, shape: Shape3) -> Shape3:
        """`shape` (z, y, x) rounded up: every stage divides it into whole voxels, a deformable one into whole cells.

        An affine stage has no cells, and its network takes images of any size.
        """
        z, y, x = (math.ceil(n / m) * m for n, m in zip(shape, self._whole, strict=True))
        return z, y, x

    @cached_property
    def _whole(self) -> Shape3:
        """What every axis (z, y, x) of a padded shape is a multiple of."""
        kinds = enumerate(stage.kind for stage in self.stages)
        cells = [self.control_spacing(k) if kind == "bspline" else self.factors(k) for k, kind in kinds]
        x, y, z = (math.lcm(*along) for along in zip(*cells, strict=True))
        return z, y, x

    @property
    def fold_free(self) -> bool:
        """Whether the bounds of the stages alone exclude folding."""
        return all(s.kind == "affine" or (s.max_displacement or math.inf) <= INJECTIVITY_BOUND for s in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`. Raises ModelError for unknown or missing keys."""
        try:
            preprocessing = Preprocessing(**values["preprocessing"])
            stages = tuple(StageSpec.from_dict(s) for s in values["stages"])
            return cls(**{**values, "preprocessing": preprocessing, "stages": stages})
        except (KeyError, TypeError) as error:
            raise ModelError(f"model specification is not valid: {error}") from None
