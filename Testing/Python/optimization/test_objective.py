"""The similarity that an optimisation follows: by that of the losses, by differences, and by what must not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dlir.losses.choices import Similarity
from dlir.losses.compared import Compared
from dlir.losses.similarity import local_ncc
from dlir.optimization.objective import WINDOW, LocalSimilarity, Steering, WholeSimilarity

# Small enough for a window about every voxel.
SHAPE = (9, 12, 14)


def _images(count: int = 2, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> list[Tensor]:
    """In [0, 1], (1, 1, z, y, x), double, a little alike."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64)
    own = [torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    return [(common + image) / 2 for image in own]


def _weight(shape: tuple[int, int, int] = SHAPE) -> Tensor:
    weight = torch.ones(1, 1, *shape, dtype=torch.float64)
    weight[:, :, :3] = 0
    weight[..., 4:6] = 0.5
    return weight


def test_it_is_the_similarity_of_the_losses() -> None:
    fixed, warped = _images()
    correlation, share = LocalSimilarity(fixed)(warped)
    assert correlation.shape == share.shape == fixed.shape
    assert float(correlation.mean()) == pytest.approx(float(local_ncc(fixed, warped, window=WINDOW)), abs=1e-3)
    weight = _weight()
    correlation, _ = LocalSimilarity(fixed, weight)(warped)
    expected = float(local_ncc(fixed, warped, weight, WINDOW))
    assert float((correlation * weight).sum() / weight.sum()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("side", ["fixed", "warped", "both"])
def test_with_weights_it_is_the_weighed_correlation_in_each_window(side: str) -> None:
    fixed, warped = _images()
    weight = _weight()
    similarity = LocalSimilarity(fixed, None if side == "warped" else weight)
    correlation, _ = similarity(warped, None if side == "fixed" else weight)
    total = weight**2 if side == "both" else weight
    for place in ((4, 5, 6), (8, 11, 13), (5, 2, 9)):
        alone = torch.zeros_like(total)
        box = [slice(max(0, n - WINDOW // 2), n + WINDOW // 2 + 1) for n in place]
        alone[(..., *box)] = total[(..., *box)]
        f, w, t = (image[(0, 0, *box)].flatten() for image in (fixed, warped, alone))
        mean_f, mean_w = (t * f).sum() / t.sum(), (t * w).sum() / t.sum()
        covariance, variance_f, variance_w = (
            (t * a * b).sum() / t.sum()
            for a, b in ((f - mean_f, w - mean_w), (f - mean_f, f - mean_f), (w - mean_w, w - mean_w))
        )
        expected = covariance / torch.sqrt(variance_f * variance_w)
        assert float(correlation[(0, 0, *place)]) == pytest.approx(float(expected), abs=2e-3)


def test_the_share_is_how_much_of_a_whole_window_counts() -> None:
    fixed, warped = _images()
    _, share = LocalSimilarity(fixed)(warped)
    assert float(share[0, 0, 4, 5, 6]) == pytest.approx(1)
    assert float(share[0, 0, 0, 0, 0]) == pytest.approx((4 / 7) ** 3)
    _, half = LocalSimilarity(fixed)(warped, torch.full_like(fixed, 0.5))
    torch.testing.assert_close(half, share / 2)


@pytest.mark.parametrize("weighed", [False, True])
def test_the_gradient_is_that_of_differences(weighed: bool) -> None:
    fixed, warped = _images(shape=(4, 5, 6))
    weight = _weight((4, 5, 6)) if weighed else None
    similarity = LocalSimilarity(fixed, weight)

    def value(image: Tensor) -> Tensor:
        correlation, share = similarity(image, weight)
        return (correlation * share).sum()

    assert torch.autograd.gradcheck(value, warped.requires_grad_(), eps=1e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["fixed", "warped"])
def test_what_weighs_nothing_has_no_influence(side: str) -> None:
    fixed, warped, other = _images(3)
    weight = (_weight() > 0).double()
    changed = [torch.where(weight > 0, image, other) for image in (fixed, warped)]
    masks = (weight, None) if side == "fixed" else (None, weight)
    correlation, share = LocalSimilarity(fixed, masks[0])(warped, masks[1])
    again, still = LocalSimilarity(changed[0], masks[0])(changed[1], masks[1])
    counts = share > 1e-5
    assert counts.any()
    torch.testing.assert_close(correlation[counts], again[counts], atol=1e-9, rtol=0)
    torch.testing.assert_close(share, still)


def test_an_image_is_like_itself_and_unlike_its_negative() -> None:
    (fixed,) = _images(1)
    for changed, expected in ((fixed, 1), (0.3 + 0.5 * fixed, 1), (1 - fixed, -1)):
        correlation, _ = LocalSimilarity(fixed)(changed)
        torch.testing.assert_close(correlation, torch.full_like(correlation, expected), atol=5e-3, rtol=0)


@pytest.mark.parametrize("flat", ["fixed", "warped"])
def test_flat_windows_say_nothing(flat: str) -> None:
    images = _images(1)[0].float(), torch.full((1, 1, *SHAPE), 0.4)
    fixed, warped = images if flat == "warped" else images[::-1]
    correlation, _ = LocalSimilarity(fixed)(warped)
    assert float(correlation.abs().max()) < 1e-2


@pytest.mark.parametrize("contrast", [0.01, 0.03, 0.1, 1.0])
def test_nothing_is_more_like_an_image_than_itself(contrast: float) -> None:
    """However little there is to see: neither more contrast nor noise makes it any better."""
    fixed, other = _images()
    fixed = 0.5 + contrast * (fixed - 0.5)
    similarity = LocalSimilarity(fixed)
    best = float(similarity(fixed)[0].mean())
    assert best == pytest.approx(float(local_ncc(fixed, fixed, window=WINDOW)), abs=0.02)
    for changed in (0.5 + 3 * (fixed - 0.5), 0.5 + 0.3 * (fixed - 0.5), fixed + contrast * other, other):
        assert float(similarity(changed)[0].mean()) < best + 0.02


def test_larger_images_have_a_window_about_every_second_voxel() -> None:
    fixed, warped = _images(shape=(15, 20, 31))
    similarity = LocalSimilarity(fixed)
    correlation, share = similarity(warped)
    assert correlation.shape == (1, 1, 8, 10, 16)
    assert float(share.sum()) == pytest.approx(similarity.total)
    assert float(correlation.mean()) == pytest.approx(float(local_ncc(fixed, warped, window=WINDOW)), abs=0.02)


def test_a_batch_is_each_of_it() -> None:
    fixed, *moving = _images(4)
    similarity, batch = LocalSimilarity(fixed), torch.cat(moving)
    correlation, share = similarity(batch, torch.ones_like(batch))
    assert correlation.shape == (3, 1, *SHAPE)
    assert share.shape == (3, 1, *SHAPE)
    for number, image in enumerate(moving):
        torch.testing.assert_close(correlation[number], similarity(image)[0][0])


@pytest.mark.parametrize("name", [name for name in Similarity if name is not Similarity.local_ncc])
def test_another_similarity_is_that_of_the_losses(name: Similarity) -> None:
    fixed, warped = (image.float() for image in _images())
    weight, other = _weight().float(), torch.rand(fixed.shape, generator=torch.Generator().manual_seed(1))
    compared = Compared(name, fixed)
    for own, counts, whole in (
        (None, None, None),
        (weight, None, weight),
        (None, weight, weight),
        (weight, other, weight * other),
    ):
        value = WholeSimilarity(name, fixed, own).mean(warped, counts)
        torch.testing.assert_close(value, compared.to(warped, whole))
        assert value.shape == (1,)
        assert float(value) < float(WholeSimilarity(name, fixed, own).mean(fixed, counts))


def test_landmarks_ten_millimetres_apart_cost_their_weight() -> None:
    points = np.zeros((3, 3))
    steering = Steering(points, points, 0.7)
    assert steering.cost(torch.full((2, 3), 100.0)).tolist() == pytest.approx([0.7, 0.7])
    assert float(steering.cost(torch.tensor([0.0, 100.0, 800.0]))) == pytest.approx(0.7 * 3)
