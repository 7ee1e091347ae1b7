"""What a registration of a sequence is asked for and gives back. Nodes are MRML nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlir.registration.choices import Kind
from dlir.registration.judging.verdict import Verdict
from dlir.registration.results.rows import chosen_model
from DLIRRegistrationLib.models import FORMER_DEFAULT, model_problem
from DLIRRegistrationLib.registration.requests import optimisation_problem


@dataclass(frozen=True)
class SequenceInputs:
    """What is to be registered.

    sequence: a vtkMRMLSequenceNode of scalar volumes. reference: number of the frame, from 0, that the others are
    registered to. segmentation: drawn on that frame, to be carried to all; its parent transforms count. model,
    initialize, device, refine, kind: as in RegistrationInputs, for each frame; a model that is to be chosen is so for
    the frame half a cycle from the reference.
    """

    sequence: Any
    reference: int = 0
    model: str = FORMER_DEFAULT
    segmentation: Any | None = None
    initialize: str = "auto"
    device: str = "auto"
    refine: str | None = None
    kind: str = Kind.deformable.value

    def problem(self) -> str | None:
        """What is missing, as one sentence for a tooltip; None when it can run."""
        return next(self._problems(), None)

    def _problems(self) -> Iterator[str]:
        if self.sequence is None or self.sequence.GetScene() is None:
            yield "Choose a sequence."
            return
        name, count = self.sequence.GetName(), self.sequence.GetNumberOfDataNodes()
        frames = [self.sequence.GetNthDataNode(number) for number in range(count)]
        if not all(frame is not None and frame.IsA("vtkMRMLScalarVolumeNode") for frame in frames):
            yield f"The sequence '{name}' is not one of volumes; choose another."
        elif count < 2:
            yield f"The sequence '{name}' has less than two frames; choose another."
        elif not 0 <= self.reference < count:
            yield f"The sequence '{name}' has no frame {self.reference + 1}; choose one of 1 to {count}."
        wrong = model_problem(self.model) or optimisation_problem(self.model, self.refine, self.kind, self.initialize)
        if wrong:
            yield wrong


@dataclass(frozen=True)
class SequenceOutputs:
    """Where results go: a sequence node that is given is overwritten; for None a new one is created.

    want_warped, want_transform, want_jacobian: whether that result is wanted at all.
    """

    warped: Any | None = None
    transform: Any | None = None
    jacobian: Any | None = None
    segmentation: Any | None = None
    want_warped: bool = True
    want_transform: bool = True
    want_jacobian: bool = False

    def problem(self, inputs: SequenceInputs) -> str | None:
        """Why results cannot go to the chosen nodes, as one sentence; None when they can."""
        chosen = [node for node in (self.warped, self.transform, self.jacobian, self.segmentation) if node is not None]
        for node in chosen:
            if node is inputs.sequence:
                return f"'{node.GetName()}' is also the input; choose another output, or a new one."
            if not node.IsA("vtkMRMLSequenceNode"):
                return f"'{node.GetName()}' is no sequence; choose another output, or a new one."
            if sum(node is other for other in chosen) > 1:
                return f"'{node.GetName()}' is chosen for two results; choose another output for one of them."
        return None


@dataclass(frozen=True)
class SequenceNodes:
    """The nodes of a registered sequence; None for what was not asked for.

    warped, transform, jacobian: sequence nodes, on the reference frame. segmentation: a sequence node of the
    segmentation as it lies on each frame. browser: plays them together with the sequence. table: one row per frame.
    reports: of each frame, None for the reference. verdict: that of the worst frame. seconds: from start to nodes.
    """

    warped: Any | None
    transform: Any | None
    jacobian: Any | None
    segmentation: Any | None
    browser: Any
    table: Any
    reports: tuple[dict[str, Any] | None, ...]
    verdict: Verdict
    seconds: float

    @property
    def chosen_model(self) -> str | None:
        """The name of the model, or "none", where that was left open: chosen for one of the frames."""
        chosen = (chosen_model(report) for report in self.reports if report is not None)
        return next((name for name in chosen if name is not None), None)
