"""What the worker process and its client say to each other: one JSON object per line, UTF-8, of any length.

Requests go to the worker's stdin, events come from its stdout. What is registered, `dlir.registration.request` says;
volumes travel as .npy files. Standard library only, so that either side can import this at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from dlir.errors import ProtocolError
from dlir.registration.codec import BASIC, Reader, build
from dlir.registration.request import RegistrationRequest, from_values, to_values

# Begins the name of the client's temporary folder; the worker deletes one of such a name if the client is gone.
SCRATCH_PREFIX = "dlir-worker-"

FailureKind = Literal["error", "crash", "cancelled"]


# -- requests -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Register:
    """Do what `registration` says. id: comes back in every event."""

    id: str
    registration: RegistrationRequest


@dataclass(frozen=True)
class Choose:
    """Say which model would be taken for what `registration` asks; Done tells it as its report, without files."""

    id: str
    registration: RegistrationRequest


@dataclass(frozen=True)
class Finish:
    """End the refinement of the request `id` with the best so far; nothing happens where that is not under way."""

    id: str


# What takes its turn. The wish to finish does not.
Work = Register | Choose
Request = Work | Finish


# -- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs. versions: of what computes. pid: of the process that does."""

    versions: dict[str, str]
    pid: int


@dataclass(frozen=True)
class Progress:
    """step: what is being done, for people. fraction: how much of the request is done, 0 to 1.

    stage, value: while the pair is optimised, the stage under way and its objective, as of
    `dlir.registration.progress.Curve`.
    """

    id: str
    step: str
    fraction: float
    stage: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class Notice:
    """Something the user should know although the request goes on, in one line."""

    id: str
    message: str


@dataclass(frozen=True)
class Provisional:
    """What there is to say of the result before the last check, which may make it worse; `Verdict.to_dict`."""

    id: str
    verdict: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The request has succeeded.

    files, report: as of `dlir.registration.pipeline.Finished`, or no files and as of `model_for`. seconds: of the whole
    request.
    """

    id: str
    files: dict[str, str]
    report: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The request has failed; `message` is one line for the user.

    id: None for a request that could not be read. kind: "error" for what the user can mend; "crash" for a fault or
    a worker that died; "cancelled" (from the client only) at the caller's own wish.
    """

    id: str | None
    kind: FailureKind
    message: str


@dataclass(frozen=True)
class Bye:
    """The last line of a worker that ends as it should."""


Event = Ready | Progress | Notice | Provisional | Done | Failed | Bye

_EVENTS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in get_args(Event)}
_REQUESTS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in get_args(Request)}


# -- lines --------------------------------------------------------------------------------------------


def encode_request(request: Request) -> bytes:
    """One line, its end included. Raises ProtocolError for a volume in memory, and ValueError for NaN."""
    if isinstance(request, Finish):
        return _line("request", "finish", asdict(request))
    kind = type(request).__name__.lower()
    return _line("request", kind, {"id": request.id, "registration": to_values(request.registration)})


def encode_event(event: Event) -> bytes:
    """One line, its end included. Raises ValueError for NaN, which JSON does not know."""
    return _line("event", type(event).__name__.lower(), asdict(event))


def decode_request(line: bytes) -> Request:
    """Raises ProtocolError, naming the key that is missing, unknown or wrong, and as the request itself."""
    return cast(Request, _decode(line, "request", _REQUESTS))


def decode_event(line: bytes) -> Event:
    """Raises ProtocolError, naming the key that is missing, unknown or wrong."""
    return cast(Event, _decode(line, "event", _EVENTS))


def request_id(line: bytes) -> str | None:
    """The id of a request that may be wrong in other ways, so that its sender can be told."""
    try:
        found = json.loads(line)["id"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


def _line(key: str, kind: str, content: Mapping[str, Any]) -> bytes:
    text = json.dumps({key: kind, **content}, allow_nan=False, ensure_ascii=False)
    # The name of a file may be no text. Python's stand-ins for its bytes travel as what is an escape in JSON too.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _decode(line: bytes, key: str, kinds: Mapping[str, type[Any]]) -> Any:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{key} is not a JSON object: {_shortened(line)}; send one JSON object per line") from None
    if not isinstance(values, dict) or values.get(key) not in kinds:
        raise ProtocolError(f"line names no {key} of {', '.join(kinds)}: {_shortened(line)}; set '{key}' to one")
    kind = values.pop(key)
    return build(kinds[kind], values, kind, _READERS)


def _shortened(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))


_READERS: dict[Any, Reader] = {**BASIC, "FailureKind": BASIC["str"], "RegistrationRequest": from_values}
