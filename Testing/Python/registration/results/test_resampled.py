"""The moving image and the determinant on the fixed grid: by other ways to the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blobs import CENTER, FIXED, MOVING, Blobs, about, placed
from chains import random_bspline
from dlir.registration.progress import Clock
from dlir.registration.results.resampled import resampled
from dlir.transforms.resample import resample
from dlir.transforms.spatial import CompositeTransform
from grids import make_grid

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(2))
def test_it_is_what_each_for_itself_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    control = about(CENTER, make_grid((9, 9, 9), (15.0, 16.0, 14.0), angles=(0.1, 0.2, -0.3)))
    bend = random_bspline(rng, control, fraction=0.3, zero_layers=2)
    transform = CompositeTransform((bend, *placed((6, -2, 3), (0.1, 0.2, -0.1)).parts))
    fixed, moving = Blobs().seen(FIXED), Blobs().seen(MOVING)
    found = resampled(transform, fixed, moving, CPU, Clock())
    assert found.warped.shape == found.jacobian.shape == found.inside.shape == FIXED.shape
    there = resample(moving.array, MOVING, transform, FIXED, default=np.nan)
    points = FIXED.voxel_centers().reshape(-1, 3)
    inside = MOVING.contains(transform.apply(points)).reshape(FIXED.shape)
    assert 0.3 < inside.mean() < 1
    assert (found.inside == inside).mean() > 0.999  # but for what lies on the very border
    both = found.inside & np.isfinite(there)
    np.testing.assert_allclose(found.warped[both], there[both], atol=1e-2)
    assert (found.warped[~found.inside] == moving.array.min()).all()
    np.testing.assert_allclose(found.jacobian.ravel(), transform.determinant(points), rtol=1e-3, atol=1e-4)


def test_each_slab_is_told() -> None:
    told: list[tuple[str, float]] = []
    fixed = Blobs().seen(FIXED)
    clock = Clock(lambda step, fraction: told.append((step, fraction)))
    found = resampled(CompositeTransform(()), fixed, fixed, CPU, clock)
    np.testing.assert_allclose(found.warped, fixed.array, atol=1e-3)
    assert {step for step, _ in told} == {"compose", "resample", "jacobian"}
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
