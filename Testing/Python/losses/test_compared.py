"""What is asked of every similarity, by its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.losses import information, self_similarity, similarity
from dlir.losses.choices import SIMILARITIES, Similarity
from dlir.losses.compared import Compared, similarity_of

SHAPE = (2, 1, 9, 12, 11)
# Another contrast, where a similarity does not mind it.
CONTRASTS: dict[Similarity, Callable[[Tensor], Tensor]] = {
    Similarity.ncc: lambda image: 0.2 + 0.5 * image,
    Similarity.local_ncc: lambda image: 0.2 + 0.5 * image,
    Similarity.mutual_information: lambda image: (2 * image - 0.8).abs() / 1.2,
    Similarity.mind_ssc: lambda image: 0.9 - 0.8 * image,
}
each = pytest.mark.parametrize("name", list(Similarity))


def textured(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth blobs over all of [0, 1]."""
    image = torch.rand(shape, generator=torch.manual_seed(seed), dtype=dtype)
    reach = [1 if size > 2 else 0 for size in shape[2:]]
    for _ in range(2):
        image = F.avg_pool3d(image, [2 * r + 1 for r in reach], 1, reach, count_include_pad=False)
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    return (image - low) / (high - low)


def alike(seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    one, other = (textured(seed + k, shape, dtype) for k in range(2))
    return one, (0.6 * one + 0.4 * other).clamp(0, 1)


def some_mask(seed: int = 5, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Weights, and a corner of no weight."""
    mask = 0.5 + 0.5 * torch.rand(shape, generator=torch.manual_seed(seed), dtype=torch.float64)
    mask[..., shape[-1] // 2 :] *= torch.arange(shape[-2])[:, None] < shape[-2] // 2
    return mask


def test_the_names_are_those_of_configurations() -> None:
    assert SIMILARITIES == ("ncc", "local_ncc", "mutual_information", "mind_ssc")
    with pytest.raises(ValueError, match="nmi"):
        similarity_of("nmi")
    with pytest.raises(ValueError, match="nmi"):
        Compared("nmi", torch.zeros(SHAPE))


@each
@pytest.mark.parametrize("masked", [False, True])
def test_a_prepared_image_gives_the_same(name: Similarity, masked: bool) -> None:
    fixed, warped = alike(0)
    mask = some_mask().float() if masked else None
    prepared = Compared(name.value, fixed)
    for image in (warped, fixed):
        found, expected = image.clone().requires_grad_(), image.clone().requires_grad_()
        value, reference = prepared.to(found, mask), similarity_of(name)(fixed, expected, mask)
        torch.testing.assert_close(value, reference)
        value.sum().backward()
        reference.sum().backward()
        torch.testing.assert_close(found.grad, expected.grad)


def test_the_window_is_that_of_the_local_correlation() -> None:
    fixed, warped = alike(0)
    for found in (similarity_of("local_ncc", 3)(fixed, warped, None), Compared("local_ncc", fixed, 3).to(warped)):
        torch.testing.assert_close(found, similarity.local_ncc(fixed, warped, None, 3))
        assert (found - similarity.local_ncc(fixed, warped)).abs().min() > 0.01


@each
def test_a_batch_gives_what_each_pair_gives_alone(name: Similarity) -> None:
    fixed, warped = alike(0)
    mask, measure = some_mask().float(), similarity_of(name)
    together = measure(fixed, warped, mask)
    assert together.shape == (2,)
    assert (together[0] - together[1]).abs() > 1e-4
    alone = [measure(fixed[k : k + 1], warped[k : k + 1], mask[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


@each
def test_it_is_largest_where_images_are_aligned(name: Similarity) -> None:
    """Of the same structures in another contrast, with some noise, shifted along each axis."""
    whole = textured(3, (1, 1, 24, 24, 24), torch.float64)
    noise = 0.02 * torch.randn(whole.shape, generator=torch.manual_seed(0), dtype=torch.float64)
    other = (CONTRASTS[name](whole) + noise).clamp(0, 1)
    prepared = Compared(name, whole[..., 4:-4, 4:-4, 4:-4])
    for axis in (2, 3, 4):
        found = [prepared.to(other.roll(by, axis)[..., 4:-4, 4:-4, 4:-4]).item() for by in range(-3, 4)]
        assert np.argmax(found) == 3
        assert found[:4] == sorted(found[:4])
        assert found[3:] == sorted(found[3:], reverse=True)


@each
def test_gradients_match_finite_differences(name: Similarity) -> None:
    # Within the range of intensities, at whose ends mutual information has a kink.
    fixed, warped = ((0.1 + 0.8 * image).requires_grad_() for image in alike(7, (2, 1, 5, 6, 5), torch.float64))
    mask, measure = torch.ones_like(fixed).detach(), similarity_of(name)
    mask[0, 0, 0, 0, 0], mask[1, 0, 2, 3, 2] = 0, 0.5
    assert torch.autograd.gradcheck(lambda f, w: measure(f, w, mask), (fixed, warped), fast_mode=True)
    assert torch.autograd.gradcheck(lambda f, w: measure(f, w, None), (fixed, warped), fast_mode=True)


@each
def test_voxels_of_no_weight_have_no_influence(name: Similarity) -> None:
    """In neither image, on value or gradient."""
    fixed, warped = alike(0, dtype=torch.float64)
    mask, measure = some_mask(), similarity_of(name)
    spoiled = [torch.where(mask > 0, image, textured(9 + k).double()) for k, image in enumerate((fixed, warped))]
    gradients, values = [], []
    for pair in ((fixed, warped), spoiled):
        leaves = [image.clone().requires_grad_() for image in pair]
        values.append(measure(*leaves, mask))
        values[-1].sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*values)
    for before, after in zip(*gradients, strict=True):
        assert before is not None
        torch.testing.assert_close(before, after)
        assert before[mask == 0].abs().max() < 1e-15
        assert before.abs().max() > 1e-6
    assert (measure(*spoiled, None) - measure(fixed, warped, None)).abs().min() > 1e-3


@each
def test_a_mask_may_be_of_truth_values(name: Similarity) -> None:
    fixed, warped = alike(0)
    mask, measure = some_mask() > 0, similarity_of(name)
    torch.testing.assert_close(measure(fixed, warped, mask), measure(fixed, warped, mask.float()))


@each
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_images_give_finite_values_and_gradients(name: Similarity, level: float) -> None:
    flat, image = torch.full(SHAPE, level), textured(0)
    for fixed, warped in ((flat, image), (image, flat), (flat, flat)):
        leaf = warped.clone().requires_grad_()
        found = similarity_of(name)(fixed, leaf, None)
        found.sum().backward()
        assert leaf.grad is not None
        assert torch.isfinite(found).all()
        assert torch.isfinite(leaf.grad).all()
        if name is not Similarity.mind_ssc:
            assert found.abs().max() < 1e-2


@each
def test_an_empty_mask_gives_zero_and_no_gradient(name: Similarity) -> None:
    fixed, warped = alike(0)
    found = similarity_of(name)(fixed, warped.requires_grad_(), torch.zeros(SHAPE))
    found.sum().backward()
    assert found.tolist() == [0, 0]
    assert warped.grad is not None
    assert warped.grad.abs().max() == 0


@each
@pytest.mark.parametrize("size", [(1, 30, 31), (2, 30, 31), (3, 30, 31), (30, 31, 1), (4, 14, 14), (1, 1, 600)])
def test_thin_images_can_be_compared(name: Similarity, size: tuple[int, int, int]) -> None:
    fixed, warped = (image.clone() for image in alike(0, (1, 1, *size)))
    measure = similarity_of(name)
    found = measure(fixed, warped.requires_grad_(), None)
    found.backward()
    assert warped.grad is not None
    assert torch.isfinite(warped.grad).all()
    assert measure(fixed, fixed, None) > found > measure(fixed, textured(8, (1, 1, *size)), None)


@each
def test_of_several_channels_it_is_the_mean(name: Similarity) -> None:
    pairs = [alike(seed) for seed in (0, 10)]
    fixed, warped = (torch.cat(images, 1) for images in zip(*pairs, strict=True))
    mask, measure = some_mask().float(), similarity_of(name)
    expected = torch.stack([measure(*pair, mask) for pair in pairs]).mean(0)
    torch.testing.assert_close(measure(fixed, warped, mask), expected)
    torch.testing.assert_close(Compared(name, fixed).to(warped, mask), expected)


@each
def test_half_precision_images_are_compared_in_single(name: Similarity) -> None:
    fixed, warped = (image.bfloat16() for image in alike(0))
    for found in (similarity_of(name)(fixed, warped, None), Compared(name, fixed).to(warped)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, similarity_of(name)(fixed.float(), warped.float(), None))


@each
def test_no_gradient_is_computed_where_none_is_wanted(name: Similarity) -> None:
    fixed, warped = alike(0)
    with torch.no_grad():
        found = similarity_of(name)(fixed.requires_grad_(), warped.requires_grad_(), None)
    assert not found.requires_grad
    assert Compared(name, fixed).to(warped.detach()).requires_grad is False


@each
def test_how_many_voxels_are_computed_at_once_changes_nothing(
    name: Similarity, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, warped = alike(0, dtype=torch.float64)
    mask, found = some_mask(), []
    for at_once in (1 << 20, 2000, 100):
        for module in (information, self_similarity, similarity):
            monkeypatch.setattr(module, "_AT_ONCE", at_once)
        leaf = warped.clone().requires_grad_()
        value = similarity_of(name)(fixed, leaf, mask)
        value.sum().backward()
        assert leaf.grad is not None
        found.append((value.detach(), leaf.grad))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


@each
def test_what_is_no_number_is_told_and_not_hidden(name: Similarity) -> None:
    fixed, warped = alike(0)
    warped[0, 0, 4, 5, 5] = torch.nan
    found = similarity_of(name)(fixed, warped, None)
    assert torch.isnan(found).tolist() == [True, False]
