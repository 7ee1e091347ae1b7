"""One registration from nodes to nodes, with the real scene, the real worker and the shipped model."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

import SimpleITK as sitk
import slicer
import vtk

from dlir.model.catalogue import all_models
from DLIRRegistrationLib.registration.requests import MaskInput, OutputSelection, RegistrationInputs, RegistrationNodes
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.registration.task import RunError
from DLIRRegistrationLib.scene.error_colors import has_error_colors
from DLIRRegistrationLib.scene.frames import grid_of_volume, move_points, points_ras, transform_between
from small_pair import SEGMENT, segment_mask

if TYPE_CHECKING:
    from DLIRRegistrationLib.worker.client import WorkerClient
    from mrml import MRML
    from small_pair import SmallPair

# Whatever they were trained for: one of them has an affine stage, one has not.
each_model = pytest.mark.parametrize("model", [entry.name for entry in all_models() if entry.bundled])


def run(inputs: RegistrationInputs, worker: WorkerClient, outputs: OutputSelection | None = None) -> RegistrationNodes:
    task = Run(inputs, outputs or OutputSelection(), worker)
    task.start()
    return task.wait()


def array(node: Any) -> Any:
    return slicer.util.arrayFromVolume(node)


def names(mrml: MRML) -> list[str]:
    """Of all nodes with data, in order."""
    nodes = [mrml.scene.GetNthNode(number) for number in range(mrml.scene.GetNumberOfNodes())]
    return [node.GetName() for node in nodes if node.IsA("vtkMRMLStorableNode") and not node.IsA("vtkMRMLColorNode")]


def points(mrml: MRML, name: str, positions: Any, labels: list[str] | None = None) -> Any:
    node = mrml.add("MarkupsFiducial", name)
    for number, position in enumerate(positions):
        node.AddControlPoint(*map(float, position), labels[number] if labels else f"p{number}")
    return node


# -- results -----------------------------------------------------------------------------------------


def test_a_pair_becomes_nodes_with_sensible_names(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    inputs = RegistrationInputs(
        pair.fixed, pair.moving, segmentations=(pair.moving_drawn,), fixed_segmentation=pair.fixed_drawn
    )
    before = names(scene)
    result = run(inputs, worker)
    assert sorted(set(names(scene)) - set(before)) == [
        "ES drawn on ED",
        "ES registered to ED",
        "ES registered to ED Jacobian",
        "ES registered to ED report",
        "ES registered to ED transform",
    ]
    grid = grid_of_volume(pair.fixed)
    for node in (result.warped, result.jacobian):
        assert grid_of_volume(node).same_as(grid)
        assert node.GetDisplayNode() is not None
    assert result.verdict.level == "check"  # so small a part of a heart may be something else
    assert result.verdict.to_dict() == result.report["verdict"], "the worker's, which knows the scores too"
    scores = result.report["labels"][SEGMENT]
    assert scores["after"]["dice"] > scores["before"]["dice"] + 0.05
    volumes = result.report["volumes"][SEGMENT]
    voxel_ml = float(np.prod(grid.spacing)) / 1000
    drawn, propagated = (segment_mask(node, grid, scene) for node in (pair.moving_drawn, result.segmentations[0]))
    assert volumes["before_ml"] == pytest.approx(drawn.sum() * voxel_ml)
    assert volumes["after_ml"] == pytest.approx(propagated.sum() * voxel_ml)
    assert 0 < result.seconds < 60


@each_model
def test_the_transform_node_gives_the_warped_volume(
    scene: MRML, pair: SmallPair, worker: WorkerClient, tmp_path: Path, model: str
) -> None:
    result = run(RegistrationInputs(pair.fixed, pair.moving, model), worker)
    assert result.report["model"]["name"] == model
    storage = result.transform.CreateDefaultStorageNode()
    storage.UnRegister(None)
    storage.SetFileName(str(tmp_path / "transform.h5"))
    assert storage.WriteData(result.transform)
    fixed, moving = (grid_of_volume(node).to_sitk(array(node).astype(np.float32)) for node in (pair.fixed, pair.moving))
    transform = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    # What lies within 0.05 mm of the place that the transform says.
    near = []
    for offset in (np.zeros(3), *0.05 * np.eye(3), *-0.05 * np.eye(3)):
        moved = sitk.CompositeTransform([sitk.TranslationTransform(3, offset.tolist()), transform])
        near.append(sitk.GetArrayFromImage(sitk.Resample(moving, fixed, moved, sitk.sitkLinear, -1.0)))
    # At the border of the moving image a rounding decides whether there is a value at all.
    inside = np.min(near, 0) >= 0
    assert inside.mean() > 0.9
    found = array(result.warped)[inside]
    low, high = (limit(near, 0)[inside] for limit in (np.min, np.max))
    assert ((found > low - 0.5) & (found < high + 0.5)).all()


def test_the_transform_knows_its_volumes_and_its_report(pair: SmallPair, worker: WorkerClient) -> None:
    result = run(RegistrationInputs(pair.fixed, pair.moving), worker)
    assert result.transform.GetNodeReference(result.transform.GetFixedNodeReferenceRole()) is pair.fixed
    assert result.transform.GetNodeReference(result.transform.GetMovingNodeReferenceRole()) is pair.moving
    assert result.transform.GetNodeReference("DLIR.report") is result.table
    assert result.table.GetNumberOfRows() > 5


def test_only_what_is_wanted_is_made(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    wanted = OutputSelection(want_warped=False, want_jacobian=False)
    before = names(scene)
    result = run(RegistrationInputs(pair.fixed, pair.moving), worker, wanted)
    assert result.warped is None
    assert result.jacobian is None
    assert len(names(scene)) == len(before) + 2  # transform and report


def test_an_error_map_is_made_where_it_is_wanted(pair: SmallPair, worker: WorkerClient) -> None:
    inputs = RegistrationInputs(pair.fixed, pair.moving, segmentations=(pair.moving_drawn,))
    result = run(inputs, worker, OutputSelection(want_error_map=True))
    values = array(result.error_map)
    assert values.shape == array(pair.fixed).shape
    assert values.min() > 0
    assert has_error_colors(result.error_map)
    assert result.selection().error_map is result.error_map
    assert result.report["error_map"]["structures"].keys() == {SEGMENT}


@each_model
def test_a_grid_transform_says_the_same(pair: SmallPair, worker: WorkerClient, model: str) -> None:
    inputs = RegistrationInputs(pair.fixed, pair.moving, model)
    native = run(inputs, worker).transform
    grid = run(inputs, worker, OutputSelection(transform_kind="grid")).transform
    assert grid.GetTransformFromParentAs("vtkOrientedGridTransform") is not None
    image = grid_of_volume(pair.fixed)
    inner = image.to_physical(np.random.default_rng(0).uniform(1, np.array(image.size) - 2, (500, 3)))
    one, other = (move_points(transform_between(None, node), points_ras(inner)) for node in (native, grid))
    assert np.linalg.norm(one - other, axis=1).max() < 0.05
    assert np.linalg.norm(one - points_ras(inner), axis=1).max() > 2


def test_a_second_run_makes_new_nodes(pair: SmallPair, worker: WorkerClient) -> None:
    inputs = RegistrationInputs(pair.fixed, pair.moving)
    first, second = run(inputs, worker), run(inputs, worker)
    assert second.warped is not first.warped
    assert second.warped.GetName() == "ES registered to ED_1"
    assert np.array_equal(array(first.warped), array(second.warped))


def test_selected_nodes_are_overwritten_and_no_others(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    chosen = OutputSelection(
        warped=scene.add("ScalarVolume", "mine"),
        transform=scene.add("Transform", "my transform"),
        segmentations=(scene.add("Segmentation", "my drawing"),),
    )
    table = scene.linear_transform(np.diag([1.0, 1, 1, 1]))
    chosen.warped.SetAndObserveTransformNodeID(table.GetID())
    chosen.warped.SetAttribute("mark", "kept")
    inputs = RegistrationInputs(pair.fixed, pair.moving, segmentations=(pair.moving_drawn,))
    before = names(scene)
    first = run(inputs, worker, chosen)
    assert first.warped is chosen.warped
    assert first.transform is chosen.transform
    assert first.segmentations == chosen.segmentations
    assert chosen.warped.GetName() == "mine"
    assert chosen.warped.GetAttribute("mark") == "kept"
    assert chosen.warped.GetParentTransformNode() is None
    assert len(names(scene)) == len(before) + 2  # Jacobian and report
    again = run(inputs, worker, replace(chosen, jacobian=first.jacobian))
    assert again.jacobian is first.jacobian
    assert again.table is first.table
    assert len(names(scene)) == len(before) + 2


def test_windows_and_colours_are_ready_to_look_at(pair: SmallPair, worker: WorkerClient) -> None:
    pair.moving.GetDisplayNode().SetAutoWindowLevel(0)
    pair.moving.GetDisplayNode().SetWindowLevel(123, 45)
    result = run(RegistrationInputs(pair.fixed, pair.moving), worker)
    display = result.warped.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (123, 45)
    assert "Jacobian" in result.jacobian.GetDisplayNode().GetColorNode().GetName()
    display.SetWindowLevel(77, 33)
    again = run(RegistrationInputs(pair.fixed, pair.moving), worker, OutputSelection(warped=result.warped))
    assert (again.warped.GetDisplayNode().GetWindow(), again.warped.GetDisplayNode().GetLevel()) == (77, 33)


# -- inputs ------------------------------------------------------------------------------------------


def test_parents_of_both_volumes_count(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    plain = run(RegistrationInputs(pair.fixed, pair.moving, initialize="scanner"), worker)
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = 40, -30, 20
    table = scene.linear_transform(turn)
    for node in (pair.fixed, pair.moving):
        node.SetAndObserveTransformNodeID(table.GetID())
    moved = run(RegistrationInputs(pair.fixed, pair.moving, initialize="scanner"), worker)
    assert grid_of_volume(moved.warped).same_as(grid_of_volume(pair.fixed))
    assert not grid_of_volume(moved.warped).same_as(grid_of_volume(plain.warped))
    assert moved.report["similarity"]["after"] == pytest.approx(plain.report["similarity"]["after"], abs=0.05)


def test_an_initial_transform_brings_distant_images_together(
    scene: MRML, pair: SmallPair, worker: WorkerClient
) -> None:
    expected = run(RegistrationInputs(pair.fixed, pair.moving, initialize="scanner"), worker)
    matrix = vtk.vtkMatrix4x4()
    pair.moving.GetIJKToRASMatrix(matrix)
    for row, offset in enumerate((300.0, -200.0, 100.0)):
        matrix.SetElement(row, 3, matrix.GetElement(row, 3) + offset)
    pair.moving.SetIJKToRASMatrix(matrix)
    with pytest.raises(RunError, match="do not overlap"):
        run(RegistrationInputs(pair.fixed, pair.moving, initialize="scanner"), worker)
    back = np.eye(4)
    back[:3, 3] = -300, 200, -100
    start = scene.linear_transform(back, "brought back")
    result = run(RegistrationInputs(pair.fixed, pair.moving, initial_transform=start), worker)
    assert result.report["initialization"]["mode"] == "given transform"
    assert np.abs(array(result.warped) - array(expected.warped)).max() < 1


def test_masks_limit_the_figures(pair: SmallPair, worker: WorkerClient) -> None:
    inputs = RegistrationInputs(pair.fixed, pair.moving)
    everywhere = run(inputs, worker).report["similarity"]["voxels_after"]
    masked = run(replace(inputs, fixed_mask=MaskInput(pair.fixed_drawn, SEGMENT)), worker).report
    assert 0 < masked["similarity"]["voxels_after"] < everywhere / 2
    assert masked["fixed_mask"] == "ED drawn"


def test_landmarks_travel_and_are_measured(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    reference = run(RegistrationInputs(pair.fixed, pair.moving), worker)
    grid = grid_of_volume(pair.fixed)
    on_fixed = points_ras(grid.to_physical(np.random.default_rng(1).uniform(0.3, 0.7, (4, 3)) * np.array(grid.size)))
    on_moving = move_points(transform_between(None, reference.transform), on_fixed)
    table = scene.linear_transform(np.array([[1.0, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    moving_points = points(scene, "on ES", on_moving - [7, 0, 0])
    moving_points.SetAndObserveTransformNodeID(table.GetID())
    moving_points.AddControlPoint(0, 0, 0, "lost")
    moving_points.UnsetNthControlPointPosition(4)
    moving_points.AddControlPoint(*map(float, on_moving[0] - [7, 0, 0]), "alone")
    fixed_points = points(scene, "on ED", on_fixed[::-1], ["p3", "p2", "p1", "p0"])
    inputs = RegistrationInputs(pair.fixed, pair.moving, moving_landmarks=moving_points, fixed_landmarks=fixed_points)
    result = run(inputs, worker)
    assert result.landmarks.GetName() == "on ES on ED"
    found = slicer.util.arrayFromMarkupsControlPoints(result.landmarks, world=True)
    assert np.linalg.norm(found[[0, 1, 2, 3, 5]] - on_fixed[[0, 1, 2, 3, 0]], axis=1).max() < 0.05
    assert [result.landmarks.GetNthControlPointLabel(i) for i in (0, 4, 5)] == ["p0", "lost", "alone"]
    assert result.landmarks.GetNthControlPointPositionStatus(4) != result.landmarks.PositionDefined
    figures = result.report["landmarks"]
    assert figures["count"] == 4
    assert figures["before"]["mean_mm"] == pytest.approx(np.linalg.norm(on_moving - on_fixed, axis=1).mean(), abs=1e-3)
    assert figures["after"]["max_mm"] < 0.05


def test_landmarks_are_measured_from_where_the_registration_starts(
    scene: MRML, pair: SmallPair, worker: WorkerClient
) -> None:
    """As every figure of the report: a distance between two scanners is no error of the registration."""
    shift = np.array([500.0, 0, 0])
    pair.moving.SetOrigin(*(np.array(pair.moving.GetOrigin()) + shift))
    center = points_ras(grid_of_volume(pair.fixed).center)
    inputs = RegistrationInputs(
        pair.fixed,
        pair.moving,
        moving_landmarks=points(scene, "a", [center + shift]),
        fixed_landmarks=points(scene, "b", [center]),
    )
    assert run(inputs, worker).report["landmarks"]["before"]["mean_mm"] < 0.01


def test_landmarks_without_a_counterpart_are_refused_at_the_start(
    scene: MRML, pair: SmallPair, worker: WorkerClient
) -> None:
    inputs = RegistrationInputs(
        pair.fixed,
        pair.moving,
        moving_landmarks=points(scene, "a", [(0, 0, 0)], ["apex"]),
        fixed_landmarks=points(scene, "b", [(0, 0, 0), (1, 1, 1)], ["base", "rim"]),
    )
    with pytest.raises(RunError, match="no points in common"):
        run(inputs, worker)


# -- telling -----------------------------------------------------------------------------------------


def test_the_verdict_so_far_comes_before_the_end(pair: SmallPair, worker: WorkerClient) -> None:
    told: list[Any] = []
    task = Run(RegistrationInputs(pair.fixed, pair.moving), OutputSelection(), worker)
    task.on_offer = told.append
    task.start(on_done=told.append)
    offered, result = task.wait() and told
    assert offered.inputs == {**result.verdict.inputs, "inverse_consistency_mm": None}
    assert result.verdict.inputs["inverse_consistency_mm"] is not None


def test_progress_only_rises_and_names_the_stages(pair: SmallPair, worker: WorkerClient) -> None:
    told: list[tuple[str, float]] = []
    task = Run(RegistrationInputs(pair.fixed, pair.moving), OutputSelection(), worker)
    task.start(on_progress=lambda step, fraction: told.append((step, fraction)))
    task.wait()
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0
    assert 0.8 < fractions[-1] <= 1
    assert {"handing over", "stage 1 of 3", "stage 3 of 3", "nodes"} <= {step for step, _ in told}


def test_the_end_is_told_once_and_on_the_caller_s_thread(pair: SmallPair, worker: WorkerClient) -> None:
    told: list[Any] = []
    task = Run(RegistrationInputs(pair.fixed, pair.moving), OutputSelection(), worker)
    task.start(
        on_done=lambda result: told.append((result, threading.current_thread())),
        on_failed=lambda message, kind: told.append(message),
    )
    result = task.wait()
    task.poll()
    task.cancel()
    assert told == [(result, threading.main_thread())]
    assert task.error is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moving": None}, "Choose a moving volume"),
        ({"model": "nonsense"}, "There is no model 'nonsense'"),
        ({"device": "abacus"}, "device 'abacus' is unknown"),
        ({"fixed_mask": "empty"}, "no segment"),
    ],
)
def test_what_cannot_run_is_told_in_one_line(
    scene: MRML, pair: SmallPair, worker: WorkerClient, change: dict[str, Any], message: str
) -> None:
    if "fixed_mask" in change:
        change = {"fixed_mask": MaskInput(scene.add("Segmentation", "empty"))}
    told: list[tuple[str, str]] = []
    task = Run(replace(RegistrationInputs(pair.fixed, pair.moving), **change), OutputSelection(), worker)
    before = names(scene)
    task.start(on_failed=lambda text, kind: told.append((text, kind)))
    with pytest.raises(RunError, match=message):
        task.wait()
    assert [kind for _, kind in told] == ["error"]
    assert "\n" not in told[0][0]
    assert names(scene) == before


def test_a_constant_image_is_refused_by_name(scene: MRML, pair: SmallPair, worker: WorkerClient) -> None:
    array(pair.moving)[...] = 7
    slicer.util.arrayFromVolumeModified(pair.moving)
    with pytest.raises(RunError, match="moving image 'ES' has the value 7 in every voxel"):
        run(RegistrationInputs(pair.fixed, pair.moving), worker)
