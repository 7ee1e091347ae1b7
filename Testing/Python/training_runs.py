"""Small things to train on: smooth images known everywhere, subjects of them on disk, and a configuration to match."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.training.batch import Batch, TensorPair, collate
from dlir.training.config import TrainingConfig
from dlir.training.config_file import parse_config

SHAPE = (4, 32, 32)
SPACING = (1.0, 1.0, 4.0)


class Blobs:
    """An image known at any point: a sum of Gaussians in a box of `size` (x, y, z) voxels."""

    def __init__(self, seed: int, size: Sequence[int] = SHAPE[::-1], count: int = 12) -> None:
        rng = np.random.default_rng(seed)
        box = np.array(size, float)
        self.centers = rng.uniform(0.1 * box, 0.9 * box, (count, 3))
        self.widths = rng.uniform(0.08, 0.15, (count, 1)) * np.maximum(box, 12)
        self.heights = rng.uniform(0.3, 1, count)

    def __call__(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Values at points (..., 3), voxels (x, y, z)."""
        offset = (points[..., None, :] - self.centers) / self.widths
        values: NDArray[np.float64] = np.exp(-(offset**2).sum(-1) / 2) @ self.heights
        return values


def voxels(shape: Sequence[int] = SHAPE) -> NDArray[np.float64]:
    """(z, y, x, 3): index (x, y, z) of every voxel."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    return np.stack([x, y, z], -1)


def bent(points: NDArray[Any], size: float, shape: Sequence[int] = SHAPE) -> NDArray[np.float64]:
    """A smooth in-plane deformation by up to `size` voxels: one wave over the image."""
    x, y = points[..., 0] / shape[2], points[..., 1] / shape[1]
    wave = [np.sin(2 * np.pi * x) * np.cos(np.pi * y), np.cos(np.pi * x) * np.sin(2 * np.pi * y), np.zeros_like(x)]
    moved: NDArray[np.float64] = points + size * np.stack(wave, -1)
    return moved


def tensor(array: NDArray[Any]) -> Tensor:
    """(z, y, x) as (1, 1, z, y, x) in single precision."""
    return torch.from_numpy(array).float()[None, None]


def make_batch(
    fixed: Tensor,
    moving: Tensor,
    mask: Tensor | None = None,
    spacing: Sequence[float] = SPACING,
    start: NDArray[Any] | None = None,
) -> Batch:
    """A batch of images (B, 1, z, y, x), without padding unless `mask` says so of both. start: (4, 4)."""

    def channels(image: Tensor) -> Tensor:
        present = torch.ones_like(image) if mask is None else mask
        return torch.cat([image, present, present], 1)

    matrix = torch.eye(4) if start is None else torch.from_numpy(start).float()
    pairs = [
        TensorPair(f, m, matrix, torch.tensor(spacing), "pair")
        for f, m in zip(channels(fixed), channels(moving), strict=True)
    ]
    return collate(pairs)


def write_volume(path: Path, array: NDArray[Any], spacing: Sequence[float] = SPACING) -> None:
    """One volume (z, y, x), or several (t, z, y, x) as one 4D file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [sitk.GetImageFromArray(a.astype(np.float32)) for a in (array if array.ndim == 4 else array[None])]
    for image in images:
        image.SetSpacing(spacing)
    sitk.WriteImage(images[0] if array.ndim == 3 else sitk.JoinSeries(images), str(path))


def write_subjects(root: Path, names: Sequence[str], size: float = 3.0) -> None:
    """Two volumes for each name, bent apart by `size` voxels or a little more, and labels that nothing can read."""
    image = Blobs(0, count=30)
    for k, name in enumerate(names):
        for frame, sign in (("01", -0.5), ("12", 0.5)):
            array = 500 * image(bent(voxels(), sign * size * (1 + k / 10)))
            write_volume(root / name / f"{name}_frame{frame}.nii.gz", array)
            (root / name / f"{name}_frame{frame}_gt.nii.gz").write_bytes(b"a label, never to be opened")


def plain_config(**changes: Any) -> dict[str, Any]:
    """Two small stages for data of `write_subjects`, as plain values; `changes` replace top-level entries."""
    stage = {"kind": "bspline", "channels": [4, 4, 8]}
    card = dict.fromkeys(("name", "title", "anatomy", "modality", "data", "licence", "citation"), "test")
    return {
        "card": card,
        "model": {
            "preprocessing": {"resolution": [1.0, 1.0, 4.0], "native_axes": [False, False, True]},
            "stages": [
                {**stage, "resolution": [2.0, 2.0, 4.0], "grid_spacing": [8.0, 8.0, 4.0]},
                {**stage, "resolution": [1.0, 1.0, 4.0], "grid_spacing": [4.0, 4.0, 4.0]},
            ],
        },
        "sources": [{"files": ["*/*_frame??.nii.gz"], "validation": ["held*"]}],
        "augmentation": {"crop": [24, 24, 4], "shift": 4},
        "training": [{"iterations": 6, "batch_size": 2, "learning_rate": 0.01, "alpha": 0.01}] * 2,
        "validation_every": 3,
        **changes,
    }


def make_config(**changes: Any) -> TrainingConfig:
    """`plain_config`, validated."""
    return parse_config(plain_config(**changes), "test.yaml")
