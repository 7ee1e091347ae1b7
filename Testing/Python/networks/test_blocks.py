"""Convolutions that are right whatever their size and precision."""

from __future__ import annotations

import pytest
import torch

from dlir.networks.blocks import Convolution, encoder


def poison() -> None:
    """Leave memory behind that is not zero, for whoever takes it without writing to it."""
    blocks = [torch.full((n,), float("nan")) for n in (1000, 10_000, 50_000, 200_000)]
    del blocks


SHAPES = [(2, 2, 2), (2, 4, 4), (4, 2, 4), (5, 2, 6), (4, 4, 4), (6, 8, 8)]


@pytest.mark.parametrize(("shape", "stride"), [(s, n) for s in SHAPES for n in (1, 2)] + [((1, 4, 4), 1)])
def test_gradients_in_reduced_precision_are_about_those_in_full(shape: tuple[int, int, int], stride: int) -> None:
    """torch's own have been anything at all, and not a number, where an axis was shorter than the kernel."""
    torch.manual_seed(0)
    layer = Convolution(8, 16, 3 if stride == 1 else 4, stride, padding=1).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    image = torch.randn(2, 8, *shape).contiguous(memory_format=torch.channels_last_3d)
    exact = layer(image)
    weight = torch.randn_like(exact)
    (expected,) = torch.autograd.grad((exact * weight).sum(), layer.weight)
    for _ in range(5):
        poison()
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(image)
        (gradient,) = torch.autograd.grad((found.float() * weight).sum(), layer.weight)
        assert (gradient - expected).abs().max() < 0.05 * expected.abs().max()


def test_reduced_precision_is_used_where_it_is_right() -> None:
    layer, image = Convolution(4, 4, 3, padding=1), torch.randn(1, 4, 6, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(image).dtype == torch.bfloat16
        assert layer(image[:, :, :2]).dtype == torch.float32
        assert layer(layer(image)[:, :, :2]).dtype == torch.float32


@pytest.mark.parametrize("pooling", ["average", "strided"])
def test_what_layers_give_is_the_same_whether_it_is_learned_from_or_not(pooling: str) -> None:
    """Without gradients on the CPU, a convolution is oneDNN's whatever its size."""
    torch.manual_seed(0)
    layers = encoder(2, (4, 6), [(2, 2, 1), (2, 2, 2)], pooling)
    image = torch.randn(2, 2, 4, 16, 12)
    expected = layers(image)
    assert (expected < 0).any()
    for order in (torch.contiguous_format, torch.channels_last_3d):
        with torch.no_grad():
            found = layers(image.contiguous(memory_format=order))
        torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("shape", [*SHAPES, (10, 64, 64)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@torch.no_grad()
def test_the_direct_way_gives_what_torch_gives(
    shape: tuple[int, int, int], stride: int, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = Convolution(8, 16, 3 if stride == 1 else 4, stride, padding=1).to(memory_format=order)  # type: ignore[call-overload]
    image = torch.randn(1, 8, *shape).contiguous(memory_format=order)
    expected = torch.nn.functional.conv3d(image.double(), layer.weight.double(), layer.bias.double(), stride, 1)
    assert layer._direct(image) is torch.backends.mkldnn.is_available()
    torch.testing.assert_close(layer(image).double(), expected, rtol=1e-4, atol=1e-4)
