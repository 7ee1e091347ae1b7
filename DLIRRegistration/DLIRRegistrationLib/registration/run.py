"""One registration: nodes of the scene in, nodes of the scene out, everything between in the worker."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlir.registration.judging.verdict import Verdict
from dlir.registration.progress import Offer, part_of, silent
from dlir.transforms.files import read_transform
from DLIRRegistrationLib.registration.initial_transform import write_initial_transform
from DLIRRegistrationLib.registration.landmarks import LandmarkNodes
from DLIRRegistrationLib.registration.outputs import Outputs
from DLIRRegistrationLib.registration.parcel import Parcel, compute, worker_request
from DLIRRegistrationLib.registration.report import volume_figures
from DLIRRegistrationLib.registration.requests import MaskInput, OutputSelection, RegistrationInputs, RegistrationNodes
from DLIRRegistrationLib.registration.result_nodes import (
    finish_error_map,
    finish_jacobian,
    finish_segmentation,
    finish_transform,
    finish_warped,
    label_images,
    report_node,
    segment_volumes,
    segmentation_node,
    transform_node,
    volume_node,
)
from DLIRRegistrationLib.registration.structures import comparisons, structures, with_titles
from DLIRRegistrationLib.registration.task import WORKING, RegistrationTask, Steps
from DLIRRegistrationLib.scene.masks import mask_array, placed_mask
from DLIRRegistrationLib.scene.segmentations import export_layers
from DLIRRegistrationLib.scene.volumes import image_array, placed_volume

if TYPE_CHECKING:
    from dlir.io.reading import Volume
    from dlir.registration.request import ArrayFile
    from dlir.worker.protocol import Done, Register
    from DLIRRegistrationLib.worker.client import WorkerClient

# How much of the progress bar is over when the worker begins and when it has finished.
_HANDED_OVER, _COMPUTED = 0.05, 0.9

# Reference from a transform or warped volume to the table that tells of its registration.
_REPORT_ROLE = "DLIR.report"


class Run(RegistrationTask[RegistrationNodes]):
    """Registers one pair; see `BackgroundTask` for how to start, poll, wait and cancel.

    What is to be registered is read when it starts: later changes of the inputs, even their removal, change nothing.
    Nodes are created and changed at the very end, all together. An output node that has been removed by then is
    created anew. Several runs may be under way; the worker does one after the other.

    on_offer: to be set before the start; gets the verdict so far, while the pair is registered the other way round.
    """

    inputs: RegistrationInputs
    outputs: OutputSelection

    def __init__(self, inputs: RegistrationInputs, outputs: OutputSelection, worker: WorkerClient) -> None:
        super().__init__(inputs, outputs, worker)
        self.on_offer: Offer = silent

    # -- before ----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        super()._prepare()
        self._fixed, self._moving = placed_volume(self.inputs.fixed), placed_volume(self.inputs.moving)
        self._layers = [export_layers(node) for node in self.inputs.segmentations]
        self._structures = structures(self.inputs.segmentations, self._layers)
        self._landmarks = LandmarkNodes(self.inputs)
        self._folder = self.worker.reserve()
        self._parcel = Parcel(self._folder)
        self._request = self._packed(self._folder)

    def _packed(self, folder: Path) -> Register:
        inputs, add = self.inputs, self._parcel.add
        layers = [layer for own in self._layers for layer in own]
        scored_by = export_layers(inputs.fixed_segmentation) if inputs.fixed_segmentation and layers else []
        known = structures([inputs.fixed_segmentation], [scored_by])[0] if scored_by else []
        return worker_request(
            inputs,
            folder,
            self._model,
            add(self._fixed.array, self._fixed.grid, self._fixed.source, inputs.fixed.GetImageData()),
            add(self._moving.array, self._moving.grid, self._moving.source, inputs.moving.GetImageData()),
            initial_transform=self._initial_transform(folder),
            fixed_mask=self._mask(inputs.fixed_mask, self._fixed),
            moving_mask=self._mask(inputs.moving_mask, self._moving),
            moving_labels=tuple(add(layer.array, layer.grid, "segmentation") for layer in layers),
            fixed_labels=tuple(add(layer.array, layer.grid, "fixed segmentation") for layer in scored_by),
            comparisons=comparisons([one for own in self._structures for one in own], known),
            error_map=self.outputs.want_error_map,
            **self._landmarks.asked,
        )

    def _mask(self, mask: MaskInput | None, image: Volume) -> ArrayFile | None:
        if mask is None:
            return None
        placed = placed_mask(mask.node, mask.segment_id)
        array, grid = placed or (mask_array(mask.node, mask.segment_id, image), image.grid)
        return self._parcel.add(array, grid, mask.node.GetName())

    def _initial_transform(self, folder: Path) -> str | None:
        if self.inputs.initial_transform is None:
            return None
        path = folder / "initial.h5"
        write_initial_transform(self.inputs.initial_transform, path, self._fixed.grid, self.inputs.moving)
        return str(path)

    # -- during ----------------------------------------------------------------------------------

    def _steps(self) -> Steps[RegistrationNodes]:
        yield from self._parcel.write(part_of(self._progress, 0.0, _HANDED_OVER))
        before = yield from self._volumes([[(layer.array, layer.grid) for layer in own] for own in self._layers])
        report = part_of(self._progress, _HANDED_OVER, _COMPUTED)
        self._asked = self._request.id
        done = yield from compute(self.worker, self._request, report, self.on_offer, self.on_curve)
        self._progress("nodes", _COMPUTED)
        yield from self._parcel.delete()
        return (yield from self._results(done, before))

    def _volumes(self, arrays: Any) -> Steps[dict[str, float]]:
        """Volume in ml of each structure, by title. arrays: labels and grid of each layer of each segmentation."""
        found: dict[str, float] = {}
        for own, layers, parts in zip(self._structures, self._layers, arrays, strict=True):
            titles = {structure.segment_id: structure.title for structure in own}
            for layer, (array, grid) in zip(layers, parts, strict=True):
                volumes = yield from segment_volumes(array, grid, layer.segments)
                found |= {titles[segment]: ml for segment, ml in volumes.items()}
        return found

    # -- after -----------------------------------------------------------------------------------

    def _results(self, done: Done, volumes_before: dict[str, float]) -> Steps[RegistrationNodes]:
        """The nodes, made ready one after the other and put into the scene in the last step."""
        outputs, files = Outputs(self.scene), {name: Path(path) for name, path in done.files.items()}
        yield from self._add_transform(files, outputs)
        yield from self._add_volumes(files, outputs)
        volumes_after = yield from self._add_segmentations(files, outputs)
        if self._landmarks.moving is not None:
            node = self._landmarks.propagated(done.report)
            name = f"{self._landmarks.moving.GetName()} on {self._fixed.source}"
            outputs.add("landmarks", node, self.outputs.landmarks, name, lambda node: node.CreateDefaultDisplayNodes())
        report = {**done.report, "volumes": volume_figures(volumes_before, volumes_after)}
        report = with_titles(report, [one for own in self._structures for one in own])
        outputs.add("table", report_node(report), self._former_table(), f"{self._title} report")
        return self._result(outputs.apply(), report)

    def _result(self, nodes: dict[str, Any], report: dict[str, Any]) -> RegistrationNodes:
        for name in ("transform", "warped"):
            if name in nodes:
                nodes[name].SetNodeReferenceID(_REPORT_ROLE, nodes["table"].GetID())
        return RegistrationNodes(
            warped=nodes.get("warped"),
            transform=nodes.get("transform"),
            jacobian=nodes.get("jacobian"),
            segmentations=tuple(nodes[_key(number)] for number in range(len(self._layers))),
            landmarks=nodes.get("landmarks"),
            table=nodes["table"],
            report=report,
            verdict=Verdict.from_report(report),
            seconds=time.perf_counter() - self._began,
            error_map=nodes.get("error_map"),
        )

    @property
    def _title(self) -> str:
        return f"{self._moving.source} registered to {self._fixed.source}"

    def _add_transform(self, files: dict[str, Path], outputs: Outputs) -> Steps[None]:
        if self.outputs.want_transform:
            chain = read_transform(files["transform"])
            node = yield from transform_node(chain, self.outputs.transform_kind, self._fixed.grid)
            finish = partial(finish_transform, fixed=self.inputs.fixed, moving=self.inputs.moving)
            outputs.add("transform", node, self.outputs.transform, f"{self._title} transform", finish)

    def _add_volumes(self, files: dict[str, Path], outputs: Outputs) -> Steps[None]:
        if self.outputs.want_warped:
            node = yield from volume_node(files["warped"], self._fixed.grid)
            finish = partial(finish_warped, moving=self.inputs.moving)
            outputs.add("warped", node, self.outputs.warped, self._title, finish)
        if self.outputs.want_jacobian:
            node = yield from volume_node(files["jacobian"], self._fixed.grid)
            outputs.add("jacobian", node, self.outputs.jacobian, f"{self._title} Jacobian", finish_jacobian)
        if self.outputs.want_error_map:
            node = yield from volume_node(files["error_map"], self._fixed.grid)
            outputs.add("error_map", node, self.outputs.error_map, f"{self._title} error", finish_error_map)

    def _add_segmentations(self, files: dict[str, Path], outputs: Outputs) -> Steps[dict[str, float]]:
        """Prepares the propagated segmentations; returns the volume in ml of each structure, by title."""
        grid, first, propagated = self._fixed.grid, 0, []
        for number, (source, layers) in enumerate(zip(self.inputs.segmentations, self._layers, strict=True)):
            paths = [files[f"label_{first + layer}"] for layer in range(len(layers))]
            first += len(layers)
            images = yield from label_images(paths)
            propagated.append([(image_array(image), grid) for image in images])
            node = segmentation_node(source, layers, images, grid)
            target = self.outputs.segmentations[number] if number < len(self.outputs.segmentations) else None
            name = f"{source.GetName()} on {self._fixed.source}"
            finish = partial(finish_segmentation, source=source, fixed=self.inputs.fixed)
            outputs.add(_key(number), node, target, name, finish)
            yield WORKING
        return (yield from self._volumes(propagated))

    def _former_table(self) -> Any | None:
        """The report on what is overwritten, which the new one takes the place of."""
        chosen = [node for node in (self.outputs.transform, self.outputs.warped) if node is not None]
        return next((table for table in (node.GetNodeReference(_REPORT_ROLE) for node in chosen) if table), None)


def _key(number: int) -> str:
    return f"segmentation {number}"
