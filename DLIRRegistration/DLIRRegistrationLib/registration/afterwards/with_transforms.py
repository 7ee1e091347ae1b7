"""The part of the Logic that needs no worker: what a transform that is there does with nodes, and files of them."""

# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import slicer

from dlir.errors import DLIRError, OutputError
from dlir.io.writing import write_text
from DLIRRegistrationLib.registration.afterwards.carrying import carried
from DLIRRegistrationLib.registration.afterwards.folds import Fold, folds
from DLIRRegistrationLib.registration.afterwards.page import report_page
from DLIRRegistrationLib.registration.outputs import Outputs
from DLIRRegistrationLib.registration.result_nodes import finish_jacobian
from DLIRRegistrationLib.scene.frames import grid_of_volume
from DLIRRegistrationLib.scene.jacobian import determinants
from DLIRRegistrationLib.scene.markups import propagate_markups, propagate_model
from DLIRRegistrationLib.scene.segmentations import propagate_segmentation
from DLIRRegistrationLib.scene.volumes import set_volume


class WithTransforms:
    """Propagates, maps and saves; to be inherited from."""

    _folds: tuple[Any, list[Fold]] | None = None

    def propagateSegmentation(
        self, segmentation: Any, transform: Any, reference: Any, output: Any | None = None
    ) -> Any:
        """Draws a segmentation of the moving image as it lies on the fixed image; returns the segmentation node.

        transform: the transform node of a registration, or any that brings the moving image onto the fixed one.
        reference: the fixed volume, whose voxels are used. output: a segmentation node that is overwritten; by
        default a new one. Names, colours, tags and overlap of the segments are kept. Raises ImageError,
        GeometryError; then nothing has changed.
        """
        name = f"{segmentation.GetName()} on {reference.GetName()}"
        return _filled(output, segmentation, name, partial(propagate_segmentation, segmentation, transform, reference))

    def propagateMarkups(self, markups: Any, transform: Any, output: Any | None = None) -> Any:
        """Puts points drawn on the moving image where they lie on the fixed image; returns the markups node.

        markups: a point list, curve or other markups node; labels and order are kept. transform: as for
        `propagateSegmentation`. output: a node of the same class that is overwritten; by default a new one. A point
        in a fold of the transform, which lies nowhere on the fixed image, becomes one without a position.
        """

        def fill(node: Any) -> None:
            propagate_markups(markups, transform, node)
            node.CreateDefaultDisplayNodes()

        return _filled(output, markups, f"{markups.GetName()} propagated", fill)

    def propagateModel(self, model: Any, transform: Any, output: Any | None = None) -> Any:
        """Draws a surface of the moving image as it lies on the fixed image; returns the model node.

        transform: as for `propagateSegmentation`. output: a model node that is overwritten; by default a new one,
        which looks like `model`. Raises ImageError for a model without a surface; then nothing has changed.
        """
        return _filled(output, model, f"{model.GetName()} propagated", partial(propagate_model, model, transform))

    def carryOver(
        self,
        transform: Any,
        reference: Any,
        segmentations: Sequence[Any] = (),
        landmarks: Sequence[Any] = (),
        surfaces: Sequence[Any] = (),
        former: Mapping[Any, Any] | None = None,
    ) -> list[Any]:
        """Brings what was drawn on the moving image onto the fixed one, by a transform that is there; the nodes.

        transform, reference: as for `propagateSegmentation`. segmentations, landmarks, surfaces: segmentation, markups
        and model nodes. former: by node, that which a registration has carried it into. What was carried over before
        is overwritten. Raises as the calls for one node; those before it have been carried over then.
        """
        draw = partial(self.propagateSegmentation, transform=transform, reference=reference)
        steps = [
            *((node, lambda source, output: draw(source, output=output)) for node in segmentations),
            *((node, lambda source, output: self.propagateMarkups(source, transform, output)) for node in landmarks),
            *((node, lambda source, output: self.propagateModel(source, transform, output)) for node in surfaces),
        ]
        return [carried(node, carry, (former or {}).get(node)) for node, carry in steps]

    def folds(self, jacobian: Any) -> list[Fold]:
        """The places of a Jacobian volume node where the deformation folds, the worst first. Asked again, it knows."""
        seen = jacobian, jacobian.GetImageData(), jacobian.GetImageData().GetMTime(), jacobian.GetMTime()
        if self._folds is None or self._folds[0] != seen:
            self._folds = seen, folds(jacobian)
        return self._folds[1]

    # -- files -----------------------------------------------------------------------------------

    def saveNode(self, node: Any, path: str | Path) -> None:
        """Writes a node as Slicer does, by the ending of the name; the scene keeps the file that it has for the node.

        Raises OutputError where that fails.
        """
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(str(path))
        if not Path(path).parent.is_dir() or not storage.WriteData(node):
            raise OutputError(f"cannot write '{path}'; check the folder, and that the ending is one that Slicer knows")

    def saveReport(self, path: str | Path, **result: Any) -> None:
        """Writes the report of a result as a page of HTML with pictures, as `dlir register --html` does.

        result: the nodes and the verdict, as `report_page` takes them. Raises OutputError, and GeometryError for a
        volume without a place in the world.
        """
        write_text(Path(path), report_page(**result))

    # -- maps ------------------------------------------------------------------------------------

    def jacobianVolume(self, transform: Any, reference: Any, output: Any | None = None) -> Any:
        """The Jacobian determinant of a transform node on the voxels of a volume node, as a coloured volume node.

        The determinant is that of the map that resampling through the transform uses, fixed to moving point: 0.5
        means that what fills a voxel of the fixed image fills half of that volume in the moving one, and 0 or less
        that tissue folds. From analytic derivatives, for every kind of transform. output: a scalar volume node that
        is overwritten; by default a new one. Raises GeometryError for a volume that is empty, or under a parent
        transform that shears it or is not linear.
        """
        grid = grid_of_volume(reference)
        steps = determinants(transform, grid)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                array = end.value
                break
        content = slicer.vtkMRMLScalarVolumeNode()
        set_volume(content, array, grid)
        outputs = Outputs(slicer.mrmlScene)
        outputs.add("output", content, output, f"{transform.GetName()} Jacobian", finish_jacobian)
        return outputs.apply()["output"]


def _filled(output: Any | None, source: Any, name: str, fill: Callable[[Any], None]) -> Any:
    """`output`, or a new node of the class of `source`, after `fill`; where that fails no new node is left."""
    scene = slicer.mrmlScene
    node = output or scene.AddNewNodeByClass(source.GetClassName(), scene.GenerateUniqueName(name))
    try:
        fill(node)
    except DLIRError:
        if output is None:
            scene.RemoveNode(node)
        raise
    return node
