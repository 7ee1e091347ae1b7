"""What chance makes of a pair: windows, turns, mirrors, random maps. All follows from the seed and a pair's number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import (  # type: ignore[attr-defined]
    CenterSpatialCrop,
    Compose,
    RandFlip,
    RandRotate90,
    RandSpatialCrop,
    SpatialPad,
    Transform,
)
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dlir.geometry import ImageGrid
from dlir.training.batch import Batch, TensorPair, collate
from dlir.training.cache import Prepared
from dlir.training.config import Augmentation, RandomAffine, Voxels
from dlir.training.draws import Draw, Drawn
from dlir.transforms.affine import affine_matrix, transform_points
from dlir.transforms.lattice import Lattice, inside, lookup


class PairDataset(Dataset[TensorPair]):
    """Augmented pairs without end. Pair `index` depends on the seed and the index alone.

    That makes a run repeatable, whoever loads the pairs and wherever it was interrupted.
    draws, weights: where pairs come from, and how often each is asked. smallest: voxels (x, y, z) that a whole image
    keeps at least.
    """

    def __init__(
        self,
        draws: Sequence[Draw],
        weights: Sequence[float],
        augmentation: Augmentation,
        seed: int,
        smallest: Voxels = (1, 1, 1),
    ) -> None:
        self.draws = draws
        self.weights = np.array(weights) / sum(weights)
        self.augmentation = augmentation
        self.seed = seed
        self.smallest = smallest
        self.begin(augmentation.crop, 0.0)

    def begin(self, crop: Voxels | None, random_affine: float) -> None:
        """Settings of a phase: size of corresponding windows, (x, y, z), or None for whole images; and the probability
        of a random affine map of the moving image.
        """
        self.transforms = None if crop is None else _transforms(self.augmentation, crop)
        self.random_affine = random_affine

    def __getitem__(self, index: int) -> TensorPair:
        generator = np.random.default_rng((self.seed, index))
        drawn = self.draws[generator.choice(len(self.draws), p=self.weights)].draw(generator)
        return self._whole(drawn, generator) if self.transforms is None else self._cropped(drawn, generator)

    def _cropped(self, drawn: Drawn, generator: np.random.Generator) -> TensorPair:
        stack = torch.cat([_channels(drawn.fixed), _channels(drawn.moving)])
        assert self.transforms is not None
        self.transforms.set_random_state(seed=int(generator.integers(2**31)))
        stack = _plain(self.transforms(stack))
        return TensorPair(stack[:3], stack[3:], torch.eye(4), torch.tensor(drawn.fixed.grid.spacing), drawn.name)

    def _whole(self, drawn: Drawn, generator: np.random.Generator) -> TensorPair:
        images, grids = [], []
        for prepared in (drawn.fixed, drawn.moving):
            window, grid = _trimmed(prepared.grid, self.augmentation.trim, self.smallest, generator)
            images.append(_channels(prepared, window))
            grids.append(grid)
        start = centred(grids[0], grids[1])
        if self.augmentation.affine is not None and generator.random() < self.random_affine:
            parameters = random_parameters(self.augmentation.affine, generator)
            images[1] = apply_affine(images[1], grids[1], parameters)
        if self.augmentation.flip:
            for axis in (0, 2):
                if generator.random() < 0.5:
                    images = [image.flip(3 - axis) for image in images]
                    start = _mirror(grids[1], axis) @ start @ _mirror(grids[0], axis)
        spacing = torch.tensor(drawn.fixed.grid.spacing)
        return TensorPair(images[0], images[1], torch.from_numpy(start).float(), spacing, drawn.name)


class HeldOutPairs(Sequence[Batch]):
    """The held-out pairs, one a batch, centred and without augmentation; read when they are asked for.

    crop: as for `PairDataset.begin`.
    """

    def __init__(self, draws: Sequence[Draw], crop: Voxels | None) -> None:
        self.drawn = [drawn for draw in draws for drawn in draw.held_out()]
        self.crop = None
        if crop is not None:
            x, y, z = crop
            self.crop = Compose([SpatialPad((z, y, x)), CenterSpatialCrop((z, y, x))])

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # no slices
        return collate([_still(self.drawn[index], self.crop)])


def _still(drawn: Drawn, crop: Compose | None) -> TensorPair:
    spacing = torch.tensor(drawn.fixed.grid.spacing)
    fixed, moving = _channels(drawn.fixed), _channels(drawn.moving)
    if crop is not None:
        return TensorPair(_plain(crop(fixed)), _plain(crop(moving)), torch.eye(4), spacing, drawn.name)
    start = torch.from_numpy(centred(drawn.fixed.grid, drawn.moving.grid)).float()
    return TensorPair(fixed, moving, start, spacing, drawn.name)


def _channels(prepared: Prepared, window: tuple[slice, ...] = (slice(None),) * 3) -> Tensor:
    """(3, z, y, x): image, ones and mask, of a window (z, y, x)."""
    image, mask = prepared.image()[window], prepared.mask()
    ones = torch.ones_like(image)
    return torch.stack([image, ones, ones if mask is None else mask[window].float()])


def _plain(image: Tensor) -> Tensor:
    """MONAI's result without its metadata."""
    return torch.as_tensor(image).as_subclass(Tensor)


