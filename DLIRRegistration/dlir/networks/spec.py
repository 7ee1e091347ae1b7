"""What a stage is: enough to build its network and its transform (§2.1, §2.2, Tables 1, 3 and 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dlir.errors import ModelError
from dlir.geometry import Vector3
from dlir.transforms import INJECTIVITY_BOUND

KINDS = ("affine", "bspline")
POOLINGS = ("average", "strided")


@dataclass(frozen=True)
class StageSpec:
    """One stage of a model.

    kind: "affine" (AIR) or "bspline" (DIR).
    resolution: mm per voxel (x, y, z) of the images that the network sees.
    grid_spacing: mm between control points (x, y, z); a power of two times the resolution on each axis.
    channels: kernels of the 3x3x3 convolution of each downsampling level and, last, of those after it.
    pooling: "average" (windowed averaging) or "strided" (4-wide strided convolutions) between levels.
    max_displacement: bound of the coefficients as a fraction of the grid spacing. Up to 0.4 the stage is
        a diffeomorphism whatever the network says; None leaves the output unconstrained, as the paper.

    Raises ModelError where the numbers contradict each other or the receptive field of the network is
    smaller than the support of a control point, four grid spacings.
    """

    kind: str
    resolution: Vector3
    channels: tuple[int, ...]
    grid_spacing: Vector3 | None = None
    pooling: str = "average"
    max_displacement: float | None = INJECTIVITY_BOUND

    def __post_init__(self) -> None:
        for name in ("resolution", "grid_spacing", "channels"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.kind not in KINDS:
            raise ModelError(f"stage kind '{self.kind}' is unknown; use one of {', '.join(KINDS)}")
        if self.pooling not in POOLINGS:
            raise ModelError(f"pooling '{self.pooling}' is unknown; use one of {', '.join(POOLINGS)}")
        if not self.channels or min(self.channels) < 1:
            raise ModelError(f"channels {self.channels} must name at least one positive number")
        if len(self.resolution) != 3 or not all(0 < r < math.inf for r in self.resolution):
            raise ModelError(f"stage resolution {self.resolution} must be three positive lengths in mm")
        if self.kind == "bspline":
            self._check_bspline()

    def _check_bspline(self) -> None:
        if self.grid_spacing is None or len(self.grid_spacing) != 3:
            raise ModelError("a bspline stage needs a grid_spacing of three lengths in mm")
        for ratio in self._ratios():
            if not 0.99 <= ratio < math.inf or abs(math.log2(ratio) - round(math.log2(ratio))) > 0.01:
                raise ModelError(
                    f"grid spacing {self.grid_spacing} mm is not a power of two times the resolution {self.resolution}"
                )
        if self.max_displacement is not None and self.max_displacement <= 0:
            raise ModelError("max_displacement must be positive, or null for an unconstrained stage")
        if len(self.channels) != self.levels + 1:
            raise ModelError(f"a stage of {self.levels} downsamplings needs {self.levels + 1} channel numbers")
        spacing = self.spacing_voxels
        if any(r < 4 * s for r, s in zip(self.receptive_field, spacing, strict=True)):
            raise ModelError(
                f"receptive field {self.receptive_field} voxels is below four grid spacings of {spacing} voxels"
            )

    def _ratios(self) -> tuple[float, ...]:
        assert self.grid_spacing is not None
        return tuple(g / r for g, r in zip(self.grid_spacing, self.resolution, strict=True))

    @property
    def downsamplings(self) -> tuple[int, int, int]:
        """Number of 2x downsamplings along (x, y, z)."""
        if self.kind == "affine":
            return (len(self.channels),) * 3
        x, y, z = (round(math.log2(r)) for r in self._ratios())
        return x, y, z

    @property
    def levels(self) -> int:
        """Number of downsampling levels of the network."""
        return max(self.downsamplings)

    @property
    def spacing_voxels(self) -> tuple[int, int, int]:
        """Control-point spacing in voxels of this stage, (x, y, z)."""
        x, y, z = (2**n for n in self.downsamplings)
        return x, y, z

    def strides(self) -> list[tuple[int, int, int]]:
        """Downsampling factor (x, y, z) of each level. An axis with fewer halvings is halved last."""
        return [
            tuple(2 if level >= self.levels - n else 1 for n in self.downsamplings)  # type: ignore[misc]
            for level in range(self.levels)
        ]

    @property
    def receptive_field(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z) that one output of a bspline stage sees."""
        field, jump = [1, 1, 1], [1, 1, 1]
        for stride in self.strides():
            for a, s in enumerate(stride):
                # A window of s voxels, or a convolution 4 wide where it strides and 3 where it does not.
                kernel = s if self.pooling == "average" else 2 + s
                field[a] += (2 + kernel - 1) * jump[a]
                jump[a] *= s
        x, y, z = (f + 4 * j for f, j in zip(field, jump, strict=True))
        return x, y, z

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StageSpec:
        """The inverse of `to_dict`. Raises ModelError for unknown or missing keys."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"stage specification is not valid: {error}") from None
