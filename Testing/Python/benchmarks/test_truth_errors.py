"""Errors that are known place by place: nothing for what is right, and so much for what is off by so much."""

from __future__ import annotations

import numpy as np
import pytest
from truth.errors import Borders, Targets, cases, displaced, sampled
from truth.store import default_data

from blobs import FIXED, Blobs, placed
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.transforms.spatial import CompositeTransform
from grids import make_grid

GRID = make_grid((12, 14, 16), (1.0, 1.5, 1.2), angles=(0.2, 0.1, -0.3))


def test_a_displaced_image_shows_at_each_point_what_was_where_the_way_back_says() -> None:
    blobs = Blobs()
    moved, back = displaced(blobs.seen(FIXED), np.random.default_rng(3), changed=False)
    places = moved.grid.voxel_centers()[6:-6, 6:-6, 6:-6].reshape(-1, 3)
    inside = FIXED.contains(back.apply(places))
    expected = 100 * blobs.at(back.apply(places))
    found = moved.array[6:-6, 6:-6, 6:-6].reshape(-1)
    assert np.corrcoef(found[inside], expected[inside])[0, 1] > 0.99
    assert np.linalg.norm(back.apply(places) - places, axis=1).max() > 2.5
    assert back.determinant(places).min() > 0


def test_one_that_is_changed_is_of_another_contrast_and_keeps_its_place() -> None:
    image = Blobs().seen(FIXED)
    plain, back = displaced(image, np.random.default_rng(3), changed=False)
    changed, same = displaced(image, np.random.default_rng(3), changed=True)
    places = FIXED.voxel_centers().reshape(-1, 3)
    np.testing.assert_array_equal(back.apply(places), same.apply(places))
    assert max(changed.grid.spacing) > max(plain.grid.spacing)
    assert np.isfinite(changed.array).all()


def test_targets_are_missed_by_what_a_transform_is_off() -> None:
    points = FIXED.voxel_centers().reshape(-1, 3)[::97]
    known = placed((5, -4, 3), (0.1, -0.08, 0.12))
    targets = Targets(points, known.apply(points))
    np.testing.assert_allclose(targets.errors(known), 0, atol=1e-9)
    off = CompositeTransform((*known.parts, *placed((0, 3, 4)).parts))
    np.testing.assert_allclose(targets.errors(off), 5)


def _ball(grid: ImageGrid, radius: float) -> Volume:
    distance = np.linalg.norm(grid.voxel_centers() - grid.center, axis=-1)
    return Volume((distance < radius).astype(np.int32) * 3, grid, "ball")


def test_borders_lie_where_they_are_drawn_and_apart_by_what_they_are() -> None:
    small, large = _ball(GRID, 4.0), _ball(GRID, 6.0)
    borders = Borders.of(small, small, np.random.default_rng(0))
    still = CompositeTransform(())
    assert set(borders.structures.tolist()) == {3}
    assert np.median(borders.errors(still)) < 0.1
    assert borders.errors(still).max() < 0.5 * max(GRID.spacing)
    apart = Borders.of(small, large, np.random.default_rng(0)).errors(still)
    assert np.median(apart) == pytest.approx(2.0, abs=0.5)


def test_values_between_voxels_are_linear_and_beyond_the_border_those_of_it() -> None:
    array = np.arange(12 * 14 * 16, dtype=np.float32).reshape(GRID.shape)
    index = np.array([[1.5, 2.0, 3.0], [-4.0, 0.0, 0.0], [15.0, 13.0, 11.0]])
    found = sampled(array, GRID, GRID.to_physical(index))
    np.testing.assert_allclose(found, [array[3, 2, 1:3].mean(), array[0, 0, 0], array[-1, -1, -1]], atol=1e-6)


@pytest.mark.data
def test_cases_are_unique_and_no_subject_is_in_both_halves() -> None:
    known = cases(default_data())
    assert len({case.name for case in known}) == len(known)
    subjects = {split: set[str]() for split in ("tune", "report")}
    for case in known:
        own = case.pair.subjects if case.pair else {case.fixed.split("#")[0], case.moving.split("#")[0]}
        subjects[case.split] |= own
    assert not subjects["tune"] & subjects["report"]
    assert {case.kind for case in known} == {"exact", "landmarks", "labels"}
