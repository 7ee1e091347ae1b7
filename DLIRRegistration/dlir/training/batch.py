"""A batch of pairs as the chain of networks takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import Shape3


@dataclass(frozen=True)
class TensorPair:
    """One pair of images, each on its own working grid, in voxels of these.

    fixed, moving: (3, z, y, x): the image; 1 where it is and 0 in padding; 1 where its voxels count. start: (4, 4) from
    index (x, y, z) of the fixed image to index of the moving image, before the first stage. spacing: mm per voxel of
    the fixed image, (x, y, z). name: what was drawn, for messages.
    """

    fixed: Tensor
    moving: Tensor
    start: Tensor
    spacing: Tensor
    name: str


@dataclass(frozen=True)
class Batch:
    """Pairs of images, padded with zeros at the far ends to a common shape each.

    fixed, moving: (B, 3, z, y, x), channels as in TensorPair; the shapes may differ. fixed_shapes, moving_shapes:
    (z, y, x) of each image without this padding. start: (B, 4, 4) from fixed to moving index (x, y, z). spacing: (B, 3)
    mm, (x, y, z), of the fixed images. names: what was drawn, for messages.
    """

    fixed: Tensor
    moving: Tensor
    start: Tensor
    spacing: Tensor
    fixed_shapes: tuple[Shape3, ...]
    moving_shapes: tuple[Shape3, ...]
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]  # each takes the place of a tensor


def collate(pairs: Sequence[TensorPair]) -> Batch:
    """Several pairs as one batch."""
    return Batch(
        _stack([pair.fixed for pair in pairs]),
        _stack([pair.moving for pair in pairs]),
        torch.stack([pair.start for pair in pairs]),
        torch.stack([pair.spacing for pair in pairs]),
        tuple(shape_of(pair.fixed) for pair in pairs),
        tuple(shape_of(pair.moving) for pair in pairs),
        tuple(pair.name for pair in pairs),
    )


def shape_of(image: Tensor) -> Shape3:
    """(z, y, x) of an image whose last three axes these are."""
    z, y, x = image.shape[-3:]
    return z, y, x


def _stack(images: Sequence[Tensor]) -> Tensor:
    shape = [max(sizes) for sizes in zip(*(shape_of(image) for image in images), strict=True)]
    return torch.stack(
        [F.pad(image, [v for a in (2, 1, 0) for v in (0, shape[a] - image.shape[1 + a])]) for image in images]
    )
