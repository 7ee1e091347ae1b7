"""The landmarks of a registration, kept as they were when it started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray

from dlir.transforms.spatial import AffineTransform, CompositeTransform
from DLIRRegistrationLib.registration.report import landmark_figures
from DLIRRegistrationLib.scene.frames import transform_between
from DLIRRegistrationLib.scene.markups import positions, propagate_markups, target_registration_error
from DLIRRegistrationLib.scene.transforms import hangs_under, set_transform, vtk_transform

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid
    from DLIRRegistrationLib.registration.requests import RegistrationInputs


class LandmarkNodes:
    """Copies of the landmarks of both images, in the world, and their errors at the start.

    fixed, moving: where the images lie. Raises ImageError where both images have landmarks and none correspond.
    """

    def __init__(self, inputs: RegistrationInputs, fixed: ImageGrid, moving: ImageGrid) -> None:
        self._fixed, self.moving = _copy(inputs.fixed_landmarks), _copy(inputs.moving_landmarks)
        self._before = self._errors(_start(inputs, fixed, moving))

    def propagated(self, transform: Any) -> Any:
        """A node, outside of the scene, with the moving landmarks where they lie on the fixed image."""
        moving: Any = self.moving
        node = type(moving)()
        propagate_markups(moving, transform, node)
        return node

    def figures(self, transform: Any) -> dict[str, Any]:
        """What the report says of them: {"landmarks": ...}; nothing unless both images have some.

        "before" is after the initialization, as for every figure of the report. Landmarks in a fold do not count.
        """
        after = self._errors(transform)
        if self._before is None or after is None:
            return {}
        known = np.isfinite(self._before) & np.isfinite(after)
        return {"landmarks": landmark_figures(self._before[known], after[known])} if known.any() else {}

    def _errors(self, transform: Any) -> NDArray[np.float64] | None:
        if self._fixed is None or self.moving is None:
            return None
        return target_registration_error(self._fixed, self.moving, transform).after


def _copy(node: Any | None) -> Any | None:
    if node is None:
        return None
    copy = type(node)()
    copy.CopyContent(node)
    copy.SetName(node.GetName())
    for number, point in enumerate(positions(node)):
        if np.isfinite(point).all():
            copy.SetNthControlPointPosition(number, *point)
    return copy


def _start(inputs: RegistrationInputs, fixed: ImageGrid, moving: ImageGrid) -> Any:
    """A transform node, outside of the scene, of what the registration starts from."""
    node = slicer.vtkMRMLTransformNode()
    if inputs.initial_transform is not None and not hangs_under(inputs.moving, inputs.initial_transform):
        set_transform(node, transform_between(None, inputs.initial_transform))
    elif inputs.initial_transform is None and inputs.initialize == "centers":
        shift = np.eye(4)
        shift[:3, 3] = moving.center - fixed.center
        set_transform(node, vtk_transform(CompositeTransform((AffineTransform(shift),))))
    return node
