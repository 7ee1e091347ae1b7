"""A pair that is optimised as a request says: alone, or on top of what there is, and figures of it for the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from blobs import CENTER, FIXED, MOVING, Blobs, apart, noise, pair_by, placed
from chains import random_bspline
from dlir.errors import GeometryError, OptionError, TransformError
from dlir.geometry import ImageGrid
from dlir.io import Landmarks
from dlir.io.reading import Volume
from dlir.losses.choices import Similarity
from dlir.optimization import optimise
from dlir.optimization.optimise import Aim, Optimisation
from dlir.registration.choices import Budget, Kind
from dlir.registration.judging.assessment import Assessment
from dlir.registration.judging.optimised_assessment import assess_optimised
from dlir.registration.loading import Loaded
from dlir.registration.optimising import Refinement
from dlir.registration.progress import Clock
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.spatial import AffineTransform, CompositeTransform, Points
from grids import make_grid

CPU = torch.device("cpu")
SMALL = min(FIXED.spacing)
NEAR = placed((3, -3, 2))
KNOWN = placed((5, -4, 3), (0.10, -0.08, 0.12), (1.05, 0.96, 1.03))
FEW = Refinement(Budget(steps=5), Kind.deformable, None, 0.0, False, lambda: False)
RIGID, AFFINE = (replace(FEW, budget=Budget(steps=1), kind=kind) for kind in (Kind.rigid, Kind.affine))


def _alone(loaded: Loaded, refinement: Refinement = FEW) -> RegistrationResult:
    return refinement.alone(loaded, CPU)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """A pair with a start that is near."""
    return Loaded(*pair_by(KNOWN), initial=NEAR)


@pytest.fixture(scope="module")
def affine(loaded: Loaded) -> RegistrationResult:
    return _alone(loaded, AFFINE)


# -- what a request says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refine", "model", "budget"),
    [
        (None, True, None),
        (None, False, Budget(seconds=10)),
        ("off", True, None),
        ("7it", True, Budget(steps=7)),
        ("7it", False, Budget(steps=7)),
        ("converged", False, Budget()),
    ],
)
def test_the_budget_is_the_requests(refine: str | None, model: bool, budget: Budget | None) -> None:
    request = RegistrationRequest("a.nrrd", "b.nrrd", Outputs("out"), refine=refine)
    found = Refinement.of(request, model=model, stop=lambda: False)
    assert (found.budget, found.kind) == (budget, Kind.deformable)
    assert (found.similarity, found.landmark_weight) == (None, 0.0)
    chosen = Refinement.of(replace(request, similarity="mind_ssc"), model=model, stop=lambda: False)
    assert chosen.similarity is Similarity.mind_ssc
    rigid = replace(request, refine="5it", kind="rigid")
    assert Refinement.of(rigid, model=False, stop=lambda: False).kind is Kind.rigid


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refine": "3x"}, "'3x' is no budget for --refine"),
        ({"refine": "off", "model": "none"}, "give --refine a budget, such as 10s, or a model"),
        ({"refine": "off", "kind": "rigid"}, "give --refine a budget, such as 10s, or a model"),
        ({"landmark_weight": 1.0}, "a landmark weight needs landmarks on both images"),
        ({"landmark_weight": 1.0, "moving_landmarks": "m.csv"}, "a landmark weight needs landmarks on both images"),
        ({"landmark_weight": -1.0}, "the landmark weight is -1; give 0 or more"),
        ({"landmark_weight": float("nan")}, "the landmark weight is nan; give 0 or more"),
        ({"kind": "rigid", "model": "cardiac-cine"}, "--kind rigid is found without a model; leave --model out"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        RegistrationRequest("a.nrrd", "b.nrrd", Outputs("out"), **changes)


# -- alone --------------------------------------------------------------------------------------------


def test_a_given_start_is_where_it_begins(affine: RegistrationResult) -> None:
    assert affine.prediction is None
    assert affine.optimising is not None
    np.testing.assert_array_equal(affine.optimising.start.matrix, NEAR.matrix)
    assert affine.optimising.found.begun is affine.optimising.start
    assert affine.initialization["affine"] == "given transform"
    assert apart(affine.transform, KNOWN) < 0.35 * SMALL
    np.testing.assert_allclose(affine.jacobian, np.linalg.det(affine.transform.matrix[:3, :3]), rtol=1e-4)


def test_without_one_it_is_looked_for() -> None:
    loaded = Loaded(*pair_by(placed((35, -5, 10))))
    found = _alone(loaded, RIGID)
    assert found.optimising is not None
    assert found.optimising.found.begun is None
    np.testing.assert_array_equal(found.optimising.start.matrix, loaded.start.matrix)
    assert apart(found.transform, placed((35, -5, 10))) < 0.5 * SMALL


@pytest.mark.parametrize("mode", ["centers", "scanner"])
def test_a_mode_that_is_asked_for_is_a_start(mode: str) -> None:
    found = _alone(Loaded(*pair_by(placed()), mode=mode), RIGID)
    assert found.optimising is not None
    offset = MOVING.center - FIXED.center if mode == "centers" else np.zeros(3)
    np.testing.assert_allclose(found.optimising.start.matrix[:3, 3], offset, atol=1e-9)


def test_the_report_tells_what_was_done(loaded: Loaded) -> None:
    found = _alone(loaded)
    assert found.optimising is not None
    told = found.optimising.to_dict()
    assert (told["budget"], told["kind"], told["steps"], told["stopped"]) == ("5it", "deformable", 5, False)
    assert told["affine"] == [{"start": "given transform", "value": pytest.approx(0.9, abs=0.15)}]
    assert all(stage["after"] >= stage["before"] for stage in told["stages"])
    assert {"prepare", "refine", "resample"} <= found.seconds.keys()


def test_another_contrast_is_reported(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimise, "_AGREED", 0.0)
    inverted = Blobs().seen(MOVING, contrast=lambda values: 2 - values)
    found = _alone(replace(loaded, fixed=Blobs().seen(FIXED), moving=inverted, initial=placed((1, 0, 0))))
    assert found.optimising is not None
    told = found.optimising.to_dict()
    assert (told["same_contrast"], told["steps"], told["stages"]) == (False, 0, [])
    assert found.transform.linear


def test_landmarks_that_both_images_have_steer() -> None:
    """One that an image lacks, and all where none weighs anything, have no influence."""
    points = CENTER + np.random.default_rng(0).uniform(-15, 15, (6, 3))
    there = NEAR.apply(points) + np.array([0, 4, 0])
    there[-1] = np.nan
    loaded = Loaded(*pair_by(NEAR), initial=NEAR, fixed_landmarks=Landmarks(points), moving_landmarks=Landmarks(there))
    errors, told = [], []
    for weight in (0.0, 1.0):
        found = _alone(loaded, replace(FEW, budget=Budget(steps=20), landmark_weight=weight))
        assert found.optimising is not None
        told.append(found.optimising.to_dict()["landmark_weight"])
        errors.append(np.nanmean(np.linalg.norm(found.transform.apply(points) - there, axis=1)))
    assert told == [None, 1.0]
    assert errors[1] < 0.5 * errors[0]


def test_it_can_be_stopped(loaded: Loaded) -> None:
    found = _alone(loaded, replace(FEW, stop=lambda: True))
    assert found.optimising is not None
    assert found.optimising.found.stopped
    assert apart(found.transform, NEAR) < 1e-3


def test_sizes_that_no_body_has_are_refused() -> None:
    grid = make_grid((10, 10, 10), (4500.0, 4500.0, 4500.0))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    huge = Volume(values, grid, "huge.nrrd")
    for pair in ((huge, Blobs().seen(MOVING)), (Blobs().seen(FIXED), huge)):
        with pytest.raises(GeometryError, match=r"'huge.nrrd' measures 45 x 45 x 45 m; correct the voxel size"):
            _alone(Loaded(*pair))


def test_a_start_from_where_nothing_overlaps_is_refused(loaded: Loaded) -> None:
    with pytest.raises(GeometryError, match="the initial transform sends no part of 'fixed' into 'moving'"):
        _alone(replace(loaded, initial=placed((900, 0, 0))))


@pytest.mark.parametrize("kind", [Kind.rigid, Kind.affine])
def test_what_may_not_bend_does_not_begin_bent(loaded: Loaded, kind: Kind) -> None:
    control = make_grid((7, 7, 7), (16.0, 16.0, 16.0), tuple(CENTER - 48))
    bent = CompositeTransform((random_bspline(np.random.default_rng(0), control, fraction=0.1),))
    with pytest.raises(TransformError, match=f"bends, which --kind {kind.value} rules out; give one that is linear"):
        _alone(replace(loaded, initial=bent), replace(FEW, kind=kind))


# -- on top of what there is --------------------------------------------------------------------------


@torch.inference_mode()
def test_it_works_beneath_inference(loaded: Loaded) -> None:
    """As a model's result is made; what bends is only made better."""
    rng = np.random.default_rng(0)
    control = make_grid((7, 7, 7), (16.0, 16.0, 16.0), tuple(CENTER - 48))
    start = CompositeTransform((random_bspline(rng, control, fraction=0.1, zero_layers=1), *KNOWN.parts))
    done = FEW.on_top(start, loaded, CPU, Clock())
    assert done.found.begun is start
    np.testing.assert_array_equal(done.start.matrix, NEAR.matrix)  # how the pair lay before the model, too
    assert done.found.affines == []
    assert done.found.transform.parts[-2:] == start.parts


