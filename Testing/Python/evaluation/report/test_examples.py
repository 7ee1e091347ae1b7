"""Pictures of example pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlir.evaluation.report.examples import example_plane, method_panels, stage_panels
from dlir.evaluation.scoring import LoadedPair, load_pair, load_scan
from dlir.io.reading import Volume
from dlir.model.spec import Preprocessing
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from evaluation_runs import shift_of, two_subjects

RIGHT = CompositeTransform((AffineTransform.translation(shift_of(0).tolist()),))
MIRROR = CompositeTransform((AffineTransform(np.diag([-1.0, 1, 1, 1])),))
STILL = CompositeTransform(())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    data = two_subjects(Path(tmp_path_factory.mktemp("data")))
    chosen = data.pairs()[0]
    return load_pair(chosen, load_scan(chosen.fixed), load_scan(chosen.moving), data.labels, "centers")


def test_methods_stand_side_by_side(pair: LoadedPair) -> None:
    figure = method_panels(pair, {"still": STILL, "folded": MIRROR})
    titles = [axes.get_title() for axes in figure.axes[:6]]
    assert titles[:3] == ["Fixed", "still", "folded"]
    assert titles[3:5] == ["Moving", "no folding"]
    voxels = int(np.prod(example_plane(pair).shape))
    assert titles[5] == f"folding: {voxels} voxels"


def test_a_good_stage_leaves_less_difference(pair: LoadedPair) -> None:
    figure = stage_panels(pair, {"DIR-1": STILL, "DIR-2": RIGHT}, Preprocessing((1, 1, 1)))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["Moving", "DIR-1", "DIR-2", "Fixed"]
    for row in (1, 3, 5):
        moving, first, second = (float(t.removeprefix("mean ")) for t in titles[4 * row : 4 * row + 3])
        assert moving == first > 2 * second
    (bar,) = [axes for axes in figure.axes if "share of the intensity range" in axes.get_ylabel()]
    assert bar.get_ylim()[0] == 0


def of_scale(volume: Volume, factor: float, offset: float = 0.0) -> Volume:
    return replace(volume, array=(factor * volume.array + offset).astype(np.float32))


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (30.0, 0.0), (0.01, 5000.0)])
@pytest.mark.parametrize("spike", [0.0, 1e5])
def test_images_of_two_scales_are_compared_on_one(pair: LoadedPair, factor: float, offset: float, spike: float) -> None:
    """A moving image in other units is as far from the fixed one as in the same, and one voxel changes nothing."""
    moving = of_scale(pair.moving.image, factor, offset)
    moving.array[0, 0, 0] += spike
    other = replace(pair, moving=replace(pair.moving, image=moving))
    stages, preprocessing = {"DIR-1": STILL, "DIR-2": RIGHT}, Preprocessing((1, 1, 1))
    plain, found = (stage_panels(p, stages, preprocessing) for p in (pair, other))
    means = [[a.get_title() for a in figure.axes if a.get_title().startswith("mean")] for figure in (plain, found)]
    numbers = np.array([[float(text.removeprefix("mean ")) for text in own] for own in means])
    np.testing.assert_allclose(*numbers, atol=0.005)  # of so few voxels one moves the percentile a little


def test_one_scale_of_colours_serves_all_stages(pair: LoadedPair) -> None:
    figure = stage_panels(pair, {"DIR-1": STILL, "DIR-2": RIGHT}, Preprocessing((1, 1, 1)))
    shown = [image for axes in figure.axes for image in axes.images if axes.get_title().startswith("mean")]
    assert len(shown) == 9
    (scale,) = {(image.norm.vmin, image.norm.vmax) for image in shown}
    values = np.concatenate([np.ma.compressed(np.ma.masked_invalid(image.get_array())) for image in shown])
    assert scale[0] == 0
    assert 0.99 < (values <= scale[1]).mean() < 1
    (bar,) = [axes for axes in figure.axes if "share of the intensity range" in axes.get_ylabel()]
    assert bar.get_ylim()[1] == pytest.approx(scale[1])


def test_what_lies_outside_of_the_moving_image_does_not_count(pair: LoadedPair) -> None:
    """Black from beyond its border is no difference; far enough away there is nothing to compare."""
    grid = pair.fixed.image.grid
    aside = CompositeTransform((AffineTransform.translation([0.4 * grid.extent[0], 0.0, 0.0]),))
    away = CompositeTransform((AffineTransform.translation([1e4, 0.0, 0.0]),))
    bright = replace(pair, fixed=replace(pair.fixed, image=of_scale(pair.fixed.image, 1.0, 500.0)))
    figure = stage_panels(bright, {"aside": aside, "away": away}, Preprocessing((1, 1, 1), window=(0.0, 1000.0)))
    images = [axes.images[0].get_array() for axes in figure.axes[4:7]]
    shares = [np.ma.count_masked(np.ma.masked_invalid(image)) / image.size for image in images]
    assert shares[0] < 0.2 < shares[1] < shares[2] == 1
    assert figure.axes[6].get_title() == "nothing in common"


def test_nothing_to_compare_is_no_scale_of_nothing(pair: LoadedPair) -> None:
    same = replace(pair, moving=pair.fixed, start=STILL)
    figure = stage_panels(same, {"DIR-1": STILL}, Preprocessing((1, 1, 1)))
    assert {a.get_title() for a in figure.axes if a.get_title().startswith("mean")} == {"mean 0.000"}


def test_the_three_slices_lie_at_right_angles(pair: LoadedPair) -> None:
    from dlir.evaluation.report.examples import _three_planes

    planes = _three_planes(pair)
    normals = np.stack([plane.direction_matrix[:, 2] for plane in planes])
    np.testing.assert_allclose(np.abs(normals @ normals.T), np.eye(3), atol=1e-6)
    for plane in planes:
        assert plane.shape[0] == 1
        right, down, _ = plane.direction_matrix.T
        assert right[0] + right[1] > 0  # towards the patient's left or back
        assert down[1] - down[2] > 0  # towards the back or the feet
        assert pair.fixed.image.grid.contains(plane.voxel_centers()).all()
