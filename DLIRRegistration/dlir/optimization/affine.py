"""Affine registration of one pair by optimisation: several starts, coarse to fine, the best of which go on.

From its start a map turns for little and stretches or shears for more: otherwise shrinking what is seen would fill a
fixed field of view with what is alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dlir.geometry import ImageGrid
from dlir.optimization.adam import Adam
from dlir.optimization.levels import Level, Pyramid, spacing_for
from dlir.optimization.objective import LocalSimilarity, Steering
from dlir.optimization.watch import Share
from dlir.transforms.affine import transform_points
from dlir.transforms.spatial import AffineTransform, CompositeTransform

# What turning, stretching and shearing by 1 cost, each squared.
_TURN, _STRETCH, _SHEAR = 0.1, 0.6, 0.6
# Gains below that are noise: of pairs that lie right they reach 0.012, of pairs 2 mm apart they begin at 0.04.
GAIN = 0.015
# Times its rate at first a round's rate at last, in its second half: without that, maps from two starts end 1 to 2 mm
# apart, and from its beginning it comes less far.
_SLOWER = 0.1
# Maps that are this close over the fixed image, as a part of its radius, are one.
_SAME = 0.15


@dataclass(frozen=True)
class _Round:
    """samples: of the fixed image, about. kept: candidates that go on to it. steps: of Adam. rate: at the first one."""

    samples: float
    kept: int
    steps: int
    rate: float

    @property
    def work(self) -> float:
        """What its time goes by."""
        return self.samples * self.kept * self.steps


_ROUNDS = (_Round(12_000, 8, 30, 0.03), _Round(30_000, 3, 25, 0.012), _Round(100_000, 1, 15, 0.005))
STEPS = sum(own.steps for own in _ROUNDS)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Where to begin: matrices (N, 4, 4), fixed point -> moving point, LPS mm, and what each is called."""

    matrices: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FoundAffine:
    """An optimum. transform: fixed point -> moving point, LPS mm. value: the mean over the fixed image of the squared
    local correlation, less what stretching costs, where it was last compared with others. start: what it began from.
    place: among the candidates of that round.
    """

    transform: CompositeTransform
    value: float
    start: str
    place: int


def best_affines(
    fixed: Pyramid,
    moving: Pyramid,
    candidates: Candidates,
    *,
    rigid: bool = False,
    stiffness: float = 1.0,
    gain: float = GAIN,
    steering: Steering | None = None,
    second: bool = False,
    share: Share | None = None,
) -> list[FoundAffine]:
    """Distinct optima, the best first; that one is found more exactly than the others.

    The first candidate, where it is the best, stays as it is if moving it gains next to nothing.

    rigid: neither stretch nor shear. stiffness: times what turning, stretching and shearing cost. gain: what moving
    the first candidate must gain at least, as a part of what lacks to full similarity. steering: landmarks that are to
    meet. second: the second best is found exactly, and comes first, where there is one. share: of the time; None for as
    long as it takes.
    """
    share = share or Share()
    search = _Search(fixed, moving, candidates, stiffness, steering, rigid=rigid)
    ranked = list[FoundAffine]()
    for number, own in enumerate(_ROUNDS):
        share.begin(own.work / sum(other.work for other in _ROUNDS[number:]))
        search.go_on(own, after=int(second and own.kept == 1 and len(ranked) > 1))
        for step in range(own.steps):
            if not share.goes_on():
                break
            search.step(step / own.steps)
        found = search.found()
        if own.kept > 1:
            ranked = distinct(found, fixed.grid)
        else:  # a round of one alone, whose value is comparable with no other's
            chosen = int(second and len(ranked) > 1)
            alone = replace(found[0], value=ranked[chosen].value)
            ranked = [alone, *ranked[:chosen], *ranked[chosen + 1 :]]
    first = search.first()
    if ranked[0].start == first.start and search.found()[0].value < first.value + gain * (1 - first.value):
        ranked[0] = replace(first, value=ranked[0].value)
    return [ranked[0], *(one for one in distinct(ranked, fixed.grid) if one is not ranked[0])]


