"""`dlir.register_many`: pair after pair, while the files of others are read and written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from dlir.api.inputs import request_of
from dlir.api.registering import prepare_threads, warm_session
from dlir.api.result import Result
from dlir.errors import DLIRError, EvaluationError, OptionError, nearest, note, shown

if TYPE_CHECKING:
    from dlir.data.pair import Pair
    from dlir.registration.progress import Notify

# (fixed, moving); the arguments of `register`, by name; or what a manifest lists.
PairLike: TypeAlias = "tuple[Any, Any] | Mapping[str, Any] | Pair"

_OF_A_PAIR = tuple(signature(request_of).parameters)
_OF_ALL = ("threads", "notify")


@overload
def register_many(
    pairs: str | os.PathLike[str] | Iterable[PairLike],
    *,
    on_error: Literal["raise"] = "raise",
    threads: int | None = None,
    notify: Notify = note,
    **options: Any,
) -> Iterator[Result]: ...


@overload
def register_many(
    pairs: str | os.PathLike[str] | Iterable[PairLike],
    *,
    on_error: Literal["return"],
    threads: int | None = None,
    notify: Notify = note,
    **options: Any,
) -> Iterator[Result | DLIRError]: ...


def register_many(
    pairs: str | os.PathLike[str] | Iterable[PairLike],
    *,
    on_error: Literal["raise", "return"] = "raise",
    threads: int | None = None,
    notify: Notify = note,
    **options: Any,
) -> Iterator[Result | DLIRError]:
    """Register pair after pair: an iterator over their results, in the order of the pairs.

    >>> import dlir
    >>> pair = dlir.sample_pair()
    >>> for result in dlir.register_many([(pair["fixed"], pair["moving"])], model="cardiac-cine"):
    ...     print(result.verdict.level)
    good

    pairs: (fixed, moving), or mappings of the arguments of `register`, an `output` among them, or the name of a
    manifest (CSV, TSV, JSON), or its `Pair`s. options: of `register`, for all pairs that do not say otherwise.
    on_error: where a pair cannot be registered, "raise" raises its error when its turn comes, which ends the iteration;
    "return" gives the error in the place of a result, and goes on. Errors that are no `dlir.DLIRError` are raised.
    threads, notify: see `register`.

    The model stays in memory. One pair is read while another is computed, and its files are written meanwhile: no more
    than three pairs are in memory, those that the caller keeps aside. Files are complete when their result is given.
    What other threads print to stderr while a file is read may be lost: ITK's libraries are kept quiet there.
    """
    if on_error not in ("raise", "return"):
        raise OptionError(f"on_error is '{on_error}'; use raise or return")
    if "output" in options:
        raise OptionError("all pairs would be written into one folder; give each pair an output of its own")
    _known(options)
    entries: Iterable[PairLike] = _listed(pairs) if isinstance(pairs, (str, os.PathLike)) else pairs
    prepare_threads(threads)
    return _results(iter(entries), options, notify, DLIRError if on_error == "return" else ())


def _listed(manifest: str | os.PathLike[str]) -> list[Pair]:
    """Raises ManifestError and EvaluationError."""
    from dlir.data.manifest import Manifest

    return Manifest(Path(manifest)).pairs()


class _Job:
    """One pair on its way: read and written by the thread for files, computed by the caller's. An error in one part is
    kept until the pair's turn comes.
    """

    def __init__(self, entry: PairLike, options: Mapping[str, Any], notify: Notify, files: ThreadPoolExecutor) -> None:
        self.writes = isinstance(entry, Mapping) and entry.get("output") is not None
        self._files, self._parts = files, _in_parts(entry, options, notify)
        self._last = self._in_background()

    def compute(self) -> None:
        """Here, once it is read; then its files are begun."""
        if self._last.exception() is None:
            self._last = self._done()
            if self.writes and self._last.exception() is None:
                self._last = self._in_background()

    def result(self, returned: type[DLIRError] | tuple[()]) -> Result | DLIRError:
        """Or an error of the kinds that are `returned`; others are raised."""
        try:
            found = self._last.result() or self._step()
        except returned as error:
            return error
        assert found is not None  # the last part
        return found

    def close(self) -> None:
        """Leave it; what is not written by now never will be."""
        self._parts.close()

    def _in_background(self) -> Future[Result | None]:
        return self._files.submit(copy_context().run, self._step)

    def _done(self) -> Future[Result | None]:
        done: Future[Result | None] = Future()
        try:
            done.set_result(self._step())
        except Exception as error:  # as a thread would keep it
            done.set_exception(error)
        return done

    def _step(self) -> Result | None:
        """The next part; the result after the last one."""
        try:
            next(self._parts)
        except StopIteration as end:
            result: Result = end.value
            return result
        return None


def _results(
    entries: Iterator[PairLike],
    options: Mapping[str, Any],
    notify: Notify,
    returned: type[DLIRError] | tuple[()],
) -> Generator[Result | DLIRError, None, None]:
    """returned: see `_Job.result`."""
    with ThreadPoolExecutor(1, "dlir-files") as files:
        jobs: deque[_Job] = deque()  # which this holds, in order: being written, computed, read

        def begin() -> None:
            jobs.extend(_Job(entry, options, notify, files) for entry in islice(entries, 1))

        try:
            begin()
            computed = 0
            while jobs:
                if computed < len(jobs):
                    begin()  # is read while the one before is computed
                    jobs[computed].compute()
                    computed += 1
                # One that is written waits for another to be computed, if there is another.
                while computed and (computed == len(jobs) or computed > 1 or not jobs[0].writes):
                    computed -= 1
                    yield jobs.popleft().result(returned)
        finally:
            files.shutdown(cancel_futures=True)
            for job in jobs:
                job.close()


def _in_parts(entry: PairLike, options: Mapping[str, Any], notify: Notify) -> Generator[None, None, Result]:
    """As the parts of `pipeline.in_parts`."""
    from dlir.registration.pipeline import in_parts, opened

    arguments = {**options, **_arguments(entry)}
    if missing := [name for name in ("fixed", "moving") if name not in arguments]:
        raise OptionError(f"a pair has no '{missing[0]}'; give both images")
    request = request_of(**arguments)
    with opened(request) as outputs:
        finished = yield from in_parts(outputs, request, warm_session, notify=notify)
    return Result(finished)


def _arguments(entry: PairLike) -> dict[str, Any]:
    """Of `register`. Raises OptionError for what is no pair, and EvaluationError for a scan that cannot be used."""
    from dlir.data.pair import Pair

    if isinstance(entry, Mapping):
        return _known(entry)
    if isinstance(entry, Pair):
        return _listed_arguments(entry)
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        return {"fixed": entry[0], "moving": entry[1]}
    raise OptionError(f"a pair is a {type(entry).__name__}; give (fixed, moving), or the arguments of register by name")


def _known(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Raises OptionError for one that a pair does not have."""
    for name in arguments:
        if name in _OF_ALL:
            raise OptionError(f"'{name}' holds for all pairs; give it to register_many itself")
        if name not in _OF_A_PAIR:
            raise OptionError(
                f"a pair has no '{shown(str(name))}'{nearest(str(name), _OF_A_PAIR)}; give the arguments of register"
            )
    return dict(arguments)


def _listed_arguments(pair: Pair) -> dict[str, Any]:
    from dlir.io import read_grid, read_landmarks

    arguments: dict[str, Any] = {"model": pair.model}
    for role, scan in (("fixed", pair.fixed), ("moving", pair.moving)):
        if scan.problem:
            raise EvaluationError(scan.problem)
        points: Any = scan.landmarks
        if points and scan.indices:
            points = read_landmarks(points, read_grid(scan.image), indices=True)
        arguments |= {role: scan.image, f"{role}_mask": scan.mask, f"{role}_landmarks": points}
        arguments[f"{role}_label"] = scan.label
    for kind in ("label", "landmarks"):
        if not arguments[f"moving_{kind}"]:  # nothing to compare with
            arguments[f"fixed_{kind}"] = None
    return {name: value for name, value in arguments.items() if value}
