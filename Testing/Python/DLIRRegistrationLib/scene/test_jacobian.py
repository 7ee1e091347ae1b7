"""The Jacobian of transform nodes: analytic answers, and those of finite differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import vtk

from dlir.transforms.spatial import AffineTransform, BSplineTransform, CompositeTransform
from DLIRRegistrationLib.scene import jacobian
from DLIRRegistrationLib.scene.frames import move_points, points_ras, transform_between
from DLIRRegistrationLib.scene.jacobian import determinants
from grids import central_differences, make_grid
from stepping import exhausted
from transform_nodes import set_grid_transform, set_native_transform

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid
    from mrml import MRML

GRID = make_grid((5, 6, 7), (1.5, 2.0, 4.0), (-20, 35, 60), (0.2, -0.4, 0.7))


def computed(node: Any, grid: ImageGrid = GRID) -> Any:
    return exhausted(determinants(node, grid))[0]


def bending(scene: MRML) -> Any:
    """A transform node with an affine and two B-spline parts, about GRID."""
    rng = np.random.default_rng(0)
    splines = []
    for spacing in (12.0, 25.0):
        control = GRID.with_spacing((spacing,) * 3)
        control = control.lattice((-4, -4, -4), (1, 1, 1), tuple(n + 8 for n in control.size))
        inner = rng.normal(0, 1.2, (3, *(n - 6 for n in control.shape)))
        splines.append(BSplineTransform(np.pad(inner, [(0, 0), *[(3, 3)] * 3]), control))
    affine = np.eye(4)
    affine[:3] += rng.normal(0, 0.1, (3, 4))
    node = scene.add("Transform", "bending")
    set_native_transform(node, CompositeTransform((*splines, AffineTransform(affine))))
    return node


def differences(node: Any) -> Any:
    """(z, y, x) by central differences of what VTK does to points."""
    points = points_ras(GRID.voxel_centers()).reshape(-1, 3)
    transform = transform_between(None, node)
    matrices = central_differences(lambda at: move_points(transform, at), points, 1e-3)
    return np.linalg.det(matrices).reshape(GRID.shape)


def test_nothing_changes_volumes(scene: MRML) -> None:
    assert np.array_equal(computed(scene.add("Transform")), np.ones(GRID.shape))


def test_a_linear_transform_has_its_determinant_everywhere(scene: MRML) -> None:
    """Of the way that resampling goes: a node that doubles lengths reads from an eighth of the volume."""
    node = scene.linear_transform(np.diag([2.0, 2, 2, 1]))
    assert np.allclose(computed(node), 1 / 8)


def test_a_composite_agrees_with_finite_differences(scene: MRML) -> None:
    node = bending(scene)
    found = computed(node)
    assert found.std() > 0.05
    assert np.allclose(found, differences(node), atol=1e-5)


def test_parents_count(scene: MRML) -> None:
    node = bending(scene)
    alone = computed(node)
    turn = np.array([[0.0, -2, 0, 5], [2, 0, 0, -8], [0, 0, 2, 3], [0, 0, 0, 1]])
    node.SetAndObserveTransformNodeID(scene.linear_transform(turn).GetID())
    assert np.allclose(computed(node), differences(node), atol=1e-5)
    assert not np.allclose(computed(node), alone, atol=0.1)


def test_an_inverse_has_the_inverse_determinant(scene: MRML) -> None:
    """VTK inverts it point by point; then too it is differentiated, not sampled."""
    node = bending(scene)
    node.Inverse()
    assert np.allclose(computed(node), differences(node), atol=1e-3)


def test_displacement_grids_and_thin_plates_are_differentiated_too(scene: MRML) -> None:
    sampled = scene.add("Transform", "sampled")
    chain = CompositeTransform((AffineTransform(np.diag([1.1, 0.9, 1.0, 1.0])),))
    set_grid_transform(sampled, chain, GRID, 3.0)
    assert np.allclose(computed(sampled), 0.99, atol=1e-3)
    plate = vtk.vtkThinPlateSplineTransform()
    plate.SetBasisToR()
    corners = points_ras(GRID.to_physical(np.array([[0, 0, 0], [6, 0, 0], [0, 5, 0], [0, 0, 4], [6, 5, 4]])))
    moved = corners + np.random.default_rng(1).normal(0, 1, corners.shape)
    for set_points, positions in ((plate.SetSourceLandmarks, corners), (plate.SetTargetLandmarks, moved)):
        points = vtk.vtkPoints()
        points.SetDataTypeToDouble()
        for position in positions:
            points.InsertNextPoint(position)
        set_points(points)
    node = scene.add("Transform", "plate")
    node.SetAndObserveTransformFromParent(plate)
    assert np.allclose(computed(node), differences(node), atol=1e-4)


def test_work_comes_in_pieces(scene: MRML, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bending(scene)
    whole = computed(node)
    monkeypatch.setattr(jacobian, "_POINTS", 50)
    assert list(determinants(node, GRID))[-1] == 1.0
    assert np.array_equal(computed(node), whole)


def test_folding_is_found(scene: MRML) -> None:
    """A displacement that runs faster than the points do."""
    control = make_grid((12, 12, 12), (10, 10, 10), (-55, -55, -55))
    coefficients = np.zeros((3, 12, 12, 12))
    coefficients[0, 4:8, 4:8, 5] = 30
    node = scene.add("Transform", "folding")
    set_native_transform(node, CompositeTransform((BSplineTransform(coefficients, control),)))
    found = computed(node, make_grid((20, 20, 20), (2, 2, 2), (-20, -20, -20)))
    assert found.min() < -0.5
