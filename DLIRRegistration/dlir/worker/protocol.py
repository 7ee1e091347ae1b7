"""What the worker process and its client say to each other: one JSON object per line, UTF-8, of any length.

Requests go to the worker's stdin, events come from its stdout. Volumes travel as .npy files, (z, y, x); grids as
`ImageGrid.to_dict()`, LPS mm. Standard library only, so that either side can import this at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, cast

from dlir.errors import ProtocolError

FailureKind = Literal["error", "crash", "cancelled"]
INITIALIZATIONS = ("centers", "scanner")


# -- requests -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrayFile:
    """A volume on its way between processes.

    array: path of a .npy file, (z, y, x). grid: `ImageGrid.to_dict()`. name: how messages to the user call it.
    """

    array: str
    grid: dict[str, Any]
    name: str


@dataclass(frozen=True)
class Comparison:
    """Two labels that mean the same structure: value `value` of `labels[layer]`, once propagated, is scored against
    value `fixed_value` of `fixed_labels[fixed_layer]`, and found in the report by `name`.
    """

    name: str
    layer: int
    value: int
    fixed_layer: int
    fixed_value: int


@dataclass(frozen=True)
class RegisterRequest:
    """Register `moving` to `fixed`.

    id: comes back in every event. folder: where the results go; it exists. model: a model file. device: "auto",
    "cpu", "cuda" or "mps". initialize: "centers" or "scanner". initial_transform: an ITK file, fixed to moving
    point, instead. fixed_mask, moving_mask: not 0, on any grid, where the figures of the report count.
    labels: layers of labels drawn on the moving image, on any grid, to be brought onto the fixed image's grid.
    fixed_labels: layers drawn on the fixed image, on any grid, that `comparisons` scores them against.
    backward_labels: layers drawn on the fixed image, on any grid, to be carried onto the moving image's grid.
    Raises ProtocolError for values that contradict each other.
    """

    id: str
    folder: str
    model: str
    fixed: ArrayFile
    moving: ArrayFile
    device: str = "auto"
    initialize: str = "centers"
    initial_transform: str | None = None
    fixed_mask: ArrayFile | None = None
    moving_mask: ArrayFile | None = None
    labels: tuple[ArrayFile, ...] = ()
    fixed_labels: tuple[ArrayFile, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    backward_labels: tuple[ArrayFile, ...] = ()

    def __post_init__(self) -> None:
        if self.initialize not in INITIALIZATIONS:
            raise ProtocolError(f"'initialize' is '{self.initialize}'; use one of {', '.join(INITIALIZATIONS)}")
        for pair in self.comparisons:
            if not (0 <= pair.layer < len(self.labels) and 0 <= pair.fixed_layer < len(self.fixed_labels)):
                raise ProtocolError(f"comparison '{pair.name}' names a layer that the request does not have")
        if len({pair.name for pair in self.comparisons}) < len(self.comparisons):
            raise ProtocolError("two comparisons have the same name; their scores could not be told apart")


# -- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs. versions: of what computes. pid: of the process that does."""

    versions: dict[str, str]
    pid: int


@dataclass(frozen=True)
class Progress:
    """step: what is being done, for people. fraction: how much of the request is done, 0 to 1."""

    id: str
    step: str
    fraction: float


@dataclass(frozen=True)
class Notice:
    """Something the user should know although the request goes on, in one line."""

    id: str
    message: str


@dataclass(frozen=True)
class Done:
    """The request has succeeded.

    files: paths of the results, by name. "warped", "jacobian": float32 on the fixed grid (.npy). "transform": ITK
    .h5. "parts": .npz with the same transform's parameters. "label_0", "label_1"...: `labels`, on the fixed grid,
    in the type they came in; "backward_label_0"...: `backward_labels`, on the moving grid.
    report: as `dlir.registration.report.build_report`; "labels" has the scores by the names of `comparisons`, and
    "inverse" says how exactly `backward_labels` could be carried. seconds: of the whole request.
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


Event = Ready | Progress | Notice | Done | Failed | Bye

_EVENTS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Ready, Progress, Notice, Done, Failed, Bye)}
_REQUESTS: dict[str, type[Any]] = {"register": RegisterRequest}


# -- lines --------------------------------------------------------------------------------------------


def encode_request(request: RegisterRequest) -> bytes:
    """One line, its end included."""
    return _line("request", "register", request)


def encode_event(event: Event) -> bytes:
    """One line, its end included. Raises ValueError for NaN, which JSON does not know."""
    return _line("event", type(event).__name__.lower(), event)


def decode_request(line: bytes) -> RegisterRequest:
    """Raises ProtocolError, naming the key that is missing, unknown or wrong."""
    return cast(RegisterRequest, _decode(line, "request", _REQUESTS))


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


def _line(key: str, kind: str, content: Any) -> bytes:
    text = json.dumps({key: kind, **asdict(content)}, allow_nan=False, ensure_ascii=False)
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
    return _build(kinds[kind], values, kind)


def _shortened(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))


def _build(kind: type[Any], values: Any, where: str) -> Any:
    """An instance of a dataclass from plain values, every key and type checked."""
    if not isinstance(values, dict):
        raise ProtocolError(f"'{where}' is not an object with keys")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ProtocolError(f"'{where}' has unknown keys: {', '.join(unknown)}; it may have {', '.join(known)}")
    required = [name for name, field in known.items() if field.default is MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ProtocolError(f"'{where}' lacks {', '.join(missing)}")
    return kind(**{name: _READERS[known[name].type](values[name], f"{where}.{name}") for name in values})


def _plain(*kinds: type) -> Callable[[Any, str], Any]:
    """A reader of values of these types; JSON's true and false are no numbers."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ProtocolError(f"'{where}' is {json.dumps(value)[:60]}, not {kinds[-1].__name__}")
        return value

    return read


def _optional(reader: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, where: None if value is None else reader(value, where)


def _object(kind: type[Any]) -> Callable[[Any, str], Any]:
    return lambda value, where: _build(kind, value, where)


def _several(kind: type[Any]) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise ProtocolError(f"'{where}' is not a list")
        return tuple(_build(kind, item, f"{where}[{index}]") for index, item in enumerate(value))

    return read


# By the annotation of a field, which is text here.
_READERS: dict[Any, Callable[[Any, str], Any]] = {
    "str": _plain(str),
    "int": _plain(int),
    "float": _plain(int, float),
    "str | None": _optional(_plain(str)),
    "dict[str, Any]": _plain(dict),
    "dict[str, str]": _plain(dict),
    "FailureKind": _plain(str),
    "ArrayFile": _object(ArrayFile),
    "ArrayFile | None": _optional(_object(ArrayFile)),
    "tuple[ArrayFile, ...]": _several(ArrayFile),
    "tuple[Comparison, ...]": _several(Comparison),
}
