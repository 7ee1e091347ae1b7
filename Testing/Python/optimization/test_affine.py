"""Rigid and affine maps of synthetic pairs, which are known, found again on oblique, anisotropic, unequal grids."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from blobs import CENTER, FIXED, MOVING, Blobs, apart, pair_by, placed
from dlir.io.reading import Volume
from dlir.optimization import affine
from dlir.optimization.affine import Candidates, FoundAffine, best_affines
from dlir.optimization.candidates import candidates
from dlir.optimization.levels import Pyramid
from dlir.optimization.objective import Steering
from dlir.optimization.watch import Share
from dlir.transforms.spatial import AffineTransform, CompositeTransform

SMALL = min(FIXED.spacing)
STRETCHED = placed((5, -4, 3), (0.10, -0.08, 0.12), (1.06, 0.95, 1.03))
RIGID = placed((5, -4, 3), (0.10, -0.08, 0.12))


def _found(
    pair: tuple[Volume, Volume], start: CompositeTransform | None = None, *, rigid: bool = False
) -> list[FoundAffine]:
    fixed, moving = map(Pyramid, pair)
    return best_affines(fixed, moving, candidates(fixed, moving, start), rigid=rigid)


def _half_turn(axis: int) -> CompositeTransform:
    """About an axis of the fixed image, and a little beside."""
    axes, signs = FIXED.direction_matrix, -np.ones(3)
    signs[axis] = 1
    little = placed((5, -5, 8), (0.05, -0.04, 0.06))
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag(signs) @ axes.T
    matrix[:3, 3] = CENTER - matrix[:3, :3] @ CENTER
    return CompositeTransform((AffineTransform(matrix), *little.parts))


# -- from where it is looked for ----------------------------------------------------------------------


def test_turned_stretched_and_shifted() -> None:
    best, *_ = _found(pair_by(STRETCHED))
    assert apart(best.transform, STRETCHED) < 0.4 * SMALL  # what stretches costs, so that it falls short of all of it


def test_another_contrast() -> None:
    """Dark where the other is bright: no correlation of intensities tells where it lies, but edges do."""
    best, *_ = _found(pair_by(STRETCHED, contrast=lambda values: 1.5 - values))
    assert apart(best.transform, STRETCHED) < 0.45 * SMALL


def test_half_the_field_of_view_away() -> None:
    known = placed((0.5 * min(FIXED.extent), -5, 10), (0.1, -0.08, 0.12))
    best, *_ = _found(pair_by(known))
    assert apart(best.transform, known) < 0.5 * SMALL


@pytest.mark.parametrize("axis", range(3))
def test_head_down(axis: int) -> None:
    known = _half_turn(axis)
    best, *others = _found(pair_by(known))
    assert best.start == "search"
    assert apart(best.transform, known) < 0.3 * SMALL
    assert all(best.value > 1.5 * other.value for other in others)


def test_optima_are_distinct_and_the_best_comes_first() -> None:
    """Two bodies that are alike: each lies on either."""
    image = Blobs(0).seen(FIXED)
    middle = FIXED.shape[2] // 2
    twice = np.concatenate([image.array[..., :middle], image.array[..., :middle]], 2)
    found = _found((Volume(twice, FIXED, "twice"),) * 2)
    assert len(found) > 1
    assert [one.value for one in found] == sorted((one.value for one in found), reverse=True)
    for one, other in itertools.combinations(found, 2):
        assert apart(one.transform, other.transform) > 5 * SMALL
    assert apart(found[0].transform, placed()) < 0.3 * SMALL
    image = Pyramid(Volume(twice, FIXED, "twice"))
    other, *rest = best_affines(image, image, candidates(image, image, None), second=True)
    assert apart(other.transform, found[1].transform) < SMALL
    assert rest[0].value == found[0].value > other.value
    assert apart(rest[0].transform, found[0].transform) < SMALL


# -- from where it is told to begin -------------------------------------------------------------------


def test_rigid_neither_stretches_nor_shears() -> None:
    for known in (RIGID, STRETCHED):
        found, *_ = _found(pair_by(known), placed((3, -3, 2)), rigid=True)
        linear = found.transform.matrix[:3, :3]
        np.testing.assert_allclose(linear.T @ linear, np.eye(3), atol=1e-5)
        assert np.linalg.det(linear) > 0
        if known is RIGID:
            assert apart(found.transform, known) < 0.2 * SMALL


def test_a_given_start_is_the_only_one() -> None:
    fixed, moving = map(Pyramid, pair_by(STRETCHED))
    begun = candidates(fixed, moving, RIGID)
    assert begun.names == ("given transform",)
    np.testing.assert_allclose(begun.matrices.numpy(), RIGID.matrix[None])
    (found,) = best_affines(fixed, moving, begun)
    assert found.start == "given transform"
    assert apart(found.transform, STRETCHED) < 0.2 * SMALL


def test_an_end_before_the_first_step_leaves_the_start() -> None:
    fixed, moving = map(Pyramid, pair_by(STRETCHED))
    told: list[int] = []
    (found,) = best_affines(
        fixed, moving, candidates(fixed, moving, RIGID), share=Share(proceed=lambda step: told.append(step))
    )
    assert set(told) == {0}
    assert apart(found.transform, RIGID) < 1e-3


def test_steps_are_told_one_by_one() -> None:
    fixed, moving = map(Pyramid, pair_by(STRETCHED))
    told: list[int] = []
    best_affines(
        fixed, moving, candidates(fixed, moving, RIGID), share=Share(proceed=lambda step: told.append(step) or True)
    )
    assert told == list(range(affine.STEPS))


def test_it_keeps_the_best_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are far too bold, from where it lies right, are none."""
    bold = tuple(replace(own, steps=3, rate=0.5) for own in affine._ROUNDS)
    monkeypatch.setattr(affine, "_ROUNDS", bold)
    fixed, moving = map(Pyramid, pair_by(RIGID))
    starts = torch.from_numpy(np.stack([placed((500, 0, 0)).matrix, RIGID.matrix]))
    best, *_ = best_affines(fixed, moving, Candidates(starts, ("far", "right")), rigid=True)
    assert best.start == "right"
    assert apart(best.transform, RIGID) < 1e-3


