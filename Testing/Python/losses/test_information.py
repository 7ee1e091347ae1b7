"""Mutual information against a histogram that is filled voxel by voxel, and against entropies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlir.losses.information import BINS, mutual_information
from dlir.transforms.bspline import basis

LEVELS = 5


def random_pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.manual_seed(seed)
    fixed, noise = (torch.rand(2, 1, 5, 6, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    return fixed, (0.9 * fixed**2 + 0.1 * noise).clamp(0, 1)


def slow_information(fixed: Tensor, warped: Tensor, weight: Tensor) -> float:
    """From the joint histogram of one pair, each voxel's kernels evaluated at every bin."""
    bins = np.arange(BINS)
    joint: NDArray[np.float64] = np.zeros((BINS, BINS))
    for f, w, m in zip(*(image.flatten().tolist() for image in (fixed, warped, weight)), strict=True):
        linear = np.maximum(0, 1 - np.abs(f * (BINS - 1) - bins))
        # One bin is left free on each side of [0, 1].
        cubic = basis(torch.from_numpy(1 + w * (BINS - 3) - bins)).numpy()
        joint += m * np.outer(linear, cubic)
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


def test_it_is_that_of_the_joint_histogram() -> None:
    fixed, warped = random_pair()
    weight = torch.rand(fixed.shape, generator=torch.manual_seed(1), dtype=torch.float64)
    weight[:, :, 0] = 0
    found = mutual_information(fixed, warped, weight)
    expected = [slow_information(f, w, m) for f, w, m in zip(fixed, warped, weight, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    whole = [slow_information(f, w, torch.ones_like(f)) for f, w in zip(fixed, warped, strict=True)]
    np.testing.assert_allclose(mutual_information(fixed, warped), whole, rtol=1e-9)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 4, 0, 3, 1)])
def test_of_levels_it_is_their_entropy_whatever_they_are_called(order: tuple[int, ...]) -> None:
    """Monotone or not."""
    labels = torch.randint(0, LEVELS, (1, 1, 6, 7, 8), generator=torch.manual_seed(0))
    fixed = labels.double() / (LEVELS - 1)
    warped = torch.tensor(order, dtype=torch.float64)[labels] / (LEVELS - 1)
    shares = np.bincount(labels.flatten().numpy()) / labels.numel()
    assert mutual_information(fixed, warped).item() == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-9)
    merged = (warped > 0.5).double()
    assert mutual_information(fixed, merged) < 0.7 * mutual_information(fixed, warped)


@pytest.mark.parametrize(
    "remapped",
    [lambda x: x**1.5, lambda x: 0.1 + 0.8 * x, lambda x: 1 - x, lambda x: torch.where(x < 0.5, x + 0.5, x - 0.5)],
    ids=["power", "narrower", "inverted", "halves exchanged"],
)
def test_another_scale_of_intensities_changes_little(remapped: object) -> None:
    assert callable(remapped)
    image, unrelated = (
        torch.rand(1, 1, 20, 20, 20, generator=torch.manual_seed(seed), dtype=torch.float64) for seed in (0, 1)
    )
    own = mutual_information(image, image).item()
    assert mutual_information(image, remapped(image)).item() == pytest.approx(own, rel=0.1)
    assert mutual_information(image, unrelated).item() < 0.05 * own


def test_what_lies_beyond_the_range_counts_as_its_end() -> None:
    fixed, warped = random_pair()
    wider = torch.where(warped > 0.5, warped + 1e6, warped - 1e6).requires_grad_()
    found = mutual_information(fixed, wider)
    torch.testing.assert_close(found, mutual_information(fixed, (warped > 0.5).double()))
    found.sum().backward()
    assert wider.grad is not None
    assert wider.grad.abs().max() == 0


def test_large_sums_are_exact() -> None:
    """Larger ones than single precision has all digits of."""
    fixed, warped = torch.full((1, 1, 4, 256, 256), 0.25), torch.full((1, 1, 4, 256, 256), 0.75)
    fixed[:, :, 3], warped[:, :, 3] = 1, 0
    expected = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert mutual_information(fixed, warped, torch.full_like(fixed, 1001)).item() == pytest.approx(expected, rel=1e-6)
