"""The pair that ships, registered once with the model that ships, and put into a scene as Slicer would have it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.io import Volume, read_image, read_label
from dlir.registration.results.result import RegistrationResult

if TYPE_CHECKING:
    from mrml import MRML

SAMPLE = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"
SEGMENT = "left ventricle"


@dataclass(frozen=True, eq=False)
class SampleRegistration:
    """report: with the scores and volumes of the left ventricle. propagated: its label on the fixed grid."""

    fixed: Volume
    moving: Volume
    moving_label: Volume
    result: RegistrationResult
    propagated: NDArray[Any]
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class SampleNodes:
    """The pair and its result as MRML nodes; moving_contour and propagated are segmentations."""

    fixed: Any
    moving: Any
    warped: Any
    jacobian: Any
    transform: Any
    moving_contour: Any
    propagated: Any


@lru_cache(maxsize=1)
def register_sample() -> SampleRegistration:
    """Once in each process; takes some seconds."""
    from dlir.metrics.scores import structure_scores
    from dlir.model.catalogue import resolve_model
    from dlir.registration.loading import Loaded
    from dlir.registration.results.propagation import propagate
    from dlir.registration.results.report import build_report
    from dlir.registration.session import Session

    fixed = read_image(str(SAMPLE / "fixed_ed.nrrd"), "fixed image")
    moving = read_image(str(SAMPLE / "moving_es.nrrd"), "moving image")
    fixed_label = read_label(str(SAMPLE / "fixed_ed_label.nrrd"), fixed, "fixed label")
    moving_label = read_label(str(SAMPLE / "moving_es_label.nrrd"), moving, "moving label")
    session, model = Session(), resolve_model("cardiac-cine")
    loaded = Loaded(fixed, moving, moving_labels=[moving_label])
    outcome = session.register(loaded, model, "cpu")
    propagated = propagate(loaded, outcome.value)
    before, after = propagated.before[0], propagated.after[0]
    report = build_report(loaded, outcome.value, session.load(model), outcome.device)
    report["labels"] = {SEGMENT: structure_scores(fixed_label.array == 1, before == 1, after == 1, fixed.grid)}
    voxel_ml = float(np.prod(fixed.grid.spacing)) / 1000
    report["volumes"] = {
        SEGMENT: {
            "before_ml": float(moving_label.array.astype(bool).sum()) * voxel_ml,
            "after_ml": float(after.astype(bool).sum()) * voxel_ml,
        }
    }
    return SampleRegistration(fixed, moving, moving_label, outcome.value, after, report)


def sample_nodes(mrml: MRML, sample: SampleRegistration, folder: Path) -> SampleNodes:
    """Everything as nodes of a scene. folder: for the transform's file."""
    fixed = mrml.volume(sample.fixed.array, sample.fixed.grid, "fixed")
    transform = _transform(mrml, sample, folder)
    transform.SetNodeReferenceID(transform.GetFixedNodeReferenceRole(), fixed.GetID())
    nodes = SampleNodes(
        fixed=fixed,
        moving=mrml.volume(sample.moving.array, sample.moving.grid, "moving"),
        warped=mrml.volume(sample.result.warped, sample.fixed.grid, "warped"),
        jacobian=mrml.volume(sample.result.jacobian, sample.fixed.grid, "Jacobian"),
        transform=transform,
        moving_contour=_contour(mrml, sample.moving_label.array, sample.moving_label.grid, (1.0, 0.85, 0.3)),
        propagated=_contour(mrml, sample.propagated, sample.fixed.grid, (0.3, 1.0, 0.5)),
    )
    # One scanner, one person: what is equally bright is meant to look so.
    dark, bright = np.percentile(sample.fixed.array, (1, 99))
    for node in (nodes.fixed, nodes.moving, nodes.warped):
        node.GetDisplayNode().SetAutoWindowLevel(0)
        node.GetDisplayNode().SetWindowLevelMinMax(dark, bright)
    return nodes


def _transform(mrml: MRML, sample: SampleRegistration, folder: Path) -> Any:
    import slicer

    from dlir.transforms.files import write_transform

    write_transform(folder / "transform.h5", sample.result.transform)
    node, storage = mrml.add("Transform", "transform"), slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(folder / "transform.h5"))
    assert storage.ReadData(node)
    return node


def _contour(mrml: MRML, label: NDArray[Any], grid: Any, color: tuple[float, float, float]) -> Any:
    """A segmentation that is drawn as an outline."""
    import slicer

    labelmap = mrml.volume((label == 1).astype(np.uint8), grid, "label", kind="LabelMapVolume")
    node = mrml.add("Segmentation", SEGMENT)
    node.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, node)
    mrml.scene.RemoveNode(labelmap)
    node.GetSegmentation().GetNthSegment(0).SetColor(color)
    node.GetDisplayNode().SetOpacity2DFill(0)
    node.GetDisplayNode().SetSliceIntersectionThickness(2)
    return node
