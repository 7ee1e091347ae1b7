"""A pair from nothing to a transform, within a budget: the same each time, never worse, ended at any time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blobs import CENTER, FIXED, MOVING, Blobs, about, apart, noise, pair_by, placed
from dlir.errors import GeometryError
from dlir.io.reading import Volume
from dlir.losses.choices import Similarity
from dlir.losses.similarity import local_ncc
from dlir.optimization import optimise, watch
from dlir.optimization.budget import Budget
from dlir.optimization.choices import Kind
from dlir.optimization.deformable import Improved, Stage, improve
from dlir.optimization.levels import warped
from dlir.optimization.objective import Steering
from dlir.optimization.optimise import Aim, Optimisation, Optimised
from dlir.optimization.plan import COARSE, stiffened
from dlir.optimization.watch import Progressed
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import Array, make_grid

SMALL = min(FIXED.spacing)
KNOWN = placed((5, -4, 3), (0.10, -0.08, 0.12), (1.05, 0.96, 1.03))
NEAR = placed((3, -3, 2))
STILL = CompositeTransform(())


def _similarity(pair: Optimisation, transform: CompositeTransform) -> float:
    fixed, moving = pair.levels(30_000)
    image, weight = warped(moving, transform, fixed.grid)
    return float(local_ncc(fixed.image, image, weight))


def _same(a: CompositeTransform, b: CompositeTransform) -> bool:
    """Bit by bit."""
    return len(a.parts) == len(b.parts) and all(
        np.array_equal(
            *(part.matrix if isinstance(part, AffineTransform) else part.coefficients for part in (one, other))
        )
        for one, other in zip(a.parts, b.parts, strict=True)
    )


@pytest.fixture(scope="module")
def pair() -> Optimisation:
    return Optimisation(*pair_by(KNOWN))


# -- what is found ------------------------------------------------------------------------------------


def test_from_nothing(pair: Optimisation) -> None:
    found = pair.run(Budget(steps=8))
    assert found.begun is None
    assert found.affines
    assert not found.stopped
    assert found.steps == 8
    assert apart(found.transform, KNOWN) < 0.5 * SMALL
    assert _similarity(pair, found.transform) > _similarity(pair, STILL) + 0.3
    assert all(after >= before for before, after in found.stages)


@pytest.mark.parametrize("kind", [Kind.rigid, Kind.affine])
def test_what_does_not_bend_is_one_matrix(pair: Optimisation, kind: Kind) -> None:
    found = pair.run(Budget(steps=50), Aim(kind), NEAR)
    (part,) = found.transform.parts
    assert isinstance(part, AffineTransform)
    assert (found.stages, found.steps) == ([], 0)
    linear = part.matrix[:3, :3]
    stretches = np.abs(linear.T @ linear - np.eye(3)).max()
    if kind is Kind.rigid:
        assert stretches < 1e-5
    else:
        assert stretches > 0.05
        assert apart(found.transform, KNOWN) < 0.35 * SMALL


def test_the_same_each_time() -> None:
    images = pair_by(KNOWN)
    first, second = (Optimisation(*images).run(Budget(steps=25), start=NEAR) for _ in range(2))
    assert len(first.transform.parts) > 2
    assert _same(first.transform, second.transform)
    assert first.stages == second.stages


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_so_many_steps_as_are_asked(pair: Optimisation, steps: int) -> None:
    told: list[Progressed] = []
    found = pair.run(Budget(steps=steps), start=NEAR, tell=told.append)
    assert found.steps == steps
    fractions = [one.done for one in told]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert fractions[-1] <= 1
    assert {one.step.split()[0] for one in told} == {"affine", "stage"}


@pytest.mark.parametrize("start", [None, STILL])
def test_an_image_on_itself_stays(start: CompositeTransform | None) -> None:
    image = Blobs(0).seen(FIXED)
    found = Optimisation(image, image).run(Budget(steps=20), start=start)
    assert np.array_equal(CompositeTransform(found.transform.parts[-1:]).matrix, np.eye(4))
    points = FIXED.voxel_centers()[image.array > 0.2 * image.array.max()]
    moved = np.linalg.norm(found.transform.apply(points) - points, axis=1)
    assert np.median(moved) < 0.1 * SMALL
    assert np.percentile(moved, 95) < 0.2 * SMALL


def test_unrelated_images_end_no_worse(pair: Optimisation) -> None:
    """They pass for two contrasts, unless a similarity is asked for."""
    hostile = Optimisation(noise(FIXED, 0), Blobs().seen(MOVING))
    assert not hostile.run(Budget(steps=15), start=NEAR).alike
    found = hostile.run(Budget(steps=15), Aim(similarity=Similarity.local_ncc), NEAR)
    assert found.stages
    assert all(after >= before for before, after in found.stages)
    points = CENTER + np.random.default_rng(0).uniform(-40, 40, (2000, 3))
    assert found.transform.determinant(points).min() > 0


def test_masks_reach_both_images() -> None:
    fixed, moving = pair_by(NEAR)
    bar = np.zeros(FIXED.shape, bool)
    bar[:, 4:9] = True
    spoilt = replace(fixed, array=np.where(bar, 250, fixed.array).astype(np.float32))
    mask = Volume(~bar, FIXED, "mask")
    for one in (
        Optimisation(spoilt, moving, fixed_mask=mask),
        Optimisation(moving, spoilt, moving_mask=mask),
    ):
        known = NEAR if one._fixed.grid == FIXED else CompositeTransform((AffineTransform(np.linalg.inv(NEAR.matrix)),))
        found = one.run(Budget(steps=1), Aim(Kind.rigid), STILL)
        assert apart(found.transform, known) < 0.3 * SMALL


# -- where next to nothing moves ----------------------------------------------------------------------


def _bump(reach: float, by: float = 3.0) -> CompositeTransform:
    """Moves points by so many mm within `reach` mm of the middle, and hardly any beyond."""
    control = about(CENTER, make_grid((17, 17, 17), (6.0, 6.0, 6.0)))
    far = np.linalg.norm(control.voxel_centers() - CENTER, axis=-1)
    along_x = by * np.exp(-((far / reach) ** 2))
    return CompositeTransform((BSplineTransform(np.stack([along_x, 0 * along_x, 0 * along_x]), control),))


@pytest.mark.parametrize(
    ("moved", "slight"),
    [
        (placed((1.5, 0, 0)), True),
        (placed((25, 0, 0)), False),  # by much
        (_bump(12.0), False),  # by much more than elsewhere
        (_bump(200.0, by=1.0), True),
        (placed(), False),  # not at all
    ],
)
def test_little_and_everywhere_is_slight(pair: Optimisation, moved: CompositeTransform, slight: bool) -> None:
    after = CompositeTransform((*moved.parts, *KNOWN.parts))
    assert pair._slight(after, KNOWN) == slight


@pytest.mark.parametrize("bends", [False, True])
def test_then_all_stages_are_stiff(pair: Optimisation, bends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the affine part alone; what was tried before is none of the result."""
    done: list[Stage] = []

    def improving(*given: Any) -> Improved:
        done.append(given[3])
        return improve(*given)

    monkeypatch.setattr(optimise, "improve", improving)
    monkeypatch.setattr(Optimisation, "_slight", lambda *_: True)
    start = CompositeTransform((*_bump(12.0).parts, *KNOWN.parts)) if bends else NEAR
    found = pair.run(Budget(steps=12), start=start)
    assert found.steps == sum(stage.steps for stage in done) == 12
    tried, kept = (0, 3) if bends else (COARSE, 3)
    assert (len(done), len(found.stages)) == (tried + kept, kept)
    assert done[tried:] == list(stiffened(done[tried:]))
    assert not any(stage in stiffened(done) for stage in done[:tried])


