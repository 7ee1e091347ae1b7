"""What a result was made of: its files and options, so that a later run knows whether it still stands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlir.errors import DLIRError, ImageError
from dlir.io.source import Source, parse_source
from dlir.registration.choices import AUTO_MODEL, DEFAULT_FORMAT, NO_MODEL
from dlir.registration.request import RegistrationRequest
from dlir.registration.results.former import REPORT, read_former

# In a report: what a batch adds to it.
BATCH = "batch"
# Headers whose voxels lie in files beside them.
_DETACHED = (".mhd", ".nhdr", ".hdr")
# What an option was where an earlier version wrote the result, which does not say.
_UNTOLD = {"format": DEFAULT_FORMAT}
_BLOCK = 1 << 20


def origin_of(request: RegistrationRequest) -> dict[str, Any]:
    """What the result of a request, which names files, will be made of: plain values, for its report.

    inputs: of each file or folder a state, which changes when it is written or copied, and its content. Raises
    ImageError where one cannot be read, and ModelError.
    """
    return {
        "inputs": {role: _state(role, spec) | _content(role, spec) for role, spec in _inputs(request).items()},
        "options": _options(request),
    }


def read_result(folder: Path) -> Mapping[str, Any] | None:
    """The report of a batch's result in a folder; None where there is none, or where not all of its files are whole."""
    former = read_former(folder)
    batch = former.report.get(BATCH) if former is not None else None
    if former is None or not isinstance(batch, dict):
        return None
    inputs, options, sizes = (batch.get(key) for key in ("inputs", "options", "bytes"))
    if not (isinstance(inputs, dict) and isinstance(options, dict) and isinstance(sizes, dict)):
        return None
    if not all(isinstance(kept, dict) for kept in inputs.values()) or {*sizes, REPORT} != former.names:
        return None
    return former.report if all(_size(folder / name) == size for name, size in sizes.items()) else None


def differences(report: Mapping[str, Any], request: RegistrationRequest, *, inputs: bool = True) -> list[str]:
    """In words, what is not as it was when the report of `read_result` was written; empty where the result stands.

    inputs: whether files are looked at. One is read again only where its state has changed.
    """
    kept, found = report[BATCH]["inputs"], _inputs(request)
    changed = [role for role in {**found, **kept} if (role in found) != (role in kept)]
    if inputs:
        changed += [role for role, spec in found.items() if role in kept and not _stands(kept[role], role, spec)]
    before, now = {**_UNTOLD, **report[BATCH]["options"]}, _options(request)
    changed += [f"--{key}" for key in now if before.get(key) != now[key]]
    if request.model == AUTO_MODEL and _model_changed(report):
        changed.append("the model that auto took")
    return changed


def _stands(kept: Mapping[str, Any], role: str, spec: str) -> bool:
    try:
        state = _state(role, spec)
        if {**kept, **state} == kept:
            return True
        return kept == {**state, "state": kept.get("state"), **_content(role, spec)}
    except ImageError:
        return False


# -- files --------------------------------------------------------------------------------------------


def _inputs(request: RegistrationRequest) -> dict[str, str]:
    """The files of a request, by what messages call them."""
    named = {
        "fixed image": request.fixed,
        "moving image": request.moving,
        "fixed mask": request.fixed_mask,
        "moving mask": request.moving_mask,
        "fixed label": next(iter(request.fixed_labels), None),
        "moving label": next(iter(request.moving_labels), None),
        "fixed landmarks": request.fixed_landmarks,
        "moving landmarks": request.moving_landmarks,
    }
    return {role: spec for role, spec in named.items() if isinstance(spec, str)}


@contextmanager
def _reading(role: str, spec: str) -> Iterator[Source]:
    source = parse_source(spec, role)
    try:
        yield source
    except OSError as error:
        raise ImageError(f"{source.name} cannot be opened ({error.strerror}); check its permissions") from error


def _state(role: str, spec: str) -> dict[str, Any]:
    """Told without reading the files. phase: the time point that is named, if one is."""
    with _reading(role, spec) as source:
        stamps = [(found.st_size, found.st_mtime_ns) for found in (file.stat() for file in _files(source.path))]
    return {"phase": source.phase, "state": hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]}


def _content(role: str, spec: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    with _reading(role, spec) as source:
        for file in _files(source.path):
            own = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    own.update(block)
            digest.update(own.digest())
    return {"content": digest.hexdigest()[:32]}


def _files(path: Path) -> Iterator[Path]:
    """All that an image is read from, in an order that does not change."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
        return
    yield path
    if path.name.lower().endswith(_DETACHED):
        alike = (
            file for file in path.parent.iterdir() if file.stem == path.stem or file.name.startswith(f"{path.stem}.")
        )
        yield from sorted(file for file in alike if file != path and file.is_file())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


# -- options ------------------------------------------------------------------------------------------


def _options(request: RegistrationRequest) -> dict[str, Any]:
    return {
        "model": request.model if request.model in (AUTO_MODEL, NO_MODEL) else _digest(request.model),
        "refine": request.refine,
        "kind": request.kind,
        "similarity": request.similarity,
        "initialize": request.initialize,
        "displacement": request.outputs is not None and request.outputs.displacement,
        "error_map": request.error_map,
        "format": DEFAULT_FORMAT if request.outputs is None else request.outputs.format,
    }


def _digest(model: str) -> str:
    from dlir.model.catalogue import resolve_model
    from dlir.model.file import read_header

    return read_header(resolve_model(model)).digest


def _model_changed(report: Mapping[str, Any]) -> bool:
    """Whether the model that was chosen is another one today; one that is no longer installed is not."""
    model = report.get("model")
    if not isinstance(model, dict) or model.get("sha256") is None:
        return False
    try:
        return bool(_digest(str(model["name"])) != model["sha256"])
    except DLIRError:
        return False


def stamped(report: dict[str, Any], origin: Mapping[str, Any], written: Path) -> dict[str, Any]:
    """The report with all that `read_result` and `differences` ask for. written: where the files lie, all but it."""
    names = [name for name in report["outputs"].values() if name != REPORT]
    return {**report, BATCH: {**origin, "bytes": {name: os.path.getsize(written / name) for name in names}}}
