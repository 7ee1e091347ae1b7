"""Initial transforms: what a transform node does to a volume put under it is what the worker's file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chains import random_bspline, random_chain
from disks import small_disk
from dlir.errors import OutputError, TransformError
from dlir.geometry import ImageGrid
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from grids import Array, make_grid, rotation

pytest.importorskip("slicer", reason="needs slicer-core")

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from DLIRRegistrationLib.registration.initial_transform import write_initial_transform
from DLIRRegistrationLib.scene.frames import move_points, points_lps, points_ras, transform_between
from transform_nodes import set_grid_transform, set_native_transform

if TYPE_CHECKING:
    from mrml import MRML

EXACT_MM, FITTED_MM = 1e-6, 0.05


class Case:
    """A chain, an oblique fixed image that it bends, and a moving volume's node."""

    def __init__(self, scene: MRML, folder: Path, seed: int = 0) -> None:
        self.scene, self.file = scene, folder / "initial.h5"
        self.rng = np.random.default_rng(seed)
        self.chain = random_chain(self.rng, fraction=0.3)
        control = self.chain.parts[0].grid
        self.fixed = control.lattice((3, 3, 3), (0.5, 0.5, 0.5), (np.array(control.size) - 7) * 2)
        self.moving = scene.volume(np.zeros((4, 5, 6), np.int16), make_grid((4, 5, 6)), "moving")

    def native(self, chain: CompositeTransform | None = None) -> Any:
        node = self.scene.add("Transform", "native")
        set_native_transform(node, chain or self.chain)
        return node

    def error(self, node: Any, beyond: float = 0.0) -> float:
        """mm between the file and Slicer, in the fixed image and up to `beyond` voxels around it."""
        index = self.rng.uniform(-0.5 - beyond, np.array(self.fixed.size) - 0.5 + beyond, (2000, 3))
        points = self.fixed.to_physical(index)
        write_initial_transform(node, self.file, self.fixed, self.moving)
        expected = points_lps(move_points(transform_between(None, node), points_ras(points)))
        return float(np.linalg.norm(read_transform(self.file).apply(points) - expected, axis=1).max())


@pytest.fixture
def case(scene: MRML, tmp_path: Path) -> Case:
    return Case(scene, tmp_path)


def table() -> Array:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation((0.2, -0.3, 0.4)), (30, -20, 10)
    return matrix


def test_a_linear_transform_brings_the_moving_image_where_slicer_shows_it(case: Case) -> None:
    node = case.scene.linear_transform(table())
    assert case.error(node, beyond=100) < EXACT_MM
    # To parent it takes (R) moving to fixed, so the file, fixed to moving (LPS), is its inverse.
    fixed_ras = table() @ [1, 2, 3, 1]
    found = read_transform(case.file).apply(points_lps(fixed_ras[:3])[None])
    np.testing.assert_allclose(points_ras(found)[0], [1, 2, 3], atol=1e-9)


def test_composites_and_their_parents_are_kept_exactly(case: Case) -> None:
    node, parent = case.native(), case.scene.linear_transform(table())
    assert case.error(node, beyond=30) < EXACT_MM
    node.SetAndObserveTransformNodeID(parent.GetID())
    assert case.error(node, beyond=30) < EXACT_MM
    node.SetAndObserveTransformNodeID(None)
    parent.SetAndObserveTransformNodeID(node.GetID())
    assert case.error(parent, beyond=30) < EXACT_MM
    kinds = [type(part).__name__ for part in read_transform(case.file).parts]
    assert kinds == ["BSplineTransform", "BSplineTransform", "AffineTransform"]


def test_a_bspline_that_ends_abruptly_runs_out_as_slicer_shows_it(case: Case) -> None:
    """elastix and BRAINS leave the outer coefficients as they come; VTK and ITK then differ beyond the border."""
    abrupt = CompositeTransform((random_bspline(case.rng, case.chain.parts[0].grid, fraction=0.2),))
    write_transform(case.file, abrupt)
    node, storage = case.scene.add("Transform", "elastix"), slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(case.file))
    assert storage.ReadData(node)
    assert case.error(node, beyond=30) < EXACT_MM


def test_an_inverse_is_followed(case: Case) -> None:
    node = case.native()
    node.Inverse()
    assert case.error(node) < FITTED_MM


def test_a_displacement_grid_is_followed(case: Case) -> None:
    node = case.scene.add("Transform", "grid")
    set_grid_transform(node, case.chain, case.fixed)
    assert case.error(node) < FITTED_MM


