"""The loop of Figure 4 (§2.3): each stage sees the moving image as the ones before it warp it, and adds its own part.

One-shot registration and training both run it, so that networks are trained for what they will meet. Everything lives
in the continuous index space (x, y, z) of the fixed images' working grids; `dlir.registration` makes millimetres of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dlir.geometry import Shape3
from dlir.model.multistage import MultiStageModel
from dlir.transforms.affine import joins_centers
from dlir.transforms.chain import Spline, follow
from dlir.transforms.lattice import Lattice, lookup

# Elements off the identity that move no point of an image by this many voxels are rounding.
_NO_TURN = 1e-9


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of images as the stages see them.

    seen: fixed and moving images, (B, 1, z, y, x) each, at the resolution of a stage, padded to whole cells.
    start: (B, 4, 4) from index (x, y, z) of the fixed image to index of the moving image, before the first stage.
    spacing: (B, 3) mm per voxel of the fixed images, (x, y, z). shapes, moving_shapes: (z, y, x) of each image without
    any padding. rigid: whether the start neither stretches nor shears.
    """

    seen: Callable[[int], tuple[Tensor, Tensor]]
    start: Tensor
    spacing: Tensor
    shapes: tuple[Shape3, ...]
    moving_shapes: tuple[Shape3, ...]
    rigid: bool = True

    def padded(self, model: MultiStageModel) -> tuple[Shape3, Shape3]:
        """Shapes that all fixed, and all moving, images are padded to."""
        fixed, moving = (
            model.spec.padded_shape((max(s[0] for s in shapes), max(s[1] for s in shapes), max(s[2] for s in shapes)))
            for shapes in (self.shapes, self.moving_shapes)
        )
        return fixed, moving


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a deformable stage said of some pairs of a batch: coefficients (b, 3, gz, gy, gx) on their own grid."""

    members: list[int]
    coefficients: Tensor


@dataclass(eq=False)
class Progressed:
    """Where a batch stands: x goes through `splines`, the finest (last) first, then through `matrix`.

    matrix: (B, 4, 4) to the moving images' index, of the affine stage and the start. affine: (B, 4, 4) of the affine
    stage alone. splines: of the deformable stages so far, coarse to fine, in voxels. predicted: for each of them, pair
    by pair without the padding that others of its batch cause.
    """

    matrix: Tensor
    affine: Tensor
    splines: list[Spline] = field(default_factory=list)
    predicted: list[list[Predicted]] = field(default_factory=list)

    def points(self, lattice: Lattice) -> Tensor:
        """(B, 3, z, y, x): where the points of a lattice are found in the moving images."""
        if self.splines:
            points = lattice.displaced(follow(self.splines, lattice)).flatten(2)
        else:
            points = lattice.rows(self.matrix)[None].expand(len(self.matrix), -1, -1)
        found: Tensor = (self.matrix[:, :3, :3] @ points + self.matrix[:, :3, 3:]).unflatten(2, lattice.shape)
        return found


def run_stages(
    model: MultiStageModel,
    batch: PairBatch,
    last: int,
    *,
    learns: Callable[[int], bool] = lambda stage: True,
    checkpointing: bool = False,
    timed: Callable[[str, int], AbstractContextManager[None]] = lambda step, stage: nullcontext(),
) -> Progressed:
    """Stages 0 to `last`.

    learns: whether gradients reach a stage. checkpointing: the networks' activations are computed again in the backward
    pass instead of being kept. timed: entered around each step of a stage, "compose" or "networks".
    """
    now = Progressed(batch.start, torch.eye(4).to(batch.start).expand_as(batch.start))
    for stage in range(last + 1):
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns(stage)):
            fixed, moving = batch.seen(stage)
            affine = model.spec.stages[stage].kind == "affine"
            with timed("compose", stage):
                as_it_is = _centered(batch) if affine else torch.zeros(len(fixed), dtype=torch.bool)
                warped = moving if as_it_is.all() else _warped(model, stage, batch, now, moving)
            with timed("networks", stage):
                if affine:
                    now.affine = _predict_affine(model, stage, batch, fixed, moving, warped, as_it_is)
                    now.matrix = batch.start @ now.affine
                else:
                    spline, predicted = _predict_spline(model, stage, batch, fixed, warped, checkpointing=checkpointing)
                    now.splines.append(spline)
                    now.predicted.append(predicted)
    return now


def _warped(model: MultiStageModel, stage: int, batch: PairBatch, now: Progressed, moving: Tensor) -> Tensor:
    """The moving images at the resolution of a stage, as all before it moves them."""
    padded, moving_padded = batch.padded(model)
    lattice, source = model.lattice(padded, stage), model.lattice(moving_padded, stage)
    one = torch.eye(4).to(now.matrix)
    if not now.splines and lattice == source and float((now.matrix - one).detach().abs().max()) < _NO_TURN:
        return moving  # as two phases of one cine are
    return lookup(moving, source, _within(model, stage, batch, now.points(lattice)).movedim(1, -1))


def _within(model: MultiStageModel, stage: int, batch: PairBatch, points: Tensor) -> Tensor:
    """Points (B, 3, z, y, x) no further out than the last voxels that each moving image would have were it alone."""
    factors = model.spec.factors(stage)
    ends = []
    for shape in batch.moving_shapes:
        padded = model.spec.padded_shape(shape)[::-1]
        ends.append([n // f * f - f + (f - 1) / 2 for n, f in zip(padded, factors, strict=True)])
    return torch.minimum(points, points.new_tensor(ends)[..., None, None, None])


# -- affine -------------------------------------------------------------------------------------------


def _centered(batch: PairBatch) -> Tensor:
    """(B,): whether the start does no more than bring the images' centres together: an affine stage, which compares
    them about these, then sees both as they are (§2.1).
    """
    sizes, moving_sizes = (torch.tensor(shapes).flip(1) for shapes in (batch.shapes, batch.moving_shapes))
    return joins_centers(batch.start.cpu(), sizes, moving_sizes) & batch.rigid


def _predict_affine(
    model: MultiStageModel,
    stage: int,
    batch: PairBatch,
    fixed: Tensor,
    moving: Tensor,
    warped: Tensor,
    as_it_is: Tensor,
) -> Tensor:
    """(B, 4, 4), from fixed index to fixed index, applied before the start.

    It compares the images about their own centres (§2.1). Where a pair does not start from there, it sees the moving
    image on the fixed grid, from where it starts.
    """
    shapes, moving_shapes = (torch.tensor(s, device=fixed.device) for s in (batch.shapes, batch.moving_shapes))
    found = torch.zeros_like(batch.start)
    if as_it_is.any():
        images, sizes = (fixed[as_it_is], moving[as_it_is]), (shapes[as_it_is], moving_shapes[as_it_is])
        found[as_it_is] = model.predict_affine(stage, *images, batch.spacing[as_it_is], sizes)
    if not as_it_is.all():
        rest = ~as_it_is
        sizes = (shapes[rest], shapes[rest])
        started = warped * _own(model, stage, batch, warped)
        found[rest] = model.predict_affine(stage, fixed[rest], started[rest], batch.spacing[rest], sizes)
    return found


def _own(model: MultiStageModel, stage: int, batch: PairBatch, image: Tensor) -> Tensor:
    """(B, 1, z, y, x): 1 where each fixed image would have voxels were it alone in its batch."""
    factors = model.spec.factors(stage)[::-1]
    own = torch.zeros_like(image)
    for mask, shape in zip(own, batch.shapes, strict=True):
        z, y, x = (n // f for n, f in zip(model.spec.padded_shape(shape), factors, strict=True))
        mask[:, :z, :y, :x] = 1
    return own


# -- B-splines ----------------------------------------------------------------------------------------


def _predict_spline(
    model: MultiStageModel, stage: int, batch: PairBatch, fixed: Tensor, warped: Tensor, *, checkpointing: bool
) -> tuple[Spline, list[Predicted]]:
    """A deformable stage on the batch's common grid, and what it said of each pair.

    Each pair is seen without the padding that others of its batch cause: networks find zeros beyond its border, and its
    grid ends there, as in inference. Pairs of one size run together.
    """
    factors, cells = model.spec.factors(stage)[::-1], model.spec.control_spacing(stage)[::-1]
    whole = [n * f for n, f in zip(fixed.shape[2:], factors, strict=True)]
    alike: dict[Shape3, list[int]] = {}
    for number, shape in enumerate(batch.shapes):
        alike.setdefault(model.spec.padded_shape(shape), []).append(number)
    common: dict[int, Tensor] = {}
    predicted = []
    for padded, members in alike.items():
        z, y, x = (n // f for n, f in zip(padded, factors, strict=True))
        those: list[int] | slice = members if len(alike) > 1 else slice(None)  # no copy of a batch of one size
        images = (fixed[those, :, :z, :y, :x], warped[those, :, :z, :y, :x])
        if checkpointing:
            own = checkpoint(model.predict_coefficients, stage, *images, use_reentrant=False)
        else:
            own = model.predict_coefficients(stage, *images)
        predicted.append(Predicted(members, own))
        # The field is zero beyond its grid, and so are the coefficients that the common one has there.
        lacking = [(n - m) // c for n, m, c in zip(whole, padded, cells, strict=True)]
        common |= zip(members, F.pad(own, [v for n in reversed(lacking) for v in (0, n)]), strict=True)
    coefficients = torch.stack([common[k] for k in range(len(fixed))])
    return Spline.of_cells(coefficients, model.spec.control_spacing(stage)), predicted