@pytest.mark.parametrize(
    ("shift", "gain", "stays"), [(0.0, affine.GAIN, True), (4.0, affine.GAIN, False), (4.0, 1.0, True)]
)
def test_the_first_candidate_stays_where_moving_it_gains_too_little(shift: float, gain: float, stays: bool) -> None:
    near = CompositeTransform((AffineTransform.translation((shift, 0.0, 0.0)), *RIGID.parts))
    fixed, moving = map(Pyramid, pair_by(RIGID))
    (found,) = best_affines(fixed, moving, candidates(fixed, moving, near), rigid=True, gain=gain)
    assert (apart(found.transform, near) < 1e-3) == stays


def test_stiffer_it_stretches_less() -> None:
    fixed, moving = map(Pyramid, pair_by(STRETCHED))
    begun = candidates(fixed, moving, RIGID)
    soft, stiff = (best_affines(fixed, moving, begun, stiffness=times)[0].transform for times in (1.0, 50.0))
    stretches = [np.abs(np.linalg.svd(way.matrix[:3, :3])[1] - 1).max() for way in (soft, stiff)]
    assert stretches[1] < 0.5 * stretches[0]


def test_landmarks_lead_where_images_say_nothing() -> None:
    blank = [Pyramid(Volume(np.zeros(grid.shape, np.float32), grid, "blank")) for grid in (FIXED, MOVING)]
    points = CENTER + np.random.default_rng(0).uniform(-25, 25, (6, 3))
    steering = Steering(points, RIGID.apply(points), 1.0)
    (found,) = best_affines(*blank, candidates(*blank, placed()), rigid=True, steering=steering)
    left = np.linalg.norm(found.transform.apply(points) - steering.moving, axis=1)
    assert left.max() < 0.25 * np.linalg.norm(points - steering.moving, axis=1).max()


def test_a_mask_takes_out_what_misleads() -> None:
    """A bright bar in the fixed image alone, and one elsewhere in the moving one."""
    fixed, moving = pair_by(RIGID)
    bars = [np.zeros(volume.grid.shape, bool) for volume in (fixed, moving)]
    bars[0][:, 3:7, :] = True
    bars[1][:, -9:-5, :] = True
    images = [
        replace(volume, array=np.where(bar, 250, volume.array).astype(np.float32))
        for volume, bar in zip((fixed, moving), bars, strict=True)
    ]
    masks = [Volume(~bar, volume.grid, "mask") for volume, bar in zip(images, bars, strict=True)]
    pyramids = [Pyramid(image, mask) for image, mask in zip(images, masks, strict=True)]
    (found,) = best_affines(*pyramids, candidates(*pyramids, placed((3, -3, 2))), rigid=True)
    assert apart(found.transform, RIGID) < 0.3 * SMALL


def test_candidates_may_be_far_off() -> None:
    """No voxel of one meets the other image; that is no reason to fail, or to win."""
    fixed, moving = map(Pyramid, pair_by(RIGID))
    starts = np.stack([placed((500, 0, 0)).matrix, placed((4, -3, 2)).matrix])
    best, *_ = best_affines(fixed, moving, Candidates(torch.from_numpy(starts), ("far", "near")))
    assert best.start == "near"
    assert np.isfinite(best.value)
    assert apart(best.transform, RIGID) < 0.2 * SMALL


def test_far_from_the_scanners_origin_it_is_as_exact() -> None:
    """Headers may place an image metres away; single precision must not show."""
    away = np.array([4_000.0, -3_000.0, 2_500.0])
    fixed, moving = pair_by(RIGID)
    there = [
        replace(volume, grid=replace(volume.grid, origin=tuple(volume.grid.origin + away)))
        for volume in (fixed, moving)
    ]
    matrix = RIGID.matrix.copy()
    matrix[:3, 3] += away - matrix[:3, :3] @ away
    pyramids = [Pyramid(volume) for volume in there]
    start = CompositeTransform((AffineTransform.translation((3.0, -3.0, 2.0)),))
    (found,) = best_affines(*pyramids, candidates(*pyramids, start), rigid=True)
    points = CENTER + away + np.random.default_rng(0).uniform(-15, 15, (50, 3))
    expected = points @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.linalg.norm(found.transform.apply(points) - expected, axis=1).max() < 0.2 * SMALL


def test_what_it_never_saw_of_the_moving_image_is_no_gain() -> None:
    """Blank images: whatever is found is a map, near where it began."""
    blank = [Volume(np.zeros(grid.shape, np.float32), grid, "blank") for grid in (FIXED, MOVING)]
    (found,) = best_affines(*map(Pyramid, blank), Candidates(torch.eye(4)[None], ("still",)))
    assert apart(found.transform, placed()) < 1e-3
