"""MIND-SSC against descriptors that are computed one by one, patch by patch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.losses.self_similarity import CHANNELS, mind_ssc
from dlir.losses.similarity import ncc

SHAPE = (1, 1, 7, 8, 9)


def random_image(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(shape, generator=torch.manual_seed(seed), dtype=torch.float64)


def slow_descriptors(image: Tensor) -> Tensor:
    """(12, z, y, x): of every two neighbours that do not lie opposite each other, one after the other."""
    padded, size = F.pad(image, (2,) * 6, mode="replicate"), image.shape[2:]

    def about(axis: int, step: int) -> Tensor:
        first = [1, 1, 1]
        first[axis] += step
        z, y, x = (slice(start, start + n + 2) for start, n in zip(first, size, strict=True))
        return padded[0, :, z, y, x]

    neighbours = list(itertools.product(range(3), (1, -1)))
    distances = torch.cat(
        [
            F.avg_pool3d((about(*one) - about(*other)) ** 2, 3, 1)
            for one, other in itertools.combinations(neighbours, 2)
            if one[0] != other[0]
        ]
    )
    assert len(distances) == CHANNELS
    distances -= distances.amin(0)
    return torch.exp(-distances / (distances.mean(0) + 1e-6))


def test_it_is_one_less_the_mean_square_difference_of_descriptors() -> None:
    fixed, warped = random_image(0), random_image(1)
    apart = (slow_descriptors(fixed) - slow_descriptors(warped)) ** 2
    assert mind_ssc(fixed, warped).item() == pytest.approx(1 - apart.mean().item(), rel=1e-9)
    assert 0.5 < mind_ssc(fixed, warped) < 0.95


def test_a_voxel_that_sees_one_of_no_weight_does_not_count() -> None:
    """Two voxels in each direction; beyond the border it sees the border again."""
    fixed, warped = random_image(0), random_image(1)
    weight = random_image(2) + 0.5
    weight[0, 0, 5, 1, 7] = 0
    counts = weight[0, 0].clone()
    counts[3:, :4, 5:] = 0
    apart = ((slow_descriptors(fixed) - slow_descriptors(warped)) ** 2).mean(0)
    expected = 1 - (counts * apart).sum() / counts.sum()
    assert mind_ssc(fixed, warped, weight).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.2), (2.0, -0.3), (-1.0, 1.0), (-0.3, 0.5)])
def test_a_linear_change_of_contrast_changes_nothing(gain: float, offset: float) -> None:
    """An inverted one neither."""
    fixed, warped = random_image(0), random_image(1)
    assert mind_ssc(fixed, gain * fixed + offset).item() == pytest.approx(1, abs=1e-6)
    assert mind_ssc(fixed, gain * warped + offset).item() == pytest.approx(mind_ssc(fixed, warped).item(), abs=1e-4)


def test_contrast_may_change_from_place_to_place() -> None:
    """Which global correlation cannot follow."""
    z, y, x = np.meshgrid(*(np.linspace(0, 9, n) for n in (12, 40, 40)), indexing="ij")
    image = torch.from_numpy(0.5 + 0.25 * np.sin(3 * x) * np.cos(2 * y + z))[None, None]
    changed = torch.from_numpy(np.cos(0.7 * x))[None, None] * (image - 0.5)
    moved = torch.roll(changed, 3, -1)
    assert mind_ssc(image, changed) > 0.98
    assert mind_ssc(image, changed) > mind_ssc(image, moved) + 0.01
    assert ncc(image, changed).abs() < 0.1


def test_flat_images_are_alike() -> None:
    assert mind_ssc(torch.full(SHAPE, 0.2), torch.full(SHAPE, 0.7)).item() == pytest.approx(1)


@pytest.mark.parametrize("slices", [2, 3, 4])
def test_a_thin_stack_is_compared_slice_by_slice(slices: int) -> None:
    fixed, warped = (random_image(seed, (1, 1, slices, 8, 9)) for seed in (0, 1))
    mask = torch.ones_like(fixed)
    mask[..., -1, :, :] = 0
    alone = [mind_ssc(fixed[:, :, k : k + 1], warped[:, :, k : k + 1]).item() for k in range(slices)]
    assert mind_ssc(fixed, warped).item() == pytest.approx(np.mean(alone), rel=1e-9)
    assert mind_ssc(fixed, warped, mask).item() == pytest.approx(np.mean(alone[:-1]), rel=1e-9)
