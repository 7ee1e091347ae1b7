"""From the values of the parameter node to what the Logic is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from DLIRRegistrationLib.logic import MaskInput, OutputSelection
from DLIRRegistrationLib.panel.choices import Refinement

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import RegistrationNodes


def present(node: Any) -> Any | None:
    """The node, or None where it is none or has left the scene."""
    return node if node is not None and node.GetScene() is not None else None


def all_present(nodes: Any) -> list[Any]:
    """Those of a list of the parameters that are there: a scene may name a node whose file it has lost."""
    return [node for node in nodes if present(node)]


def registration_of(parameters: Any) -> dict[str, Any]:
    """What is chosen to be registered, with what, and where to: as the Logic's `register` is called with it."""
    return {
        "fixed": present(parameters.fixedVolume),
        "moving": present(parameters.movingVolume),
        "model": parameters.model,
        "fixedMask": _mask(parameters.fixedMask, parameters.fixedMaskSegment),
        "movingMask": _mask(parameters.movingMask, parameters.movingMaskSegment),
        "initialTransform": present(parameters.initialTransform),
        "initialize": parameters.initialize.value,
        "segmentations": all_present(parameters.segmentations),
        "fixedSegmentation": present(parameters.fixedSegmentation),
        "movingLandmarks": present(parameters.movingLandmarks),
        "fixedLandmarks": present(parameters.fixedLandmarks),
        "device": parameters.device.value,
        "refine": parameters.refinement.value,
        "kind": parameters.kind.value,
        "outputs": _outputs(parameters),
    }


def refinement_of(parameters: Any) -> dict[str, Any]:
    """The same for the Logic's `refineFurther`: the last result, and what is chosen now beside its images."""
    chosen = registration_of(parameters)
    kept = ("fixedMask", "movingMask", "fixedSegmentation", "movingLandmarks", "fixedLandmarks", "device", "kind")
    return {
        **{name: chosen[name] for name in kept},
        "fixed": present(parameters.resultFixed),
        "moving": present(parameters.resultMoving),
        "former": _former(parameters),
        "segmentations": all_present(parameters.resultDrawn),
        "refine": None if parameters.refinement is Refinement.OFF else parameters.refinement.value,
    }


def sequence_of(parameters: Any) -> dict[str, Any]:
    """The same for the Logic's `registerSequence`."""
    return {
        "sequence": present(parameters.sequence),
        "reference": parameters.referenceFrame - 1,
        "model": parameters.model,
        "segmentation": present(parameters.sequenceSegmentation),
        "initialize": parameters.initialize.value,
        "device": parameters.device.value,
        "refine": parameters.refinement.value,
        "kind": parameters.kind.value,
    }


def result_of(parameters: Any) -> dict[str, Any]:
    """The last result, as the Logic's `saveReport` is called with it."""
    return {
        "fixed": present(parameters.resultFixed),
        "moving": present(parameters.resultMoving),
        "warped": present(parameters.resultWarped),
        "jacobian": present(parameters.resultJacobian),
        "table": present(parameters.resultTable),
        "level": parameters.verdictLevel,
        "reason": parameters.verdictReason,
        "changes": parameters.resultChanges,
    }


def keep_result(parameters: Any, choices: dict[str, Any], result: RegistrationNodes) -> None:
    """Note the nodes of a result, for Look, Trust and Refine further. choices: what it was asked with."""
    with slicer.util.NodeModify(parameters):
        parameters.showBefore = False
        # Inputs may have left the scene while they were registered.
        parameters.resultFixed, parameters.resultMoving = present(choices["fixed"]), present(choices["moving"])
        parameters.resultWarped, parameters.resultTransform = result.warped, result.transform
        parameters.resultJacobian, parameters.resultTable = result.jacobian, result.table
        parameters.resultLandmarks, parameters.resultErrorMap = result.landmarks, result.error_map
        parameters.resultDrawn = all_present(choices["segmentations"])
        parameters.resultPropagated = list(result.segmentations)
        parameters.resultScoredBy = present(choices["fixedSegmentation"])
        parameters.verdictLevel, parameters.verdictReason = result.verdict.level, result.verdict.reason
        parameters.resultChanges = "\n".join(result.changes)


