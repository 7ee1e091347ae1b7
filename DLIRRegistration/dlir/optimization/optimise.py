"""A transform for one pair without a network, or better than a network's: affine, then stages within a budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.losses.choices import Similarity
from dlir.model.preprocessing import shows
from dlir.optimization import affine
from dlir.optimization.affine import GAIN, Candidates, FoundAffine, best_affines, distinct
from dlir.optimization.budget import Budget
from dlir.optimization.candidates import candidates
from dlir.optimization.choices import Kind
from dlir.optimization.contrast import turning
from dlir.optimization.deformable import Stage, improve
from dlir.optimization.levels import Level, Pyramid, grid_at, spacing_for, warped
from dlir.optimization.objective import LocalSimilarity, Steering
from dlir.optimization.perturbed import perturbations
from dlir.optimization.plan import COARSE, SAMPLES, affordable_plan, plan, stiffened, work
from dlir.optimization.watch import Progressed, Share, Watch
from dlir.transforms.lattice import inside, lookup
from dlir.transforms.spatial import AffineTransform, CompositeTransform, Points

# Samples and steps that the time of a step is measured with, and how much of the time that is left is planned for.
_PROBED_SAMPLES, _PROBED_STEPS, _PLANNED = 100_000, 3, 0.97
# A stage that is to converge ends after so many times its steps.
_LONGER = 5
# The way back is found by so many steps, with so many samples at the finest; in no more than such a part of the time
# that was given, nor so many seconds.
_TURNED, _TURNED_SAMPLES, _TURNED_PART, _TURNED_MOST = 100, 60_000, 0.4, 3.0
# The part of the time that was given in which images are compared mirrored: a second and a half of ten.
_MIRRORED_PART = 0.15
# Fine stages that a displaced result is found again by.
_AGAIN = 2
# Images whose mean local correlation is lower after the affine part differ in contrast, and those of which it is a
# smaller part of what it is without its sign: 0.49 and more, and 0.91 and more, two scanners included, against 0.39 and
# less, and 0.79 and less, between CT and MR.
_ALIKE, _SIGNED, _CONTRAST_SAMPLES = 0.45, 0.9, 30_000
# Nor have those of which more than that rises and falls with the other: 0.0005 at most of pairs of one contrast that
# tune, where it arrives included, but 0.004 of one that does not; against 0.002 to 0.25 through curves that rise and
# fall, of which the smallest do little harm. Of voxels that count by more than a part.
_TURNING, _WHOLE = 0.01, 0.5
# Times what stretching costs then, what moving must gain, and the part of the best value that suffices to stay near the
# first start.
_STIFFER, _STIFF_GAIN, _NEAR = 5.0, 0.025, 0.75
DEFAULT, ACROSS = Similarity.local_ncc, Similarity.mutual_information
# Stages across contrasts may lead back to so many samples from where they began: 0.2 to 0.5 where they are right, 1.5
# and more between CT and MR.
_AGREED, _AGREED_STEPS = 0.5, 60
# Next to nothing moves where the median of what shows something moves by less than so many samples of the finest stages
# and 95 % of it by less than so many times that, and where the local correlation gains less than such a part of what it
# lacked. Contrast that arrives: 0.3 to 0.6, 2 to 4, and up to 0.09. Two persons: 0.75 and more, 2 to 5, 0.11 and more.
# Beating hearts: 0.1 to 0.25, 11 and more, 0.07 to 0.14.
_LITTLE, _UNEVEN, _GAINED = 0.8, 6.0, 0.12


@dataclass(frozen=True, eq=False)
class Optimised:
    """transform: fixed point -> moving point, LPS mm. begun: what it began from; None where that was looked for.

    affines: distinct optima of the affine part, the best first; none where there was no such part. stages: the
    objective before and after each. steps: of the stages, in all. planned: how many stages were to be. seconds: that it
    took. alike: whether the images have the same contrast, as far as that was asked. slight: whether next to nothing
    moves between them. similarity: of the stages. stopped: whether it was ended before its plan's end.
    """

    transform: CompositeTransform
    begun: CompositeTransform | None
    affines: list[FoundAffine]
    stages: list[tuple[float, float]]
    steps: int
    planned: int
    seconds: float
    alike: bool
    slight: bool
    similarity: Similarity
    stopped: bool


@dataclass(frozen=True)
class Aim:
    """kind: how far a transform may go. steering: landmarks that are to meet. second: from the second best position.

    similarity: of the stages; None for local correlation where the contrast is the same, else mutual information, or no
    stages, where these would not agree in both directions.
    """

    kind: Kind = Kind.deformable
    similarity: Similarity | None = None
    steering: Steering | None = None
    second: bool = False

    def turned(self) -> Aim:
        """With the roles of the images exchanged."""
        old = self.steering
        return replace(self, steering=old and Steering(old.moving, old.fixed, old.weight))


class Optimisation:
    """One pair, ready to be optimised.

    fixed, moving: the images; fixed_mask, moving_mask: where they count, on their voxels.
    """

    def __init__(
        self,
        fixed: Volume,
        moving: Volume,
        fixed_mask: Volume | None = None,
        moving_mask: Volume | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._fixed, self._moving = Pyramid(fixed, fixed_mask, device), Pyramid(moving, moving_mask, device)
        self._paces: dict[Similarity, float] = {}  # of a step, in seconds a sample, once that was measured

    def run(
        self,
        budget: Budget,
        aim: Aim | None = None,
        start: CompositeTransform | None = None,
        stop: Callable[[], bool] = lambda: False,
        tell: Callable[[Progressed], None] = lambda progressed: None,
    ) -> Optimised:
        """Within a budget; a result is never worse than what it began with, by the objective of each stage.

        start: a linear one is where the affine part begins; one that is not is only made better by fine stages. None
        looks for one. stop: asked before each step; True ends the work with the best so far. tell: told of each step.
        """
        self._paces.clear()  # the machine may have become busier
        return self._run(Watch(budget, stop, tell), aim or Aim(), start, SAMPLES)

    def _run(
        self, watch: Watch, aim: Aim, start: CompositeTransform | None, samples: float, known: Optimised | None = None
    ) -> Optimised:
        """known: what kind of pair it is, where that was found before."""
        fine = start is not None and not start.linear
        transform, affines, alike = start, list[FoundAffine](), True
        if transform is None or not fine:
            begin = candidates(self._fixed, self._moving, start, watch.searches)
            self._require_meeting(begin)
            affines = self._best(begin, aim, watch)
            if known is not None:
                alike = known.alike
            elif aim.similarity is None and not watch.over():
                alike = self._of_one_contrast(begin, affines, aim, watch)
            if not alike:
                affines = self._stiff_affine(begin, aim, watch)
            transform = affines[0].transform
        stages, expected, slight = list[tuple[float, float]](), 0, False
        bends = aim.kind is Kind.deformable and not watch.over()
        if aim.kind is Kind.deformable and not bends:
            expected = len(plan(self._fixed.grid, samples, fine=fine))  # it was ended before the first of them
        if bends and not alike:
            bends = self._agrees(transform, watch) if known is None else bool(known.stages)
            aim = replace(aim, similarity=ACROSS)
        if bends:
            planned = self._plan(watch, transform, aim, samples, fine=fine)
            begun = 0 if fine else min(COARSE, len(planned))  # few steps leave some stages out
            tried = 0 if known is not None and (known.slight or not alike) else begun
            moved = self._improved(transform, planned, range(tried), aim, watch, stages)
            slight = self._slight(moved, transform.affine_part) if known is None else known.slight
            if slight and known is None and watch.left is not None:
                surely = plan(self._fixed.grid, SAMPLES, fine=fine)
                if surely[0].image < planned[0].image:  # so few samples do not show what moves
                    stages.clear()
                    moved = self._improved(transform, surely, range(begun), aim, watch, stages)
                    slight = self._slight(moved, transform.affine_part)
                    planned = self._plan(watch, transform, aim, samples, fine=fine)
            if not alike or slight:
                planned = stiffened(planned)
                if not fine:
                    moved = transform
                    stages.clear()
            expected = len(stages) + len(planned) - begun
            transform = self._improved(moved, planned, range(begun, len(planned)), aim, watch, stages)
        used = aim.similarity or DEFAULT
        counts = watch.steps, expected
        return Optimised(transform, start, affines, stages, *counts, watch.seconds, alike, slight, used, watch.ended)

    def _of_one_contrast(self, begun: Candidates, affines: list[FoundAffine], aim: Aim, watch: Watch) -> bool:
        # Landmarks may lead away from where the images are alike, and say nothing of their contrast.
        free = affines if aim.steering is None else self._best(begun, replace(aim, steering=None), watch)
        mean, signed = self._correlation(free[0].transform)
        return mean >= _ALIKE and signed >= _SIGNED and self._turning(free[0].transform) < _TURNING

    def _require_meeting(self, begun: Candidates) -> None:
        """Raises GeometryError where masks have nothing in common, wherever it begins."""
        if not (self._fixed.masked or self._moving.masked):
            return
        fixed, moving = self.levels(_CONTRAST_SAMPLES)
        points = fixed.grid.voxel_centers().reshape(-1, 3)
        if fixed.weight is not None:
            points = points[(fixed.weight > 0).cpu().numpy().ravel()]
        for matrix in begun.matrices.numpy():
            index = moving.grid.to_index(AffineTransform(matrix).apply(points))
            places = torch.from_numpy(index).to(moving.image.device)[None]
            counts = inside(moving.lattice, places)
            if moving.weight is not None:
                counts = counts & (lookup(moving.weight, moving.lattice, places.float())[:, 0] > 0)
            if bool(counts.any()):
                return
        raise GeometryError(
            "the masks of the two images have nothing in common where the registration begins; draw them about the "
            "same structure, give another start, or leave one out"
        )

    def _agrees(self, transform: CompositeTransform, watch: Watch) -> bool:
        """Whether stages of an affine map lead back where they came from, if the images exchange their roles: between
        CT and MR they do not, and every one that was tried made such pairs worse.
        """
        ways = list[CompositeTransform]()
        matrix = transform.affine_part.matrix
        for pair, own in ((self, matrix), (self._exchanged(), np.asarray(np.linalg.inv(matrix), float))):
            stages = stiffened(plan(pair._fixed.grid, _TURNED_SAMPLES, _AGREED_STEPS, fine=False))
            way = CompositeTransform((AffineTransform(own),))
            for stage in stages:
                found = improve(pair._fixed, pair._moving, way, stage, lambda step, value: not watch.over(), ACROSS)
                way = found.transform
            ways.append(way)
        points = self._shown()
        sent = ways[0].apply(points)
        if watch.over():
            return False
        apart = there_and_back(points, sent, ways[1], self._moving.grid)
        return apart < _AGREED * spacing_for(self._fixed.grid, _TURNED_SAMPLES)

    def _exchanged(self) -> Optimisation:
        """The same pair with the roles of the images exchanged."""
        other = copy(self)
        other._fixed, other._moving = self._moving, self._fixed
        return other

    def _shown(self) -> Points:
        """(N, 3) LPS mm: where the fixed image shows something, in a mask and a few voxels beyond; all of it where it
        shows nothing.
        """
        fixed, _ = self.levels(_CONTRAST_SAMPLES)
        shown = shows(fixed.image).cpu().numpy().ravel()
        points: Points = fixed.grid.voxel_centers().reshape(-1, 3)[shown if shown.any() else slice(None)]
        return points

    def _improved(
        self,
        transform: CompositeTransform,
        planned: Sequence[Stage],
        which: Sequence[int],
        aim: Aim,
        watch: Watch,
        stages: list[tuple[float, float]],
    ) -> CompositeTransform:
        """With some of the planned stages; what each does to its objective is added to `stages`."""
        for number in which:
            if watch.over():
                break
            for image in (self._fixed, self._moving):  # which takes time, of large ones
                image.at(planned[number].image)
                if watch.over():
                    return transform
            left = work(self._fixed.grid, planned[number:])
            later = work(self._fixed.grid, planned[number + 1 :]) / left if left else 0.0
            proceed = watch.of_stage(number, planned, later)
            similarity = aim.similarity or DEFAULT
            found = improve(self._fixed, self._moving, transform, planned[number], proceed, similarity, aim.steering)
            transform = found.transform
            stages.append((found.before, found.after))
        return transform

    def _slight(self, transform: CompositeTransform, before: CompositeTransform) -> bool:
        """Whether two transforms differ by little, and nowhere by much more than elsewhere: noise and contrast do that
        all over an image, and a heart that beats does not.
        """
        points = self._shown()
        moved = np.linalg.norm(transform.apply(points) - before.apply(points), axis=1)
        middle, most = np.percentile(moved, (50, 95))
        if middle >= _LITTLE * spacing_for(self._fixed.grid, SAMPLES) or most >= _UNEVEN * middle:
            return False
        (was, _), (now, _) = self._correlation(before), self._correlation(transform)
        return now - was < _GAINED * (1 - was)

    def levels(self, samples: float) -> tuple[Level, Level]:
        """Both images with about so many samples of the fixed one."""
        spacing = spacing_for(self._fixed.grid, samples)
        return self._fixed.at(spacing), self._moving.at(spacing)

    def turned(
        self, found: Optimised, budget: Budget, aim: Aim, stop: Callable[[], bool] = lambda: False
    ) -> CompositeTransform | None:
        """What is found with the roles of the images exchanged (moving point -> fixed point, LPS mm).

        By itself, so that it can disagree; only from where it was told to begin does it begin too, and what kind of
        pair it is, it is told. With fewer samples, which is less exact than it is fast, and in a part of the time that
        `found` might take. None where `stop` ends it before.
        """
        if stop():
            return None
        other, start = self._exchanged(), None
        if found.begun is not None:
            start = CompositeTransform(
                (AffineTransform(np.asarray(np.linalg.inv(found.begun.affine_part.matrix), float)),)
            )
        seconds = None if budget.seconds is None else min(_TURNED_MOST, _TURNED_PART * budget.seconds)
        watch = Watch(Budget(seconds, _TURNED), stop, lambda told: None)
        way = other._run(watch, aim.turned(), start, _TURNED_SAMPLES, found).transform
        return None if stop() else way

    def found_again(self, found: Optimised) -> list[CompositeTransform]:
        """What the stages on top of a result make of it once it is displaced by each of the `perturbations`: it again
        where the images say so.
        """
        grid = self._fixed.grid
        sample = math.prod(grid_at(grid, spacing_for(grid, _TURNED_SAMPLES)).spacing) ** (1 / 3)
        stages, ways = plan(grid, _TURNED_SAMPLES, fine=True)[:_AGAIN], list[CompositeTransform]()
        for displaced in perturbations(grid, sample):
            way = CompositeTransform((*displaced.parts, *found.transform.parts))
            for stage in stages:
                way = improve(self._fixed, self._moving, way, stage, lambda *told: True, found.similarity).transform
            ways.append(way)
        return ways

    def mirrored(self, found: Optimised, budget: Budget, stop: Callable[[], bool] = lambda: False) -> float | None:
        """How alike the images are by the best affine map that mirrors, as a part of how alike they are by the one that
        was found: an image whose voxels are in reverse order fits better so. None where there is nothing to compare.

        It takes a part of the time that `found` might take, and ends where `stop` says so, with the best so far.
        """
        if not found.affines or found.affines[0].value <= 0:
            return None
        best, grid = found.affines[0], self._moving.grid
        middle = best.transform.apply(self._fixed.grid.center[None])[0]
        begun = torch.from_numpy(
            np.stack([_mirror(axis, middle) @ best.transform.matrix for axis in grid.direction_matrix.T])
        )
        seconds = None if budget.seconds is None else _MIRRORED_PART * budget.seconds
        share = Share(seconds, lambda done: not stop())
        mirrored = best_affines(self._fixed, self._moving, Candidates(begun, ("mirrored",) * 3), share=share)
        return mirrored[0].value / best.value

    def _stiff_affine(self, begun: Candidates, aim: Aim, watch: Watch) -> list[FoundAffine]:
        """For images of different contrast: they tell less, and are mostly of one person, so that more is taken from
        where they lie.
        """
        found = self._best(begun, aim, watch, _STIFFER, _STIFF_GAIN)
        near = self._best(Candidates(begun.matrices[:1], begun.names[:1]), aim, watch, _STIFFER, _STIFF_GAIN)
        if near[0].value <= _NEAR * found[0].value:
            return found
        return distinct([near[0], *found], self._fixed.grid)

    def _best(
        self, begun: Candidates, aim: Aim, watch: Watch, stiffness: float = 1.0, gain: float = GAIN
    ) -> list[FoundAffine]:
        rigid = aim.kind is Kind.rigid
        return best_affines(
            self._fixed,
            self._moving,
            begun,
            rigid=rigid,
            stiffness=stiffness,
            gain=gain,
            second=aim.second,
            steering=aim.steering,
            share=watch.of_affine(affine.STEPS),
        )

    def _correlation(self, transform: CompositeTransform) -> tuple[float, float]:
        """Mean local correlation, and what part that is of the mean without signs; where contrasts differ, much of it
        is low or negative.
        """
        fixed, moving = self.levels(_CONTRAST_SAMPLES)
        image, counts = warped(moving, transform, fixed.grid)
        local, share = LocalSimilarity(fixed.image, fixed.weight)(image, counts)
        total, whole = float((local * share).sum()), float((local.abs() * share).sum())
        return total / max(float(share.sum()), 1e-6), total / max(whole, 1e-6)

    def _turning(self, transform: CompositeTransform) -> float:
        """See `turning`, of what counts in both images."""
        fixed, moving = self.levels(_CONTRAST_SAMPLES)
        image, counts = warped(moving, transform, fixed.grid)
        known = torch.ones_like(image) if counts is None else counts
        if fixed.weight is not None:
            known = known * fixed.weight
        both = (known > _WHOLE).cpu()
        return turning(fixed.image.cpu()[both].double().numpy(), image.cpu()[both].double().numpy())

    def _plan(
        self, watch: Watch, transform: CompositeTransform, aim: Aim, samples: float, *, fine: bool
    ) -> tuple[Stage, ...]:
        grid, steps = self._fixed.grid, watch.budget.steps
        stages = plan(grid, samples, steps, fine=fine)
        if watch.left is not None:
            used = aim.similarity or DEFAULT
            if used not in self._paces:
                self._paces[used] = self._seconds_per_sample(transform, used, watch)
            affordable = _PLANNED * max(0.0, watch.left) / self._paces[used]
            if steps is None:
                return affordable_plan(grid, affordable, fine=fine)
            part = min(1.0, affordable / work(grid, stages))
            return plan(grid, samples, max(1, round(part * steps)), fine=fine)
        return stages if steps else tuple(replace(own, steps=_LONGER * own.steps) for own in stages)

    def _seconds_per_sample(self, transform: CompositeTransform, used: Similarity, watch: Watch) -> float:
        """Of a step, on this machine, now."""
        times = list[float]()

        def proceed(step: int, value: float) -> bool:
            times.append(time.perf_counter())
            return not watch.over() or len(times) < 2

        spacing = spacing_for(self._fixed.grid, _PROBED_SAMPLES)
        probe = Stage(spacing, 4 * spacing, _PROBED_STEPS, 0.0)
        improve(self._fixed, self._moving, transform, probe, proceed, used)
        return float(np.median(np.diff(times))) / math.prod(self._fixed.at(spacing).grid.size)


def _mirror(axis: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4): at the plane through a place that an axis of length 1 stands upon."""
    matrix = np.eye(4)
    matrix[:3, :3] -= 2 * np.outer(axis, axis)
    matrix[:3, 3] = 2 * (axis @ place) * axis
    return matrix


def there_and_back(
    points: Points, sent: Points, back: CompositeTransform, moving: ImageGrid, percent: float = 50
) -> float:
    """What so many per cent of |B(T(x)) - x|, mm, stay below, over the points x (N, 3) that T sends into the moving
    image; `nan` where there are none. sent: T(x). back: B, found with the roles of the images exchanged.
    """
    within = moving.contains(sent)
    if not within.any():
        return float("nan")
    return float(np.percentile(np.linalg.norm(back.apply(sent[within]) - points[within], axis=1), percent))
