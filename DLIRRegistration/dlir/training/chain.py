"""One differentiable pass through the chain, up to the stage that is being trained (§2.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dlir.geometry import Shape3
from dlir.losses.regularization import bending_energy
from dlir.losses.similarity import ncc
from dlir.model.multistage import MultiStageModel
from dlir.training.batch import Batch
from dlir.transforms.affine import joins_centers, transform_points
from dlir.transforms.dense import (
    STAGE_TOLERANCE,
    SampledStage,
    StageField,
    sample_stage,
    trace,
    trace_with_determinant,
)
from dlir.transforms.lattice import Lattice, inside, lookup

# Similarity of (B, 1, z, y, x) images under a mask: (B,).
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]

# Samples per control spacing in the quadrature of the bending energy: within a tenth of the integral.
_ENERGY_SAMPLES = 2


@dataclass(frozen=True)
class ChainResult:
    """What the last stage that ran made of a batch.

    similarity: (B,), by the measure asked for. energies: bending energy (B,) of each stage so far, zero for an affine
    one. fixed, warped, weight: (B, 1, z, y, x) at the stage's resolution, and which voxels counted. lattice: where
    these lie in the fixed working grid. fields: the deformable stages, coarse to fine; coarser: all but the last,
    sampled, finest first. linear: (B,), determinant of the affine part.
    """

    similarity: Tensor
    energies: tuple[Tensor, ...]
    fixed: Tensor
    warped: Tensor
    weight: Tensor
    lattice: Lattice
    fields: tuple[StageField, ...]
    coarser: tuple[SampledStage, ...]
    linear: Tensor

    def determinant(self) -> Tensor:
        """(1, 1, z, y, x): Jacobian determinant on the lattice, of a batch of one pair, without the start."""
        if not self.fields:
            return self.linear * torch.ones_like(self.fixed)
        return self.linear * trace_with_determinant(self.lattice, self.fields[-1], self.coarser)[1]


def _shape(image: Tensor) -> Shape3:
    z, y, x = image.shape[2:]
    return z, y, x


def _predict(
    model: MultiStageModel, stage: int, fixed: Tensor, current: Tensor, batch: Batch, *, checkpointing: bool
) -> tuple[Tensor, Tensor]:
    """Coefficients (B, 3, gz, gy, gx) of a deformable stage on the batch's common grid, and bending energies (B,).

    fixed, current: images of the stage. Each pair is seen without the padding that others of its batch cause: networks
    find zeros beyond its border, its grid ends there, and its energy is that of its own domain, as in inference. Pairs
    of one size run together.
    """
    factors, cells = model.spec.factors(stage)[::-1], model.spec.control_spacing(stage)[::-1]
    whole = [n * f for n, f in zip(_shape(fixed), factors, strict=True)]
    alike: dict[Shape3, list[int]] = {}
    for number, shape in enumerate(batch.fixed_shapes):
        alike.setdefault(model.spec.padded_shape(shape), []).append(number)
    coefficients: dict[int, Tensor] = {}
    energies: dict[int, Tensor] = {}
    for padded, members in alike.items():
        z, y, x = (n // f for n, f in zip(padded, factors, strict=True))
        those: list[int] | slice = members if len(alike) > 1 else slice(None)  # no copy of a batch of one size
        images = (fixed[those, :, :z, :y, :x], current[those, :, :z, :y, :x])
        if checkpointing:
            own = checkpoint(model.predict_coefficients, stage, *images, use_reentrant=False)
        else:
            own = model.predict_coefficients(stage, *images)
        energy = _energy(model, stage, own, padded, batch.spacing[those])
        # The field is zero beyond its grid, and so are the coefficients that the common one has there.
        lacking = [(n - m) // c for n, m, c in zip(whole, padded, cells, strict=True)]
        own = F.pad(own, [v for n in reversed(lacking) for v in (0, n)])
        coefficients |= zip(members, own, strict=True)
        energies |= zip(members, energy, strict=True)
    order = range(len(fixed))
    return torch.stack([coefficients[k] for k in order]), torch.stack([energies[k] for k in order])


def _energy(model: MultiStageModel, stage: int, coefficients: Tensor, padded: Shape3, spacing: Tensor) -> Tensor:
    control = model.spec.control_spacing(stage)
    step = [max(c / _ENERGY_SAMPLES, 0.5) for c in control]
    shape = [int(padded[a] / step[2 - a]) for a in range(3)]
    lattice = Lattice((shape[0], shape[1], shape[2]), tuple((s - 1) / 2 for s in step), tuple(step))  # type: ignore[arg-type]
    positions = model.control_axes(stage, lattice.positions(coefficients.device))
    in_mm = coefficients * spacing[:, :, None, None, None]
    return bending_energy(in_mm, positions, spacing * spacing.new_tensor(control))


def run_chain(
    model: MultiStageModel,
    batch: Batch,
    last: int,
    *,
    end_to_end: bool,
    measure: Measure = ncc,
    checkpointing: bool = False,
) -> ChainResult:
    """Stages 0 to `last`; gradients reach the last one only, or all of them when `end_to_end`.

    Stages are composed as `dlir.registration` does it, so that the networks are trained for what they will meet.
    checkpointing: the networks' activations are computed again in the backward pass instead of being kept.
    """
    device = batch.fixed.device
    fixed, moving = model.pad(batch.fixed), model.pad(batch.moving)
    voxel_size = batch.spacing.amax(0).tolist()
    matrix = batch.start
    chain: list[StageField] = []
    coarser: list[SampledStage] = []
    energies: list[Tensor] = []
    for stage in range(last + 1):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (end_to_end or stage == last)):
            energy = torch.zeros(len(fixed), device=device)
            if model.spec.stages[stage].kind == "affine":
                matrix = matrix @ _predict_affine(model, stage, fixed, moving, batch)
            else:
                lattice = model.lattice(_shape(fixed), stage)
                points = transform_points(matrix, _trace(lattice, fixed, chain, coarser))
                source = model.lattice(_shape(moving), stage)
                current = lookup(model.pool(moving[:, :1], stage), source, _within(model, stage, batch, points))
                pooled = model.pool(fixed[:, :1], stage)
                coefficients, energy = _predict(model, stage, pooled, current, batch, checkpointing=checkpointing)
                coarser[:0] = [sample_stage(field, voxel_size, STAGE_TOLERANCE) for field in chain[-1:]]
                chain.append(StageField(coefficients, model.spec.control_spacing(stage)))
            energies.append(energy)
            if stage == last:
                lattice, source = model.lattice(_shape(fixed), stage), model.lattice(_shape(moving), stage)
                target = transform_points(matrix, _trace(lattice, fixed, chain, coarser))
                reference, _, counts = model.pool(fixed, stage).split(1, 1)
                warped, present, moving_counts = lookup(model.pool(moving, stage), source, target).split(1, 1)
                # Interpolation between image and padding takes the image's share alone, which repeats its border.
                warped = warped / present.clamp(min=0.5)
                weight = (counts > 0.5) & (present > 0.5) & (moving_counts > 0.5) & inside(source, target)[:, None]
                similarity = measure(reference, warped, weight)
    linear = torch.linalg.det(matrix[:, :3, :3]) / torch.linalg.det(batch.start[:, :3, :3])
    return ChainResult(
        similarity, tuple(energies), reference, warped, weight, lattice, tuple(chain), tuple(coarser), linear
    )


def _predict_affine(model: MultiStageModel, stage: int, fixed: Tensor, moving: Tensor, batch: Batch) -> Tensor:
    """(B, 4, 4) of the affine stage, from fixed index to fixed index, applied before the start.

    It compares the images about their own centres (§2.1). Where a pair does not start from there, it sees the moving
    image on the fixed grid, from where it starts.
    """
    reference, other = model.pool(fixed[:, :1], stage), model.pool(moving[:, :1], stage)
    shapes, moving_shapes = (
        torch.tensor(shapes, device=fixed.device) for shapes in (batch.fixed_shapes, batch.moving_shapes)
    )
    as_it_is = joins_centers(batch.start, shapes.flip(1), moving_shapes.flip(1))
    found = torch.zeros_like(batch.start)
    if as_it_is.any():
        images, sizes = (reference[as_it_is], other[as_it_is]), (shapes[as_it_is], moving_shapes[as_it_is])
        found[as_it_is] = model.predict_affine(stage, *images, batch.spacing[as_it_is], sizes)
    if not as_it_is.all():
        lattice, source = model.lattice(_shape(fixed), stage), model.lattice(_shape(moving), stage)
        points = transform_points(batch.start, lattice.points(fixed.device).expand(len(fixed), -1, -1, -1, -1))
        started = lookup(other, source, _within(model, stage, batch, points)) * _own(model, stage, batch, lattice)
        rest = ~as_it_is
        sizes = (shapes[rest], shapes[rest])
        found[rest] = model.predict_affine(stage, reference[rest], started[rest], batch.spacing[rest], sizes)
    return found


def _own(model: MultiStageModel, stage: int, batch: Batch, lattice: Lattice) -> Tensor:
    """(B, 1, z, y, x): 1 where each fixed image would have voxels were it alone in its batch."""
    factors = model.spec.factors(stage)[::-1]
    own = torch.zeros(len(batch.fixed_shapes), 1, *lattice.shape, device=batch.fixed.device)
    for mask, shape in zip(own, batch.fixed_shapes, strict=True):
        z, y, x = (n // f for n, f in zip(model.spec.padded_shape(shape), factors, strict=True))
        mask[:, :z, :y, :x] = 1
    return own


def _within(model: MultiStageModel, stage: int, batch: Batch, points: Tensor) -> Tensor:
    """Points no further out than the last voxels that each moving image would have were it alone in its batch."""
    factors = model.spec.factors(stage)
    ends = []
    for shape in batch.moving_shapes:
        padded = model.spec.padded_shape(shape)[::-1]
        ends.append([n // f * f - f + (f - 1) / 2 for n, f in zip(padded, factors, strict=True)])
    return torch.minimum(points, points.new_tensor(ends)[:, None, None, None])


def _trace(lattice: Lattice, batch: Tensor, chain: Sequence[StageField], coarser: Sequence[SampledStage]) -> Tensor:
    """Where the deformable stages so far move the points of a lattice: (B, z, y, x, 3)."""
    if chain:
        return trace(lattice, chain[-1], coarser)
    return lattice.points(batch.device).expand(len(batch), -1, -1, -1, -1)
