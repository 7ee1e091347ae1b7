"""Ejection fractions, cycles and the picture, where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cine_files as tiny
from dlir.cohort.cine.cycle import follow, followed_points
from dlir.cohort.cine.figure import draw_volumes
from dlir.cohort.cine.volumes import ejection_table, ejections, heart_phases, volumes_table
from dlir.io.reading import Volume
from dlir.transforms.spatial import AffineTransform, CompositeTransform

# The wall moves by a fifth and is no measure of the heart's phases.
HEART = [
    {"wall": 100.0, "LV": 118.0, "RV": 90.0},
    {"wall": 95.0, "LV": 120.0, "RV": 92.0},
    {"wall": 110.0, "LV": 60.0, "RV": 46.0},
    {"wall": 120.0, "LV": 72.0, "RV": 40.0},
]


def moved(*offset: float) -> CompositeTransform:
    return CompositeTransform((AffineTransform.translation(offset),))


def test_end_diastole_and_end_systole_are_those_of_what_changes_most() -> None:
    assert heart_phases(HEART) == (1, 2)
    wall, left, right = ejections(HEART)
    assert (left.ejection_percent, left.ed_to_es_percent) == (50.0, 50.0)
    assert (left.largest_phase, left.smallest_phase, left.ed_ml, left.es_ml) == (1, 2, 120.0, 60.0)
    assert (right.smallest_phase, right.smallest_ml) == (3, 40.0)
    assert right.ejection_percent == pytest.approx(100 * 52 / 92)
    assert (right.es_phase, right.ed_to_es_percent) == (2, 50.0)
    assert wall.ed_to_es_percent == pytest.approx(-100 * 15 / 95)


def test_a_structure_that_is_nowhere_ejects_nothing_that_could_be_told() -> None:
    (found,) = ejections([{"LV": 0.0}, {"LV": 0.0}])
    assert (found.ejection_percent, found.ed_to_es_percent) == (None, None)
    assert ejection_table([found]).splitlines()[1] == "LV,0,0.0,0,0.0,,0,0.0,0,0.0,"


def test_tables() -> None:
    assert volumes_table([{'the "LV", left': 1.5}, {'the "LV", left': 1.25}], (0.0, 0.046)).splitlines() == [
        'phase,time_s,"the ""LV"", left_ml"',
        "0,0,1.5000",
        "1,0.046,1.2500",
    ]
    assert volumes_table([{"1": 2.0}], None).splitlines()[1] == "0,,2.0000"
    assert volumes_table([{"=A1": 2.0}], None).splitlines()[0] == "phase,time_s,'=A1_ml"
    assert ejection_table(ejections([{"@LV": 60.0}, {"@LV": 90.0}])).splitlines()[1].startswith("'@LV,")


def test_maps_that_lead_around_come_back() -> None:
    """Phases shifted by 0, 1, 3 and 2 mm, as seen from the second one."""
    places = np.array([0.0, 1.0, 3.0, 2.0])
    links = [moved(places[(k + 1) % 4] - places[k], 0, 0) for k in range(4)]
    direct = [moved(place - places[1], 0, 0) for place in places]
    points = tiny.GRID.voxel_centers().reshape(-1, 3)[::50]
    exact = follow("label", points, links, direct, reference=1)
    np.testing.assert_allclose(exact.returned, 0, atol=1e-9)
    np.testing.assert_allclose(exact.links, 0, atol=1e-9)
    links[2] = moved(places[3] - places[2], 0.3, 0.4)  # from phase 2 to phase 3
    off = follow("label", points, links, direct, reference=1)
    np.testing.assert_allclose(off.returned, 0.5, atol=1e-9)
    np.testing.assert_allclose(off.links, [0, 0, 0.5, 0], atol=1e-9)
    assert off.to_dict() == {
        "where": "label",
        "points": len(points),
        "mean_mm": 0.5,
        "percentile95_mm": 0.5,
        "max_mm": 0.5,
        "links_mm": [0.0, 0.0, 0.5, 0.0],
    }


def test_a_cycle_is_measured_in_the_label_or_where_the_image_shows_something() -> None:
    image = Volume(tiny.images()[0].astype(np.float32), tiny.GRID, "image")
    label = tiny.labels()[0]
    where, points = followed_points(image, [label == 1, label == 2])
    assert where == "label"
    np.testing.assert_allclose(points, tiny.GRID.voxel_centers()[label > 0])
    where, points = followed_points(image, [])
    assert where == "image"
    values = image.array.reshape(-1)
    index = np.rint(tiny.GRID.to_index(points)).astype(int)
    shown = image.array[index[:, 2], index[:, 1], index[:, 0]]
    assert 0 < len(points) < 0.8 * values.size
    assert shown.min() > 0.05 * values.max()


@pytest.mark.parametrize("seconds", [None, tiny.SECONDS], ids=["phases", "times"])
def test_the_picture_shows_a_curve_for_each_structure(tmp_path: Path, seconds: tuple[float, ...] | None) -> None:
    from matplotlib.image import imread

    draw_volumes(tmp_path / "volumes.png", HEART, ejections(HEART), seconds)
    picture = imread(tmp_path / "volumes.png")[..., :3]
    assert picture.shape[:2] == (600, 1050)
    for colour in ("0072b2", "d55e00", "009e73"):
        drawn = np.abs(picture - np.array([int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)])).max(-1) < 0.02
        assert np.count_nonzero(drawn) > 500
    assert [path.name for path in tmp_path.iterdir()] == ["volumes.png"]
