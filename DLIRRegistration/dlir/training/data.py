"""Subjects, pairs and batches. Volumes are prepared once and kept; labels are never opened."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path

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
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dlir.errors import ConfigError
from dlir.geometry import ImageGrid
from dlir.io.reading import count_phases, read_image
from dlir.model.preprocessing import prepare
from dlir.model.spec import Preprocessing
from dlir.training.config import Augmentation, Source

# Sides of a voxel that differ by less, relatively, count as equal.
_SQUARE = 0.01


@dataclass(frozen=True)
class Subject:
    """Volumes of one person on one working grid: (N, z, y, x) float32 in [0, 1]; extremes: those that differ most."""

    name: str
    volumes: Tensor
    grid: ImageGrid
    extremes: tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """Pairs of images on one shape, in working-grid voxels.

    fixed, moving: (B, 1, z, y, x). mask: 1 where there is image, 0 in the padding; the two share it because
    they share a grid. spacing: (B, 3) mm, (x, y, z). names: what was drawn, for messages.
    """

    fixed: Tensor
    moving: Tensor
    mask: Tensor
    spacing: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.fixed.to(device), self.moving.to(device), self.mask.to(device), self.spacing.to(device), self.names
        )


def _load_subject(name: str, specs: Sequence[str], preprocessing: Preprocessing) -> Subject:
    volumes, grid = [], None
    for spec in specs:
        volume = read_image(spec, role="training image")
        tensor, working = prepare(volume.array, volume.grid, preprocessing)
        if grid is not None and not working.same_as(grid):
            raise ConfigError(f"volumes of subject '{name}' lie on different grids: '{spec}' differs from '{specs[0]}'")
        grid = working
        volumes.append(tensor)
    assert grid is not None
    return Subject(name, torch.stack(volumes), grid, _extremes(volumes))


def _extremes(volumes: Sequence[Tensor]) -> tuple[int, int]:
    """The two volumes of largest mean difference."""

    def difference(pair: tuple[int, int]) -> float:
        return float((volumes[pair[0]] - volumes[pair[1]]).abs().mean())

    return max(combinations(range(len(volumes)), 2), key=difference)


def find_subjects(source: Source, root: Path) -> dict[str, list[str]]:
    """Image specifications of each subject of a source, by the subject's path below `root`.

    Raises ConfigError where none is found, ImageError for a file that is no image.
    """
    files = sorted({f for pattern in source.files for f in glob.glob(pattern, root_dir=root, recursive=True)})
    if not files:
        raise ConfigError(f"no file matches {source.files} under '{root}'; check the data folder and the patterns")
    subjects: dict[str, list[str]] = {}
    for file in files:
        spec = str(root / file)
        phases = count_phases(spec, role="training image")
        name = Path(file).parent if phases == 1 else Path(file)
        specs = [spec] if phases == 1 else [f"{spec}#{i}" for i in range(phases)]
        subjects.setdefault(name.as_posix(), []).extend(specs)
    return subjects


def load_source(source: Source, root: Path, preprocessing: Preprocessing) -> tuple[list[Subject], list[Subject]]:
    """Training and validation subjects of a source. Raises ConfigError for a subject with a single volume."""
    found = find_subjects(source, root)
    for name, specs in found.items():
        if len(specs) < 2:
            raise ConfigError(
                f"subject '{name}' has one volume, and pairs are drawn within a subject; add or exclude it"
            )
    subjects = [_load_subject(name, specs, preprocessing) for name, specs in found.items()]
    validation = [subject for subject in subjects if _held_out(subject.name, source)]
    training = [subject for subject in subjects if not _held_out(subject.name, source)]
    if not training:
        raise ConfigError(f"every subject of {source.files} is held out for validation; leave some for training")
    return training, validation


def _held_out(name: str, source: Source) -> bool:
    parts = (name, *name.split("/"))
    return any(fnmatch(part, pattern) for part in parts for pattern in source.validation)


class PairDataset(Dataset[tuple[Tensor, Tensor, str]]):
    """Augmented pairs without end. Pair `index` depends on the seed and the index alone.

    That makes a run repeatable, whoever loads the pairs and wherever it was interrupted.
    Items: (3, z, y, x) fixed, moving and mask; spacing (3,) in mm; the pair's name.
    Raises ConfigError for voxels that are not square in plane where pairs are to be turned.
    """

    def __init__(self, sources: Sequence[tuple[Source, Sequence[Subject]]], augmentation: Augmentation, seed: int):
        if augmentation.rotate90:
            _check_square(subject for _, subjects in sources for subject in subjects)
        x, y, _ = augmentation.crop
        # Along z any window of an image's slices may come; in plane the crop's centre wanders by `shift`.
        room = CenterSpatialCrop((-1, y + 2 * augmentation.shift, x + 2 * augmentation.shift))
        self.sources = [
            (source, [replace(s, volumes=_plain(room(s.volumes)).clone()) for s in subjects])
            for source, subjects in sources
        ]
        weights = np.array([source.weight for source, _ in sources])
        self.weights = weights / weights.sum()
        self.transforms = _transforms(augmentation)
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        generator = np.random.default_rng((self.seed, index))
        source, subjects = self.sources[generator.choice(len(self.sources), p=self.weights)]
        subject = subjects[generator.integers(len(subjects))]
        if generator.random() < source.largest_motion:
            first, second = generator.permutation(subject.extremes)
        else:
            first, second = generator.choice(len(subject.volumes), 2, replace=False)
        pair = torch.stack([subject.volumes[first], subject.volumes[second], torch.ones_like(subject.volumes[0])])
        self.transforms.set_random_state(seed=int(generator.integers(2**31)))
        return _plain(self.transforms(pair)), torch.tensor(subject.grid.spacing), f"{subject.name}: {first} to {second}"


def collate(items: Sequence[tuple[Tensor, Tensor, str]]) -> Batch:
    """Items of a PairDataset as one batch."""
    pairs, spacings, names = zip(*items, strict=True)
    stack = torch.stack(pairs)
    return Batch(stack[:, :1], stack[:, 1:2], stack[:, 2:], torch.stack(spacings), names)


def load_batches(dataset: PairDataset, size: int, first: int, count: int) -> Iterator[Batch]:
    """`count` batches of `size` pairs, from pair number `first` on, prepared by a process of their own."""
    indices = range(first, first + size * count)
    try:
        yield from DataLoader(
            dataset, size, sampler=indices, num_workers=1, collate_fn=collate, worker_init_fn=_silence
        )
    except BaseException as error:
        # The loader's frames would keep its process alive for as long as someone holds the exception.
        raise error.with_traceback(None) from None


def _silence(worker: int) -> None:
    """Its errors reach the run as exceptions; an interrupt must not print what its threads make of it besides."""
    sys.excepthook = lambda *details: None


def _check_square(subjects: Iterable[Subject]) -> None:
    for subject in subjects:
        x, y, _ = subject.grid.spacing
        if abs(x - y) > _SQUARE * x:
            raise ConfigError(
                f"voxels of subject '{subject.name}' measure {x:g} x {y:g} mm in plane and cannot be turned; "
                "set rotate90: false"
            )


def _plain(image: Tensor) -> Tensor:
    """MONAI's result without its metadata."""
    return torch.as_tensor(image).as_subclass(Tensor)


