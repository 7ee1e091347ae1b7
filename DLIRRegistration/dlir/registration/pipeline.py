"""The one way from a request to its results: read, start, register, carry labels and landmarks, measure, write.

Python, the command line, the demo, the worker and every later command call this. torch comes in once the inputs are
read, so that a wrong name is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from dlir.errors import notes_kept
from dlir.registration.choices import AUTO_MODEL, NO_MODEL, Initialization, Kind, budget_of
from dlir.registration.progress import Clock, Curve, Notify, Offer, Progress, part_of, silent
from dlir.registration.request import Outputs, RegistrationRequest

if TYPE_CHECKING:
    from dlir.errors import ModelError
    from dlir.io import OutputFolder
    from dlir.io.formats.segments import Segment
    from dlir.model.file import ModelHeader
    from dlir.registration.judging.assessment import Assessment
    from dlir.registration.judging.verdict import Verdict
    from dlir.registration.loading import Loaded
    from dlir.registration.results.former import Former
    from dlir.registration.results.propagation import Propagated
    from dlir.registration.results.result import RegistrationResult
    from dlir.registration.session import Session

SessionSource: TypeAlias = "Session | Callable[[], Session] | None"


@dataclass(frozen=True, eq=False)
class Finished:
    """What a request gave.

    request: with each layer of a segmentation for itself. report: plain values, ready for JSON: `build_report` and
    `Propagated.report`, "notes", the lines of `dlir.errors.note`, "outputs", the names of the files by what they are,
    and "segments", where moving labels name them. files: their paths; none where the request has no outputs.
    """

    request: RegistrationRequest
    loaded: Loaded
    result: RegistrationResult
    propagated: Propagated
    report: dict[str, Any]
    files: dict[str, str]


def run(
    request: RegistrationRequest,
    session: SessionSource = None,
    progress: Progress = silent,
    notify: Notify = silent,
    offer: Offer = silent,
    stop: Callable[[], bool] = lambda: False,
    curve: Curve = silent,
) -> Finished:
    """Do what is asked; the files are in their folder when this returns, and none where it raises. Without outputs the
    results are in memory alone, until `save` writes them.

    session: keeps its model for the next request, or gives such a session when one is needed; None makes one.
    progress: gets the step and the fraction done. notify: gets what the user should know although it goes on. offer:
    gets the verdict so far, before the pair is registered the other way round. stop: asked while the pair is optimised
    whether to go on with the best so far. curve: gets the objective meanwhile, each time before the progress.
    Raises the DLIRErrors of the parts.
    """
    with opened(request) as outputs:
        return run_into(outputs, request, session, progress, notify, offer, stop, curve)


def save(finished: Finished, outputs: Outputs, progress: Progress = silent) -> Finished:
    """Write the files of a request that had no outputs, as if it had had these; what was finished, with them.

    The report names images as it did. progress: gets the step and the fraction done. Raises OutputError.
    """
    request = replace(finished.request, outputs=outputs)
    with open_outputs(request) as folder:
        target = _Target.of(folder, request)
        target.require_same(finished.loaded, finished.report["model"]["name"])
        return target.written(replace(finished, request=request), Clock(), progress)


def model_for(request: RegistrationRequest) -> dict[str, Any]:
    """Which model `run` would take for a request that leaves it open, found as it does; nothing is registered.

    name: of the model, or "none". distances: as of `Choice`. doubtful: whether the networks have the last word. Raises
    ModelError where there is none but must be, and the errors of reading.
    """
    from dlir.registration.loading import load

    with notes_kept():  # the registration itself tells them
        route = _chosen(request, load(request), silent)
    return {"name": route.name, "distances": route.distances, "doubtful": route.doubt is not None}


def opened(request: RegistrationRequest) -> AbstractContextManager[OutputFolder | None]:
    """The folder for the files of a request, to be entered; None where it has no outputs. Raises as `open_outputs`."""
    return nullcontext() if request.outputs is None else open_outputs(request)


def open_outputs(request: RegistrationRequest) -> OutputFolder:
    """The folder for the files of a request that has outputs, to be entered; none may replace an input.

    Raises ModelError.
    """
    from dlir.io import OutputFolder
    from dlir.model.catalogue import resolve_model
    from dlir.registration.results.outputs import outputs_of

    models = [] if request.model in (AUTO_MODEL, NO_MODEL) else [str(resolve_model(request.model))]
    return OutputFolder(outputs_of(request).folder, [*request.input_files(), *models])


def run_into(
    outputs: OutputFolder | None,
    request: RegistrationRequest,
    session: SessionSource = None,
    progress: Progress = silent,
    notify: Notify = silent,
    offer: Offer = silent,
    stop: Callable[[], bool] = lambda: False,
    curve: Curve = silent,
) -> Finished:
    """As `run`, into a folder that the caller has opened and may add to before it closes; None for no files."""
    parts = in_parts(outputs, request, session, progress, notify, offer, stop, curve)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            finished: Finished = end.value
            return finished


def in_parts(
    outputs: OutputFolder | None,
    request: RegistrationRequest,
    session: SessionSource = None,
    progress: Progress = silent,
    notify: Notify = silent,
    offer: Offer = silent,
    stop: Callable[[], bool] = lambda: False,
    curve: Curve = silent,
) -> Generator[None, None, Finished]:
    """As `run_into`, in three parts: it pauses when all is read, and when all is computed. Each part may be done in
    another thread, so that the files of one pair are read and written while another is computed.
    """
    from dlir.registration.loading import load
    from dlir.registration.results.layers import by_layers

    clock = Clock()
    with notes_kept() as told_first:
        request, segments = by_layers(request)
        asked = _asked(request)  # what is damaged, or cannot be written, is refused before there is work
        target = None if outputs is None else _Target.of(outputs, request)
        with clock.step("read"):
            progress("reading", 0.0)
            loaded = load(request)
    yield
    with notes_kept() as told_then:
        with clock.step("choose"):
            route = asked or _chosen(request, loaded, progress)
        if target is not None:
            # In doubt the pair may end up without the model, as it did when the same was asked for before.
            target.require_same(loaded, route.name, *([NO_MODEL] if route.doubt else []))
        job = _Job(
            request,
            session() if callable(session) else session or _new_session(),
            clock,
            progress,
            notify,
            offer,
            stop,
            curve,
        )
        done = job.by(route, loaded)
        if route.doubt is not None and done.verdict.beyond("networks_distance"):
            if not _optimises(request):
                raise route.doubt
            route = route.without_model()
            done = job.by(route, loaded)
        if request.error_map:
            done = job.with_error_map(route, done, segments)
    finished = _finished(request, done, clock, list(dict.fromkeys([*told_first, *told_then])), segments)
    yield
    return finished if target is None else target.written(finished, clock, part_of(progress, 0.9, 1.0))


def _finished(
    request: RegistrationRequest, done: _Done, clock: Clock, notes: Sequence[str], segments: Sequence[Segment]
) -> Finished:
    """With the whole report, as it is before files are written."""
    from dlir.io.source import without_folders

    report = done.report
    report["notes"] = [text if request.full_paths else without_folders(text) for text in notes]
    report["outputs"] = {}
    if segments:
        report["segments"] = [asdict(segment) for segment in segments]
    report["seconds"] |= clock.rounded()
    return Finished(request, done.loaded, done.result, done.propagated, report, {})


@dataclass(frozen=True, eq=False)
class _Target:
    """Where the files of a request go. names: of the files, by what they are. former: of an earlier registration."""

    outputs: OutputFolder
    asked: Outputs
    names: dict[str, str]
    former: Former | None

    @classmethod
    def of(cls, outputs: OutputFolder, request: RegistrationRequest) -> _Target:
        """Raises OutputError where a file would replace what it may not."""
        from dlir.registration.results.former import take_over
        from dlir.registration.results.outputs import output_names, outputs_of

        asked, names = outputs_of(request), output_names(request)
        for name in names.values():
            outputs.file(name)
        former = None
        if "report" in names:
            former = take_over(outputs, names.values(), overwrite=asked.overwrite, prefix=asked.prefix)
        return cls(outputs, asked, names, former)

    def require_same(self, loaded: Loaded, *models: str) -> None:
        """Raises OutputError for the results of another pair, or of other models, unless they may be replaced."""
        if self.former and not self.asked.overwrite:
            self.former.require_same(loaded.fixed, loaded.moving, *models)

    def written(self, finished: Finished, clock: Clock, progress: Progress) -> Finished:
        """With all files, the report last, and their names in it."""
        from dlir.io import write_json
        from dlir.registration.results.outputs import write_outputs, write_page

        with clock.step("write"):
            write_outputs(
                self.outputs, finished.request, finished.loaded, finished.result, finished.propagated, progress
            )
        seconds = finished.report["seconds"] | clock.rounded()
        report = finished.report | {"outputs": self.names, "seconds": seconds}
        if "page" in self.names:
            write_page(self.outputs.file(self.names["page"]), report, finished.loaded, finished.result)
        if "report" in self.names:
            write_json(self.outputs.file(self.names["report"]), report)
        files = {key: str(self.outputs.path / name) for key, name in self.names.items()}
        return replace(finished, report=report, files=files)


@dataclass(frozen=True)
class _Route:
    """How a pair is registered. header: of the model, not loaded yet; None where the pair is optimised without one.

    reason: in words, where it was not asked for. distances, doubt: where a model was looked for, see `Choice`.
    """

    header: ModelHeader | None
    reason: str = ""
    distances: dict[str, float | None] | None = None
    doubt: ModelError | None = None

    @property
    def name(self) -> str:
        from dlir.model.file import name_of

        return NO_MODEL if self.header is None else name_of(self.header)

    def without_model(self) -> _Route:
        return _Route(None, "no installed model was made for such images", self.distances)


@dataclass(frozen=True, eq=False)
class _Done:
    """loaded: with the start that the route expects."""

    loaded: Loaded
    result: RegistrationResult
    propagated: Propagated
    report: dict[str, Any]
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class _Job:
    """A request under way: all between the choice of a route and what is written."""

    request: RegistrationRequest
    session: Session
    clock: Clock
    progress: Progress
    notify: Notify
    offer: Offer
    stop: Callable[[], bool]
    curve: Curve

    def by(self, route: _Route, loaded: Loaded) -> _Done:
        from dlir.registration.optimising import Refinement
        from dlir.registration.results.propagation import propagate
        from dlir.registration.results.report import build_report

        request, header = self.request, route.header
        loaded = replace(loaded, expected=expected_start(header))
        refinement = Refinement.of(request, model=header is not None, stop=self.stop, curve=self.curve)
        path = None
        if header is not None:
            self.progress("loading model", 0.05)
            with self.clock.step("load"):
                path = self.session.load(header.path).path
        told = part_of(self.progress, 0.1, 0.7)
        outcome = self.session.register(loaded, path, request.device, told, self.notify, refinement)
        with self.clock.step("labels"):
            if loaded.moving_labels or loaded.backward_labels or loaded.moving_landmarks:
                self.progress("labels", 0.7)
            propagated = propagate(loaded, outcome.value, request.comparisons)
        with self.clock.step("figures"):
            self.progress("figures", 0.8)
            report = build_report(loaded, outcome.value, header, outcome.device, request.full_paths)
            report |= propagated.report
            if route.distances:
                report["model"]["distances"] = route.distances
            if route.reason:
                report["model"]["reason"] = route.reason
        with self.clock.step("verdict"):
            self.progress("judging", 0.85)
            verdict = _verdict(self.session, outcome.value, header, report, request.device, self.offer, self.clock)
            report["verdict"] = verdict.to_dict()
        return _Done(loaded, outcome.value, propagated, report, verdict)

    def with_error_map(self, route: _Route, done: _Done, segments: Sequence[Segment]) -> _Done:
        from dlir.registration.judging.error_map import describe_error, structure_errors

        path = None if route.header is None else route.header.path
        with self.clock.step("error map"):
            self.progress("error map", 0.87)
            signs = self.session.error_signs(done.loaded, done.result, path, self.request.device)
            errors = signs.map_on(done.loaded.fixed.grid)
            names = {(own.layer, own.value): own.name for own in self.request.comparisons or ()}
            names |= {(own.layer, own.value): own.name for own in segments}
            structures = structure_errors(errors, done.propagated.after, names)
        told = {**describe_error(signs), "structures": structures}
        return replace(done, result=replace(done.result, error_map=errors), report={**done.report, "error_map": told})


def _new_session() -> Session:
    from dlir.registration.session import Session

    return Session()


def _asked(request: RegistrationRequest) -> _Route | None:
    """The route that is asked for; None where a model is to be chosen. Raises ModelError for one that is damaged."""
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    if request.model == NO_MODEL:
        return _Route(None)
    if request.kind != Kind.deformable.value:
        return _Route(None, f"what is {request.kind} is found without a model")
    return None if request.model == AUTO_MODEL else _Route(read_header(resolve_model(request.model)))


def _optimises(request: RegistrationRequest) -> bool:
    """Whether the pair may be optimised where no model was made for it."""
    return request.refine is None or budget_of(request.refine) is not None


def _chosen(request: RegistrationRequest, loaded: Loaded, progress: Progress) -> _Route:
    """By the model that was made for such images, or by none. Raises ModelError where there is none but must be."""
    from dlir.registration.model_choice import choose_model

    progress("choosing model", 0.04)
    choice = choose_model(loaded.fixed, loaded.moving)
    if choice.model is not None:
        return _Route(choice.model, "", choice.distances, choice.doubt)
    assert choice.doubt is not None
    if not _optimises(request):
        raise choice.doubt
    return _Route(None, distances=choice.distances).without_model()


def _verdict(
    session: Session,
    result: RegistrationResult,
    model: ModelHeader | None,
    report: dict[str, Any],
    device: str,
    offer: Offer,
    clock: Clock,
) -> Verdict:
    """Of a result and its report; what is known before the way back is offered."""
    from dlir.registration.judging.verdict import verdict_on

    def tell(known: Assessment) -> None:
        offer(verdict_on(report, model, known))

    path = None if model is None else model.path
    return verdict_on(report, model, session.assess(result, path, device, tell, clock))


def expected_start(model: ModelHeader | None) -> str:
    """Where its pairs started from in training, but for what a scanner's positions could tell; without a model, there
    where the scanner placed them.
    """
    if model is not None and model.between_persons:
        return Initialization.centers.value
    return Initialization.scanner.value