# -- corresponding windows of images on one grid ------------------------------------------------------


def _transforms(augmentation: Augmentation, crop: Voxels) -> Compose:
    x, y, z = crop
    steps: list[Transform] = []
    if augmentation.shift is not None:
        # Along z any window of an image's slices may come; in plane the crop's centre wanders by `shift`.
        steps.append(CenterSpatialCrop((-1, y + 2 * augmentation.shift, x + 2 * augmentation.shift)))
    steps += [SpatialPad((z, y, x)), RandSpatialCrop((z, y, x), random_size=False)]
    if augmentation.rotate90:
        steps.append(RandRotate90(prob=0.75, max_k=3, spatial_axes=(1, 2)))
    if augmentation.flip:
        steps += [RandFlip(prob=0.5, spatial_axis=2), RandFlip(prob=0.5, spatial_axis=0)]
    return Compose(steps)


# -- whole images, each on its own grid ---------------------------------------------------------------


def centred(fixed: ImageGrid, moving: ImageGrid) -> NDArray[np.float64]:
    """(4, 4): index of the fixed image to index of the moving one, the centres brought together."""
    shift = np.eye(4)
    shift[:3, 3] = moving.center - fixed.center
    matrix: NDArray[np.float64] = moving.physical_to_index @ shift @ fixed.index_to_physical
    return matrix


def _trimmed(
    grid: ImageGrid, trim: float, smallest: Voxels, generator: np.random.Generator
) -> tuple[tuple[slice, ...], ImageGrid]:
    """A part of an image, up to `trim` mm shorter along each axis but of `smallest` voxels (x, y, z) at least."""
    window = []
    for size, spacing, least in zip(grid.shape, grid.spacing[::-1], smallest[::-1], strict=True):
        most = min(int(trim / spacing), max(size - least, 0))
        less = int(generator.integers(most + 1))
        first = int(generator.integers(less + 1))
        window.append(slice(first, first + size - less))
    starts, sizes = [s.start for s in window[::-1]], [s.stop - s.start for s in window[::-1]]
    return tuple(window), grid.lattice(starts, (1, 1, 1), sizes)


def _mirror(grid: ImageGrid, axis: int) -> NDArray[np.float64]:
    """(4, 4): an axis (x, y, z) of an index run backwards."""
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, grid.size[axis] - 1
    return matrix


def random_parameters(affine: RandomAffine, generator: np.random.Generator) -> Tensor:
    """(1, 12) parameters of `dlir.transforms.affine` within the bounds of `affine`, without shear."""
    shift = generator.uniform(-affine.translation, affine.translation, 3)
    angles = np.radians(generator.uniform(-affine.rotation, affine.rotation, 3))
    scale = generator.uniform(*affine.scale, 3)
    return torch.tensor(np.concatenate([shift, angles, scale, np.zeros(3)])[None], dtype=torch.float32)


def apply_affine(image: Tensor, grid: ImageGrid, parameters: Tensor) -> Tensor:
    """An image (C, z, y, x) resampled on its own grid through the map of `parameters`, (1, 12).

    The map is about the grid's centre, in mm along its axes. Zero where it leads out of the image.
    """
    spacing = torch.tensor(grid.spacing)
    center = (torch.tensor(grid.size) - 1) / 2 * spacing
    scale = torch.diag(torch.cat([spacing, torch.ones(1)]))
    matrix = torch.linalg.inv(scale) @ affine_matrix(parameters, center[None]) @ scale
    lattice = Lattice(grid.shape)
    points = transform_points(matrix, lattice.points()[None])
    return (lookup(image[None], lattice, points) * inside(lattice, points)[:, None])[0]