# -- figures for the verdict --------------------------------------------------------------------------


def test_a_right_result_comes_back_to_where_it_began(affine: RegistrationResult) -> None:
    assert affine.optimising is not None
    offered: list[Assessment] = []
    found = assess_optimised(affine.optimising, offered.append)
    assert found.inverse_consistency_mm is not None
    assert 0 < found.inverse_consistency_mm < 0.3 * SMALL
    assert offered == [replace(found, inverse_consistency_mm=None, mirrored=None)]
    assert found.affine_turn_degrees == pytest.approx(10.0, abs=1.5)
    assert found.mirrored is not None
    assert found.mirrored < 0.7
    assert found.displacement_mm == pytest.approx(0, abs=1e-6)  # but for the affine part nothing moves
    assert found.affine_volume == pytest.approx(1.05 * 0.96 * 1.03, abs=0.03)
    assert found.similarity_after is not None
    assert found.similarity_before is not None
    assert found.similarity_before < found.similarity_after - 0.05
    assert found.sample_mm is not None
    assert 0.9 * SMALL < found.sample_mm < 2 * SMALL
    assert found.similarity_after > 0.95
    assert found.ambiguity is None


def test_a_wrong_result_does_not() -> None:
    """Noise has nothing that could be found from both sides."""
    loaded = Loaded(noise(FIXED, 0), noise(FIXED, 1), mode="scanner")
    found = _alone(loaded, replace(FEW, budget=Budget(steps=30), similarity=Similarity.local_ncc))
    assert found.optimising is not None
    figures = assess_optimised(found.optimising)
    assert figures.inverse_consistency_mm is not None
    assert figures.inverse_consistency_mm > SMALL / 2
    assert figures.displacement_mm > 0
    assert found.jacobian.min() > 0


