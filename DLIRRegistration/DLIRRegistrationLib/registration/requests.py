"""What a registration in Slicer is asked for, where its results go, and what it gives back. Nodes are MRML nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlir.errors import DLIRError
from dlir.registration.choices import Kind
from dlir.registration.judging.verdict import Verdict
from dlir.registration.request import Outputs, RegistrationRequest
from dlir.registration.results.rows import changes, chosen_model
from DLIRRegistrationLib.models import FORMER_DEFAULT, model_problem

TRANSFORM_KINDS = ("native", "grid")


@dataclass(frozen=True)
class MaskInput:
    """Where an image counts: a segmentation node with one of its segments, or a labelmap volume node.

    segment_id: None takes all segments of a segmentation, and is what goes with a labelmap.
    """

    node: Any
    segment_id: str | None = None


@dataclass(frozen=True)
class RegistrationInputs:
    """What is to be registered.

    fixed, moving: scalar volume nodes, under any parent transforms.
    model: a name of the catalogue, a model file, "auto": the installed model that was made for such images, and none
        where there is no such model; or "none".
    initial_transform: a transform node that brings the moving image roughly onto the fixed one (its to-parent
        direction, as if the moving volume were put under it); then `initialize` does not count.
    initialize: "auto" takes the start in which the images are most alike; "centers" brings the middles of both images
        together, "scanner" takes the positions as they are.
    segmentations: segmentation nodes drawn on the moving image, to be carried to the fixed one.
    fixed_segmentation: what they are scored by, segments matched by name.
    moving_landmarks, fixed_landmarks: point list nodes; with both the target registration error is measured.
    device: "auto", "cpu", "cuda" or "mps".
    refine, kind: how long the pair is optimised, and how far the transform may go, as of `RegistrationRequest`.
    continues: whether the initial transform is that of a former result, in whose nodes the new one goes.
    """

    fixed: Any
    moving: Any
    model: str = FORMER_DEFAULT
    fixed_mask: MaskInput | None = None
    moving_mask: MaskInput | None = None
    initial_transform: Any | None = None
    initialize: str = "auto"
    segmentations: tuple[Any, ...] = ()
    fixed_segmentation: Any | None = None
    moving_landmarks: Any | None = None
    fixed_landmarks: Any | None = None
    device: str = "auto"
    refine: str | None = None
    kind: str = Kind.deformable.value
    continues: bool = False

    def problem(self) -> str | None:
        """What is missing, as one sentence for the tooltip of Apply; None when it can run."""
        return next(self._problems(), None)

    def nodes(self) -> tuple[Any, ...]:
        """Every node that is read and stays as it is."""
        masks = tuple(mask.node for mask in (self.fixed_mask, self.moving_mask) if mask is not None)
        start = None if self.continues else self.initial_transform
        single = (self.fixed, self.moving, start, self.fixed_segmentation)
        landmarks = (self.moving_landmarks, self.fixed_landmarks)
        return tuple(node for node in (*single, *masks, *self.segmentations, *landmarks) if node is not None)

    def _problems(self) -> Iterator[str]:
        for name, node in (("fixed", self.fixed), ("moving", self.moving)):
            if node is None:
                yield f"Choose a {name} volume."
            elif node.GetScene() is None:
                yield f"The {name} volume '{node.GetName()}' has been deleted; choose another."
            elif node.GetImageData() is None or not node.GetImageData().GetNumberOfPoints():
                yield f"The {name} volume '{node.GetName()}' holds no image; choose or load another."
            elif node.GetImageData().GetNumberOfScalarComponents() != 1:
                yield f"The {name} volume '{node.GetName()}' is a colour or vector image; choose a scalar one."
        if self.fixed is not None and self.fixed is self.moving:
            yield "Fixed and moving are the same volume; choose two different ones."
        start = None if self.initial_transform is not None else self.initialize
        wrong = model_problem(self.model) or optimisation_problem(self.model, self.refine, self.kind, start)
        if wrong:
            yield wrong
        if self.continues and (self.initial_transform is None or self.initial_transform.GetScene() is None):
            yield "There is no transform to go on from; register with an output transform first."
        for name, mask in (("fixed", self.fixed_mask), ("moving", self.moving_mask)):
            if mask is not None:
                yield from _mask_problems(name, mask)


@dataclass(frozen=True)
class OutputSelection:
    """Where results go: a node that is given is overwritten; for None a new one with a sensible name is created.

    segmentations: one entry for each of the inputs' segmentations; fewer are filled up with None.
    want_warped, want_transform, want_jacobian, want_error_map: whether that result is wanted at all.
    transform_kind: "native" keeps the exact affine and B-spline parts, "grid" samples a displacement grid.
    """

    warped: Any | None = None
    transform: Any | None = None
    jacobian: Any | None = None
    segmentations: tuple[Any | None, ...] = ()
    landmarks: Any | None = None
    want_warped: bool = True
    want_transform: bool = True
    want_jacobian: bool = True
    transform_kind: str = "native"
    error_map: Any | None = None
    want_error_map: bool = False

    def problem(self, inputs: RegistrationInputs) -> str | None:
        """Why results cannot go to the chosen nodes, as one sentence; None when they can."""
        every = (self.warped, self.transform, self.jacobian, self.error_map, *self.segmentations, self.landmarks)
        chosen: list[Any] = [node for node in every if node is not None]
        for node in chosen:
            if any(node is given for given in inputs.nodes()):
                return f"'{node.GetName()}' is also an input; choose another output, or a new one."
            if sum(node is other for other in chosen) > 1:
                return f"'{node.GetName()}' is chosen for two results; choose another output for one of them."
        if self.transform is not None and self.transform.IsA("vtkMRMLLinearTransformNode"):
            return (
                f"'{self.transform.GetName()}' can only hold a matrix; choose another output transform, or a new one."
            )
        if self.transform_kind not in TRANSFORM_KINDS:
            return f"A transform cannot be of kind '{self.transform_kind}'; use {' or '.join(TRANSFORM_KINDS)}."
        return None


@dataclass(frozen=True)
class RegistrationNodes:
    """The nodes of one finished registration; None for what was not asked for.

    table: node of the report as a table. report: the figures, as the worker gave them plus the structures' volumes.
    seconds: from start to nodes.
    """

    warped: Any | None
    transform: Any | None
    jacobian: Any | None
    segmentations: tuple[Any, ...]
    landmarks: Any | None
    table: Any
    report: dict[str, Any]
    verdict: Verdict
    seconds: float
    error_map: Any | None = None

    def selection(self) -> OutputSelection:
        """The outputs of a registration whose results are to take the place of these."""
        return OutputSelection(
            warped=self.warped,
            transform=self.transform,
            jacobian=self.jacobian,
            error_map=self.error_map,
            segmentations=self.segmentations,
            landmarks=self.landmarks,
            want_warped=self.warped is not None,
            want_jacobian=self.jacobian is not None,
            want_error_map=self.error_map is not None,
        )

    @property
    def chosen_model(self) -> str | None:
        """The name of the model, or "none", where that was left open."""
        return chosen_model(self.report)

    @property
    def changes(self) -> list[str]:
        """What the registration has done, in short sentences."""
        return changes(self.report)


def optimisation_problem(model: str, refine: str | None, kind: str, initialize: str | None) -> str | None:
    """Why these do not go together, as one sentence; None where they do. The request itself is who knows."""
    try:
        RegistrationRequest("", "", Outputs(""), model=model, refine=refine, kind=kind, initialize=initialize)
    except DLIRError as error:
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}."
    return None


def _mask_problems(name: str, mask: MaskInput) -> Iterator[str]:
    if not mask.node.IsA("vtkMRMLSegmentationNode"):
        return
    segmentation = mask.node.GetSegmentation()
    if mask.segment_id is None:
        if segmentation.GetNumberOfSegments() == 0:
            yield f"The {name} mask '{mask.node.GetName()}' has no segment; draw one or choose another."
    elif segmentation.GetSegment(mask.segment_id) is None:
        yield f"The {name} mask '{mask.node.GetName()}' has lost its segment; choose a segment again."
