"""What the worker is asked about landmarks, and the node that its answer becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dlir.errors import ImageError
from grids import Array

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.registration.landmarks import LandmarkNodes, counterparts
from DLIRRegistrationLib.registration.requests import RegistrationInputs
from DLIRRegistrationLib.scene.frames import points_lps
from DLIRRegistrationLib.scene.markups import positions

if TYPE_CHECKING:
    from mrml import MRML


def landmarks(scene: MRML, points: Array, name: str, labels: list[str] | None = None) -> Any:
    """A point list at RAS points (N, 3)."""
    node = scene.add("MarkupsFiducial", name)
    for number, point in enumerate(points):
        node.AddControlPoint(*map(float, point), labels[number] if labels else f"{name}-{number + 1}")
    return node


def inputs(moving: Any | None, fixed: Any | None = None) -> RegistrationInputs:
    return RegistrationInputs(None, None, moving_landmarks=moving, fixed_landmarks=fixed)


def test_what_belongs_together(scene: MRML) -> None:
    points = np.arange(12.0).reshape(4, 3)

    def found(ours: list[str], theirs: list[str]) -> list[int]:
        """For each point of the moving list the place of its counterpart in the fixed one, -1 for none."""
        fixed, moving = landmarks(scene, points[: len(ours)], "F", ours), landmarks(scene, points, "M", theirs)
        places = counterparts(fixed, moving)[:, 0] / 3
        return np.where(np.isnan(places), -1, places).astype(int).tolist()

    # By label, as far as both have it.
    assert found(["c", "b", "x"], ["a", "b", "c", "d"]) == [-1, 1, 0, -1]
    # By place, where labels say nothing.
    assert found(["F-1", "F-2", "F-3", "F-4"], ["M-1", "M-2", "M-3", "M-4"]) == [0, 1, 2, 3]
    assert found(["p", "p", "p", "p"], ["p", "p", "p", "p"]) == [0, 1, 2, 3]
    with pytest.raises(ImageError, match=r"'F' and 'M' have no points in common; give"):
        found(["F-1", "F-2"], ["M-1", "M-2", "M-3", "M-4"])
    with pytest.raises(ImageError, match="no points in common"):
        counterparts(scene.add("MarkupsFiducial", "F"), scene.add("MarkupsFiducial", "M"))


def test_the_worker_is_asked_in_the_world_and_in_its_frame(scene: MRML) -> None:
    shift = np.eye(4)
    shift[:3, 3] = 10, 20, 30
    moving = landmarks(scene, np.arange(9.0).reshape(3, 3), "M", ["a", "b", "c"])
    moving.SetAndObserveTransformNodeID(scene.linear_transform(shift).GetID())
    moving.UnsetNthControlPointPosition(1)
    fixed = landmarks(scene, np.array([[1.0, 2, 3], [4, 5, 6]]), "F", ["c", "b"])
    assert LandmarkNodes(inputs(moving, fixed)).asked == {
        "moving_landmarks": ((-10.0, -21.0, 32.0), None, (-16.0, -27.0, 38.0)),
        "fixed_landmarks": (None, None, (-1.0, -2.0, 3.0)),
    }
    assert LandmarkNodes(inputs(None, fixed)).asked == {}
    moving.UnsetNthControlPointPosition(0)
    moving.UnsetNthControlPointPosition(2)
    assert LandmarkNodes(inputs(moving)).asked == {}


def test_the_answer_becomes_a_node_and_what_is_lost_is_told(scene: MRML, caplog: pytest.LogCaptureFixture) -> None:
    shift = np.eye(4)
    shift[:3, 3] = 10, 20, 30
    moving = landmarks(scene, np.arange(12.0).reshape(4, 3), "M", ["a", "b", "c", "d"])
    moving.SetNthControlPointDescription(3, "the apex")
    moving.SetAndObserveTransformNodeID(scene.linear_transform(shift).GetID())
    moving.UnsetNthControlPointPosition(1)
    nodes = LandmarkNodes(inputs(moving))
    scene.scene.RemoveNode(moving)
    points = [[1.0, 2.0, 3.0], None, None, [4.0, 5.0, 6.0]]
    found = nodes.propagated({"moving_landmarks": {"points": points}})
    assert found.GetParentTransformNode() is None
    assert [found.GetNthControlPointLabel(i) for i in range(4)] == ["a", "b", "c", "d"]
    assert found.GetNthControlPointDescription(3) == "the apex"
    places = points_lps(positions(found))
    np.testing.assert_array_equal(places[[0, 3]], [points[0], points[3]])
    assert np.isnan(places[[1, 2]]).all()
    assert caplog.text.rstrip().endswith("have no place on the fixed image: 'c'")


def test_a_list_without_any_position_comes_back_so(scene: MRML) -> None:
    moving = landmarks(scene, np.zeros((2, 3)), "M")
    for number in range(2):
        moving.UnsetNthControlPointPosition(number)
    found = LandmarkNodes(inputs(moving)).propagated({})
    assert found.GetNumberOfControlPoints() == 2
    assert np.isnan(positions(found)).all()
