"""A chain of networks in which each stage sees the image as warped by the ones before it (§2.3, Figure 4).

Everything here lives in the continuous index space (x, y, z) of the fixed image's working grid: points,
displacements and coefficients are in its voxels. `dlir.registration` turns results into millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlir.geometry import Shape3
from dlir.model.spec import ModelSpec
from dlir.networks.air import AffineNetwork
from dlir.networks.dir import DeformableNetwork
from dlir.transforms.affine import affine_matrix
from dlir.transforms.bspline import pad_coefficients
from dlir.transforms.lattice import Lattice


class MultiStageModel(nn.Module):
    """The networks of a model, one per stage of its specification.

    `precision` is that of the convolutions; geometry is always single precision.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.precision = torch.float32
        self.networks = nn.ModuleList(
            AffineNetwork(stage) if stage.kind == "affine" else DeformableNetwork(stage) for stage in spec.stages
        )

    def pad(self, image: Tensor) -> Tensor:
        """Zero-pad (B, C, z, y, x) at the far ends to whole cells of every stage."""
        shape = tuple(image.shape[2:])
        target = self.spec.padded_shape(shape)  # type: ignore[arg-type]
        return F.pad(image, [v for a in (2, 1, 0) for v in (0, target[a] - shape[a])])

    def pool(self, image: Tensor, stage: int) -> Tensor:
        """Windowed average of a padded image to the resolution of a stage."""
        factors = self.spec.factors(stage)[::-1]
        return image if factors == (1, 1, 1) else F.avg_pool3d(image, factors)

    def lattice(self, padded: Shape3, stage: int) -> Lattice:
        """Where the pooled voxels of a stage lie in the working grid."""
        factors = self.spec.factors(stage)
        z, y, x = (padded[a] // factors[2 - a] for a in range(3))
        return Lattice.pooled((z, y, x), factors)

    def predict_coefficients(self, stage: int, fixed: Tensor, warped: Tensor) -> Tensor:
        """Coefficients (B, 3, gz, gy, gx) of a B-spline stage in working-grid voxels, padded for full support."""
        with self._autocast(fixed):
            fractions: Tensor = self.networks[stage](_concatenated(fixed, warped))
        spacing = fractions.new_tensor(self.spec.control_spacing(stage))
        padded: Tensor = pad_coefficients(fractions * spacing[:, None, None, None])
        return padded

    def predict_affine(
        self, stage: int, fixed: Tensor, moving: Tensor, spacing: Tensor, shapes: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(B, 4, 4) from fixed index to fixed index, about the centre of the fixed image.

        fixed, moving: padded and pooled. spacing: (B, 3) mm, (x, y, z), of the fixed working grid. shapes: (B, 3)
        voxels (z, y, x) of both working grids, without the padding, which makes no difference.
        """
        factors = shapes[0].new_tensor(self.spec.factors(stage)[::-1])
        with self._autocast(fixed):
            parameters = self.networks[stage](fixed, moving, (shapes[0] // factors, shapes[1] // factors))
        matrix = affine_matrix(parameters, (shapes[0].flip(1) - 1) / 2 * spacing)
        scale = torch.diag_embed(torch.cat([spacing, torch.ones_like(spacing[:, :1])], 1))
        result: Tensor = torch.linalg.inv(scale) @ matrix @ scale
        return result

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Keeps what the networks make of pairs while entered: for each stage (B, F), its features averaged over space.

        A pair unlike those of training shows in them; complete at the end, and on the CPU.
        """
        parts: list[list[Tensor]] = [[] for _ in self.networks]
        handles = [
            layer.register_forward_hook(partial(_keep, own))
            for network, own in zip(self.networks, parts, strict=True)
            for layer in network.watched_layers()  # type: ignore[operator]  # both kinds of network have it
        ]
        found: list[Tensor] = []
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()
        found += [torch.cat(own, 1).cpu() for own in parts if own]

    def _autocast(self, image: Tensor) -> torch.autocast:
        return torch.autocast(image.device.type, self.precision, enabled=self.precision != torch.float32)


def _keep(parts: list[Tensor], layer: nn.Module, inputs: object, output: Tensor) -> None:
    features = output.detach().float()
    parts.append(features if features.dim() == 2 else features.mean((2, 3, 4)))


def _concatenated(fixed: Tensor, warped: Tensor) -> Tensor:
    """Two images (B, 1, z, y, x) as two channels.

    On the CPU the channels of a voxel lie together, so that oneDNN keeps all layers in that order: convolutions of two
    channels and pooling take a fraction of the time.
    """
    if fixed.device.type == "cpu":
        return torch.stack([fixed[:, 0], warped[:, 0]], -1).movedim(-1, 1)
    return torch.cat([fixed, warped], 1)
