"""One differentiable pass through the chain, up to the stage that is being trained (§2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlir.geometry import Shape3
from dlir.losses.regularization import bending_energy
from dlir.losses.similarity import ncc
from dlir.model.multistage import MultiStageModel
from dlir.training.data import Batch
from dlir.transforms.affine import transform_points
from dlir.transforms.dense import STAGE_TOLERANCE, SampledStage, StageField, sample_stage, trace
from dlir.transforms.sampling import Lattice, inside, lookup

# Samples per control spacing in the quadrature of the bending energy: within a tenth of the integral.
_ENERGY_SAMPLES = 2


@dataclass(frozen=True)
class ChainResult:
    """Similarity (B,) and bending energy (B,) of the last stage that ran, and its warped image."""

    similarity: Tensor
    bending: Tensor
    warped: Tensor


def _shape(image: Tensor) -> Shape3:
    z, y, x = image.shape[2:]
    return z, y, x


def _energy(model: MultiStageModel, stage: int, coefficients: Tensor, padded: Shape3, spacing: Tensor) -> Tensor:
    control = model.spec.control_spacing(stage)
    step = [max(c / _ENERGY_SAMPLES, 0.5) for c in control]
    shape = [int(padded[a] / step[2 - a]) for a in range(3)]
    lattice = Lattice((shape[0], shape[1], shape[2]), tuple((s - 1) / 2 for s in step), tuple(step))  # type: ignore[arg-type]
    positions = model.control_axes(stage, lattice.positions(coefficients.device))
    in_mm = coefficients * spacing[:, :, None, None, None]
    return bending_energy(in_mm, positions, spacing * spacing.new_tensor(control))


def run_chain(model: MultiStageModel, batch: Batch, last: int, *, end_to_end: bool) -> ChainResult:
    """Stages 0 to `last`; gradients reach the last one only, or all of them when `end_to_end`.

    The bending energy is that of the last stage, or the sum over all when `end_to_end`. Stages are composed
    as `dlir.registration` does it, so that the networks are trained for what they will meet.
    """
    device = batch.fixed.device
    fixed, moving, mask = (model.pad(image) for image in (batch.fixed, batch.moving, batch.mask))
    size = torch.tensor(_shape(batch.fixed)[::-1], device=device, dtype=torch.float32).expand(len(fixed), 3)
    voxel_size = batch.spacing.amax(0).tolist()
    matrix = torch.eye(4, device=device).expand(len(fixed), 4, 4)
    chain: list[StageField] = []
    coarser: list[SampledStage] = []
    bending = torch.zeros(len(fixed), device=device)
    similarity, warped = bending, moving
    for stage in range(last + 1):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (end_to_end or stage == last)):
            lattice = model.lattice(_shape(fixed), stage)
            images = [model.pool(image, stage) for image in (fixed, moving, mask)]
            if model.spec.stages[stage].kind == "affine":
                matrix = matrix @ model.predict_affine(stage, images[0], images[1], batch.spacing, size)
            else:
                current = lookup(images[1], lattice, transform_points(matrix, _trace(lattice, fixed, chain, coarser)))
                coefficients = model.predict_coefficients(stage, images[0], current)
                coarser[:0] = [sample_stage(field, voxel_size, STAGE_TOLERANCE) for field in chain[-1:]]
                chain.append(StageField(coefficients, model.spec.control_spacing(stage)))
                energy = _energy(model, stage, coefficients, _shape(fixed), batch.spacing)
                bending = bending + energy if end_to_end else energy
            if stage == last:
                target = transform_points(matrix, _trace(lattice, fixed, chain, coarser))
                warped, weight = _warp(images, lattice, target)
                similarity = ncc(images[0], warped, weight)
    return ChainResult(similarity, bending, warped)


def _trace(lattice: Lattice, batch: Tensor, chain: Sequence[StageField], coarser: Sequence[SampledStage]) -> Tensor:
    """Where the deformable stages so far move the points of a lattice: (B, z, y, x, 3)."""
    if chain:
        return trace(lattice, chain[-1], coarser)
    return lattice.points(batch.device).expand(len(batch), -1, -1, -1, -1)


def _warp(images: Sequence[Tensor], lattice: Lattice, target: Tensor) -> tuple[Tensor, Tensor]:
    """The moving image at `target` and which voxels count. images: fixed, moving, mask.

    Interpolation between image and padding takes the image's share alone, which repeats its border.
    """
    values, share = lookup(torch.cat([images[1], images[2]], 1), lattice, target).split(1, 1)
    weight = (images[2] > 0.5) & (share > 0.5) & inside(lattice, target)[:, None]
    return values / share.clamp(min=0.5), weight
