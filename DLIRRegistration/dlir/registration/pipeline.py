"""The one way from a request to its results: read, start, register, carry labels and landmarks, measure, write.

The command line, the demo, the worker and every later command call this. torch comes in once the inputs are read, so
that a wrong name is told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dlir.errors import notes_kept
from dlir.registration.choices import AUTO_MODEL, Initialization
from dlir.registration.progress import Clock, Notify, Offer, Progress, part_of, silent
from dlir.registration.request import RegistrationRequest

if TYPE_CHECKING:
    from dlir.errors import ModelError
    from dlir.io import OutputFolder
    from dlir.model.file import ModelHeader
    from dlir.registration.assessment import Assessment
    from dlir.registration.loading import Loaded
    from dlir.registration.propagation import Propagated
    from dlir.registration.result import RegistrationResult
    from dlir.registration.session import Session
    from dlir.registration.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Finished:
    """What a request gave.

    request: with each layer of a segmentation for itself. report: plain values, ready for JSON: `build_report` and
    `Propagated.report`, "notes", the lines of `dlir.errors.note`, "outputs", the names of the files by what they are,
    and "segments", where moving labels name them. files: their paths.
    """

    request: RegistrationRequest
    loaded: Loaded
    result: RegistrationResult
    propagated: Propagated
    report: dict[str, Any]
    files: dict[str, str]


def run(
    request: RegistrationRequest,
    session: Session | None = None,
    progress: Progress = silent,
    notify: Notify = silent,
    offer: Offer = silent,
) -> Finished:
    """Do what is asked; the files are in their folder when this returns, and none where it raises.

    session: keeps its model for the next request; None makes one for this. progress: gets the step and the fraction
    done. notify: gets what the user should know although it goes on. offer: gets the verdict so far, before the pair
    is registered the other way round. Raises the DLIRErrors of the parts.
    """
    with open_outputs(request) as outputs:
        return run_into(outputs, request, session, progress, notify, offer)


def open_outputs(request: RegistrationRequest) -> OutputFolder:
    """The folder for the files of a request, to be entered; none may replace an input. Raises ModelError."""
    from dlir.io import OutputFolder
    from dlir.model.catalogue import resolve_model

    models = [] if request.model == AUTO_MODEL else [str(resolve_model(request.model))]
    return OutputFolder(request.outputs.folder, [*request.input_files(), *models])


def run_into(
    outputs: OutputFolder,
    request: RegistrationRequest,
    session: Session | None = None,
    progress: Progress = silent,
    notify: Notify = silent,
    offer: Offer = silent,
) -> Finished:
    """As `run`, into a folder that the caller has opened and may add to before it closes."""
    with notes_kept() as notes:
        return _run_into(outputs, request, session, progress, notify, offer, notes)


def _run_into(
    outputs: OutputFolder,
    request: RegistrationRequest,
    session: Session | None,
    progress: Progress,
    notify: Notify,
    offer: Offer,
    notes: Sequence[str],
) -> Finished:
    from dlir.io import write_json
    from dlir.io.source import without_folders
    from dlir.model.file import name_of
    from dlir.registration.former import take_over
    from dlir.registration.layers import by_layers
    from dlir.registration.loading import load
    from dlir.registration.outputs import output_names, write_outputs

    clock = Clock()
    request, segments = by_layers(request)
    names = output_names(request)
    asked = _asked(request)  # what is damaged, or cannot be written, is refused before there is work
    for name in names.values():
        outputs.file(name)
    former = take_over(outputs, names.values(), overwrite=request.outputs.overwrite) if "report" in names else None
    with clock.step("read"):
        progress("reading", 0.0)
        loaded = load(request)
    with clock.step("choose"):
        model = asked or _chosen(loaded, progress)
        loaded = replace(loaded, expected=expected_start(model.header))
    if former and not request.outputs.overwrite:
        former.require_same(loaded.fixed, loaded.moving, name_of(model.header))
    progress("loading model", 0.05)
    with clock.step("load"):
        from dlir.registration.propagation import propagate
        from dlir.registration.report import build_report
        from dlir.registration.session import Session

        session = session or Session()
        header = session.load(model.header.path)
    outcome = session.register(loaded, header.path, request.device, part_of(progress, 0.1, 0.7), notify)
    with clock.step("labels"):
        if loaded.moving_labels or loaded.backward_labels or loaded.moving_landmarks:
            progress("labels", 0.7)
        propagated = propagate(loaded, outcome.value, request.comparisons)
    with clock.step("figures"):
        progress("figures", 0.8)
        full = request.outputs.full_paths
        report = build_report(loaded, outcome.value, header, outcome.device, full) | propagated.report
        if model.distances:
            report["model"]["distances"] = model.distances
    with clock.step("verdict"):
        progress("judging", 0.85)
        verdict = _verdict(session, outcome.value, header, report, request.device, offer)
        if model.doubt is not None and verdict.beyond("networks_distance"):
            raise model.doubt
        report["verdict"] = verdict.to_dict()
    with clock.step("write"):
        write_outputs(outputs, request, loaded, outcome.value, propagated, part_of(progress, 0.9, 1.0))
    report["notes"] = [text if full else without_folders(text) for text in notes]
    report["outputs"] = names
    if segments:
        report["segments"] = [asdict(segment) for segment in segments]
    report["seconds"] |= {step: round(seconds, 4) for step, seconds in clock.seconds.items()}
    if "report" in names:
        write_json(outputs.file(names["report"]), report)
    files = {key: str(outputs.path / name) for key, name in names.items()}
    return Finished(request, loaded, outcome.value, propagated, report, files)


@dataclass(frozen=True)
class _Model:
    """A model, not loaded yet. distances, doubt: where it was chosen, see `Choice`."""

    header: ModelHeader
    distances: dict[str, float | None] | None = None
    doubt: ModelError | None = None


def _asked(request: RegistrationRequest) -> _Model | None:
    """The model that is asked for; None where it is to be chosen. Raises ModelError for one that is damaged."""
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    return None if request.model == AUTO_MODEL else _Model(read_header(resolve_model(request.model)))


def _chosen(loaded: Loaded, progress: Progress) -> _Model:
    """The model that was made for such images. Raises ModelError where there is none."""
    from dlir.registration.model_choice import choose_model

    progress("choosing model", 0.04)
    choice = choose_model(loaded.fixed, loaded.moving)
    return _Model(choice.model, choice.distances, choice.doubt)


def _verdict(
    session: Session,
    result: RegistrationResult,
    model: ModelHeader,
    report: dict[str, Any],
    device: str,
    offer: Offer,
) -> Verdict:
    """Of a result and its report; what is known before the way back is offered."""
    from dlir.registration.verdict import verdict_on

    def tell(known: Assessment) -> None:
        offer(verdict_on(report, model, known))

    return verdict_on(report, model, session.assess(result, model.path, device, tell))


def expected_start(model: ModelHeader) -> str:
    """Where its pairs started from in training, but for what a scanner's positions could tell."""
    expected = Initialization.centers if model.between_persons else Initialization.scanner
    return str(expected.value)