def keep_carried(parameters: Any, segmentations: list[Any], landmarks: list[Any], nodes: list[Any]) -> None:
    """Note what was carried over after the registration. nodes: what came of these, in their order, then others."""
    with slicer.util.NodeModify(parameters):
        drawn, propagated = all_present(parameters.resultDrawn), all_present(parameters.resultPropagated)
        known = dict(zip(drawn, propagated, strict=False))
        known |= dict(zip(segmentations, nodes, strict=False))
        parameters.resultDrawn, parameters.resultPropagated = list(known), list(known.values())
        if landmarks:
            parameters.resultLandmarks = nodes[len(segmentations)]


def choose_volumes(parameters: Any) -> None:
    """Where no volume is chosen yet, take the first two of the scene: that saves most users two clicks."""
    if parameters.fixedVolume is not None or parameters.movingVolume is not None:
        return
    volumes = offered_volumes()
    if len(volumes) >= 2:
        parameters.fixedVolume, parameters.movingVolume = volumes[:2]


def offered_volumes() -> list[Any]:
    """The volumes of the scene that can be chosen to be registered."""
    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetHideFromEditors()
    ]


def forget_node(parameters: Any, node: Any) -> None:
    """Unset every choice of a node that is about to leave the scene.

    Otherwise the lists would choose its neighbour instead, which may be one that must not be overwritten.
    """
    for name in parameters.allParameters:
        value = getattr(parameters, name)
        if value is node:
            setattr(parameters, name, None)
        elif hasattr(value, "append") and node in list(value):
            setattr(parameters, name, [other for other in value if other is not node])


def _outputs(parameters: Any) -> OutputSelection:
    """Where the results go; what is not wanted has no node."""
    count = len(all_present(parameters.segmentations))
    return OutputSelection(
        warped=present(parameters.warpedVolume) if parameters.wantWarped else None,
        transform=present(parameters.outputTransform) if parameters.wantTransform else None,
        jacobian=present(parameters.jacobianVolume) if parameters.wantJacobian else None,
        # One node can take one segmentation: with several of them, each gets a new one.
        segmentations=(present(parameters.outputSegmentation),) if count == 1 else (),
        landmarks=present(parameters.outputLandmarks),
        want_warped=parameters.wantWarped,
        want_transform=parameters.wantTransform,
        want_jacobian=parameters.wantJacobian,
        error_map=present(parameters.errorMapVolume) if parameters.wantErrorMap else None,
        want_error_map=parameters.wantErrorMap,
        transform_kind=parameters.transformKind.value,
    )


def _former(parameters: Any) -> OutputSelection:
    """The nodes of the last result, to be overwritten; what is not there is not made again."""
    drawn, propagated = all_present(parameters.resultDrawn), all_present(parameters.resultPropagated)
    warped, jacobian = present(parameters.resultWarped), present(parameters.resultJacobian)
    return OutputSelection(
        warped=warped,
        transform=present(parameters.resultTransform),
        jacobian=jacobian,
        # One to one only where none of either has left the scene.
        segmentations=tuple(propagated) if len(propagated) == len(drawn) else (),
        landmarks=present(parameters.resultLandmarks),
        want_warped=warped is not None,
        want_jacobian=jacobian is not None,
        error_map=present(parameters.resultErrorMap),
        want_error_map=present(parameters.resultErrorMap) is not None,
        transform_kind=parameters.transformKind.value,
    )


def _mask(node: Any, segment_id: str) -> MaskInput | None:
    if present(node) is None:
        return None
    of_segmentation = node.IsA("vtkMRMLSegmentationNode")
    return MaskInput(node, segment_id or None if of_segmentation else None)
