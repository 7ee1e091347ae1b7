"""Inverse consistency of maps whose inverse is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dlir.geometry import ImageGrid
from dlir.metrics.consistency import inverse_consistency
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import make_grid

FIXED = make_grid((6, 30, 40), (1.5, 1.2, 6.0), (20, -40, 10), (0.3, -0.2, 0.7))
AFFINE = AffineTransform(np.array([[1.1, 0.1, 0, 4], [0, 0.9, 0.05, -3], [0.02, 0, 1, 2], [0, 0, 0, 1.0]]))


def around(points: NDArray[np.float64]) -> ImageGrid:
    """A grid that holds all of them."""
    low, high = points.min(0) - 5, points.max(0) + 5
    x, y, z = np.ceil(high - low).astype(int)
    return ImageGrid((int(z), int(y), int(x)), (1.0, 1.0, 1.0), tuple(low))


def test_a_map_and_its_inverse_are_consistent() -> None:
    moving = around(AFFINE.apply(FIXED.voxel_centers().reshape(-1, 3)))
    back = AffineTransform(np.linalg.inv(AFFINE.matrix))
    found = inverse_consistency(AFFINE, back, FIXED, moving)
    assert found.count == 24 * 24 * 6
    assert found.max < 1e-9


def test_what_is_missed_is_measured_in_mm() -> None:
    moving = around(AFFINE.apply(FIXED.voxel_centers().reshape(-1, 3)))
    off = AffineTransform.translation([3.0, 0.0, 4.0])
    back = CompositeTransform((AffineTransform(np.linalg.inv(AFFINE.matrix)), off))
    found = inverse_consistency(AFFINE, back, FIXED, moving)
    assert (found.mean, found.percentile95, found.max) == pytest.approx((5, 5, 5))


def test_points_that_leave_the_moving_image_do_not_count() -> None:
    """Half of the fixed image is sent beside the moving one, where nobody knows the way back."""
    half = ImageGrid((6, 30, 20), FIXED.spacing, FIXED.origin, FIXED.direction)
    still = CompositeTransform(())
    assert inverse_consistency(still, still, FIXED, half).count == 24 * 24 * 6 // 2
    nowhere = inverse_consistency(AffineTransform.translation([1e4, 0, 0]), still, FIXED, FIXED)
    assert nowhere.count == 0
    assert math.isnan(nowhere.mean)