class _Search:
    """Candidates on their way: the parameters (B, 12) of each, and Adam's state."""

    def __init__(
        self,
        fixed: Pyramid,
        moving: Pyramid,
        candidates: Candidates,
        stiffness: float,
        steering: Steering | None,
        *,
        rigid: bool,
    ) -> None:
        self._stiffness, self._steering = stiffness, steering
        self._fixed, self._moving = fixed, moving
        self._starts = candidates.matrices.float().to(fixed.device)
        self._first = Candidates(self._starts[:1], candidates.names[:1])
        self._names = candidates.names
        self._rigid = rigid
        self._center = torch.from_numpy(fixed.grid.center).float().to(fixed.device)
        self._radius = _radius(fixed.grid)
        self._best = torch.zeros(len(self._starts), 6 if rigid else 12, device=fixed.device)

    def go_on(self, own: _Round, after: int = 0) -> None:
        """With the best of the candidates, `after` so many others, at the resolution of the next round."""
        spacing = spacing_for(self._fixed.grid, own.samples)
        self._objective = _Objective(self._fixed.at(spacing), self._moving.at(spacing))
        with torch.no_grad():
            values = self._values(self._starts, self._best)
        best = [found.place for found in distinct(self._ranked(values), self._fixed.grid)[after : after + own.kept]]
        self._starts, self._names = self._starts[best], tuple(self._names[k] for k in best)
        self._parameters = self._best[best].clone().requires_grad_()
        self._optimizer, self._rate = Adam(self._parameters, own.rate), own.rate
        self._best = self._parameters.detach().clone()
        self._highest = torch.full((len(self._best),), -math.inf, device=self._best.device)

    def step(self, done: float) -> None:
        """done: part of the round."""
        values = self._values(self._starts, self._parameters)
        self._keep(values.detach())
        self._optimizer.rate = self._rate * _SLOWER ** max(0.0, 2 * done - 1)
        self._optimizer.step(*torch.autograd.grad(-values.sum(), self._parameters))

    def _keep(self, values: Tensor) -> None:
        """The present parameters of those candidates that are better than ever."""
        better = values > self._highest
        self._highest = torch.where(better, values, self._highest)
        self._best = torch.where(better[:, None], self._parameters.detach(), self._best)

    def found(self) -> list[FoundAffine]:
        """What each candidate has been at its best, the best first."""
        with torch.no_grad():
            self._keep(self._values(self._starts, self._parameters))
        return self._ranked(self._highest)

    def first(self) -> FoundAffine:
        """The first candidate as it was."""
        still = torch.zeros_like(self._best[:1])
        with torch.no_grad():
            value = float(self._values(self._first.matrices, still))
        matrix = self._first.matrices[0].double().cpu().numpy()
        return FoundAffine(CompositeTransform((AffineTransform(matrix),)), value, self._first.names[0], 0)

    def _ranked(self, values: Tensor) -> list[FoundAffine]:
        matrices = self._matrices(self._starts, self._best).double().cpu().numpy()
        order = values.argsort(descending=True, stable=True).tolist()
        return [
            FoundAffine(CompositeTransform((AffineTransform(matrices[k]),)), float(values[k]), self._names[k], k)
            for k in order
        ]

    def _matrices(self, starts: Tensor, parameters: Tensor) -> Tensor:
        return starts @ _matrices(parameters, self._center, self._radius)

    def _values(self, starts: Tensor, parameters: Tensor) -> Tensor:
        """(B,)"""
        matrices = self._matrices(starts, parameters)
        values = self._objective(matrices) - self._stiffness * _cost(parameters)
        if self._steering is not None:
            fixed, moving = (
                torch.from_numpy(own).to(matrices) for own in (self._steering.fixed, self._steering.moving)
            )
            apart = transform_points(matrices, fixed.expand(len(matrices), -1, -1)) - moving
            values = values - self._steering.cost(apart.square().sum(-1))
        return values


