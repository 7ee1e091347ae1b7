"""Points and surfaces through a transform node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chains import random_affine, random_chain
from dlir.errors import ImageError
from dlir.transforms.spatial import BSplineTransform, CompositeTransform
from grids import Array, make_grid
from sample_registration import register_sample

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DLIRRegistrationLib.scene.frames import points_lps, points_ras
from DLIRRegistrationLib.scene.markups import positions, propagate_markups, propagate_model
from transform_nodes import set_grid_transform, set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

PROMISED_MM = 0.05


def landmarks(scene: MRML, points: Array, name: str, labels: list[str] | None = None) -> Any:
    """A point list at LPS points (N, 3)."""
    node = scene.add("MarkupsFiducial", name)
    for number, point in enumerate(points_ras(points)):
        node.AddControlPoint(point, labels[number] if labels else f"{name}-{number + 1}")
    return node


def native(scene: MRML, chain: CompositeTransform) -> Any:
    node = scene.add("Transform", "registration")
    set_native_transform(node, chain)
    return node


def points_near(rng: np.random.Generator, chain: CompositeTransform, count: int = 40) -> Array:
    control = chain.parts[0].grid
    return control.to_physical(rng.uniform(1, np.array(control.size) - 2, (count, 3)))


@pytest.mark.parametrize("kind", ["native", "grid"])
@pytest.mark.parametrize("seed", range(3))
def test_points_drawn_on_the_moving_image_travel_to_the_fixed_one(scene: MRML, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    fixed = points_near(rng, chain)
    transform = native(scene, chain)
    if kind == "grid":
        control = chain.parts[0].grid
        set_grid_transform(transform, chain, control)
    moving, target = landmarks(scene, chain.apply(fixed), "moving"), scene.add("MarkupsFiducial", "target")
    propagate_markups(moving, transform, target)
    assert np.abs(points_lps(positions(target)) - fixed).max() < PROMISED_MM
    assert [target.GetNthControlPointLabel(i) for i in (0, 39)] == ["moving-1", "moving-40"]
    np.testing.assert_allclose(points_lps(positions(moving)), chain.apply(fixed), atol=1e-9)


def test_parents_count_once(scene: MRML) -> None:
    rng = np.random.default_rng(1)
    chain = random_chain(rng)
    fixed, transform = points_near(rng, chain), native(scene, chain)
    table = scene.linear_transform(np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 9)
    moving = landmarks(scene, chain.apply(fixed) - points_lps([9, 0, 0]), "moving")
    moving.SetAndObserveTransformNodeID(table.GetID())
    target = landmarks(scene, fixed[:2], "target")
    target.SetAndObserveTransformNodeID(table.GetID())
    propagate_markups(moving, transform, target)
    assert target.GetParentTransformNode() is None
    assert np.abs(points_lps(positions(target)) - fixed).max() < 1e-3
    table.SetAndObserveTransformNodeID(transform.GetID())  # now Slicer shows them on the fixed image
    propagate_markups(moving, transform, moving)
    assert moving.GetParentTransformNode() is None
    assert np.abs(points_lps(positions(moving)) - fixed).max() < 1e-3


def test_points_without_a_position_stay_so(scene: MRML) -> None:
    chain = CompositeTransform((random_affine(np.random.default_rng(0)),))
    moving, target = landmarks(scene, np.arange(9.0).reshape(3, 3), "moving"), scene.add("MarkupsFiducial")
    moving.UnsetNthControlPointPosition(1)
    propagate_markups(moving, native(scene, chain), target)
    assert target.GetNumberOfControlPoints() == 3
    assert [target.GetNthControlPointPositionStatus(i) == target.PositionDefined for i in range(3)] == [
        True,
        False,
        True,
    ]
    np.testing.assert_allclose(chain.apply(points_lps(positions(target)))[[0, 2]], [[0, 1, 2], [6, 7, 8]], atol=1e-9)


def test_a_point_in_a_fold_has_no_place_and_the_log_says_so(scene: MRML, caplog: pytest.LogCaptureFixture) -> None:
    # The middle control point is pushed so far that everything around it is turned over and nothing lands there.
    grid = make_grid((9, 9, 9), (10.0, 10.0, 10.0))
    coefficients = np.zeros((3, 9, 9, 9))
    coefficients[:, 4, 4, 4] = 120
    chain = CompositeTransform((BSplineTransform(coefficients, grid),))
    everywhere = grid.to_physical(np.random.default_rng(0).uniform(3, 6, (300, 3)))
    moving, target = landmarks(scene, everywhere, "moving"), scene.add("MarkupsFiducial")
    transform = native(scene, chain)
    propagate_markups(moving, transform, target)
    found = points_lps(positions(target))
    lost = np.isnan(found).any(1)
    assert 0 < lost.sum() < 300
    np.testing.assert_allclose(chain.apply(found[~lost]), everywhere[~lost], atol=0.02)
    assert f"'moving-{int(np.flatnonzero(lost)[0]) + 1}'" in caplog.text


@pytest.mark.slow
def test_landmarks_on_the_pair_that_ships_come_back(scene: MRML) -> None:
    sample = register_sample()
    rng = np.random.default_rng(0)
    fixed = sample.fixed.grid.to_physical(rng.uniform(0, np.array(sample.fixed.grid.size) - 1, (200, 3)))
    drawn, target = landmarks(scene, sample.result.transform.apply(fixed), "drawn"), scene.add("MarkupsFiducial")
    propagate_markups(drawn, native(scene, sample.result.transform), target)
    assert np.linalg.norm(points_lps(positions(target)) - fixed, axis=1).max() < PROMISED_MM


# -- surfaces ----------------------------------------------------------------------------------------


def test_a_surface_travels_as_points_do_and_keeps_its_looks(scene: MRML) -> None:
    rng = np.random.default_rng(3)
    chain = random_chain(rng)
    transform, control = native(scene, chain), chain.parts[0].grid
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*points_ras(chain.apply(control.center[None]))[0])
    sphere.SetRadius(15)
    sphere.Update()
    shift = np.eye(4)
    shift[:3, 3] = 1, 2, 3
    model, target = scene.add("Model", "heart"), scene.add("Model", "target")
    model.SetAndObservePolyData(sphere.GetOutput())
    model.SetAndObserveTransformNodeID(scene.linear_transform(shift).GetID())
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0.2, 0.4, 0.6)
    target.SetAndObserveTransformNodeID(model.GetTransformNodeID())
    propagate_model(model, transform, target)
    drawn = points_lps(vtk_to_numpy(sphere.GetOutput().GetPoints().GetData()) + shift[:3, 3])
    found = points_lps(slicer.util.arrayFromModelPoints(target))
    assert np.abs(chain.apply(found) - drawn).max() < PROMISED_MM
    assert target.GetParentTransformNode() is None
    assert target.GetDisplayNode().GetColor() == (0.2, 0.4, 0.6)
    assert target.GetPolyData().GetNumberOfCells() == sphere.GetOutput().GetNumberOfCells()


def test_a_model_without_a_surface_is_refused_by_name(scene: MRML) -> None:
    with pytest.raises(ImageError, match="model 'empty' has no surface"):
        propagate_model(scene.add("Model", "empty"), native(scene, CompositeTransform(())), scene.add("Model"))
