"""Every frame of a sequence registered to one of them, one request of the worker after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from dlir.registration.choices import AUTO_MODEL, NO_MODEL, half_a_cycle_away
from dlir.registration.progress import part_of
from dlir.transforms.files import read_transform
from dlir.transforms.spatial import CompositeTransform
from DLIRRegistrationLib.registration.outputs import Outputs, in_scene
from DLIRRegistrationLib.registration.parcel import Parcel, compute, worker_request
from DLIRRegistrationLib.registration.result_nodes import (
    finish_jacobian,
    label_images,
    look_like,
    resampled_layers,
    segment_volumes,
    segmentation_node,
    transform_node,
    volume_node,
)
from DLIRRegistrationLib.registration.sequence_report import frame_table, worst_verdict
from DLIRRegistrationLib.registration.sequence_requests import SequenceInputs, SequenceNodes, SequenceOutputs
from DLIRRegistrationLib.registration.structures import structures
from DLIRRegistrationLib.registration.task import WORKING, RegistrationTask, RunError, Steps, asked_model
from DLIRRegistrationLib.registration.transfer import float_image
from DLIRRegistrationLib.scene.segmentations import copy_display, export_layers
from DLIRRegistrationLib.scene.sequences import (
    browser_of,
    frame_volume,
    index_values,
    play_together,
    put_frame,
    sequence_like,
)
from DLIRRegistrationLib.scene.volumes import image_array, set_image

if TYPE_CHECKING:
    from dlir.geometry import ImageGrid
    from dlir.io.reading import Volume
    from dlir.registration.request import ArrayFile
    from dlir.worker.protocol import Done

# How much of the progress bar is over when the first frame begins, and when the last one is done.
_HANDED_OVER, _COMPUTED = 0.02, 0.95


@dataclass(frozen=True, eq=False)
class _Frame:
    """Results for one frame. nodes: outside of the scene, by kind. volumes: ml of each structure on the frame."""

    nodes: dict[str, Any]
    volumes: dict[str, float]
    report: dict[str, Any] | None = None


class SequenceRun(RegistrationTask[SequenceNodes]):
    """Registers every frame of a sequence; see `BackgroundTask` for how to start, poll, wait and cancel.

    A model that is to be chosen, or none, is so for the frame half a cycle away, which comes first then, for all.
    The frames are those at the start; should one be changed in place before its turn, the run ends and says so.
    Sequence nodes come into being at the very end, whole; cancelled before or within any frame, nothing has changed.
    """

    inputs: SequenceInputs
    outputs: SequenceOutputs

    # -- before ----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        super()._prepare()
        sequence: Any = self.inputs.sequence
        drawn: Any = self.inputs.segmentation
        self._name = sequence.GetName()
        self._index, self._values = sequence_like(sequence), index_values(sequence)
        self._frames = [frame_volume(sequence, number) for number in range(len(self._values))]
        images = [sequence.GetNthDataNode(number).GetImageData() for number in range(len(self._values))]
        self._images = [(image, image.GetMTime()) for image in images]
        self._layers = export_layers(drawn) if drawn is not None else []
        self._titles = {one.segment_id: one.title for one in structures([drawn], [self._layers])[0]} if drawn else {}
        self._folder = self.worker.reserve()
        self._shared = Parcel(self._folder)
        self._fixed = self._added(self._shared, self.inputs.reference)
        add = self._shared.add
        self._labels = tuple(add(layer.array, layer.grid, drawn.GetName()) for layer in self._layers)
        self._drawn = resampled_layers(self._layers, self._reference.grid)

    @property
    def _reference(self) -> Volume:
        return self._frames[self.inputs.reference]

    def _added(self, parcel: Parcel, number: int) -> ArrayFile:
        frame, (image, modified) = self._frames[number], self._images[number]
        if image.GetMTime() != modified:
            raise RunError(f"'{frame.source}' was changed while the sequence was being registered; run again")
        return parcel.add(frame.array, frame.grid, frame.source, image)

    # -- during ----------------------------------------------------------------------------------

    def _steps(self) -> Steps[SequenceNodes]:
        yield from self._shared.write(part_of(self._progress, 0.0, _HANDED_OVER))
        frames: dict[int, _Frame] = {self.inputs.reference: (yield from self._unmoved())}
        for number in self._order():
            frames[number] = yield from self._registered(number, len(frames) - 1)
        self._progress("nodes", _COMPUTED)
        yield from self._shared.delete()
        return (yield from self._results([frames[number] for number in range(len(frames))]))

    def _order(self) -> list[int]:
        """The frames as they are registered to the reference: in their order, but that for which a model is chosen."""
        reference, count = self.inputs.reference, len(self._frames)
        first = half_a_cycle_away(reference, count) if self._model == AUTO_MODEL else None
        return sorted(set(range(count)) - {reference}, key=lambda number: (number != first, number))

    def _registered(self, number: int, done_before: int) -> Steps[_Frame]:
        """One frame; its files live as long as its turn."""
        count = len(self._frames) - 1

        def report(step: str, fraction: float) -> None:
            share = (done_before + fraction) / count
            told = f"frame {number + 1} of {count + 1}: {step}"
            self._progress(told, _HANDED_OVER + (_COMPUTED - _HANDED_OVER) * share)

        folder = self.worker.reserve()
        try:
            parcel = Parcel(folder)
            moving = self._added(parcel, number)
            request = worker_request(
                self.inputs, folder, self._model, self._fixed, moving, backward_labels=self._labels
            )
            yield from parcel.write(lambda step, fraction: report(step, 0.0))
            self._asked = request.id
            done = yield from compute(self.worker, request, report, curve=self.on_curve)
            yield from parcel.delete()
            if self._model == AUTO_MODEL:
                file = done.report["model"]["file"]
                self._model = NO_MODEL if file is None else asked_model(Path(file).stem)
            return (yield from self._read(number, done))
        finally:
            self.worker.release(folder.name)

    def _read(self, number: int, done: Done) -> Steps[_Frame]:
        files, nodes = {name: Path(path) for name, path in done.files.items()}, {}
        if self.outputs.want_warped:
            nodes["warped"] = yield from volume_node(files["warped"], self._reference.grid)
        if self.outputs.want_jacobian:
            nodes["jacobian"] = yield from volume_node(files["jacobian"], self._reference.grid)
        if self.outputs.want_transform:
            chain = read_transform(files["transform"])
            nodes["transform"] = yield from transform_node(chain, "native", self._reference.grid)
        paths = [files[f"backward_label_{layer}"] for layer in range(len(self._layers))]
        images = yield from label_images(paths)
        volumes = yield from self._add_segmentation(nodes, images, self._frames[number].grid)
        return _Frame(nodes, volumes, done.report)

    def _unmoved(self) -> Steps[_Frame]:
        """The reference frame, which is not registered to itself."""
        grid, nodes = self._reference.grid, {}
        ones = np.broadcast_to(np.float32(1), grid.shape)
        for kind, wanted, array in (
            ("warped", self.outputs.want_warped, self._reference.array),
            ("jacobian", self.outputs.want_jacobian, ones),
        ):
            if wanted:
                nodes[kind] = slicer.vtkMRMLScalarVolumeNode()
                image = yield from float_image(array)
                set_image(nodes[kind], image, grid)
        if self.outputs.want_transform:
            nodes["transform"] = yield from transform_node(CompositeTransform(()), "native", grid)
        volumes = yield from self._add_segmentation(nodes, self._drawn, grid)
        return _Frame(nodes, volumes)

    def _add_segmentation(self, nodes: dict[str, Any], images: list[Any], grid: ImageGrid) -> Steps[dict[str, float]]:
        """Adds the segmentation as it lies on a frame; returns the volume in ml of each structure."""
        volumes: dict[str, float] = {}
        for layer, image in zip(self._layers, images, strict=True):
            found = yield from segment_volumes(image_array(image), grid, layer.segments)
            volumes |= {self._titles[segment]: ml for segment, ml in found.items()}
        if self._layers:
            nodes["segmentation"] = segmentation_node(self.inputs.segmentation, self._layers, images, grid)
            yield WORKING
        return volumes

    # -- after -----------------------------------------------------------------------------------

    def _results(self, frames: list[_Frame]) -> Steps[SequenceNodes]:
        outputs = Outputs(self.scene)
        for kind in frames[0].nodes:
            node = sequence_like(self._index)
            for value, frame in zip(self._values, frames, strict=True):
                put_frame(node, frame.nodes[kind], value)
                yield WORKING
            outputs.add(kind, node, getattr(self.outputs, kind), self._title(kind))
        table = frame_table(self._values, [frame.report for frame in frames], [frame.volumes for frame in frames])
        outputs.add("table", table, None, self._title("report"))
        browser = browser_of(self.inputs.sequence)
        if browser is None:
            outputs.add("browser", slicer.vtkMRMLSequenceBrowserNode(), None, f"{self._name} browser")
        return self._shown(outputs.apply(), browser, frames)

    def _title(self, kind: str) -> str:
        if kind == "segmentation":
            drawn: Any = self.inputs.segmentation
            return f"{drawn.GetName()} on {self._name}"
        title = f"{self._name} registered to frame {self.inputs.reference + 1}"
        return {"warped": title, "jacobian": f"{title} Jacobian"}.get(kind, f"{title} {kind}")

    def _shown(self, nodes: dict[str, Any], browser: Any | None, frames: list[_Frame]) -> SequenceNodes:
        sequence, made = self.inputs.sequence, [nodes[kind] for kind in frames[0].nodes]
        if browser is None:
            browser = nodes["browser"]
            if in_scene(self.scene, sequence):
                browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
            play_together(browser, made)
            browser.SetSelectedItemNumber(self.inputs.reference)
        else:
            play_together(browser, made)
        self._show_proxies(browser, nodes)
        return SequenceNodes(
            warped=nodes.get("warped"),
            transform=nodes.get("transform"),
            jacobian=nodes.get("jacobian"),
            segmentation=nodes.get("segmentation"),
            browser=browser,
            table=nodes["table"],
            reports=tuple(frame.report for frame in frames),
            verdict=worst_verdict([frame.report for frame in frames]),
            seconds=time.perf_counter() - self._began,
        )

    def _show_proxies(self, browser: Any, nodes: dict[str, Any]) -> None:
        """The nodes through which the browser shows the results look like what they were made from."""
        shown = {kind: browser.GetProxyNode(nodes[kind]) for kind in nodes if kind not in ("table", "browser")}
        source = browser.GetProxyNode(self.inputs.sequence)
        if "warped" in shown and source is not None:
            look_like(shown["warped"].GetDisplayNode(), source)
        if "jacobian" in shown:
            finish_jacobian(shown["jacobian"])
        if "segmentation" in shown:
            copy_display(shown["segmentation"], self.inputs.segmentation)
