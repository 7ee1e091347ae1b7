"""The deformable network of Figure 3: shapes, bounds, and how it starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dlir.networks.blocks import AveragePooling, Convolution
from dlir.networks.dir import DeformableNetwork
from dlir.networks.spec import StageSpec

POOLINGS = ("average", "strided")
HALVINGS = [(0, 0, 0), (1, 1, 1), (3, 3, 0), (2, 1, 0), (3, 2, 1)]


def make_network(
    halvings: tuple[int, int, int], pooling: str = "average", width: int = 4, limit: float | None = 0.4, seed: int = 0
) -> DeformableNetwork:
    torch.manual_seed(seed)
    x, y, z = (float(2**n) for n in halvings)
    return DeformableNetwork(StageSpec("bspline", (1, 1, 1), (width,) * (max(halvings) + 1), (x, y, z), pooling, limit))


def random_pair(cells: tuple[int, int, int], halvings: tuple[int, int, int], batch: int = 1) -> torch.Tensor:
    shape = [n * 2**h for n, h in zip(cells, halvings[::-1], strict=True)]
    return torch.rand(batch, 2, *shape, generator=torch.manual_seed(1))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("halvings", HALVINGS)
@pytest.mark.parametrize("cells", [(1, 1, 1), (2, 3, 4)])
def test_one_displacement_for_every_cell(
    halvings: tuple[int, int, int], pooling: str, cells: tuple[int, int, int]
) -> None:
    network = make_network(halvings, pooling)
    assert network(random_pair(cells, halvings, batch=2)).shape == (2, 3, *cells)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_two_networks_of_one_spec_differ_and_a_seed_repeats(pooling: str) -> None:
    pair = random_pair((2, 2, 2), (2, 2, 0))
    first, again, other = (make_network((2, 2, 0), pooling, seed=s)(pair) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_the_initial_field_is_a_fraction_of_a_voxel(pooling: str, seed: int) -> None:
    output = make_network((3, 3, 0), pooling, width=16, seed=seed)(random_pair((4, 5, 6), (3, 3, 0)))
    assert 0 < output.abs().max() * 8 < 0.5


@torch.no_grad()
def test_the_output_stays_within_its_limit() -> None:
    pair = random_pair((4, 5, 6), (2, 2, 0))
    bounded, free = (make_network((2, 2, 0), limit=limit) for limit in (0.4, None))
    for network in (bounded, free):
        network.output.weight.mul_(1e5)
    assert 0.39 < bounded(pair).abs().max() <= 0.4
    assert free(pair).abs().max() > 4


@torch.no_grad()
def test_the_limit_leaves_small_displacements_alone() -> None:
    pair = random_pair((4, 5, 6), (2, 2, 0))
    bounded, free = (make_network((2, 2, 0), limit=limit)(pair) for limit in (0.4, None))
    torch.testing.assert_close(bounded, free, rtol=1e-2, atol=0)


def test_gradients_reach_every_weight() -> None:
    network = make_network((2, 1, 0), "strided")
    network(random_pair((2, 2, 2), (2, 1, 0))).square().sum().backward()
    for name, weights in network.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().max() > 0, name


def test_half_precision_is_for_the_convolutions_only() -> None:
    network, pair = make_network((2, 2, 0)), random_pair((2, 2, 2), (2, 2, 0))
    with torch.autocast("cpu", torch.bfloat16):
        output = network(pair)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, network(pair), rtol=0, atol=1e-3)


# -- the blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [(2, 2, 2), (2, 2, 1), (1, 2, 1), (1, 1, 2), (2, 1, 2)])
@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 9)])
def test_pooling_is_windowed_averaging(stride: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    image = torch.rand(2, 3, *shape, generator=torch.manual_seed(0))
    torch.testing.assert_close(AveragePooling(stride)(image), nn.functional.avg_pool3d(image, stride[::-1]))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "shape"),
    [(3, 1, (1, 5, 6)), (3, 1, (12, 40, 40)), (1, 1, (2, 3, 4)), ((3, 4, 4), (1, 2, 2), (3, 8, 8))],
)
def test_the_fast_convolution_is_the_plain_one(
    kernel: int, stride: int, shape: tuple[int, int, int], channels_last: bool, batch: int
) -> None:
    torch.manual_seed(0)
    fast = Convolution(2, 5, kernel, stride, padding=0 if kernel == 1 else 1)
    image = torch.rand(batch, 2, *shape)
    if channels_last:
        fast, image = (t.to(memory_format=torch.channels_last_3d) for t in (fast, image))  # type: ignore[call-overload]
    expected = nn.Conv3d.forward(fast, image)
    with torch.inference_mode():
        torch.testing.assert_close(fast(image), expected)


def test_weights_start_as_glorot_says() -> None:
    """Uniform, within sqrt(6 / (inputs + outputs)) times the rectifier's gain; biases zero."""
    layer = next(m for m in make_network((1, 1, 1), width=16).modules() if isinstance(m, nn.Conv3d))
    bound = nn.init.calculate_gain("leaky_relu", 0.1) * (6 / (27 * (2 + 16))) ** 0.5
    assert 0.98 * bound < layer.weight.abs().max() <= bound
    assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.1)
    assert layer.bias is not None
    assert not layer.bias.any()
