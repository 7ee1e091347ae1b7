"""What a model's specification says of grids, cells and folding, and the specifications it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlir.errors import ModelError
from dlir.geometry import ImageGrid
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from grids import grids, make_grid

COARSE = StageSpec("bspline", (3.0, 3.0, 8.0), (4,) * 4, (24.0, 24.0, 8.0))
FINE = StageSpec("bspline", (1.5, 1.5, 8.0), (4,) * 3, (6.0, 6.0, 8.0))
AFFINE = StageSpec("affine", (3.0, 3.0, 8.0), (4, 4))
PREPROCESSING = Preprocessing((1.5, 1.5, 8.0))
SPEC = ModelSpec(PREPROCESSING, (AFFINE, COARSE, FINE))


# -- orientation and working grid --------------------------------------------------------------------


@given(grid=grids())
def test_slices_become_z(grid: ImageGrid) -> None:
    oriented = Preprocessing((1, 1, 1), orientation="slices").oriented(grid)
    assert oriented.spacing[2] == max(grid.spacing)
    assert sorted(oriented.spacing) == sorted(grid.spacing)
    assert oriented.canonical().same_as(grid.canonical(), 1e-6)  # the same voxels


def test_slices_that_are_z_already_stay() -> None:
    for spacing in ((1.0, 1.0, 8.0), (2.0, 2.0, 2.0), (1.0, 3.0, 3.0)):
        grid = make_grid((4, 5, 6), spacing, angles=(2.0, 1.0, 0.5))
        assert Preprocessing((1, 1, 1), orientation="slices").oriented(grid) == grid


@given(grid=grids())
def test_canonical_is_the_grids_own(grid: ImageGrid) -> None:
    assert Preprocessing((1, 1, 1)).oriented(grid) == grid.canonical()


@given(grid=grids(), resolution=st.tuples(*[st.floats(0.3, 10)] * 3))
def test_the_working_grid_has_the_resolution_and_covers_the_image(
    grid: ImageGrid, resolution: tuple[float, float, float]
) -> None:
    working = Preprocessing(resolution).working_grid(grid)
    np.testing.assert_allclose(working.spacing, resolution)
    np.testing.assert_allclose(working.center, grid.center, rtol=0, atol=1e-6)
    assert (np.array(working.extent) > np.array(grid.canonical().extent) - 1e-3 * np.array(resolution)).all()


@pytest.mark.parametrize(
    ("thickness", "expected"), [(10.0, 10.0), (8.0, 8.0), (5.0, 10.0), (3.0, 9.0), (2.0, 8.0), (30.0, 30.0)]
)
def test_native_axes_keep_or_average_whole_voxels(thickness: float, expected: float) -> None:
    grid = ImageGrid((12, 20, 20), (1.0, 1.0, thickness))
    working = Preprocessing((1.5, 1.5, 8.0), native_axes=(False, False, True)).working_grid(grid)
    np.testing.assert_allclose(working.spacing, (1.5, 1.5, expected))


def test_native_axes_are_those_after_orientation() -> None:
    """A sagittal scan whose 6 mm slices lie along x."""
    sagittal = ImageGrid((3, 40, 50), (1.0, 2.0, 6.0), direction=(0, 0, -1, -1, 0, 0, 0, -1, 0))
    working = Preprocessing((5.0, 2.0, 2.0), native_axes=(True, False, False)).working_grid(sagittal)
    np.testing.assert_allclose(working.spacing, (6.0, 2.0, 2.0))


# -- stages ------------------------------------------------------------------------------------------


def test_factors_and_control_spacings_count_working_voxels() -> None:
    assert [SPEC.factors(k) for k in range(3)] == [(2, 2, 1), (2, 2, 1), (1, 1, 1)]
    assert [SPEC.control_spacing(k) for k in (1, 2)] == [(16, 16, 1), (4, 4, 1)]


@given(shape=st.tuples(*[st.integers(1, 300)] * 3))
def test_padding_gives_whole_cells_and_no_more_than_needed(shape: tuple[int, int, int]) -> None:
    padded = SPEC.padded_shape(shape)
    # The affine stage needs whole voxels only.
    cells = [SPEC.factors(0)[::-1], *(SPEC.control_spacing(k)[::-1] for k in (1, 2))]
    for n, target, sizes in zip(shape, padded, zip(*cells, strict=True), strict=True):
        assert all(target % size == 0 for size in sizes)
        assert n <= target < n + max(sizes)  # these cells divide each other


def test_cells_that_do_not_divide_each_other_need_a_common_multiple() -> None:
    """4 and 6 working voxels: 12, not 6."""
    stages = [StageSpec("bspline", (r, 1, 1), (4, 4), (2 * r, 2, 2)) for r in (3, 2)]
    assert ModelSpec(Preprocessing((1, 1, 1)), tuple(stages)).padded_shape((3, 5, 13)) == (4, 6, 24)


def test_folding_is_excluded_by_bounds_alone() -> None:
    free = StageSpec(FINE.kind, FINE.resolution, FINE.channels, FINE.grid_spacing, max_displacement=None)
    wide = StageSpec(FINE.kind, FINE.resolution, FINE.channels, FINE.grid_spacing, max_displacement=0.45)
    assert SPEC.fold_free
    assert not ModelSpec(PREPROCESSING, (COARSE, free)).fold_free
    assert not ModelSpec(PREPROCESSING, (wide,)).fold_free


@pytest.mark.parametrize("window", [None, (-1000.0, 500.0)])
def test_dictionary_goes_through_json_and_back(window: tuple[float, float] | None) -> None:
    preprocessing = Preprocessing((1.5, 1.5, 8.0), (False, False, True), "slices", window, 98.5)
    spec = ModelSpec(preprocessing, (AFFINE, COARSE, FINE))
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orientation": "upright"}, "orientation 'upright' is unknown"),
        ({"resolution": (1.5, 1.5)}, "three positive lengths"),
        ({"resolution": (1.5, -1.5, 8.0)}, "three positive lengths"),
        ({"resolution": (1.5, float("nan"), 8.0)}, "three positive lengths"),
        ({"native_axes": (True,)}, "native_axes"),
        ({"window": (1.0, 1.0)}, "must be two numbers that rise"),
        ({"window": (400.0, -100.0)}, "must be two numbers that rise"),
        ({"window": (1.0,)}, "must be two numbers that rise"),
        ({"window": (1.0, 2.0, 3.0)}, "must be two numbers that rise"),
        ({"percentile": 0.0}, "percentile"),
        ({"percentile": 100.5}, "percentile"),
        ({"percentile": float("nan")}, "percentile"),
    ],
)
def test_preprocessing_of_no_sense_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Preprocessing(**{"resolution": (1.5, 1.5, 8.0)} | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "at least one stage"),
        ((COARSE, AFFINE), "can only be the first"),
        ((AFFINE, AFFINE), "can only be the first"),
        ((StageSpec("affine", (2.0, 3.0, 8.0), (4,)),), "no multiple"),
        ((StageSpec("affine", (0.75, 1.5, 8.0), (4,)),), "no multiple"),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages: tuple[StageSpec, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelSpec(PREPROCESSING, stages)


def _without(key: str) -> dict[str, Any]:
    return {k: v for k, v in SPEC.to_dict().items() if k != key}


@pytest.mark.parametrize(
    "values",
    [
        _without("stages"),
        _without("preprocessing"),
        SPEC.to_dict() | {"stages": 3},
        SPEC.to_dict() | {"preprocessing": {"resolution": (1, 1, 1), "colour": "red"}},
        SPEC.to_dict() | {"preprocessing": {}},
        [],
        "model",
    ],
)
def test_a_dictionary_that_is_no_model_is_refused(values: Any) -> None:
    with pytest.raises(ModelError, match="model specification is not valid"):
        ModelSpec.from_dict(values)
