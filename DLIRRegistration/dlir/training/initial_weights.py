"""Initial weights from data: what a layer gives is centred and of unit spread over some pairs (Mishkin and Matas 2016).

With Glorot's weights alone (§5.1), what all places and pairs have in common, the brightness of the images, is far above
what tells them apart in every layer: stages learned nothing for some five hundred iterations, and much once they did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# A layer that gives the same everywhere, as for images without contrast, is left as it is.
_SAME = 1e-6


def recorded_inputs(network: nn.Module, run: Callable[[], object]) -> list[tuple[Tensor, ...]]:
    """What `network` is given while `run` runs, call by call."""
    calls: list[tuple[Tensor, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    try:
        run()
    finally:
        hook.remove()
    return calls


@torch.no_grad()
def adapt_to(network: nn.Module, calls: Sequence[tuple[Tensor, ...]]) -> None:
    """Scale and shift the layers of a fresh network, one after the other, to its inputs.

    network: AffineNetwork or DeformableNetwork. calls: its inputs. The last layer is shifted only: what it gives stays
    as small as the network made it. So are fully connected layers: pooled over whole images, features differ so little
    between pairs that unit spread made the first steps too large.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv3d, nn.Linear)):
            mean, deviation = (moment.to(layer.weight) for moment in _moments(network, layer, calls))
            assert layer.bias is not None
            layer.bias.sub_(mean)
            if isinstance(layer, nn.Conv3d) and layer is not network.output:
                scale = torch.where(deviation > _SAME, 1 / deviation, 1)
                layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
                layer.bias.mul_(scale)


def _moments(network: nn.Module, layer: nn.Module, calls: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """(channels,) mean and standard deviation of what a layer gives, before its rectifier, over all calls together."""
    parts: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Computed here, because a layer may give what its rectifier makes of it.
        values = module.forward(inputs[0]).float().transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(values, 1, correction=0)
        parts.append(torch.stack([mean, variance, torch.full_like(mean, values.shape[1])]).cpu())

    hook = layer.register_forward_pre_hook(keep)
    try:
        for inputs in calls:
            network(*inputs)
    finally:
        hook.remove()
    means, variances, counts = torch.stack(parts, 1).double()
    shares = counts / counts.sum(0)
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean).square())).sum(0)
    return mean.float(), variance.sqrt().float()
