"""What an optimisation makes better: the similarity of a pair, where the fixed image stays, and how landmarks fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlir.losses.choices import WINDOW, Similarity
from dlir.losses.compared import Compared
from dlir.transforms.bspline import expand
from dlir.transforms.spatial import Points

# Windows are about every so many-th voxel: those of the next ones are mostly the same.
_STRIDE = 2
# As for `local_ncc` of the losses.
_NOISE = 1e-6
# Added to the product of two variances, which is less only where one image is flat.
_FLAT = 1e-10
_NOTHING = 1e-6
# What a landmark's distance is measured by, mm.
_FAR = 10.0


@dataclass(frozen=True, eq=False)
class Steering:
    """Points that belong together: (N, 3) each, LPS mm, on the fixed and on the moving image.

    weight: a distance of 10 mm between them, squared, costs as much as this much similarity.
    """

    fixed: Points
    moving: Points
    weight: float

    def cost(self, squared: Tensor) -> Tensor:
        """(...,) of squared distances (..., N) in mm^2."""
        return self.weight * squared.mean(-1) / _FAR**2


class WholeSimilarity:
    """Another similarity of the losses than the local one, for a fixed image that stays; as `LocalSimilarity`."""

    def __init__(self, name: Similarity, fixed: Tensor, weight: Tensor | None = None) -> None:
        self._compared, self._weight = Compared(name, fixed), weight

    def mean(self, warped: Tensor, counts: Tensor | None = None) -> Tensor:
        """(B,)"""
        if self._weight is not None:
            counts = self._weight if counts is None else counts * self._weight
        return self._compared.to(warped, counts)


class LocalSimilarity:
    """Local normalised cross-correlation of images with a fixed one that stays (§2.4; Avants et al. 2008).

    fixed: (1, 1, z, y, x) in [0, 1]. weight: of its shape, how far each voxel counts; None for all.
    """

    def __init__(self, fixed: Tensor, weight: Tensor | None = None) -> None:
        self._fixed, self._weight = fixed, weight
        self._boxes = [_box_matrix(n).to(fixed) for n in fixed.shape[2:]]
        self._whole = expand(torch.ones_like(fixed), self._boxes)
        self._largest = self._whole.max()
        self.total = float(self._whole.sum() / self._largest)
        self._known = self._moments(torch.ones_like(fixed) if weight is None else weight)

    def __call__(self, warped: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Correlation in each window, (B, 1, ...) in [-1, 1], and how much of the window counts, in [0, 1].

        warped: (B, 1, z, y, x). counts: how far each voxel of it counts; None for all.
        """
        if counts is None:
            weight, known = self._weight, self._known
        else:
            weight = counts if self._weight is None else counts * self._weight
            known = self._moments(weight)
        share, mean, variance = known
        weighed = warped if weight is None else warped * weight
        moments = torch.cat([weighed, weighed * warped, weighed * self._fixed], 1)
        mean_w, square_w, product = (self._mean(moments) / share).split(1, 1)
        variances = variance * (square_w - mean_w**2).clamp(min=0)
        # How much a window says is up to the fixed image alone: else squeezing what is nearly flat would gain.
        says = variance / torch.sqrt(variance**2 + _NOISE)
        return says * (product - mean * mean_w) / torch.sqrt(variances + _FLAT), share

    def mean(self, warped: Tensor, counts: Tensor | None = None) -> Tensor:
        """(B,): over what counts."""
        correlation, share = self(warped, counts)
        whole = share.sum((1, 2, 3, 4)).clamp(min=_NOTHING)
        mean: Tensor = (correlation * share).sum((1, 2, 3, 4)) / whole
        return mean

    @torch.no_grad()
    def _moments(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weighed = self._fixed * weight
        share, mean, square = self._mean(torch.cat([weight, weighed, weighed * self._fixed], 1)).split(1, 1)
        share = share.clamp(min=_NOTHING)
        mean, square = mean / share, square / share
        return share, mean, (square - mean**2).clamp(min=0)

    def _mean(self, image: Tensor) -> Tensor:
        return expand(image, self._boxes) / self._largest


def _box_matrix(size: int) -> Tensor:
    """(windows, size): 1 where a voxel is in a window."""
    stride = _STRIDE if size > 2 * WINDOW else 1
    centers = torch.arange((size - 1) % stride // 2, size, stride)
    return ((centers[:, None] - torch.arange(size)).abs() <= WINDOW // 2).float()