def _transforms(augmentation: Augmentation) -> Compose:
    x, y, z = augmentation.crop
    steps: list[Transform] = [SpatialPad((z, y, x)), RandSpatialCrop((z, y, x), random_size=False)]
    if augmentation.rotate90:
        steps.append(RandRotate90(prob=0.75, max_k=3, spatial_axes=(1, 2)))
    if augmentation.flip:
        steps += [RandFlip(prob=0.5, spatial_axis=2), RandFlip(prob=0.5, spatial_axis=0)]
    return Compose(steps)


def validation_batches(subjects: Sequence[Subject], augmentation: Augmentation) -> list[Batch]:
    """The largest motion of each subject both ways, centred crops without augmentation, one subject a batch."""
    x, y, z = augmentation.crop
    crop = Compose([SpatialPad((z, y, x)), CenterSpatialCrop((z, y, x))])
    batches = []
    for subject in subjects:
        a, b = subject.extremes
        stack = _plain(crop(torch.stack([subject.volumes[a], subject.volumes[b], torch.ones_like(subject.volumes[0])])))
        fixed, moving = stack[[0, 1]][:, None], stack[[1, 0]][:, None]
        mask = stack[2:].expand(2, *stack.shape[1:])[:, None]
        spacing = torch.tensor(subject.grid.spacing).repeat(2, 1)
        batches.append(Batch(fixed, moving, mask, spacing, (subject.name,) * 2))
    return batches