def test_an_image_in_reverse_order_fits_better_mirrored() -> None:
    """Of two halves that are nearly alike, so that it fits the wrong way, too."""
    image = Blobs(0).seen(FIXED)
    both = image.array + 0.5 * image.array[..., ::-1]
    fixed, moving = (Volume(np.ascontiguousarray(own), FIXED, "halves") for own in (both, both[..., ::-1]))
    pair = Optimisation(fixed, moving)
    found = pair.run(Budget(steps=1), Aim(Kind.rigid), CompositeTransform(()))
    assert pair.mirrored(found, Budget(steps=1)) > 1.06
    right = Optimisation(fixed, fixed)
    once = Budget(steps=1)
    assert right.mirrored(right.run(once, Aim(Kind.rigid), CompositeTransform(())), once) < 0.95


class _OffBeyond:
    """A way back that is 5 mm off on one side of a plane."""

    def __init__(self, left: bool) -> None:
        self._left = left

    def apply(self, points: Points) -> Points:
        beyond = FIXED.to_index(points)[:, 0] < FIXED.size[0] / 2
        found: Points = points + np.where(beyond == self._left, 5.0, 0.0)[:, None] * [1, 0, 0]
        return found


@pytest.mark.parametrize("left", [True, False])
def test_what_comes_back_is_taken_at_edges(
    affine: RegistrationResult, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """The left half of the image is one grey, and the right half has stripes."""
    image = np.full(FIXED.shape, 125.0, np.float32)
    right = np.arange(FIXED.size[0] // 2, FIXED.size[0])
    image[..., right] = np.where(right // 2 % 2, 150.0, 100.0)
    volume = Volume(image, FIXED, "stripes")
    monkeypatch.setattr(Optimisation, "turned", lambda *told: _OffBeyond(left))
    assert affine.optimising is not None
    found = replace(affine.optimising.found, transform=CompositeTransform(()))
    done = replace(affine.optimising, optimisation=Optimisation(volume, volume), found=found)
    assert assess_optimised(done).inverse_consistency_mm == pytest.approx(0.0 if left else 5.0)


def test_two_that_are_alike_are_ambiguous() -> None:
    image = Blobs(0).seen(FIXED)
    middle = FIXED.shape[2] // 2
    twice = Volume(np.concatenate([image.array[..., :middle], image.array[..., :middle]], 2), FIXED, "twice")
    half = FIXED.lattice((0, 0, 0), (1, 1, 1), (middle, *FIXED.size[1:]))
    part = Volume(np.ascontiguousarray(image.array[..., :middle]), half, "one of them")
    found = _alone(Loaded(part, twice), RIGID)
    assert found.optimising is not None
    told: list[Assessment] = []

    def offer(known: Assessment) -> None:
        told.append(known)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        assess_optimised(found.optimising, offer)
    assert told[0].ambiguity is not None
    assert 0.9 < told[0].ambiguity <= 1.0


def test_where_nothing_overlaps_nothing_is_known(affine: RegistrationResult) -> None:
    done = affine.optimising
    assert done is not None
    away = CompositeTransform((AffineTransform.translation((900.0, 0.0, 0.0)),))
    lost = replace(done, found=replace(done.found, transform=away))
    assert assess_optimised(lost) == replace(
        assess_optimised(lost), inverse_consistency_mm=None, local_after=None, similarity_after=None
    )


def test_masks_say_what_counts() -> None:
    """Where the fixed image shows nothing that the other has, a mask makes the figures good."""
    fixed, moving = pair_by(NEAR)
    bar = np.zeros(FIXED.shape, bool)
    bar[:, 4:9] = True
    spoilt = replace(fixed, array=np.where(bar, 250, fixed.array).astype(np.float32))
    figures = {}
    for name, mask in (("without", None), ("with", Volume(~bar, FIXED, "mask"))):
        pair = Loaded(spoilt, moving, fixed_mask=mask, initial=NEAR)
        stopped = _alone(pair, replace(RIGID, stop=lambda: True))
        assert stopped.optimising is not None
        figures[name] = assess_optimised(stopped.optimising).similarity_after
    assert figures["with"] > 0.95 > 0.8 > figures["without"]


def test_thin_images_pass_all_the_way() -> None:
    thin = ImageGrid((2, 24, 26), (2.5, 2.5, 8.0), tuple(CENTER - (32, 30, 4)))
    fixed, moving = Blobs().seen(thin), Blobs(0).seen(thin)
    found = _alone(Loaded(fixed, moving, mode="scanner"), replace(FEW, budget=Budget(steps=4)))
    assert found.optimising is not None
    assert assess_optimised(found.optimising).inverse_consistency_mm < 0.5


def test_ended_on_the_way_back_nothing_is_known_of_it(affine: RegistrationResult) -> None:
    assert affine.optimising is not None
    told: list[Assessment] = []
    found = assess_optimised(replace(affine.optimising, stop=lambda: True), told.append)
    assert found == replace(told[0], not_turned=1.0)
    assert found.inverse_consistency_mm is None


def test_the_way_back_is_timed_by_itself(affine: RegistrationResult) -> None:
    assert affine.optimising is not None
    clock = Clock()
    with clock.step("verdict"):
        assess_optimised(affine.optimising, clock=clock)
    assert list(clock.seconds) == ["way back", "verdict"]
    assert clock.seconds["way back"] > clock.seconds["verdict"]
