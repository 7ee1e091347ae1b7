"""What both networks are made of: 3x3x3 convolutions that alternate with 2x downsampling (§2.1, §2.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The paper's rectifiers (§5.1) with a small slope below zero: with a slope of 0, stages that start from an
# already aligned pair died in the first hundred iterations, every output of a layer negative.
_SLOPE = 0.1


def initialize(module: nn.Module) -> None:
    """Glorot's uniform distribution for weights, with the rectifier's gain, and zero for biases (§5.1)."""
    gain = nn.init.calculate_gain("leaky_relu", _SLOPE)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv3d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def rectifier() -> nn.Module:
    """The activation of every layer but the last."""
    return nn.LeakyReLU(_SLOPE, inplace=True)


class Convolution(nn.Conv3d):
    """nn.Conv3d that uses oneDNN for every size, and bfloat16 on the CPU only where that is right.

    For a single image on the CPU torch falls back on a slow path where channels x depth x rows is small, which made
    thin cine volumes up to ten times slower. And in bfloat16 its backward pass returns memory that nobody has written
    to as gradients of the weights where an axis is shorter than the kernel (seen with torch 2.13).
    """

    def forward(self, image: Tensor) -> Tensor:
        reduced = image.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if reduced and any(n < k for n, k in zip(image.shape[2:], self.kernel_size, strict=True)):
            with torch.autocast("cpu", enabled=False):
                return super().forward(image.to(self.weight.dtype))
        if not self._direct(image):
            return super().forward(image)
        padding = [int(p) for p in self.padding]
        result: Tensor = torch.mkldnn_convolution(
            image, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )
        return result

    def _direct(self, image: Tensor) -> bool:
        """Whether oneDNN can be called as it is."""
        plain = image.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
        return image.device.type == "cpu" and plain and torch.backends.mkldnn.is_available()


def convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """A zero-padded convolution that keeps the size, and its rectifier."""
    return [Convolution(inputs, outputs, kernel, padding=kernel // 2), rectifier()]


class AveragePooling(nn.Module):
    """Windowed averaging over 2 voxels along the axes of `stride` (x, y, z) that say 2; odd remainders are dropped.

    Slice by slice, because torch's 2D pooling reads channels-last memory as it lies and its 3D pooling copies it.
    """

    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        x, y, z = self.stride
        batch, _, depth = image.shape[:3]
        slices = image.transpose(1, 2).flatten(0, 1)
        pooled = F.avg_pool2d(slices, (y, x)).unflatten(0, (batch, depth))
        if z == 2:
            pooled = (pooled[:, 0 : depth - 1 : 2] + pooled[:, 1::2]) / 2
        result: Tensor = pooled.transpose(1, 2)
        return result


def downsampling(channels: int, stride: tuple[int, int, int], pooling: str) -> list[nn.Module]:
    """Halve the axes of `stride` (x, y, z), by averaging or by a strided convolution 4 wide on those axes (§7.1)."""
    steps = stride[::-1]
    if pooling == "average":
        return [AveragePooling(stride)]
    z, y, x = (4 if s == 2 else 3 for s in steps)
    return [Convolution(channels, channels, (z, y, x), steps, padding=1), rectifier()]


def encoder(
    inputs: int, channels: Iterable[int], strides: Iterable[tuple[int, int, int]], pooling: str
) -> nn.Sequential:
    """One convolution and one downsampling per level."""
    layers: list[nn.Module] = []
    for outputs, stride in zip(channels, strides, strict=True):
        layers += convolution(inputs, outputs, 3) + downsampling(outputs, stride, pooling)
        inputs = outputs
    return nn.Sequential(*layers)
