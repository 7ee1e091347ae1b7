"""The affine network of Figure 2: two images of any size in, twelve constrained numbers out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dlir.networks.air import AffineNetwork
from dlir.networks.spec import StageSpec
from dlir.transforms.affine import affine_matrix, transform_points


def make_network(pooling: str = "average", channels: tuple[int, ...] = (4, 4, 4), seed: int = 0) -> AffineNetwork:
    torch.manual_seed(seed)
    return AffineNetwork(StageSpec("affine", (1, 1, 1), channels, pooling=pooling))


def image(*shape: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, *shape, generator=torch.manual_seed(seed))


def predict(network: AffineNetwork, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """The network on images without padding."""
    shapes = [torch.tensor(image.shape[2:]).expand(len(image), 3) for image in (fixed, moving)]
    found: torch.Tensor = network(fixed, moving, (shapes[0], shapes[1]))
    return found


@pytest.mark.parametrize("pooling", ["average", "strided"])
@pytest.mark.parametrize(
    ("fixed", "moving"),
    [((16, 16, 16), (16, 16, 16)), ((8, 8, 8), (24, 9, 31)), ((33, 12, 10), (8, 40, 8)), ((8, 64, 8), (8, 8, 8))],
)
def test_images_of_different_sizes(fixed: tuple[int, ...], moving: tuple[int, ...], pooling: str) -> None:
    assert predict(make_network(pooling), image(*fixed, batch=2), image(*moving, batch=2)).shape == (2, 12)


@torch.no_grad()
def test_both_pipelines_share_their_weights_and_their_order_counts() -> None:
    network, a, b = make_network(), image(16, 16, 16, seed=1), image(16, 24, 8, seed=2)
    pipelines = [name for name, _ in network.named_children() if name == "pipeline"]
    assert len(pipelines) == 1
    assert not torch.allclose(predict(network, a, b), predict(network, b, a))
    # Equal images give equal features, whichever side they come from.
    maps = network.pipeline(a)
    place = [(torch.arange(n) - (n - 1) / 2) * 8 / 10 for n in maps.shape[2:]]
    moments = [
        torch.einsum(f"bczyx,{axis}->bc", maps, p) / maps[0, 0].numel() for axis, p in zip("zyx", place, strict=True)
    ]
    features = torch.cat([maps.mean((2, 3, 4)), *moments], 1)
    decoded = network.output(network.decoder(torch.cat([features, features], 1)))
    torch.testing.assert_close(predict(network, a, a)[:, 3:6], math.pi * torch.tanh(decoded[:, 3:6] / math.pi))


@torch.no_grad()
def test_moments_tell_of_a_shift_and_means_do_not() -> None:
    """Why they are pooled besides: 16 voxels along x, in an image that is empty about what moves."""
    network, shape = make_network().double(), torch.tensor([[48, 48, 64]])
    here, there = torch.zeros(2, 1, 1, 48, 48, 64, dtype=torch.float64)
    here[..., 16:32, 16:32, 16:32] = there[..., 16:32, 16:32, 32:48] = image(16, 16, 16).double()
    empty = network._features(torch.zeros_like(here), shape)
    before, after = (network._features(x, shape) - empty for x in (here, there))
    means, z, y, x = (after - before).chunk(4, 1)
    for unchanged in (means, z, y):
        torch.testing.assert_close(unchanged, torch.zeros_like(unchanged), rtol=0, atol=1e-6)
    torch.testing.assert_close(x, before.chunk(4, 1)[0] * 16 / 10, rtol=1e-4, atol=1e-6)
    assert x.abs().max() > 1e-3


@pytest.mark.parametrize("pooling", ["average", "strided"])
@torch.no_grad()
def test_padding_at_the_far_ends_makes_no_difference(pooling: str) -> None:
    network = make_network(pooling)
    shapes = [((17, 24, 9), (8, 30, 13)), ((12, 16, 20), (25, 9, 8))]
    pairs = [[image(*shape, seed=10 * i + k) for k, shape in enumerate(pair)] for i, pair in enumerate(shapes)]
    alone = torch.cat([predict(network, *pair) for pair in pairs])
    padded = []
    for k in (0, 1):
        stack = torch.zeros(2, 1, 32, 32, 32)
        for i, pair in enumerate(pairs):
            z, y, x = pair[k].shape[2:]
            stack[i, :, :z, :y, :x] = pair[k]
        padded.append(stack)
    together = network(*padded, tuple(torch.tensor([pair[k] for pair in shapes]) for k in (0, 1)))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_the_initial_transform_is_the_identity_within_half_a_voxel(seed: int) -> None:
    """At the corners of a volume of 128 mm, in voxels of 1 mm."""
    network = make_network(channels=(16, 32, 32, 32), seed=seed)
    parameters = predict(network, image(32, 32, 32, seed=1), image(32, 32, 32, seed=2))
    corners = torch.from_numpy(np.array(list(np.ndindex(2, 2, 2)))).float() * 128
    moved = transform_points(affine_matrix(parameters, torch.full((1, 3), 64.0)), corners[None])[0]
    assert 0 < (moved - corners).norm(dim=1).max() < 0.5


@pytest.mark.parametrize("gain", [1e7, -1e7, 1e9])
@torch.no_grad()
def test_outputs_stay_within_the_constraints_of_5_1(gain: float) -> None:
    network = make_network()
    network.output.weight.mul_(gain)
    found = predict(network, image(8, 8, 8, seed=1, batch=20), image(8, 8, 8, seed=2, batch=20))
    translation, rotation, scale, shear = found.split(3, 1)
    assert torch.isfinite(found).all()
    assert translation.abs().max() > 10
    for angle in (rotation, shear):
        assert 1 < angle.abs().max() <= math.pi + 1e-6
    assert 0.1 < (scale - 1).abs().max() <= 0.5


@torch.no_grad()
def test_the_whole_range_can_be_reached() -> None:
    network = make_network()
    for sign in (-1.0, 1.0):
        network.output.weight.zero_()
        network.output.bias.fill_(100 * sign)
        found = predict(network, image(8, 8, 8), image(8, 8, 8))[0]
        expected = [sign * 1e3] * 3 + [sign * math.pi] * 3 + [1 + sign / 2] * 3 + [sign * math.pi] * 3
        torch.testing.assert_close(found, torch.tensor(expected))


def test_gradients_reach_every_weight() -> None:
    network = make_network("strided")
    predict(network, image(16, 16, 16, seed=1), image(16, 8, 24, seed=2)).square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 0, name
