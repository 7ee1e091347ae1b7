"""Figures of a result that a verdict looks at, against what is known of the pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cli_runs import FIXED, STAGES, body
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.domain import OTHER_SIZE, Domain, Observed
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.registration.judging.assessment import Assessment, assess, observed, refined
from dlir.registration.oneshot import Registration
from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from grids import make_grid

MOVING = make_grid((15, 24, 23), (2.2, 2.0, 2.7), tuple(FIXED.origin), (0.25, -0.45, 0.85))


def registration(scale: float = 0.0) -> Registration:
    """Networks that displace nothing, or what chance makes of them times `scale`."""
    torch.manual_seed(0)
    model = MultiStageModel(ModelSpec(Preprocessing((2.0, 2.0, 2.0)), STAGES)).requires_grad_(False)
    for network in model.networks:
        network.output.weight.mul_(scale)
    return Registration(model, torch.device("cpu"))


def volume(grid: ImageGrid, shift: float = 0.0) -> Volume:
    return Volume(body(grid, FIXED.center, shift), grid, "image")


def assessed(
    by: Registration, fixed: Volume, moving: Volume, start: CompositeTransform, domain: Domain | None = None
) -> Assessment:
    return assess(by, by.predict(fixed, moving, start), domain)


SHIFT = CompositeTransform((AffineTransform.translation([3.0, -2.0, 1.0]),))


def test_networks_that_do_nothing_are_consistent_and_move_nothing() -> None:
    found = assessed(registration(), volume(FIXED), volume(MOVING), SHIFT)
    assert found.inverse_consistency_mm == pytest.approx(0, abs=1e-6)
    assert found.displacement_mm == pytest.approx(0, abs=1e-6)
    assert found.local_before is not None
    assert found.local_after == pytest.approx(found.local_before, abs=1e-4)
    assert (found.images_distance, found.networks_distance) == (None, None)


def test_a_start_that_bends_is_no_part_of_there_and_back() -> None:
    """B comes back to where the start has brought the moving image, however far that is."""
    grid = FIXED.with_spacing((20.0, 20.0, 20.0)).lattice((-3, -3, -3), (1, 1, 1), (12, 12, 12))
    coefficients = np.random.default_rng(0).uniform(-3, 3, (3, *grid.shape))
    start = CompositeTransform((BSplineTransform(coefficients, grid),))
    found = assessed(registration(), volume(FIXED), volume(MOVING), start)
    assert found.inverse_consistency_mm == pytest.approx(0, abs=1e-6)


def test_the_error_there_and_back_is_that_of_the_two_transforms() -> None:
    by, fixed, moving = registration(20.0), volume(FIXED), volume(MOVING)
    found = assessed(by, fixed, moving, SHIFT)
    back = CompositeTransform((AffineTransform.translation([-3.0, 2.0, -1.0]),))
    there, again = by.predict(fixed, moving, SHIFT).transform, by.predict(moving, fixed, back).transform
    shown = fixed.array > 0.1 * np.percentile(fixed.array, 99)
    points = fixed.grid.voxel_centers()[shown]
    expected = np.median(np.linalg.norm(again.apply(there.apply(points)) - points, axis=1))
    assert found.inverse_consistency_mm == pytest.approx(expected, rel=0.1)
    moved = np.percentile(np.linalg.norm(there.apply(points) - SHIFT.apply(points), axis=1), 95)
    assert found.displacement_mm == pytest.approx(moved, rel=0.1)
    assert expected > 0.1


def test_the_local_similarity_tells_a_start_from_a_match() -> None:
    fixed = volume(FIXED)
    by = registration()
    same = assessed(by, fixed, fixed, CompositeTransform(()))
    apart = assessed(by, fixed, fixed, CompositeTransform((AffineTransform.translation([6.0, 6.0, 6.0]),)))
    assert same.local_before is not None
    assert apart.local_before is not None
    assert apart.local_before < same.local_before - 0.1


def test_what_has_no_counterpart_has_no_error_there_and_back() -> None:
    far = CompositeTransform((AffineTransform.translation([500.0, 0.0, 0.0]),))
    found = assessed(registration(), volume(FIXED), volume(MOVING), far)
    assert found.inverse_consistency_mm is None
    assert found.to_dict()["inverse_consistency_mm"] is None


def own_domain(by: Registration) -> Domain:
    """Of forty pairs of the body, each a little brighter, larger and elsewhere than the others."""
    generator = np.random.default_rng(2)
    pairs: list[Observed] = []
    for _ in range(40):
        a, b = (volume(FIXED, float(generator.uniform(-3, 3))) for _ in range(2))
        a, b = (replace(v, array=v.array + generator.normal(0, 8, v.array.shape).astype(np.float32)) for v in (a, b))
        pairs.append(observed(by.spec, by.predict(a, b, CompositeTransform(()))))
    return Domain.of(pairs, [FIXED, FIXED], {})


def test_the_distance_from_the_domain() -> None:
    by = registration(20.0)
    domain, noise = own_domain(by), np.random.default_rng(5)
    own, other = volume(FIXED, 1.0), volume(FIXED, -1.0)
    own, other = (
        replace(v, array=v.array + noise.normal(0, 8, v.array.shape).astype(np.float32)) for v in (own, other)
    )
    near = assessed(by, own, other, CompositeTransform(()), domain)
    stripes = replace(own, array=np.where(np.indices(own.array.shape).sum(0) % 4 < 2, 0, 300).astype(np.float32))
    far = assessed(by, own, stripes, CompositeTransform(()), domain)
    for name in ("images_distance", "networks_distance"):
        assert getattr(near, name) < 2 < 4 < getattr(far, name)


def test_an_image_of_another_order_of_size_is_outside() -> None:
    by = registration()
    domain = own_domain(by)
    wide = make_grid((60, 90, 90), (5.0, 5.0, 5.0), tuple(FIXED.origin), (0.3, -0.5, 0.8))
    found = assessed(by, volume(wide), volume(FIXED), CompositeTransform(()), domain)
    assert found.images_distance == OTHER_SIZE


def test_padding_and_one_bright_voxel_do_not_count_as_similarity() -> None:
    fixed, moving = volume(FIXED, 2.0), volume(FIXED, -1.0)
    plain = assessed(registration(), fixed, moving, CompositeTransform(()))
    padded = moving.array.copy()
    padded[:, :3] = -1000.0
    bright = moving.array.copy()
    bright[0, 0, 0] = 1e6
    for array in (padded, bright):
        found = assessed(registration(), fixed, replace(moving, array=array), CompositeTransform(()))
        assert found.similarity_after == pytest.approx(plain.similarity_after, abs=0.02)
    assert plain.similarity_after is not None
    assert 0.3 < plain.similarity_after < 0.99


def test_a_better_transform_is_measured_as_the_networks_own() -> None:
    """What is no better has the same figures; what is brings the images closer, on the same voxels."""
    by, fixed, moving = registration(), volume(FIXED), volume(MOVING, 3.0)
    for start in (CompositeTransform(()), CompositeTransform((_bend(),))):
        found = by.predict(fixed, moving, start)
        known = assess(by, found)
        same = refined(known, by.spec, found, found.transform)
        assert same.local_after == pytest.approx(known.local_after, abs=1e-4)
        assert same == replace(known, similarity_after=same.similarity_after, local_after=same.local_after)
        shifted = CompositeTransform((AffineTransform.translation([3.0, 3.0, 3.0]), *found.transform.parts))
        better = refined(known, by.spec, found, shifted)
        assert better.local_after is not None
        assert known.local_after is not None
        assert better.local_after > known.local_after + 0.05


def _bend() -> BSplineTransform:
    grid = FIXED.with_spacing((20.0, 20.0, 20.0)).lattice((-3, -3, -3), (1, 1, 1), (12, 12, 12))
    return BSplineTransform(np.random.default_rng(0).uniform(-1, 1, (3, *grid.shape)), grid)
