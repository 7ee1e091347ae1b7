"""Landmarks and surfaces through a registration, and the error that remains."""

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
from DLIRRegistrationLib.scene.markups import positions, propagate_markups, propagate_model, target_registration_error
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
    errors = target_registration_error(moving, moving, transform)
    np.testing.assert_array_equal(np.isnan(errors.after), lost)


# -- error -------------------------------------------------------------------------------------------


def test_the_error_is_the_distance_in_space_to_each_partner(scene: MRML) -> None:
    rng = np.random.default_rng(2)
    chain = random_chain(rng)
    fixed = points_near(rng, chain, 6)
    missed = rng.normal(0, 2, (6, 3))
    order = rng.permutation(6)
    labels = [f"p{i}" for i in range(6)]
    ours = landmarks(scene, fixed, "fixed", labels)
    theirs = landmarks(scene, chain.apply(fixed + missed)[order], "moving", [labels[i] for i in order])
    errors = target_registration_error(ours, theirs, native(scene, chain))
    assert errors.labels == tuple(labels)
    np.testing.assert_allclose(errors.after, np.linalg.norm(missed, axis=1), atol=1e-3)
    np.testing.assert_allclose(errors.before, np.linalg.norm(chain.apply(fixed + missed) - fixed, axis=1), atol=1e-6)


def test_what_belongs_together(scene: MRML) -> None:
    points = np.arange(12.0).reshape(4, 3)
    still = native(scene, CompositeTransform(()))

    def after(ours: list[str], theirs: list[str]) -> dict[str, float]:
        fixed, moving = landmarks(scene, points[: len(ours)], "F", ours), landmarks(scene, points, "M", theirs)
        errors = target_registration_error(fixed, moving, still)
        return dict(zip(errors.labels, errors.after.round(3).tolist(), strict=True))

    step = float(np.linalg.norm(points[1] - points[0]))
    # By label, as far as both have it.
    assert after(["c", "b", "x"], ["a", "b", "c", "d"]) == {"c": round(2 * step, 3), "b": 0.0}
    # By place, where labels say nothing.
    assert after(["F-1", "F-2", "F-3", "F-4"], ["M-1", "M-2", "M-3", "M-4"]) == dict.fromkeys(
        ["F-1", "F-2", "F-3", "F-4"], 0.0
    )
    fixed = landmarks(scene, points, "F", ["p", "p", "p", "p"])
    moving = landmarks(scene, points[::-1], "M", ["p", "p", "p", "p"])
    assert target_registration_error(fixed, moving, still).after == pytest.approx([3 * step, step, step, 3 * step])
    with pytest.raises(ImageError, match=r"'F' and 'M' have no points in common; give"):
        after(["F-1", "F-2"], ["M-1", "M-2", "M-3", "M-4"])
    with pytest.raises(ImageError, match="no points in common"):
        target_registration_error(scene.add("MarkupsFiducial", "F"), scene.add("MarkupsFiducial", "M"), still)


@pytest.mark.slow
def test_landmarks_on_the_pair_that_ships_come_back(scene: MRML) -> None:
    sample = register_sample()
    rng = np.random.default_rng(0)
    fixed = sample.fixed.grid.to_physical(rng.uniform(0, np.array(sample.fixed.grid.size) - 1, (200, 3)))
    ours, theirs = (landmarks(scene, points, "landmark") for points in (fixed, sample.result.transform.apply(fixed)))
    assert target_registration_error(ours, theirs, native(scene, sample.result.transform)).after.max() < PROMISED_MM


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
