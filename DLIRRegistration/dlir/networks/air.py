"""AIR: affine image registration, Figure 2 and §2.1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlir.networks.blocks import AveragePooling, encoder, initialize, rectifier
from dlir.networks.spec import StageSpec

# Scale of the untrained output: over the whole image the first transforms stay within a fraction of a millimetre.
_INITIAL_OUTPUT_SCALE = 1e-2
# Voxels of the stage's images that one unit of the network's output translates by: with it, a unit of each of the 12
# outputs moves the image's border about as far, so that one learning rate suits them all.
_TRANSLATION_VOXELS = 10.0


class AffineNetwork(nn.Module):
    """Predicts the 12 parameters of an affine transform from two images that may differ in size.

    Inputs (B, 1, z, y, x), each at least 2**levels voxels per axis. Both pass through the same weights. Four numbers
    are left of each feature map: its global average, as in §2.1, and its first moments about the image's centre along
    z, y and x, which is a departure from §2.1. Two fully connected layers decode the pair.
    Why: an average over a whole map is the same wherever in the image a structure lies, but for what the border tells;
    the moments state the place. What they gain has not been measured apart; second moments were tried and gained
    nothing.
    Images of a batch that were padded to a common shape at the far ends come with their own `shapes`, (B, 3) each in
    (z, y, x): the result is then the same as for each of them alone.
    Output (B, 12), in the order of `dlir.transforms.affine`: translation in mm (unconstrained), rotation
    in [-pi, pi], scale in [0.5, 1.5], shear in [-pi, pi] (§5.1).
    """

    def __init__(self, spec: StageSpec) -> None:
        super().__init__()
        width = spec.channels[-1]
        self.pipeline = encoder(1, spec.channels, spec.strides(), spec.pooling)
        self.decoder = nn.Sequential(nn.Linear(8 * width, width), rectifier(), nn.Linear(width, width), rectifier())
        self.output = nn.Linear(width, 12)
        self.translation_mm = tuple(_TRANSLATION_VOXELS * length for length in spec.resolution)
        initialize(self)
        with torch.no_grad():
            self.output.weight.mul_(_INITIAL_OUTPUT_SCALE)

    def watched_layers(self) -> tuple[nn.Module, ...]:
        """Those whose output says what the network takes the pair for."""
        return (self.decoder,)

    def forward(self, fixed: Tensor, moving: Tensor, shapes: tuple[Tensor, Tensor]) -> Tensor:
        features = [self._features(image, shape) for image, shape in zip((fixed, moving), shapes, strict=True)]
        raw: Tensor = self.output(self.decoder(torch.cat(features, 1))).float()
        translation, rotation, scale, shear = raw.split(3, 1)
        return torch.cat(
            [
                translation * translation.new_tensor(self.translation_mm),
                math.pi * torch.tanh(rotation / math.pi),
                1 + torch.tanh(2 * scale) / 2,
                math.pi * torch.tanh(shear / math.pi),
            ],
            1,
        )

    def _features(self, image: Tensor, shape: Tensor) -> Tensor:
        """Means and first moments along z, y and x (B, 4 * channels) over the first `shape` voxels.

        Moments are in voxels of the stage's images, divided by `_TRANSLATION_VOXELS`, so that one that moves by that
        many voxels changes its moments by its means.

        Beyond them every layer finds the zeros that it would find beyond the border of an image without padding.
        """
        voxels = 1
        for layer in self.pipeline:
            image = layer(image)
            if isinstance(layer, (AveragePooling, nn.Conv3d)):
                stride = layer.stride if isinstance(layer, nn.Conv3d) else layer.stride[::-1]
                shape = shape // shape.new_tensor(stride)
                voxels *= max(stride)
            if not isinstance(layer, nn.Conv3d):
                image = image * _inside(shape, image)
        count = shape.prod(1, keepdim=True)
        sums = [image.float().sum((2, 3, 4))]
        for axis, size in enumerate(image.shape[2:]):
            place = torch.arange(size, device=image.device) - (shape[:, axis, None] - 1) / 2
            others = tuple(2 + a for a in range(3) if a != axis)
            sums.append((image.float().sum(others) * place[:, None] * voxels / _TRANSLATION_VOXELS).sum(2))
        return torch.cat(sums, 1) / count


def _inside(shape: Tensor, image: Tensor) -> Tensor:
    """(B, 1, z, y, x): 1 in the first `shape` voxels of each image."""
    z, y, x = (
        (torch.arange(size, device=image.device) < shape[:, axis, None]).to(image.dtype)
        for axis, size in enumerate(image.shape[2:])
    )
    return (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :])[:, None]
