"""Normalised cross-correlation against numpy's correlation coefficient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dlir.losses.similarity import local_ncc, ncc

SHAPE = (3, 1, 4, 5, 6)


def random_pair(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two batches that are alike in part, of about the intensities that networks see."""
    generator = torch.manual_seed(seed)
    fixed = torch.rand(SHAPE, generator=generator, dtype=dtype)
    return fixed, 0.5 * fixed + 0.5 * torch.rand(SHAPE, generator=generator, dtype=dtype)


def correlations(fixed: Tensor, warped: Tensor, masks: Tensor | None = None) -> list[float]:
    chosen = torch.ones_like(fixed) if masks is None else masks
    return [
        np.corrcoef(f[m > 0].numpy(), w[m > 0].numpy())[0, 1] for f, w, m in zip(fixed, warped, chosen, strict=True)
    ]


def test_ncc_is_the_correlation_of_each_pair() -> None:
    fixed, warped = random_pair()
    found = ncc(fixed, warped)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, correlations(fixed, warped), atol=1e-5)
    assert 0.5 < found.min() < found.max() < 0.9


def test_ncc_with_a_mask_sees_only_what_is_inside() -> None:
    fixed, warped = random_pair()
    mask = torch.rand(SHAPE, generator=torch.manual_seed(1)) > 0.4
    expected = correlations(fixed, warped, mask)
    np.testing.assert_allclose(ncc(fixed, warped, mask), expected, atol=1e-5)
    spoiled = torch.where(mask, warped, 1e3 * torch.randn(SHAPE))
    np.testing.assert_allclose(ncc(fixed, spoiled, mask), expected, atol=1e-5)
    assert (ncc(fixed, spoiled) - ncc(fixed, warped)).abs().max() > 0.1


def test_a_weight_counts_a_voxel_as_often() -> None:
    fixed, warped = random_pair()
    weight = torch.randint(0, 3, SHAPE, generator=torch.manual_seed(2)).float()
    counts = weight.flatten().int().tolist()
    repeated = [torch.from_numpy(np.repeat(t[0].flatten().numpy(), counts[: t[0].numel()])) for t in (fixed, warped)]
    assert ncc(fixed, warped, weight)[0].item() == pytest.approx(np.corrcoef(*repeated)[0, 1], abs=1e-5)


def test_equal_images_give_one_and_opposite_ones_minus_one() -> None:
    fixed, _ = random_pair()
    torch.testing.assert_close(ncc(fixed, fixed), torch.ones(3))
    torch.testing.assert_close(ncc(fixed, 1 - fixed), -torch.ones(3))


@pytest.mark.parametrize(("gain", "offset"), [(3.0, 0.0), (1.0, 5.0), (0.1, -2.0), (100.0, 1000.0)])
def test_gain_and_offset_change_nothing(gain: float, offset: float) -> None:
    fixed, warped = random_pair()
    expected = ncc(fixed, warped)
    torch.testing.assert_close(ncc(fixed, gain * warped + offset), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(ncc(gain * fixed + offset, warped), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(ncc(fixed, -gain * warped + offset), -expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.7, 123.0])
def test_a_constant_image_is_like_nothing_and_has_finite_gradients(constant: float) -> None:
    fixed, warped = torch.full(SHAPE, constant), random_pair()[1].requires_grad_()
    found = ncc(fixed, warped)
    assert found.abs().max() < 1e-2
    found.sum().backward()
    assert warped.grad is not None
    assert torch.isfinite(warped.grad).all()


def test_an_empty_mask_gives_zero_and_finite_gradients() -> None:
    fixed, warped = random_pair()
    warped.requires_grad_()
    found = ncc(fixed, warped, torch.zeros(SHAPE))
    assert found.tolist() == [0, 0, 0]
    found.sum().backward()
    assert warped.grad is not None
    assert torch.isfinite(warped.grad).all()


def test_half_precision_images_are_compared_in_single() -> None:
    fixed, warped = random_pair()
    found = ncc(fixed.bfloat16(), warped.bfloat16())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, correlations(fixed.bfloat16().float(), warped.bfloat16().float()), atol=1e-5)


