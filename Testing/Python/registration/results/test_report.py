"""The figures of a report, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dlir.errors import GeometryError
from dlir.geometry import ImageGrid
from dlir.io.reading import Volume
from dlir.model.file import ModelHeader
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec
from dlir.registration.loading import Loaded
from dlir.registration.results import report as module
from dlir.registration.results.report import build_report, correlation
from dlir.registration.results.result import RegistrationResult
from dlir.transforms.spatial import AffineTransform, CompositeTransform

GRID = ImageGrid((2, 3, 4))
STAGE = StageSpec("bspline", (1, 1, 1), (4, 4, 4), (4, 4, 4))
MODEL = ModelHeader(Path("x.safetensors"), ModelSpec(Preprocessing((1, 1, 1)), (STAGE,)), {"name": "x"}, "0", "ab")


def volume(array: np.ndarray, name: str = "image") -> Volume:
    return Volume(array, GRID, name)


def finished(
    transform: CompositeTransform, warped: np.ndarray, jacobian: np.ndarray, inside: np.ndarray
) -> RegistrationResult:
    return RegistrationResult(
        transform, warped, jacobian, inside, {"mode": "scanner positions"}, "cpu", {"networks": 1.0}
    )


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=GRID.shape).astype(np.float32)


@pytest.mark.parametrize("block", [5, 1 << 20])
def test_correlation_is_numpys(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    a, b, where = values(0) + 1000, values(1) * 3, values(2) > -0.5
    assert correlation(a, b, where) == pytest.approx(np.corrcoef(a[where], b[where])[0, 1], abs=1e-6)
    assert correlation(a, -2 * a + 5, where) == pytest.approx(-1)


def test_correlation_that_is_not_defined() -> None:
    everywhere = np.ones(GRID.shape, bool)
    assert math.isnan(correlation(values(0), values(1), ~everywhere))
    assert math.isnan(correlation(values(0), np.ones(GRID.shape), everywhere))


def test_before_and_after() -> None:
    fixed, moving = values(0), values(1)
    inside = np.ones(GRID.shape, bool)
    inside[0, 0] = False
    jacobian = np.full(GRID.shape, 1.5, np.float32)
    jacobian[1, 1, 1] = -0.5
    loaded = Loaded(volume(fixed), volume(moving), mode="scanner")
    report = build_report(loaded, finished(CompositeTransform(()), fixed.copy(), jacobian, inside), MODEL, "cpu")
    assert report["similarity"]["before"] == pytest.approx(np.corrcoef(fixed.ravel(), moving.ravel())[0, 1], abs=1e-6)
    assert report["similarity"]["after"] == pytest.approx(1)
    assert (report["similarity"]["voxels_before"], report["similarity"]["voxels_after"]) == (24, 20)
    assert report["jacobian"]["folding_count"] == 1
    assert report["jacobian"]["folding_percent"] == pytest.approx(100 / 24)
    json.dumps(report, allow_nan=False)


def test_masks_and_the_start_decide_what_counts() -> None:
    fixed_mask, moving_mask = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    fixed_mask[:, :2] = True
    moving_mask[..., 1:] = True
    shift = CompositeTransform((AffineTransform.translation((1, 0, 0)),))
    loaded = Loaded(
        volume(values(0)),
        volume(values(1)),
        shift,
        fixed_mask=volume(fixed_mask, "m"),
        moving_mask=volume(moving_mask, "n"),
    )
    everywhere = np.ones(GRID.shape, bool)
    jacobian = np.where(fixed_mask, 2.0, -1.0).astype(np.float32)
    result = finished(CompositeTransform(()), values(2), jacobian, everywhere)
    report = build_report(loaded, result, MODEL, "cpu")
    # Shifted by one voxel, x = 0..2 of four map inside, all of them into the mask; unshifted, x = 1..3 do.
    assert (report["similarity"]["voxels_before"], report["similarity"]["voxels_after"]) == (12, 12)
    assert report["jacobian"]["mean"] == 2
    assert report["jacobian"]["folding_count"] == 0


def test_undefined_figures_are_null() -> None:
    loaded = Loaded(volume(values(0)), volume(values(1)), mode="scanner")
    nothing = np.zeros(GRID.shape, bool)
    result = finished(CompositeTransform(()), values(2), np.full(GRID.shape, np.nan, np.float32), nothing)
    report = build_report(loaded, result, MODEL, "cpu")
    assert report["similarity"]["after"] is None
    assert report["jacobian"]["mean"] is None
    assert report["jacobian"]["folding_percent"] == 100


@pytest.mark.parametrize(("scale", "promised"), [(1.0, True), (-1.0, False)])
def test_a_start_that_mirrors_breaks_the_promise_of_no_folds(scale: float, promised: bool) -> None:
    start = CompositeTransform((AffineTransform(np.diag([1.0, 1.0, scale, 1.0])),))
    loaded = Loaded(volume(values(0)), volume(values(1)), start)
    result = finished(start, values(2), np.ones(GRID.shape, np.float32), np.ones(GRID.shape, bool))
    assert build_report(loaded, result, MODEL, "cpu")["fold_free_by_construction"] is promised


def test_a_mask_on_another_grid_is_refused() -> None:
    mask = Volume(np.ones((2, 2, 2), bool), ImageGrid((2, 2, 2)), "mask.nrrd")
    with pytest.raises(GeometryError, match=r"'mask.nrrd' does not lie on 'image'"):
        Loaded(volume(values(0)), volume(values(1)), fixed_mask=mask)