class _Objective:
    """The mean over a fixed image of the squared local correlation with a moving one, whatever the contrast."""

    def __init__(self, fixed: Level, moving: Level) -> None:
        self._shape, self._moving = fixed.grid.shape, moving
        self._similarity = LocalSimilarity(fixed.image, fixed.weight)
        points = fixed.grid.voxel_centers().reshape(1, -1, 3)
        self._points = torch.from_numpy(points).float().to(fixed.image.device)
        self._to_index = torch.from_numpy(moving.grid.physical_to_index).float().to(fixed.image.device)

    def __call__(self, matrices: Tensor) -> Tensor:
        """(B,), of maps (B, 4, 4) in LPS mm."""
        count = len(matrices)
        size = self._points.new_tensor(self._moving.grid.size)
        index = transform_points(self._to_index @ matrices, self._points.expand(count, -1, -1))
        within = ((index.detach() >= -0.5) & (index.detach() <= size - 0.5)).all(-1)
        places = (index * (2 / size) + (1 / size - 1)).reshape(count, *self._shape, 3)
        counts = within.float().reshape(count, 1, *self._shape)
        found = _look_up(self._moving.image, places)
        if self._moving.weight is not None:
            counts = counts * _look_up(self._moving.weight, places.detach())
        correlation, share = self._similarity(found, counts)
        return (correlation.square() * share).sum((1, 2, 3, 4)) / self._similarity.total


def _look_up(image: Tensor, places: Tensor) -> Tensor:
    image = image.expand(len(places), *image.shape[1:])
    return F.grid_sample(image, places, padding_mode="border", align_corners=False)


def _matrices(parameters: Tensor, center: Tensor, radius: float) -> Tensor:
    """(B, 4, 4) in mm, about a centre (3,): of shift in radii, rotation vector, and logarithm of scale and shear where
    there are twelve parameters.
    """
    shift, turn = parameters[:, :3] * radius, parameters[:, 3:6]
    linear = rotations(turn)
    if parameters.shape[1] > 6:
        scale, (xy, xz, yz) = parameters[:, 6:9].exp(), parameters[:, 9:].unbind(1)
        one, zero = torch.ones_like(xy), torch.zeros_like(xy)
        shear = torch.stack([one, xy, xz, zero, one, yz, zero, zero, one], 1).reshape(-1, 3, 3)
        linear = linear @ shear @ torch.diag_embed(scale)
    offset = shift + center - linear @ center
    matrix = torch.cat([linear, offset[:, :, None]], 2)
    last = matrix.new_tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(len(matrix), -1, -1)
    return torch.cat([matrix, last], 1)


def rotations(vectors: Tensor) -> Tensor:
    """(B, 3) axis times angle -> (B, 3, 3)."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    found: Tensor = torch.linalg.matrix_exp(cross)
    return found


def _cost(parameters: Tensor) -> Tensor:
    """(B,): what is taken off the objective."""
    cost = _TURN * parameters[:, 3:6].square().sum(1)
    if parameters.shape[1] > 6:
        cost = cost + _STRETCH * parameters[:, 6:9].square().sum(1) + _SHEAR * parameters[:, 9:].square().sum(1)
    return cost


# -- how far maps are apart ---------------------------------------------------------------------------


def distinct(found: Sequence[FoundAffine], grid: ImageGrid) -> list[FoundAffine]:
    """Without those that are nearly one before them over the fixed image."""
    kept: list[FoundAffine] = []
    for one in found:
        if all(_distance(one, other, grid) > _SAME * _radius(grid) for other in kept):
            kept.append(one)
    return kept


def _radius(grid: ImageGrid) -> float:
    """Root of the mean squared distance of an image's points from its centre, mm."""
    return float(np.linalg.norm(grid.extent)) / math.sqrt(12)


def _distance(a: FoundAffine, b: FoundAffine, grid: ImageGrid) -> float:
    """Root of the mean squared distance between two maps over the corners of half the image, mm."""
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) / (2 * math.sqrt(3))
    points = grid.to_physical((np.array(grid.size) - 1) / 2 + corners * np.array(grid.size))
    return float(np.sqrt(((a.transform.apply(points) - b.transform.apply(points)) ** 2).sum(1).mean()))
