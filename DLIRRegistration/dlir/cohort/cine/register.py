"""A cine, or any 4D image, registered to one of its phases: warped images, labels over the cycle, what they say.

Every phase is registered as the moving image, with the reference fixed, by the pipeline of a pair. Labels travel by the
same maps: from the phase they were drawn on to the reference, and from there back to each phase. End-diastole as the
fixed image is what this is most accurate with, see docs/cine.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlir.cohort.cine.label import read_drawn, volumes_ml
from dlir.cohort.cine.outputs import PhaseFiles, output_names, phase_files
from dlir.cohort.cine.request import CineRequest
from dlir.cohort.cine.volumes import Ejection, ejection_table, ejections, heart_phases, volumes_table
from dlir.errors import DLIRError, OptionError, note, notes_kept
from dlir.io import OutputFolder, write_json, write_text
from dlir.io.reading import Volume
from dlir.io.sequences import ImageSequence, read_sequence
from dlir.io.source import reported_name, without_folders
from dlir.registration.choices import AUTO_MODEL, NO_MODEL, half_a_cycle_away
from dlir.registration.judging.verdict import Verdict, worst_of
from dlir.registration.pipeline import Finished, run
from dlir.registration.progress import Clock, Notify, Progress, part_of, silent
from dlir.registration.request import RegistrationRequest
from dlir.registration.results.former import content_of, take_over

if TYPE_CHECKING:
    from dlir.cohort.cine.cycle import Cycle
    from dlir.registration.session import Session
    from dlir.transforms.spatial import CompositeTransform

REPORT_VERSION = 1

# Of the report of a pair, what is each phase's own.
_OWN = ("verdict", "similarity", "jacobian", "initialization", "refinement", "inverse", "seconds")
_SHARED = ("device", "threads", "peak_memory_mb", "versions")
# Parts of the whole after which the phases begin and end.
_READ, _REGISTERED = 0.02, 0.97


@dataclass(frozen=True, eq=False)
class FinishedCine:
    """report: plain values, ready for JSON. files: paths by what they are. volumes: of each structure, in ml, by name,
    phase by phase; none without a label. transforms: reference point -> point of the phase, LPS mm.
    """

    report: dict[str, Any]
    files: dict[str, str]
    volumes: list[dict[str, float]]
    transforms: list[CompositeTransform]


def register_cine(
    request: CineRequest, session: Session | None = None, progress: Progress = silent, notify: Notify = silent
) -> FinishedCine:
    """Do what is asked; the files are in their folder when this returns, and none where it raises.

    session: keeps its model for the next request. progress: gets the phase and step, and the fraction done. notify:
    gets what the user should know although it goes on.
    Raises the DLIRErrors of reading, registration and writing; one of a registration says of which phase.
    """
    inputs = [source for source in (request.cine, request.label) if isinstance(source, str)]
    models = [] if request.model in (AUTO_MODEL, NO_MODEL) else [_model_file(request.model)]
    with OutputFolder(request.folder, [*inputs, *models]) as outputs, notes_kept() as notes:
        return _Run(request, outputs, notes, session, progress, notify).done()


def _model_file(name: str) -> str:
    from dlir.model.catalogue import resolve_model

    return str(resolve_model(name))


@dataclass(frozen=True, eq=False)
class _Phase:
    """transform: reference point -> point of the phase. report: of the pair; None for the reference itself. volumes: of
    each structure, in ml.
    """

    transform: CompositeTransform
    report: dict[str, Any] | None
    volumes: dict[str, float]


class _Run:
    """One cine under way. Its phases are registered in their order, so that files grow with them, but for one that
    comes first: that on which the label was drawn, or, where there is a model to be chosen, that half a cycle away.
    """

    def __init__(
        self,
        request: CineRequest,
        outputs: OutputFolder,
        notes: Sequence[str],
        session: Session | None,
        progress: Progress,
        notify: Notify,
    ) -> None:
        self.request, self.outputs, self.notes, self.clock = request, outputs, notes, Clock()
        progress("reading", 0.0)
        with self.clock.step("read"):
            self.sequence = _sequence(request.cine)
            self._reference = _reference(request, self.sequence)
            self.label = read_drawn(request, self.sequence)
        self.names = output_names(self.sequence, self.label, request.format)
        for name in self.names.values():
            outputs.file(name)
        former = take_over(outputs, self.names.values(), overwrite=request.overwrite)
        self._former = None if request.overwrite else former
        self.content = _content(self.sequence)
        self._require_same(None if request.model == AUTO_MODEL else _name(request.model))
        self._session, self._notify = session or _new_session(), notify
        self._model, self._model_report = request.model, dict[str, Any]()  # as that of the first phase has it
        self._told, self._done = part_of(progress, _READ, _REGISTERED), 0
        passes = 1 + request.looks_for_reference + (request.cycle is not False)  # at most; then the bar jumps
        self._planned = passes * (len(self.sequence) - 1)

    def done(self) -> FinishedCine:
        phases, reference = self._registered()
        cycle = self._cycle(reference, [phase.transform for phase in phases])
        found = self._volumes([phase.volumes for phase in phases])
        report = self._report(reference, phases, found, cycle)
        write_json(self.outputs.file(self.names["report"]), report)
        files = {key: str(self.outputs.path / name) for key, name in self.names.items()}
        volumes = [] if self.label is None else [phase.volumes for phase in phases]
        return FinishedCine(report, files, volumes, [phase.transform for phase in phases])

    def _require_same(self, model: str | None) -> None:
        if self._former is not None:
            self._former.require_same_cine(self.content, self.sequence.grid, model)

    # -- phases ----------------------------------------------------------------------------------

    def _registered(self) -> tuple[list[_Phase], int]:
        """All phases, and the number of the reference. One that is looked for is found with the label's phase in its
        place, and taken over where it is that.
        """
        if self._reference is not None:
            return self._to(self._reference), self._reference
        assert self.label is not None  # the request says so
        phases = self._to(self.label.phase)
        found, _ = heart_phases([phase.volumes for phase in phases])
        if found == self.label.phase:
            return phases, found
        note(f"the label was drawn on phase {self.label.phase}; end-diastole, the reference, is phase {found}")
        return self._to(found), found

    def _to(self, reference: int) -> list[_Phase]:
        """Every phase registered to this one, and into the files."""
        fixed, drawn = self.sequence.volume(reference), self.label
        layers = () if drawn is None else drawn.layers
        ahead: dict[int, Finished] = {}  # whose images wait for their turn
        if drawn is not None and drawn.phase != reference:
            if self._model == AUTO_MODEL and self._far(reference) != drawn.phase:
                self._planned += 1
                self._pair(reference, self._far(reference))
            ahead[drawn.phase] = done = self._pair(reference, drawn.phase, moving_labels=layers)
            layers = tuple(
                replace(layer, array=array) for layer, array in zip(layers, done.propagated.after, strict=True)
            )
        elif self._model == AUTO_MODEL:
            ahead[self._far(reference)] = self._pair(reference, self._far(reference), backward_labels=layers)
        phases = []
        with phase_files(self.outputs, self.names, self.sequence, drawn) as files:
            for number in range(len(self.sequence)):
                if number == reference:
                    phases.append(self._unmoved(files, number, fixed, layers))
                    continue
                first = number in ahead
                done = ahead.pop(number) if first else self._pair(reference, number, backward_labels=layers)
                labels = done.propagated.backward
                if drawn is not None and number == drawn.phase:
                    labels = [layer.array for layer in drawn.layers]
                phases.append(self._kept(files, number, done, labels))
        return phases

    def _far(self, reference: int) -> int:
        """For which a model that is to be chosen is so."""
        return half_a_cycle_away(reference, len(self.sequence))

    def _pair(
        self,
        fixed: int,
        moving: int,
        moving_labels: tuple[Volume, ...] = (),
        backward_labels: tuple[Volume, ...] = (),
    ) -> Finished:
        """One phase registered to another, in memory. Raises the pipeline's errors, which say of which phases."""
        asked, count = self.request, len(self.sequence)
        share = 1 / max(self._planned, self._done + 1)
        begun = self._done * share

        def told(step: str, fraction: float) -> None:
            self._told(f"phase {moving} of {count}: {step}", begun + share * fraction)

        try:
            request = RegistrationRequest(
                self.sequence.volume(fixed),
                self.sequence.volume(moving),
                None,
                model=self._model,
                device=asked.device,
                refine=asked.refine,
                kind=asked.kind,
                initialize=asked.initialize,
                moving_labels=moving_labels,
                backward_labels=backward_labels,
            )
            finished = run(request, self._session, told, self._notify)
        except DLIRError as error:
            raise type(error)(f"phase {moving}, registered to phase {fixed}: {error}") from error
        self._done += 1
        if not self._model_report:
            self._model_report = finished.report["model"]
            self._require_same(self._model_report["name"])
            if self._model == AUTO_MODEL:
                file = self._model_report["file"]
                self._model = NO_MODEL if file is None else os.path.splitext(file)[0]
        return finished

    def _kept(self, files: PhaseFiles, number: int, done: Finished, labels: Sequence[NDArray[Any]]) -> _Phase:
        result = done.result
        files.add(number, result.warped, result.jacobian, result.transform, labels)
        return _Phase(result.transform, done.report, self._measured(labels))

    def _unmoved(self, files: PhaseFiles, number: int, fixed: Volume, layers: Sequence[Volume]) -> _Phase:
        """The reference, which is not registered to itself."""
        from dlir.transforms.spatial import AffineTransform, CompositeTransform

        identity, labels = CompositeTransform((AffineTransform(np.eye(4)),)), [layer.array for layer in layers]
        files.add(number, fixed.array, np.ones(fixed.grid.shape, np.float32), identity, labels)
        return _Phase(identity, None, self._measured(labels))

    def _measured(self, labels: Sequence[NDArray[Any]]) -> dict[str, float]:
        return {} if self.label is None else volumes_ml(labels, self.sequence.grid, self.label.structures)

    # -- figures ---------------------------------------------------------------------------------

    def _cycle(self, reference: int, direct: Sequence[CompositeTransform]) -> Cycle | None:
        """None where it is not asked for, or would take long."""
        from dlir.cohort.cine.cycle import follow, followed_points

        count = len(self.sequence)
        if not self.request.measures_cycle(self._model_report["name"]):
            return None
        self._planned = self._done + count - 1
        links = [
            direct[(number + 1) % count]
            if number == reference
            else self._pair(number, (number + 1) % count).result.transform
            for number in range(count)
        ]
        where, points = followed_points(self.sequence.volume(reference), self._on_reference(reference, direct))
        return follow(where, points, links, direct, reference)

    def _on_reference(self, reference: int, direct: Sequence[CompositeTransform]) -> list[NDArray[Any]]:
        """The label there."""
        from dlir.transforms.resample import resample

        if self.label is None:
            return []
        grid, way = self.sequence.grid, direct[self.label.phase]
        return [resample(layer.array, grid, way, grid, "nearest") for layer in self.label.layers]

    def _volumes(self, volumes: list[dict[str, float]]) -> list[Ejection]:
        """The files about them, where there is a label."""
        if self.label is None:
            return []
        found, seconds = ejections(volumes), self.sequence.seconds
        write_text(self.outputs.file(self.names["volumes"]), volumes_table(volumes, seconds))
        write_text(self.outputs.file(self.names["ejection"]), ejection_table(found))
        try:
            from dlir.cohort.cine.figure import draw_volumes

            draw_volumes(self.outputs.file(self.names["figure"]), volumes, found, seconds)
        except ImportError:
            note(f"{self.names.pop('figure')} is left out, because matplotlib is not installed")
        return found

    def _report(
        self, reference: int, phases: Sequence[_Phase], found: Sequence[Ejection], cycle: Cycle | None
    ) -> dict[str, Any]:
        sequence, label, full = self.sequence, self.label, self.request.full_paths
        reports = {number: phase.report for number, phase in enumerate(phases) if phase.report is not None}
        last = list(reports.values())[-1]
        return {
            "report_version": REPORT_VERSION,
            "cine": {
                "file": reported_name(sequence.source, full=full),
                "content": self.content,
                "phases": len(sequence),
                "seconds": None if sequence.seconds is None else list(sequence.seconds),
                **sequence.grid.to_dict(),
            },
            "reference": reference,
            "label": label
            and {
                "file": reported_name(label.layers[0].source, full=full),
                "phase": label.phase,
                "structures": [{"name": one.name, "layer": one.layer, "value": one.value} for one in label.structures],
            },
            "model": self._model_report,
            **{key: last[key] for key in _SHARED},
            "phases": [self._entry(number, phase) for number, phase in enumerate(phases)],
            "ejection": [one.to_dict() for one in found],
            "cycle": None if cycle is None else cycle.to_dict(),
            "verdict": worst_of({k: Verdict.from_report(own) for k, own in reports.items()}, "phase").to_dict(),
            "seconds": self.clock.rounded(),
            "notes": [text if full else without_folders(text) for text in self.notes],
            "outputs": self.names,
        }

    def _entry(self, number: int, phase: _Phase) -> dict[str, Any]:
        """Of a phase; of the reference its volumes alone."""
        seconds, report = self.sequence.seconds, phase.report or {}
        return {
            "phase": number,
            "time_s": None if seconds is None else seconds[number],
            "volumes_ml": {name: round(ml, 4) for name, ml in phase.volumes.items()},
            **{key: report[key] for key in _OWN if key in report},
        }


# -- small things -------------------------------------------------------------------------------------


def _sequence(cine: str | ImageSequence) -> ImageSequence:
    return cine if isinstance(cine, ImageSequence) else read_sequence(cine, "cine")


def _reference(request: CineRequest, sequence: ImageSequence) -> int | None:
    """Its number; None where it is looked for. Raises OptionError."""
    if isinstance(request.reference, str):
        return None
    if not 0 <= request.reference < len(sequence):
        raise OptionError(
            f"--reference is {request.reference}, and '{sequence.source}' has phases 0 to {len(sequence) - 1}"
        )
    return request.reference


def _content(sequence: ImageSequence) -> str:
    """Tells a cine from others, as `content_of` does an image."""
    digests = (content_of(sequence.volume(number)) for number in range(len(sequence)))
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def _name(model: str) -> str:
    if model == NO_MODEL:
        return NO_MODEL
    from dlir.model.file import name_of, read_header

    return name_of(read_header(Path(_model_file(model))))


def _new_session() -> Session:
    from dlir.registration.session import Session

    return Session()
