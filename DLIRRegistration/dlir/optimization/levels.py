"""Both images of a pair at any resolution, as an optimisation sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.preprocessing import resample_axes, scale
from dlir.model.spec import Preprocessing
from dlir.transforms.chain import Chain
from dlir.transforms.lattice import Lattice, Samples, inside
from dlir.transforms.spatial import CompositeTransform

# An image is averaged to voxels that are so many times as large as its own, and otherwise left as it is.
_COARSER = 1.2
# A voxel of less weight is beyond a mask; so many layers of such voxels reach what is interpolated, at most twice.
_NOTHING, _LAYERS = 1e-4, 2


@dataclass(frozen=True, eq=False)
class Level:
    """One image at one resolution.

    image: (1, 1, z, y, x) in [0, 1] on `grid`. weight: of the same shape, how far each voxel counts; None for all.
    """

    image: Tensor
    grid: ImageGrid
    weight: Tensor | None = None

    @property
    def lattice(self) -> Lattice:
        """Where its voxels lie in its own grid."""
        return Lattice(self.grid.shape)


class Pyramid:
    """One image at whatever resolution is asked for, along its own axes; never finer than it is.

    mask: on the voxels of the image, not 0 where it counts.
    """

    def __init__(self, volume: Volume, mask: Volume | None = None, device: torch.device | None = None) -> None:
        self.grid = volume.grid
        self.device = device or torch.device("cpu")
        self._scaled = scale(volume.array, volume.grid, Preprocessing((1.0, 1.0, 1.0))).scaled
        self._mask = None if mask is None else torch.from_numpy(np.asarray(mask.array != 0, np.float32))
        self._levels: dict[ImageGrid, Level] = {}

    @property
    def masked(self) -> bool:
        """Whether there is a mask."""
        return self._mask is not None

    def at(self, spacing: float) -> Level:
        """With voxels of `spacing` mm; along axes where its own are as large, with these."""
        grid = grid_at(self.grid, spacing)
        if grid not in self._levels:
            self._levels[grid] = self._level(grid)
        return self._levels[grid]

    def _level(self, grid: ImageGrid) -> Level:
        if self._mask is None:
            return Level(self._resampled(self._scaled, grid), grid)
        weight = self._resampled(self._mask, grid)
        image = self._resampled(self._scaled * self._mask, grid) / weight.clamp(min=_NOTHING)
        return Level(_continued(image, weight > _NOTHING), grid, weight)

    def _resampled(self, array: Tensor, grid: ImageGrid) -> Tensor:
        return resample_axes(array, self.grid, grid)[None, None].to(self.device)


def _continued(image: Tensor, known: Tensor) -> Tensor:
    """An image (1, 1, z, y, x) with means of the known voxels next to those that are not: what does not count must not
    show where voxels are interpolated.
    """
    for _ in range(_LAYERS):
        share = F.avg_pool3d(known.float(), 3, 1, 1)
        image = torch.where(known, image, F.avg_pool3d(image * known, 3, 1, 1) / share.clamp(min=_NOTHING))
        known = share > _NOTHING
    return image


def grid_at(grid: ImageGrid, spacing: float) -> ImageGrid:
    """Of a level of an image on `grid`, see `Pyramid.at`."""
    own = np.array(grid.spacing)
    return grid.with_spacing(np.where(own * _COARSER < spacing, spacing, own).tolist())


def spacing_for(grid: ImageGrid, samples: float) -> float:
    """The spacing in mm that divides a grid's volume into so many voxels, where those of its own that are larger stay.

    The smallest of its own where it has no more than that.
    """
    own, extent = np.array(grid.spacing), np.array(grid.extent)
    stays = np.zeros(3, bool)
    while not stays.all():
        left = samples / math.prod((extent[stays] / own[stays]).tolist())
        spacing = float((extent[~stays].prod() / max(left, 1.0)) ** (1 / np.count_nonzero(~stays)))
        thick = ~stays & (own > spacing)
        if not thick.any():
            return spacing
        stays |= thick
    return float(own.min())


def warped(moving: Level, transform: CompositeTransform, onto: ImageGrid) -> tuple[Tensor, Tensor | None]:
    """The moving image as a transform (fixed point -> moving point, LPS mm) brings it onto the grid `onto`.

    Returns it, (1, 1, z, y, x), and how far each voxel counts: not where it lies outside, or where a mask of the moving
    image says so; None where all count whole.
    """
    content = moving.image if moving.weight is None else torch.cat([moving.image, moving.weight], 1)
    samples, values, counts = Samples(content, moving.lattice), [], []
    for slab in Chain(transform, content.device).slabs(onto, moving.grid):
        points = slab.index.T[None]
        found = samples.at(points)[0].float()
        values.append(found[0])
        counts.append(inside(moving.lattice, points)[0] * (found[1] if moving.weight is not None else 1.0))
    image, weight = (torch.cat(parts).reshape(1, 1, *onto.shape) for parts in (values, counts))
    return image, None if bool((weight == 1).all()) else weight
