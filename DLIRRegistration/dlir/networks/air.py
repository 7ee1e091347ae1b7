"""AIR: affine image registration, Figure 2 and §2.1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlir.networks.blocks import encoder, initialize, rectifier
from dlir.networks.spec import StageSpec

# Scale of the untrained output: over the whole image the first transforms stay within a fraction of a millimetre.
_INITIAL_OUTPUT_SCALE = 1e-3
# Millimetres of translation per unit of the network's output, which is of order one like the others.
_TRANSLATION_SCALE = 100.0


class AffineNetwork(nn.Module):
    """Predicts the 12 parameters of an affine transform from two images that may differ in size.

    Inputs (B, 1, z, y, x), each at least 2**levels voxels per axis. Both pass through the same weights;
    global average pooling leaves one number per feature map, and two fully connected layers decode the pair.
    Output (B, 12), in the order of `dlir.transforms.affine`: translation in mm (unconstrained), rotation
    in [-pi, pi], scale in [0.5, 1.5], shear in [-pi, pi] (§5.1).
    """

    def __init__(self, spec: StageSpec) -> None:
        super().__init__()
        width = spec.channels[-1]
        self.pipeline = encoder(1, spec.channels, spec.strides(), spec.pooling)
        self.decoder = nn.Sequential(nn.Linear(2 * width, width), rectifier(), nn.Linear(width, width), rectifier())
        self.output = nn.Linear(width, 12)
        initialize(self)
        with torch.no_grad():
            self.output.weight.mul_(_INITIAL_OUTPUT_SCALE)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        features = [self.pipeline(image).mean((2, 3, 4)) for image in (fixed, moving)]
        raw: Tensor = self.output(self.decoder(torch.cat(features, 1))).float()
        translation, rotation, scale, shear = raw.split(3, 1)
        return torch.cat(
            [
                _TRANSLATION_SCALE * translation,
                math.pi * torch.tanh(rotation / math.pi),
                1 + torch.tanh(2 * scale) / 2,
                math.pi * torch.tanh(shear / math.pi),
            ],
            1,
        )