# -- another contrast ---------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [lambda values: 2 - values, lambda values: np.sin(4 * values)])
def test_of_another_contrast_it_is_not_bent_where_the_ways_disagree(
    contrast: Callable[[Array], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its one optimum is listed once."""
    monkeypatch.setattr(optimise, "_AGREED", 0.0)
    other = Optimisation(*pair_by(placed((2, -2, 1)), contrast=contrast))
    found = other.run(Budget(steps=20), start=placed((1, 0, 0)))
    assert not found.alike
    assert (found.stages, found.steps, len(found.affines)) == ([], 0, 1)
    assert found.transform.linear
    assert apart(found.transform, placed((2, -2, 1))) < 0.5 * SMALL


def test_of_another_contrast_it_is_bent_where_both_ways_agree() -> None:
    other = Optimisation(*pair_by(NEAR, contrast=lambda values: 2 - values))
    found = other.run(Budget(steps=25), start=STILL)
    assert not found.alike
    assert found.similarity is Similarity.mutual_information
    assert found.steps == 25
    assert all(after >= before for before, after in found.stages)


def test_with_a_similarity_for_it_it_bends() -> None:
    other = Optimisation(*pair_by(NEAR, contrast=lambda values: 2 - values))
    found = other.run(Budget(steps=25), Aim(similarity=Similarity.mutual_information), STILL)
    assert found.alike
    assert found.steps == 25
    assert any(after > before for before, after in found.stages)
    assert all(after >= before for before, after in found.stages)


def test_stopped_early_nothing_is_said_of_the_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still far off looks like another contrast; it is kept as far as it came."""
    monkeypatch.setattr(optimise, "_ALIKE", 0.9)
    known, start, asked = placed((20, -15, 8)), placed((11, -9, 3)), list[None]()

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 4

    far = Optimisation(*pair_by(known))
    found = far.run(Budget(steps=5), start=start, stop=stop)
    assert far._correlation(found.transform)[0] < 0.9
    assert (found.stopped, found.alike) == (True, True)
    assert apart(found.transform, known) < 0.9 * apart(start, known)


# -- landmarks ----------------------------------------------------------------------------------------


def test_landmarks_say_nothing_of_contrast(pair: Optimisation) -> None:
    """They may lead to where the images are not alike at all, which must not be taken for another contrast."""
    points = CENTER + np.random.default_rng(0).uniform(-10, 10, (5, 3))
    far = Steering(points, points + np.array([25.0, 0, 0]), 10.0)
    found = pair.run(Budget(steps=10), Aim(steering=far))
    assert found.alike
    assert found.similarity is Similarity.local_ncc
    assert found.planned == len(found.stages)


def test_landmarks_meet_although_the_images_say_otherwise(pair: Optimisation) -> None:
    points = CENTER + np.random.default_rng(0).uniform(-15, 15, (6, 3))
    steering = Steering(points, KNOWN.apply(points) + np.array([0, 4, 0]), 1.0)
    plain, steered = (
        np.linalg.norm(pair.run(Budget(steps=20), aim, NEAR).transform.apply(points) - steering.moving, axis=1).mean()
        for aim in (Aim(), Aim(steering=steering))
    )
    assert plain == pytest.approx(4, abs=0.6)
    assert steered < 0.5 * plain


def test_the_other_way_round_landmarks_change_roles() -> None:
    points, there = np.zeros((2, 3)), np.ones((2, 3))
    turned = Aim(Kind.rigid, Similarity.mind_ssc, Steering(points, there, 0.5)).turned()
    assert (turned.kind, turned.similarity) == (Kind.rigid, Similarity.mind_ssc)
    assert turned.steering is not None
    assert turned.steering.fixed is there
    assert turned.steering.moving is points
    assert Aim().turned() == Aim()


# -- where it begins ----------------------------------------------------------------------------------


def test_a_start_that_bends_is_only_made_better(pair: Optimisation) -> None:
    start = CompositeTransform((*_bump(15.0).parts, *KNOWN.parts))
    found = pair.run(Budget(steps=20), start=start)
    assert found.affines == []
    assert found.begun is start
    assert found.transform.parts[-2:] == start.parts
    assert len(found.stages) <= 3
    assert _similarity(pair, found.transform) > _similarity(pair, start)


def test_a_linear_start_is_where_the_affine_part_begins(pair: Optimisation) -> None:
    found = pair.run(Budget(steps=1), Aim(Kind.affine), NEAR)
    assert [one.start for one in found.affines] == ["given transform"]
    assert found.begun is NEAR


# -- when it ends -------------------------------------------------------------------------------------


def _stopping(pair: Optimisation, after: int) -> Optimised:
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > after

    return pair.run(Budget(steps=60), start=NEAR, stop=stop)


@pytest.mark.parametrize("after", [0, 20, 70, 110])
def test_stopped_it_keeps_the_best_so_far(pair: Optimisation, after: int) -> None:
    found = _stopping(pair, after)
    assert found.stopped
    assert found.steps < 60
    assert _similarity(pair, found.transform) >= _similarity(pair, NEAR) - 1e-6
    assert bool(found.stages) == (after > 70)
    if after == 0:
        assert apart(found.transform, NEAR) < 1e-3


class _Clock:
    """Goes on by some time whenever it is looked at."""

    def __init__(self, step: float) -> None:
        self._now, self._step = time.perf_counter(), step

    def __call__(self) -> float:
        self._now += self._step
        return self._now


@pytest.mark.parametrize("seconds", [2.0, 6.0, 20.0])
def test_its_time_is_kept(pair: Optimisation, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(0.05)
    for module in (optimise, watch):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock))
    found = pair.run(Budget(seconds=seconds), start=NEAR)
    assert found.seconds <= seconds + 1.0
    assert found.stopped or found.steps
    assert _similarity(pair, found.transform) >= _similarity(pair, NEAR) - 1e-6


def test_it_ends_where_nothing_is_gained(pair: Optimisation) -> None:
    blank = Volume(np.zeros(FIXED.shape, np.float32), FIXED, "blank")
    found = Optimisation(blank, blank).run(Budget(), start=STILL)
    assert not found.stopped
    assert found.steps < 120
    assert apart(found.transform, STILL) < 1e-3


# -- the other way round ------------------------------------------------------------------------------


def test_the_other_way_round_leads_back(pair: Optimisation) -> None:
    aim = Aim(Kind.affine)
    found = pair.run(Budget(steps=5), aim, NEAR)
    back = pair.turned(found, Budget(steps=5), aim)
    assert back is not None
    points = CENTER + np.random.default_rng(0).uniform(-15, 15, (100, 3))
    assert np.linalg.norm(back.apply(found.transform.apply(points)) - points, axis=1).max() < 0.5 * SMALL
    assert not np.allclose(back.matrix, np.linalg.inv(found.transform.matrix), atol=1e-6)


def test_the_other_way_round_bends_too() -> None:
    blobs, bump = Blobs(), _bump(25.0, by=8.0)
    bent = Optimisation(blobs.seen(FIXED, bump.apply), blobs.seen(MOVING))
    found = bent.run(Budget(steps=40), start=STILL)
    assert apart(found.transform, bump) < 0.5 * apart(STILL, bump)
    back = bent.turned(found, Budget(steps=40), Aim())
    assert back is not None
    assert any(isinstance(part, BSplineTransform) for part in back.parts)
    assert apart(CompositeTransform((*found.transform.parts, *back.parts)), STILL) < 0.75 * apart(bump, STILL)


@pytest.mark.parametrize("after", [0, 3, 30, 90])
def test_the_other_way_round_can_be_ended_too(pair: Optimisation, after: int) -> None:
    """In the search, the affine part and the stages: there is no way back then, rather than half of one."""
    found, asked = pair.run(Budget(steps=5), start=None), list[None]()

    def stop() -> bool:
        asked.append(None)
        return len(asked) > after

    assert pair.turned(found, Budget(steps=5), Aim(), stop) is None
    assert len(asked) <= after + 12


def test_the_other_way_round_takes_a_part_of_the_time(pair: Optimisation, monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = pair.run(Budget(steps=5), start=NEAR), _Clock(0.05)
    for module in (optimise, watch):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock))
    began = clock()
    assert pair.turned(found, Budget(seconds=10.0), Aim()) is not None
    assert clock() - began <= 3.0 + 1.0


def test_masks_that_never_meet_are_told_of_at_once() -> None:
    fixed, moving = pair_by(placed())
    left, right = (np.zeros(volume.grid.shape, bool) for volume in (fixed, moving))
    left[..., :4] = True
    right[..., -4:] = True
    apart_by = Optimisation(fixed, moving, Volume(left, FIXED, "left"), Volume(right, MOVING, "right"))
    with pytest.raises(GeometryError, match="nothing in common"):
        apart_by.run(Budget(steps=1), start=STILL)