def test_a_thin_plate_is_followed(case: Case) -> None:
    plate = vtk.vtkThinPlateSplineTransform()
    plate.SetBasisToR()
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(case.fixed.size) - 1)
    source = points_ras(case.fixed.to_physical(corners))
    for name, points in (("Source", source), ("Target", source + case.rng.uniform(-5, 5, source.shape))):
        landmarks = vtk.vtkPoints()
        for point in points:
            landmarks.InsertNextPoint(point)
        getattr(plate, f"Set{name}Landmarks")(landmarks)
    node = case.scene.add("Transform", "plate")
    node.SetAndObserveTransformFromParent(plate)
    assert case.error(node) < FITTED_MM


@pytest.mark.parametrize("mode", ["Edge", "ZeroAtBorder"])
def test_other_borders_and_bulk_transforms_are_followed(case: Case, mode: str) -> None:
    node = case.native(CompositeTransform(case.chain.parts[:1]))
    getattr(node.GetTransformFromParent(), f"SetBorderModeTo{mode}")()
    assert case.error(node) < FITTED_MM
    bulk = np.eye(4)
    bulk[:3, 3] = 5, 6, 7
    node.GetTransformFromParent().SetBulkTransformMatrix(slicer.util.vtkMatrixFromArray(bulk))
    assert case.error(node) < FITTED_MM


def test_what_no_bspline_can_follow_is_refused_by_name(case: Case) -> None:
    node = case.scene.add("Transform", "noise")
    set_grid_transform(node, case.chain, case.fixed, spacing_mm=1.0)
    grid = node.GetTransformFromParent().GetDisplacementGrid()
    vtk_to_numpy(grid.GetPointData().GetScalars())[:] = case.rng.normal(0, 20, (grid.GetNumberOfPoints(), 3))
    grid.Modified()
    with pytest.raises(TransformError, match=r"'noise' is too rough .* mm only; choose"):
        write_initial_transform(node, case.file, case.fixed, case.moving)
    assert not case.file.exists()


def test_what_a_bspline_can_follow_roughly_is_good_enough_to_start_from(case: Case) -> None:
    node = case.scene.add("Transform", "rough")
    set_grid_transform(node, case.chain, case.fixed, spacing_mm=1.0)
    grid = node.GetTransformFromParent().GetDisplacementGrid()
    vtk_to_numpy(grid.GetPointData().GetScalars())[:] += case.rng.normal(0, 0.2, (grid.GetNumberOfPoints(), 3))
    grid.Modified()
    assert FITTED_MM < case.error(node) < 1.0


def test_what_already_brings_the_moving_volume_there_is_not_applied_twice(case: Case) -> None:
    node, inner = case.native(), case.scene.linear_transform(table())
    inner.SetAndObserveTransformNodeID(node.GetID())
    case.moving.SetAndObserveTransformNodeID(inner.GetID())
    for transform in (node, inner):
        write_initial_transform(transform, case.file, case.fixed, case.moving)
        read = read_transform(case.file)
        assert [type(part) for part in read.parts] == [AffineTransform]
        np.testing.assert_array_equal(read.matrix, np.eye(4))


def test_a_node_that_holds_nothing_is_the_identity(case: Case) -> None:
    write_initial_transform(case.scene.add("Transform"), case.file, case.fixed, case.moving)
    np.testing.assert_array_equal(read_transform(case.file).matrix, np.eye(4))


def test_what_is_not_finite_is_refused_by_name(case: Case) -> None:
    for value in (np.nan, np.inf):
        node = case.native()
        vectors = node.GetTransformFromParent().GetConcatenatedTransform(0).GetCoefficientData()
        vtk_to_numpy(vectors.GetPointData().GetScalars())[100] = value
        with pytest.raises(TransformError, match=r"'native' cannot be used: .*not finite; choose another"):
            write_initial_transform(node, case.file, case.fixed, case.moving)


def test_a_full_disk_is_an_error_and_not_the_end_of_slicer(case: Case) -> None:
    node = case.native()
    with small_disk(50_000), pytest.raises(OutputError, match="disk is full"):
        write_initial_transform(node, case.file, case.fixed, case.moving)
    assert list(case.file.parent.iterdir()) == []


def test_the_fit_follows_a_thin_image_too(scene: MRML, tmp_path: Path) -> None:
    case = Case(scene, tmp_path, seed=3)
    middle = case.chain.parts[0].grid.center
    thin = make_grid((3, 40, 40), (1.0, 1.0, 9.0), angles=(0.3, 0.4, 0.5))
    origin = np.array(thin.origin) + middle - thin.center
    case.fixed = ImageGrid(thin.shape, thin.spacing, tuple(origin), thin.direction)
    node = case.native()
    node.Inverse()
    assert case.error(node) < FITTED_MM
