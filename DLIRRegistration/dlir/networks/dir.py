"""DIR: deformable image registration, Figure 3 and §2.2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlir.networks.blocks import Convolution, convolution, encoder, initialize
from dlir.networks.spec import StageSpec

# Scale of the untrained output: the first displacements stay within a fraction of a voxel. A fifth of this made the
# first hundred iterations a plateau.
_INITIAL_OUTPUT_SCALE = 5e-2


class DeformableNetwork(nn.Module):
    """Predicts a displacement per control point from a concatenated pair.

    Input (B, 2, z, y, x): fixed image and the moving image as warped so far, sizes divisible by the
    stage's grid spacing in voxels. Output (B, 3, gz, gy, gx): displacement of the control points as a
    fraction of the grid spacing along the grid's own x, y and z axes, one per cell of that spacing.
    """

    def __init__(self, spec: StageSpec) -> None:
        super().__init__()
        self.limit = spec.max_displacement
        width = spec.channels[-1]
        self.encoder = encoder(2, spec.channels[:-1], spec.strides(), spec.pooling)
        self.head = nn.Sequential(
            *convolution((2, *spec.channels)[-2], width, 3),
            *convolution(width, width, 3),
            *convolution(width, width, 1),
            *convolution(width, width, 1),
        )
        self.output = Convolution(width, 3, 1)
        initialize(self)
        with torch.no_grad():
            self.output.weight.mul_(_INITIAL_OUTPUT_SCALE)

    def watched_layers(self) -> tuple[nn.Module, ...]:
        """Those whose output says what the network takes the pair for."""
        return (self.encoder, self.head)

    def forward(self, pair: Tensor) -> Tensor:
        features = self.head(self.encoder(pair))
        # In single precision: a half-precision output would be off by hundredths of a millimetre on a coarse grid.
        with torch.autocast(features.device.type, enabled=False):
            raw: Tensor = self.output(features.to(self.output.weight.dtype))
        return raw if self.limit is None else self.limit * torch.tanh(raw / self.limit)
