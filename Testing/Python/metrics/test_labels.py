"""Overlap and surface distances against hand-computed values, brute force and SimpleITK's own filters."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import dlir.metrics
from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.metrics.labels import (
    average_surface_distance,
    dice,
    hausdorff,
    label_report,
    surface,
    surface_distances,
)

SPACING = (1.5, 2.0, 10.0)

# Rows of a rotation about all three axes: 2/3, -1/3, 2/3 and so on are exact unit vectors.
OBLIQUE = tuple(v / 3 for v in (2.0, -1.0, 2.0, 2.0, 2.0, -1.0, -1.0, 2.0, 2.0))


def oblique_grid(shape: tuple[int, int, int]) -> ImageGrid:
    return ImageGrid(shape, SPACING, (-31.0, 12.5, 140.0), OBLIQUE)


def mask_of(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def box(shape: tuple[int, int, int], low: tuple[int, int, int], high: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def brute_force(a: NDArray[np.bool_], b: NDArray[np.bool_], grid: ImageGrid) -> tuple[NDArray[np.float64], ...]:
    """Both directed sets of distances from all pairs of physical points."""

    def border_points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
        inside = {tuple(v) for v in np.argwhere(mask)}
        border = [v for v in sorted(inside) if any(tuple(np.add(v, step)) not in inside for step in steps)]
        return grid.to_physical(np.array(border)[:, ::-1])

    pairs = np.linalg.norm(border_points(a)[:, None] - border_points(b)[None], axis=-1)
    return pairs.min(1), pairs.min(0)


# -- overlap -----------------------------------------------------------------------------------------


def test_dice_counts_both_masks() -> None:
    a = mask_of((2, 2, 2), (0, 0, 0), (0, 0, 1), (0, 1, 0))
    b = mask_of((2, 2, 2), (0, 0, 1))
    assert dice(a, b) == dice(b, a) == 2 * 1 / (3 + 1)
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0


def test_dice_of_an_empty_mask() -> None:
    empty, full = np.zeros((2, 2, 2)), np.ones((2, 2, 2))
    assert dice(empty, full) == dice(full, empty) == 0
    assert math.isnan(dice(empty, empty))


def test_dice_matches_simpleitk() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 6, 7, 8)) < 0.4
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(m.astype(np.uint8)) for m in (a, b)))
    assert dice(a, b) == pytest.approx(overlap.GetDiceCoefficient(1), abs=1e-12)


def test_dice_refuses_masks_of_two_shapes() -> None:
    with pytest.raises(GeometryError, match="do not lie on one grid"):
        dice(np.ones((2, 2, 2)), np.ones((2, 2, 3)))


# -- surfaces ----------------------------------------------------------------------------------------


def test_surface_is_the_shell_of_a_cube_inside_and_at_the_border() -> None:
    inner = box((6, 6, 6), (1, 1, 1), (5, 5, 5))
    assert np.array_equal(surface(inner), inner & ~box((6, 6, 6), (2, 2, 2), (4, 4, 4)))
    whole = np.ones((4, 4, 4), bool)
    assert np.array_equal(surface(whole), ~box((4, 4, 4), (1, 1, 1), (3, 3, 3)))


def test_two_single_voxels_lie_their_physical_offset_apart() -> None:
    grid = oblique_grid((4, 6, 8))
    distances = surface_distances(mask_of(grid.shape, (0, 0, 0)), mask_of(grid.shape, (1, 2, 3)), grid)
    expected = math.sqrt((1 * 10.0) ** 2 + (2 * 2.0) ** 2 + (3 * 1.5) ** 2)
    assert hausdorff(distances) == pytest.approx(expected, rel=1e-6)
    assert hausdorff(distances, 95) == pytest.approx(expected, rel=1e-6)
    assert average_surface_distance(distances) == pytest.approx(expected, rel=1e-6)


def test_the_average_weighs_every_surface_voxel_alike() -> None:
    grid = ImageGrid((1, 1, 5), (2.0, 1.0, 1.0))
    distances = surface_distances(mask_of(grid.shape, (0, 0, 0)), box(grid.shape, (0, 0, 0), (1, 1, 3)), grid)
    assert distances.a_to_b.tolist() == [0]
    assert sorted(distances.b_to_a.tolist()) == [0, 2, 4]
    assert average_surface_distance(distances) == (0 + 0 + 2 + 4) / 4
    assert hausdorff(distances) == 4


def test_identical_masks_are_zero_apart_even_where_they_fill_the_image() -> None:
    grid = oblique_grid((3, 4, 5))
    for mask in (np.ones(grid.shape, bool), mask_of(grid.shape, (2, 3, 4)), box(grid.shape, (0, 0, 0), (3, 4, 1))):
        distances = surface_distances(mask, mask, grid)
        assert hausdorff(distances) == average_surface_distance(distances) == 0


def test_distances_to_an_empty_mask_are_undefined() -> None:
    grid = ImageGrid((2, 2, 2))
    for a, b in ((0, 1), (1, 0), (0, 0)):
        distances = surface_distances(np.full(grid.shape, a), np.full(grid.shape, b), grid)
        assert math.isnan(hausdorff(distances))
        assert math.isnan(hausdorff(distances, 95))
        assert math.isnan(average_surface_distance(distances))


def test_a_mask_off_the_grid_is_refused() -> None:
    with pytest.raises(GeometryError, match="does not fit a grid"):
        surface_distances(np.ones((2, 2, 2)), np.ones((2, 2, 2)), ImageGrid((2, 2, 3)))


masks = hnp.arrays(bool, (4, 5, 6))


@settings(max_examples=60, deadline=None)
@given(masks, masks, st.tuples(*[st.floats(0.3, 12)] * 3))
def test_any_two_masks_match_brute_force(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: tuple[float, ...]
) -> None:
    grid = ImageGrid((4, 5, 6), spacing, (3.0, -2.0, 9.0), OBLIQUE)  # type: ignore[arg-type]
    distances = surface_distances(a, b, grid)
    if not a.any() or not b.any():
        assert not distances.a_to_b.size
        assert not distances.b_to_a.size
        return
    a_to_b, b_to_a = brute_force(a, b, grid)
    assert distances.a_to_b == pytest.approx(a_to_b, rel=1e-5, abs=1e-5)
    assert distances.b_to_a == pytest.approx(b_to_a, rel=1e-5, abs=1e-5)
    expected_95 = max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95))
    assert hausdorff(distances, 95) == pytest.approx(expected_95, rel=1e-5, abs=1e-5)
    expected_mean = (a_to_b.sum() + b_to_a.sum()) / (a_to_b.size + b_to_a.size)
    assert average_surface_distance(distances) == pytest.approx(expected_mean, rel=1e-5, abs=1e-5)


def test_ellipsoids_match_brute_force_on_an_oblique_grid() -> None:
    grid = oblique_grid((9, 28, 32))
    points = grid.voxel_centers() - grid.center

    def ellipsoid(offset: tuple[float, ...], radius: tuple[float, ...]) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (((points - offset) / radius) ** 2).sum(-1) < 1
        return inside

    a, b = ellipsoid((0, 0, 0), (15, 14, 22)), ellipsoid((4, -3, 6), (12, 17, 19))
    assert a.any()
    assert b.any()
    distances = surface_distances(a, b, grid)
    a_to_b, b_to_a = brute_force(a, b, grid)
    assert distances.a_to_b == pytest.approx(a_to_b, rel=1e-5)
    assert distances.b_to_a == pytest.approx(b_to_a, rel=1e-5)


@pytest.mark.parametrize(("low", "high"), [((2, 3, 5), (4, 8, 11)), ((5, 9, 1), (7, 12, 3)), ((0, 0, 0), (8, 14, 16))])
def test_hausdorff_of_convex_masks_matches_simpleitk(low: tuple[int, int, int], high: tuple[int, int, int]) -> None:
    # SimpleITK measures between whole masks, which for convex ones is the distance between their surfaces.
    grid = oblique_grid((8, 14, 16))
    a, b = box(grid.shape, (1, 2, 2), (5, 9, 8)), box(grid.shape, low, high)
    reference = sitk.HausdorffDistanceImageFilter()
    reference.Execute(*(grid.to_sitk(m.astype(np.uint8)) for m in (a, b)))
    assert hausdorff(surface_distances(a, b, grid)) == pytest.approx(reference.GetHausdorffDistance(), rel=1e-5)


def test_scores_depend_on_spacing_alone_and_on_no_order() -> None:
    rng = np.random.default_rng(11)
    shape = (5, 9, 7)
    a, b = rng.random((2, *shape)) < 0.1
    straight = surface_distances(a, b, ImageGrid(shape, SPACING))
    oblique = surface_distances(a, b, oblique_grid(shape))
    assert np.array_equal(straight.a_to_b, oblique.a_to_b)
    swapped = surface_distances(b, a, oblique_grid(shape))
    assert np.array_equal(swapped.b_to_a, oblique.a_to_b)
    doubled = surface_distances(a, b, ImageGrid(shape, (3.0, 4.0, 20.0)))
    assert doubled.a_to_b == pytest.approx(2 * straight.a_to_b, rel=1e-6)
    turned = surface_distances(a.transpose(2, 1, 0), b.transpose(2, 1, 0), ImageGrid(shape[::-1], SPACING[::-1]))
    assert average_surface_distance(turned) == pytest.approx(average_surface_distance(straight), rel=1e-6)


def test_the_field_of_view_around_the_masks_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 4, 5, 6)) < 0.3
    tight = surface_distances(a, b, ImageGrid((4, 5, 6), SPACING))
    wide = surface_distances(np.pad(a, 7), np.pad(b, 7), ImageGrid((18, 19, 20), SPACING))
    assert np.array_equal(tight.a_to_b, wide.a_to_b)
    assert np.array_equal(tight.b_to_a, wide.b_to_a)


# -- label maps --------------------------------------------------------------------------------------


def test_label_report_scores_each_label_on_its_own() -> None:
    grid = ImageGrid((1, 1, 6), (2.0, 1.0, 1.0))
    fixed = np.array([[[1, 1, 0, 2, 2, 0]]])
    warped = np.array([[[1, 1, 0, 0, 2, 2]]])
    report = label_report(fixed, warped, grid)
    assert list(report) == [1, 2]
    assert astuple(report[1]) == (1, 0, 0, 0, 2, 2)
    assert report[2].dice == 0.5
    assert report[2].hd == 2
    assert report[2].asd == (2 + 0 + 0 + 2) / 4


def test_label_report_says_which_map_lacks_a_label() -> None:
    grid = ImageGrid((1, 1, 4))
    report = label_report(np.array([[[1, 1, 0, 0]]]), np.array([[[0, 0, 0, 3]]]), grid, labels=[1, 2, 3])
    assert [scores.dice for scores in report.values()] == pytest.approx([0, math.nan, 0], nan_ok=True)
    assert all(math.isnan(v) for s in report.values() for v in (s.hd, s.hd95, s.asd))
    assert [(s.fixed_voxels, s.warped_voxels) for s in report.values()] == [(2, 0), (0, 0), (0, 1)]


def test_label_report_of_background_alone_is_empty() -> None:
    grid = ImageGrid((2, 2, 2))
    assert label_report(np.zeros(grid.shape, int), np.zeros(grid.shape, int), grid) == {}


# -- cost --------------------------------------------------------------------------------------------


def test_importing_the_measures_loads_nothing_heavy() -> None:
    root = Path(dlir.metrics.__path__[0])
    names = ", ".join(f"dlir.metrics.{file.stem}" for file in root.glob("[a-z]*.py"))
    code = f"import sys, {names}; sys.exit(bool({{'torch', 'SimpleITK', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=root.parents[1], check=False).returncode == 0
