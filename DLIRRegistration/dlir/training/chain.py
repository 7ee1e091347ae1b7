"""One differentiable pass through the chain, up to the stage that is being trained (§2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dlir.losses.regularization import bending_energy
from dlir.losses.similarity import ncc
from dlir.model.multistage import MultiStageModel
from dlir.training.data import Batch
from dlir.transforms.affine import transform_points
from dlir.transforms.sampling import Lattice, displace, inside, lookup

# Samples per control spacing in the quadrature of the bending energy; its integrand is quadratic per axis.
_ENERGY_SAMPLES = 2


@dataclass(frozen=True)
class ChainResult:
    """Similarity (B,) and bending energy (B,) of the last stage that ran, and its warped image."""

    similarity: Tensor
    bending: Tensor
    warped: Tensor


def _shape(image: Tensor) -> tuple[int, int, int]:
    z, y, x = image.shape[2:]
    return z, y, x


def _energy(model: MultiStageModel, stage: int, coefficients: Tensor, padded: tuple[int, int, int], spacing: Tensor) -> Tensor:
    control = model.spec.control_spacing(stage)
    step = [max(c / _ENERGY_SAMPLES, 0.5) for c in control]
    shape = [int(padded[a] / step[2 - a]) for a in range(3)]
    lattice = Lattice((shape[0], shape[1], shape[2]), tuple((s - 1) / 2 for s in step), tuple(step))  # type: ignore[arg-type]
    positions = model.control_axes(stage, lattice.positions(coefficients.device))
    in_mm = coefficients * spacing[:, :, None, None, None]
    return bending_energy(in_mm, positions, spacing * spacing.new_tensor(control))


def run_chain(
    model: MultiStageModel, batch: Batch, last: int, *, end_to_end: bool
) -> ChainResult:
    """Stages 0 to `last`; gradients reach the last one only, or all of them when `end_to_end`.

    The bending energy is that of the last stage, or the sum over all when `end_to_end`.
    """
    device = batch.fixed.device
    fixed, moving, mask = model.pad(batch.fixed), model.pad(batch.moving), model.pad(batch.mask)
    padded = _shape(fixed)
    size = torch.tensor(padded[::-1], device=device, dtype=torch.float32).expand(len(fixed), 3)
    matrix = torch.eye(4, device=device).expand(len(fixed), 4, 4)
    field: Tensor | None = None
    field_lattice = Lattice((1, 1, 1))
    bending = torch.zeros(len(fixed), device=device)
    similarity, warped = bending, moving
    for stage in range(last + 1):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (end_to_end or stage == last)):
            lattice = model.lattice(padded, stage)
            images = [model.pool(image, stage) for image in (fixed, moving)]
            points = lattice.points(device).expand(len(fixed), -1, -1, -1, -1)
            if model.spec.stages[stage].kind == "affine":
                matrix = matrix @ model.predict_affine(stage, images[0], images[1], batch.spacing, size)
            else:
                before = points if field is None else displace(points, lookup(field, field_lattice, points))
                current = lookup(images[1], lattice, transform_points(matrix, before))
                coefficients = model.predict_coefficients(stage, images[0], current)
                step = model.displacement(stage, coefficients, lattice)
                if field is not None:
                    step = step + lookup(field, field_lattice, displace(points, step))
                field, field_lattice = step, lattice
                energy = _energy(model, stage, coefficients, padded, batch.spacing)
                bending = bending + energy if end_to_end else energy
            if stage == last:
                target = transform_points(matrix, points if field is None else displace(points, field))
                weight = (model.pool(mask, stage) > 0.5) & inside(lattice, target)[:, None]
                weight = weight & (lookup(model.pool(mask, stage), lattice, target.detach(), "nearest") > 0.5)
                warped = lookup(images[1], lattice, target)
                similarity = ncc(images[0], warped, weight)
    return ChainResult(similarity, bending, warped)
