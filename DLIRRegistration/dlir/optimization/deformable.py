"""One B-spline stage of a pair, found by optimisation, on top of what has been found (§2.2, §2.3).

A stage is what a network's would be: control points in the middle of cells, coefficients bounded so that it cannot
fold, composed with the transform so far. The moving image is warped by that once; the stage moves points within it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.losses.choices import Similarity
from dlir.losses.regularization import bending_energy, squared_divergence
from dlir.optimization.adam import Adam
from dlir.optimization.levels import Level, Pyramid, warped
from dlir.optimization.objective import LocalSimilarity, Steering, WholeSimilarity
from dlir.transforms.bspline import (
    PADDING,
    basis_matrix,
    control_positions,
    evaluate_points,
    expand,
    pad_coefficients,
)
from dlir.transforms.chain import Spline, to_millimetres
from dlir.transforms.inverse import InverseTransform
from dlir.transforms.spatial import BSplineTransform, CompositeTransform

# Parts of the control spacing that no coefficient exceeds: less than Choi and Lee's bound, so that no stage folds.
LIMIT = 0.4
# Adam's rate at a stage's first and last step, in control spacings.
_RATES = (0.03, 0.006)


@dataclass(frozen=True)
class Stage:
    """image, control: spacing of the samples and of the control points, mm. steps: of Adam. stiffness, tightness: what
    bending and changes of volume cost, see `_Objective`.
    """

    image: float
    control: float
    steps: int
    stiffness: float
    tightness: float = 0.0


@dataclass(frozen=True, eq=False)
class Improved:
    """transform: with the stage, or as it was where that is no better. before, after: the objective, more is better."""

    transform: CompositeTransform
    before: float
    after: float


def improve(
    fixed: Pyramid,
    moving: Pyramid,
    transform: CompositeTransform,
    stage: Stage,
    proceed: Callable[[int, float], bool],
    similarity: Similarity = Similarity.local_ncc,
    steering: Steering | None = None,
) -> Improved:
    """The transform (fixed point -> moving point, LPS mm) with one more stage in front of it.

    proceed: told how many steps are done and the objective; False ends the stage with the best so far.
    """
    onto = fixed.at(stage.image)
    objective = _Objective(onto, moving.at(stage.image), transform, stage, similarity, steering)
    raw = torch.zeros(1, 3, *objective.cells, device=fixed.device, requires_grad=True)
    optimizer = Adam(raw, _RATES[0])
    values, best = list[float](), raw.detach().clone()
    for step in range(stage.steps + 1):
        value = objective(raw)
        values.append(float(value.detach()))
        if values[-1] >= max(values):
            best = raw.detach().clone()
        if step == stage.steps or not proceed(step, values[-1]):
            break
        optimizer.rate = _RATES[0] * (_RATES[1] / _RATES[0]) ** (step / max(1, stage.steps - 1))
        optimizer.step(*torch.autograd.grad(-value, raw))
    if max(values) <= values[0]:
        return Improved(transform, values[0], values[0])
    return Improved(CompositeTransform((objective.spline(best), *transform.parts)), values[0], max(values))


class _Objective:
    """Similarity less the stage's bending energy times its stiffness, and its squared divergence times its tightness.

    The energy is that of §2.4 in control spacings instead of millimetres, so that a stiffness means the same at every
    resolution: coefficients that alternate between neighbours by a tenth of the spacing cost about as much everywhere.
    """

    def __init__(
        self,
        onto: Level,
        moving: Level,
        transform: CompositeTransform,
        stage: Stage,
        similarity: Similarity,
        steering: Steering | None,
    ) -> None:
        size = onto.grid.size
        self._steps = [
            min(max(1, round(stage.control / s)), n) for s, n in zip(onto.grid.spacing, size, strict=True)
        ]  # voxels (x, y, z) between control points
        # What lies beyond the border may belong into the image: as much of it as a stage can reach.
        self._reach = [math.ceil(LIMIT * s) for s in self._steps]
        around = [n + 2 * r for n, r in zip(size, self._reach, strict=True)]
        image, weight = warped(moving, transform, onto.grid.lattice([-r for r in self._reach], (1, 1, 1), around))
        self._grid, self._stiffness, self._tightness = onto.grid, stage.stiffness, stage.tightness
        self._content = image if weight is None else torch.cat([image, weight], 1)
        local = similarity is Similarity.local_ncc
        self._similarity = (
            LocalSimilarity(onto.image, onto.weight) if local else WholeSimilarity(similarity, onto.image, onto.weight)
        )
        x, y, z = (math.ceil(n / s) for n, s in zip(size, self._steps, strict=True))
        self.cells = (z, y, x)
        self._matrices = [
            basis_matrix(self._controls(torch.arange(size[axis]), axis), self.cells[2 - axis] + 2 * PADDING).to(image)
            for axis in (2, 1, 0)
        ]
        ends = [self._controls(torch.tensor([-0.5, size[axis] - 0.5]), axis).tolist() for axis in (2, 1, 0)]
        self._ends = [(low, high) for low, high in ends]
        # Twice between control points: the divergence of a cubic spline changes no faster.
        self._places = [torch.linspace(low, high, 2 * self.cells[axis] + 1) for axis, (low, high) in enumerate(ends)]
        self._points = onto.lattice.points(image.device)[None] + image.new_tensor(self._reach)
        self._size = image.new_tensor(around)
        self._spacing = image.new_tensor(self._steps)[:, None, None, None]
        self._landmarks = None if steering is None else _Landmarks(steering, transform, self._grid, self._steps, image)

    def _controls(self, voxels: Tensor, axis: int) -> Tensor:
        return control_positions(voxels.double(), self._steps[axis])

    def __call__(self, raw: Tensor) -> Tensor:
        fractions = _bounded(raw)
        moved = expand(fractions, self._matrices) * self._spacing
        places = (self._points + moved.movedim(1, -1)) * (2 / self._size) + (1 / self._size - 1)
        found = F.grid_sample(self._content, places, padding_mode="border", align_corners=False)
        counts = found[:, 1:].detach() if found.shape[1] > 1 else None
        value = self._similarity.mean(found[:, :1], counts)
        value = value - self._stiffness * bending_energy(fractions, self._ends, fractions.new_ones(1, 3))
        if self._tightness:
            value = value - self._tightness * squared_divergence(fractions, self._places)
        if self._landmarks is not None:
            value = value - self._landmarks.cost(fractions)
        return value[0]

    def spline(self, raw: Tensor) -> BSplineTransform:
        """The stage in LPS mm."""
        coefficients = (_bounded(raw) * self._spacing).double().cpu()
        x, y, z = self._steps
        return to_millimetres(Spline.of_cells(coefficients, (x, y, z)), self._grid)


class _Landmarks:
    """How far a stage leaves landmarks from where the transform after it needs them."""

    def __init__(
        self, steering: Steering, transform: CompositeTransform, grid: ImageGrid, steps: Sequence[int], like: Tensor
    ) -> None:
        wanted, known = InverseTransform(transform).solve(steering.moving)
        places = torch.from_numpy(grid.to_index(steering.fixed[known]))
        self._steering, self._steps = steering, like.new_tensor(steps)
        self._control = torch.stack(
            [control_positions(places[:, axis], step) for axis, step in enumerate(steps)], 0
        ).to(like)[None]
        moved = torch.from_numpy(grid.to_index(wanted[known]) - grid.to_index(steering.fixed[known]))
        self._wanted = moved.T.to(like)
        self._spacing = like.new_tensor(grid.spacing)[:, None]

    def cost(self, fractions: Tensor) -> Tensor:
        """Of a stage's coefficients (1, 3, gz, gy, gx), in control spacings: (1,)."""
        if not self._wanted.shape[1]:
            return fractions.new_zeros(1)
        moved = evaluate_points(fractions, self._control)[0][0] * self._steps[:, None]
        return self._steering.cost((((moved - self._wanted) * self._spacing) ** 2).sum(0)[None])


def _bounded(raw: Tensor) -> Tensor:
    """Coefficients in control spacings, padded, none beyond LIMIT."""
    return pad_coefficients(LIMIT * torch.tanh(raw / LIMIT))
