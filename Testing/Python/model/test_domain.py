"""What a model was made for: clouds of vectors, their distances, and the way through a file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlir.errors import ModelError
from dlir.model.domain import Domain, Observed, Range, image_figures
from grids import make_grid

SHAPE = (20, 30, 24)
GRID = make_grid(SHAPE, (2.0, 2.0, 4.0), (1.0, -2.0, 3.0), (0.2, -0.1, 0.3))


def samples(seed: int, count: int = 120, features: int = 6) -> Any:
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(features, features))
    return generator.normal(size=(count, features)) @ mixing + 10


def domain(seed: int = 0) -> Domain:
    generator = np.random.default_rng(seed)
    images = [image_figures(generator.uniform(0, 1, SHAPE) ** 2) for _ in range(80)]
    stages = samples(seed, 40), samples(seed + 1, 40, 3)
    pairs = [Observed((images[2 * k], images[2 * k + 1]), (stages[0][k], stages[1][k])) for k in range(40)]
    return Domain.of(pairs, [GRID, GRID.with_spacing((1.0, 1.0, 4.0))], {"displacement_mm": 3.25})


def test_the_sizes_of_its_images_in_words() -> None:
    found = Domain.of([Observed((np.zeros(7), np.ones(7)), (np.zeros(3),))] * 8, [GRID, make_grid((5, 6, 7))], {})
    assert found.sizes == "7 x 6 x 5 to 48 x 60 x 80 mm"


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_own_vectors_are_within_about_one(seed: int) -> None:
    cloud = samples(seed, 400)
    known = Range.of(cloud[::2])
    assert known.distance(known.mean) == 0
    assert np.mean([known.distance(row) < 1.5 for row in cloud[1::2]]) > 0.9


def test_the_distance_is_that_of_mahalanobis() -> None:
    """Without correlations, a step of one standard deviation along any axis is as far as along any other."""
    scales = np.array([1.0, 10.0, 100.0])
    known = Range.of(np.random.default_rng(3).normal(size=(20000, 3)) * scales)
    steps = [known.distance(known.mean + step) for step in np.diag(scales)]
    assert steps == pytest.approx([steps[0]] * 3, rel=0.05)
    assert known.distance(known.mean + 2 * np.diag(scales)[0]) == pytest.approx(2 * steps[0])


def test_a_feature_that_never_changes_does_not_decide_alone() -> None:
    cloud = samples(5)
    cloud[:, 2] = 1.0
    known = Range.of(cloud)
    slightly = known.mean.copy()
    slightly[2] += 1e-6
    assert known.distance(slightly) < 0.01


def test_few_vectors_of_many_features_leave_room_for_others_like_them() -> None:
    """Without leaving each out of its own cloud, new ones would all look foreign."""
    generator = np.random.default_rng(11)
    known = Range.of(generator.normal(size=(60, 50)))
    fresh = [known.distance(row) for row in generator.normal(size=(200, 50))]
    assert np.median(fresh) < 1.1


def test_through_json() -> None:
    known = domain()
    found = Domain.from_dict(json.loads(json.dumps(known.to_dict())))
    assert found.pairs == 20
    assert found.figures == {"displacement_mm": 3.25}
    np.testing.assert_allclose(found.extent, known.extent)
    figures = image_figures(np.random.default_rng(99).uniform(0, 1, SHAPE))
    assert found.image_distance(figures) == pytest.approx(known.image_distance(figures), rel=0.02)
    pair = Observed((figures, figures), (samples(8, 1)[0], samples(9, 1, 3)[0]))
    assert found.stage_distance(pair.stages) == pytest.approx(known.stage_distance(pair.stages), rel=0.02)


def test_another_kind_of_image_is_far() -> None:
    known = domain()
    own = image_figures(np.random.default_rng(1).uniform(0, 1, SHAPE) ** 2)
    other = image_figures(np.random.default_rng(1).uniform(0, 1, SHAPE) ** 0.25)
    assert known.image_distance(own) < 1.5 < 5 < known.image_distance(other)


def test_an_image_of_another_order_of_size() -> None:
    known = domain()
    assert not known.size_differs(GRID)
    assert not known.size_differs(GRID.with_spacing((2.0, 2.0, 4.0)).lattice((0, 0, 0), (1, 1, 1), (12, 15, 10)))
    assert known.size_differs(GRID.lattice((0, 0, 0), (1, 1, 1), (2, 15, 10)))
    assert known.size_differs(make_grid((20, 300, 24), (2.0, 2.0, 4.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.pop("stages"),
        lambda values: values["images"].update(unit=0.0),
        lambda values: values["images"].update(unit=float("nan")),
        lambda values: values["images"]["mean"].append(1.0),
        lambda values: values["stages"][0].update(covariance=[1.0]),
        lambda values: values.update(spacing=[1, 2, 3]),
        lambda values: values.update(figures=[1]),
        lambda values: values.update(stages=3),
    ],
)
def test_what_is_damaged_is_refused(damage: Any) -> None:
    values = json.loads(json.dumps(domain().to_dict()))
    damage(values)
    with pytest.raises(ModelError, match="domain is not valid"):
        Domain.from_dict(values)


def test_features_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match="6 features and the model gives 5"):
        Range.of(samples(0)).distance(np.zeros(5))


def test_figures_of_an_image() -> None:
    image = np.zeros((4, 4, 4))
    image[2:] = 1.0
    figures = image_figures(image)
    assert figures.shape == (13,)
    assert figures[7] == pytest.approx(0.5)  # spread
    assert list(figures[8:10]) == [0.5, 0.5]  # dark, and as bright as can be
    assert list(figures[10:]) == pytest.approx([1 / 3, 0.0, 0.0])  # one edge, across the first axis


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values["stages"][0].update(covariance=[-v for v in values["stages"][0]["covariance"]]),
        lambda values: values["stages"][0].update(covariance=[0.0] * len(values["stages"][0]["covariance"])),
        lambda values: values["images"].update(unit=1e30),
        lambda values: values["figures"].update(displacement_mm=-1.0),
        lambda values: values["figures"].update(displacement_mm=float("nan")),
        lambda values: values["extent"][0].__setitem__(0, 1e6),
        lambda values: values["extent"][0].__setitem__(0, float("nan")),
    ],
)
def test_figures_that_cannot_be_are_refused(damage: Any) -> None:
    """Each would let every pair pass as the model's own."""
    values = json.loads(json.dumps(domain().to_dict()))
    damage(values)
    with pytest.raises(ModelError, match="domain is not valid"):
        Domain.from_dict(values)