def test_gradients_match_finite_differences() -> None:
    fixed, warped = (t[:2, :, :2, :3, :3].clone().requires_grad_() for t in random_pair(dtype=torch.float64))
    mask = (torch.rand(2, 1, 2, 3, 3, generator=torch.manual_seed(3)) > 0.2).double()
    assert torch.autograd.gradcheck(ncc, (fixed, warped))
    assert torch.autograd.gradcheck(lambda f, w: ncc(f, w, mask), (fixed, warped))


# -- local -------------------------------------------------------------------------------------------


def slow_local_ncc(fixed: Tensor, warped: Tensor, mask: Tensor, window: int) -> float:
    """Voxel by voxel, with what is left of the window at the border and in the mask; flat windows give 0."""
    f, w, m = (image[0, 0].double().numpy() for image in (fixed, warped, mask))
    reach, values = window // 2, []
    for voxel in zip(*np.nonzero(m), strict=True):
        box = tuple(slice(max(0, v - reach), v + reach + 1) for v in voxel)
        a, b = f[box][m[box] > 0], w[box][m[box] > 0]
        deviation = a.std() * b.std()
        values.append(((a - a.mean()) * (b - b.mean())).mean() / deviation if deviation > 1e-6 else 0.0)
    return float(np.mean(values))


@pytest.mark.parametrize("window", [3, 7])
def test_the_local_correlation_is_the_mean_over_windows(window: int) -> None:
    generator = torch.manual_seed(window)
    fixed, noise = (100 * torch.rand(1, 1, 7, 12, 9, generator=generator) for _ in range(2))
    mask = torch.ones_like(fixed)
    mask[..., :3] = 0
    warped = 0.7 * fixed + 0.3 * noise
    found = local_ncc(fixed, warped, mask, window).item()
    assert found == pytest.approx(slow_local_ncc(fixed, warped, mask, window), abs=1e-4)
    assert 0.3 < found < 0.95


def test_the_local_correlation_does_not_mind_a_change_of_intensity_that_varies_slowly() -> None:
    """Unlike the global one: a bias field leaves it as it is."""
    z, y, x = np.meshgrid(*(np.linspace(0, 6, n) for n in (12, 40, 40)), indexing="ij")
    image = torch.from_numpy(np.sin(5 * x) * np.cos(7 * y + z)).float()[None, None]
    bias = torch.from_numpy(0.8 * x).float()[None, None]
    assert local_ncc(image, image + bias, None, 5) > 0.8
    assert ncc(image, image + bias) < 0.5


def test_the_local_correlation_is_one_of_equal_and_less_of_opposite_images() -> None:
    image = 10 * torch.rand(2, 1, 8, 9, 10, generator=torch.manual_seed(0))
    torch.testing.assert_close(local_ncc(image, image), torch.ones(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(local_ncc(image, 5 - image), -torch.ones(2), rtol=0, atol=1e-3)


def test_flat_images_have_no_local_correlation_and_no_infinite_gradient() -> None:
    flat = torch.full((1, 1, 6, 6, 6), 0.5, requires_grad=True)
    image = torch.rand(1, 1, 6, 6, 6, generator=torch.manual_seed(0))
    found = local_ncc(image, flat)
    found.sum().backward()
    assert found.item() == pytest.approx(0, abs=1e-3)
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_what_the_mask_leaves_out_has_no_local_correlation_either() -> None:
    generator = torch.manual_seed(1)
    fixed, warped, noise = (torch.rand(1, 1, 8, 8, 12, generator=generator) for _ in range(3))
    mask = torch.ones_like(fixed)
    mask[..., 8:] = 0
    changed = warped * mask + noise * (1 - mask)
    torch.testing.assert_close(local_ncc(fixed, changed, mask), local_ncc(fixed, warped, mask))
    torch.testing.assert_close(
        local_ncc(fixed, warped, mask), local_ncc(fixed[..., :8], warped[..., :8]), rtol=0, atol=1e-4
    )
