"""Initial weights from data: what layers give is centred and of unit spread, and a stage learns from the first step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dlir.networks.air import AffineNetwork
from dlir.networks.dir import DeformableNetwork
from dlir.networks.spec import StageSpec
from dlir.training.initial_weights import adapt_to, recorded_inputs

AFFINE = StageSpec("affine", (2, 2, 2), (6, 8))
DEFORMABLE = StageSpec("bspline", (2, 2, 2), (4, 4, 6), (8, 8, 8))


def images(number: int, shape: tuple[int, int, int]) -> Tensor:
    """Bright images of little contrast, as most are."""
    generator = torch.manual_seed(number)
    return 0.6 + 0.1 * torch.rand(2, 1, *shape, generator=generator)


def network_and_calls(kind: str) -> tuple[nn.Module, list[tuple[Tensor, ...]]]:
    """A fresh network, and inputs of two sizes."""
    torch.manual_seed(0)
    shapes = [(12, 16, 20), (8, 16, 12)]
    if kind == "affine":
        sizes = [torch.tensor([shape, shape]) for shape in shapes]
        return AffineNetwork(AFFINE), [
            (images(k, shapes[k]), images(k + 5, shapes[k]), (sizes[k], sizes[k]))  # type: ignore[list-item]
            for k in range(2)
        ]
    return DeformableNetwork(DEFORMABLE), [
        (torch.cat([images(k, shape), images(k + 5, shape)], 1),) for k, shape in enumerate(shapes)
    ]


def given(network: nn.Module, calls: list[tuple[Tensor, ...]]) -> list[tuple[nn.Module, Tensor]]:
    """Each layer with what it gives over all calls, (channels, values), before the rectifier that follows."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.Linear))]
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, output: outputs.setdefault(module, []).append(
                output.detach().clone().transpose(0, 1).flatten(1)
            )
        )
        for layer in layers
    ]
    for inputs in calls:
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return [(layer, torch.cat(outputs[layer], 1)) for layer in layers]


@pytest.mark.parametrize("kind", ["affine", "deformable"])
def test_layers_are_centred_and_of_unit_spread(kind: str) -> None:
    network, calls = network_and_calls(kind)
    before = given(network, calls)
    assert any(bool((values.mean(1).abs() > 2 * values.std(1)).any()) for _, values in before)
    adapt_to(network, calls)
    *inner, (last, result) = given(network, calls)
    assert last is network.output
    for layer, values in inner:
        torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), rtol=0, atol=2e-3)
        if isinstance(layer, nn.Conv3d):
            torch.testing.assert_close(values.std(1, correction=0), torch.ones(len(values)), rtol=0, atol=5e-3)
    torch.testing.assert_close(result.mean(1), torch.zeros(len(result)), rtol=0, atol=1e-3)
    assert (result.std(1) > 0).all()
    assert (result.std(1) < 0.2).all()


@pytest.mark.parametrize("kind", ["affine", "deformable"])
def test_images_without_contrast_leave_no_nan(kind: str) -> None:
    network, calls = network_and_calls(kind)
    flat = [tuple(torch.zeros_like(v) if isinstance(v, Tensor) else v for v in inputs) for inputs in calls]
    adapt_to(network, flat)
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def test_inputs_are_recorded_call_by_call() -> None:
    network, calls = network_and_calls("deformable")
    found = recorded_inputs(network, lambda: [network(*inputs) for inputs in calls])
    assert [len(inputs) for inputs in found] == [1, 1]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(found, calls, strict=True))
    assert not network._forward_pre_hooks
