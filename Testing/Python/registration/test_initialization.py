"""Which start is taken, and why: never a worse one than the scanner's positions, where these mean something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.registration.initialization import Start, initialize
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, make_grid

SCANNER, CENTERS, MASS = "scanner positions", "image centers", "centers of mass"
GRID = make_grid((16, 60, 64), (2.0, 2.0, 5.0), (-40, 25, 60), (0.2, -0.1, 0.3))


def body_at(grid: ImageGrid, center: Array, name: str, background: float = 0.0) -> Volume:
    """An uneven body about a place in mm, in some noise."""
    away = grid.voxel_centers() - center
    inside = np.linalg.norm(away / (28, 20, 24), axis=-1) < 1
    noise = np.random.default_rng(grid.shape[2]).normal(0, 2, grid.shape)
    values = background + noise + inside * (100 + 40 * np.sin(away[..., 0] / 7) + 30 * np.cos(away[..., 1] / 5))
    return Volume(values.astype(np.float32), grid, name)


def cropped(volume: Volume, low: tuple[int, int, int], size: tuple[int, int, int]) -> Volume:
    """A window (x, y, z) of a volume, in its right place."""
    x, y, z = (slice(a, a + n) for a, n in zip(low, size, strict=True))
    return Volume(volume.array[z, y, x], volume.grid.lattice(low, (1, 1, 1), size), "cropped")


def moved(volume: Volume, shift: tuple[float, float, float]) -> Volume:
    """The same image with another origin, mm."""
    origin = tuple(np.array(volume.grid.origin) + shift)
    return Volume(volume.array, replace(volume.grid, origin=origin), "moved")


def test_a_crop_stays_where_the_scanner_placed_it() -> None:
    whole = body_at(GRID, GRID.center, "whole")
    part = cropped(whole, (20, 14, 2), (30, 26, 9))
    for fixed, moving in ((whole, part), (part, whole)):
        start = initialize(fixed, moving, None, "auto")
        assert start.description["mode"] == SCANNER
        assert start.transform.parts == ()
        assert start.description["reason"].startswith("similarity of the overlap at low resolution: scanner positions")
        forced = initialize(fixed, moving, None, "centers")
        assert forced.description["mode"] == CENTERS
        assert "reason" not in forced.description


@pytest.mark.parametrize("expected", ["scanner", "centers"])
def test_two_images_of_one_scan_are_not_looked_at(expected: str) -> None:
    empty = Volume(np.zeros(GRID.shape, np.float32), GRID, "empty")
    assert initialize(empty, empty, None, "auto", expected).description == {
        "mode": SCANNER,
        "center_distance_mm": 0.0,
        "overlap": 1.0,
    }


@pytest.mark.parametrize("shift", [(45.0, -30.0, 20.0), (900.0, 0.0, 0.0)])
def test_a_scan_of_another_day_is_brought_back_by_its_content(shift: tuple[float, float, float]) -> None:
    fixed = body_at(GRID, GRID.center + np.array([10, 5, 3]), "fixed")
    moving = moved(fixed, shift)
    start = initialize(fixed, moving, None, "auto")
    assert start.description["mode"] in (CENTERS, MASS)
    sent = start.transform.apply(GRID.center[None])[0]
    np.testing.assert_allclose(sent, GRID.center + shift, atol=2)


def test_a_body_off_the_middle_is_found_by_its_mass() -> None:
    fixed = body_at(GRID, GRID.center + np.array([25, 20, 0]), "fixed")
    moving = moved(body_at(GRID, GRID.center - np.array([28, 18, 0]), "moving"), (300.0, 0.0, 0.0))
    start = initialize(fixed, moving, None, "auto")
    assert start.description["mode"] == MASS
    sent = start.transform.apply((GRID.center + np.array([25, 20, 0]))[None])[0]
    np.testing.assert_allclose(sent, GRID.center - np.array([28, 18, 0]) + np.array([300, 0, 0]), atol=4)


def test_in_doubt_the_expected_start_is_taken() -> None:
    noise = np.random.default_rng(0).normal(size=(2, *GRID.shape)).astype(np.float32)
    fixed, moving = Volume(noise[0], GRID, "a"), moved(Volume(noise[1], GRID, "b"), (6.0, 0.0, 0.0))
    assert initialize(fixed, moving, None, "auto", "scanner").description["mode"] == SCANNER
    assert initialize(fixed, moving, None, "auto", "centers").description["mode"] == CENTERS


@pytest.mark.parametrize("value", [-1000.0, 3000.0])
def test_padding_does_not_draw_the_start(value: float) -> None:
    fixed = body_at(GRID, GRID.center, "fixed")
    padded = fixed.array.copy()
    padded[:, :12] = value
    start = initialize(fixed, Volume(padded, replace(GRID, shape=GRID.shape), "padded"), None, "auto")
    assert start.transform.parts == ()
    part = cropped(Volume(padded, GRID, "padded"), (10, 0, 0), (40, 50, 16))
    assert initialize(fixed, part, None, "auto").description["mode"] == SCANNER


def test_constant_images_start_where_they_are() -> None:
    fixed = Volume(np.full(GRID.shape, 7, np.float32), GRID, "fixed")
    start = initialize(fixed, moved(fixed, (10.0, 0.0, 0.0)), None, "auto")
    assert start.description["mode"] == SCANNER
    assert "not comparable" in start.description["reason"]


def test_a_given_start_is_not_questioned() -> None:
    fixed = body_at(GRID, GRID.center, "fixed")
    given = CompositeTransform((AffineTransform.translation((5.0, 0.0, 0.0)),))
    start = initialize(fixed, fixed, given, "auto")
    assert start.transform is given
    assert start.description["mode"] == "given transform"
    assert initialize(fixed, fixed, start, "scanner") is start
    assert isinstance(start, Start)


def test_the_scanners_positions_can_be_insisted_on() -> None:
    fixed = body_at(GRID, GRID.center, "fixed")
    with pytest.raises(GeometryError, match="do not overlap in space"):
        initialize(fixed, moved(fixed, (900.0, 0.0, 0.0)), None, "scanner")


def test_a_given_start_that_leads_nowhere_is_named() -> None:
    fixed = body_at(GRID, GRID.center, "fixed")
    away = CompositeTransform((AffineTransform.translation((900.0, 0.0, 0.0)),))
    with pytest.raises(GeometryError, match=r"initial transform sends no part of 'fixed' into 'fixed'.*leave it out"):
        initialize(fixed, fixed, away, "auto")
