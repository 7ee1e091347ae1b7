"""One differentiable pass through the stages, up to the one that is trained (§2.3), and what it is worth (§2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlir.geometry import Shape3
from dlir.losses.compared import Measure
from dlir.losses.regularization import bending_energy
from dlir.losses.similarity import ncc
from dlir.model.multistage import MultiStageModel
from dlir.model.stages import PairBatch, Predicted, run_stages
from dlir.training.batch import Batch, shape_of
from dlir.transforms.bspline import PADDING
from dlir.transforms.chain import Spline, follow_with_determinant
from dlir.transforms.lattice import Lattice, inside, lookup


@dataclass(frozen=True)
class ChainResult:
    """What the last stage that ran made of a batch.

    similarity: (B,), by the measure asked for. energies: bending energy (B,) of each stage so far, zero for an affine
    one. fixed, warped, weight: (B, 1, z, y, x) at the stage's resolution, and which voxels counted. lattice: where
    these lie in the fixed working grid. splines: the deformable stages, coarse to fine. linear: (B,), determinant of
    the affine part.
    """

    similarity: Tensor
    energies: tuple[Tensor, ...]
    fixed: Tensor
    warped: Tensor
    weight: Tensor
    lattice: Lattice
    splines: tuple[Spline, ...]
    linear: Tensor

    def determinant(self) -> Tensor:
        """(B, 1, z, y, x): Jacobian determinant on the lattice, without the start."""
        if not self.splines:
            return self.linear[:, None, None, None, None] * torch.ones_like(self.fixed)
        determinant = follow_with_determinant(self.splines, self.lattice)[1]
        return (self.linear[:, None, None, None] * determinant)[:, None]


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

    checkpointing: the networks' activations are computed again in the backward pass instead of being kept.
    """
    fixed, moving = model.pad(batch.fixed), model.pad(batch.moving)
    pairs = PairBatch(
        lambda stage: (model.pool(fixed[:, :1], stage), model.pool(moving[:, :1], stage)),
        batch.start,
        batch.spacing,
        batch.fixed_shapes,
        batch.moving_shapes,
    )
    done = run_stages(model, pairs, last, learns=lambda stage: end_to_end or stage == last, checkpointing=checkpointing)
    lattice, source = model.lattice(shape_of(fixed), last), model.lattice(shape_of(moving), last)
    target = done.points(lattice).movedim(1, -1)
    reference, _, counts = model.pool(fixed, last).split(1, 1)
    warped, present, moving_counts = lookup(model.pool(moving, last), source, target).split(1, 1)
    # Interpolation between image and padding takes the image's share alone, which repeats its border.
    warped = warped / present.clamp(min=0.5)
    weight = (counts > 0.5) & (present > 0.5) & (moving_counts > 0.5) & inside(source, target)[:, None]
    similarity = measure(reference, warped, weight)
    linear = torch.linalg.det(done.affine[:, :3, :3])
    energies = _energies(model, batch, done.predicted)
    return ChainResult(similarity, energies, reference, warped, weight, lattice, tuple(done.splines), linear)


def _energies(model: MultiStageModel, batch: Batch, predicted: Sequence[Sequence[Predicted]]) -> tuple[Tensor, ...]:
    """Bending energy (B,) of each stage, each pair's over its own image; zero for an affine one."""
    affine = len(model.spec.stages) and model.spec.stages[0].kind == "affine"
    none = [batch.spacing.new_zeros(len(batch.fixed))] if affine else []
    return (*none, *(_energy(model, k + len(none), batch, said) for k, said in enumerate(predicted)))


def _energy(model: MultiStageModel, stage: int, batch: Batch, said: Sequence[Predicted]) -> Tensor:
    control = model.spec.control_spacing(stage)
    found: dict[int, Tensor] = {}
    for some in said:
        alike: dict[Shape3, list[int]] = {}
        for place, member in enumerate(some.members):
            alike.setdefault(batch.fixed_shapes[member], []).append(place)
        for shape, places in alike.items():
            members = [some.members[place] for place in places]
            spacing = batch.spacing[members]
            in_mm = some.coefficients[places] * spacing[:, :, None, None, None]
            # From the border of the first voxel to that of the last one.
            ends = [(PADDING - 0.5, n / c + PADDING - 0.5) for n, c in zip(shape, control[::-1], strict=True)]
            energy = bending_energy(in_mm, ends, spacing * spacing.new_tensor(control))
            found |= zip(members, energy, strict=True)
    return torch.stack([found[k] for k in range(len(batch.fixed))])
