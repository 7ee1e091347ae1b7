"""Lines between the worker and its client: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from dlir.errors import ProtocolError
from dlir.worker.protocol import (
    ArrayFile,
    Bye,
    Comparison,
    Done,
    Event,
    Failed,
    Notice,
    Progress,
    Ready,
    RegisterRequest,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
    request_id,
)
from grids import make_grid

IMAGE = ArrayFile("/tmp/a.npy", make_grid((2, 3, 4), (1.0, 2.0, 3.0)).to_dict(), "Bild „α“ \n 2")
PLAIN = RegisterRequest("1", "/tmp/1", "model.safetensors", IMAGE, IMAGE)
FULL = replace(
    PLAIN,
    device="cpu",
    initialize="scanner",
    initial_transform="start.h5",
    fixed_mask=IMAGE,
    moving_mask=IMAGE,
    labels=(IMAGE, IMAGE),
    fixed_labels=(IMAGE,),
    comparisons=(Comparison("cavity", 1, 300, 0, 2),),
    backward_labels=(IMAGE,),
)


@pytest.mark.parametrize("request_", [PLAIN, FULL], ids=["plain", "full"])
def test_a_request_comes_out_as_it_went_in(request_: RegisterRequest) -> None:
    line = encode_request(request_)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    "event",
    [
        Ready({"torch": "2"}, 17),
        Progress("1", "stage 2 of 3", 0.5),
        Progress("1", "reading", 0),
        Notice("1", "cuda ran out of memory"),
        Done("1", {"warped": "w.npy"}, {"similarity": {"before": None, "after": 0.9}, "n": [1, 2]}, 1.5),
        Failed(None, "error", "line\nbreak and \udcff half a surrogate".replace("\udcff", "?")),
        Failed("1", "cancelled", "cancelled"),
        Bye(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert decode_event(line) == event


def test_a_file_name_that_is_no_text_comes_through() -> None:
    named = Notice("1", "file \udce4.nrrd")
    assert decode_event(encode_event(named)) == named


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_event(Done("1", {}, {"value": float("nan")}, 1.0))


def changed(**changes: Any) -> bytes:
    """The plain request as a line, with other values; None takes a key away."""
    values = {**json.loads(encode_request(PLAIN)), **changes}
    return json.dumps({key: value for key, value in values.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", ["not a JSON object"]),
        (b"{", ["not a JSON object", "{"]),
        (b"17", ["no request"]),
        (b'{"event": "bye"}', ["no request", "register"]),
        (changed(request="dance"), ["no request", "register", "dance"]),
        (changed(flavour=1, colour=2), ["'register'", "unknown keys: colour, flavour", "it may have id, folder"]),
        (changed(folder=None, model=None), ["'register' lacks folder, model"]),
        (changed(device=3), ["'register.device' is 3"]),
        (changed(device=True), ["'register.device' is true"]),
        (changed(fixed="a.npy"), ["'register.fixed' is not an object"]),
        (changed(fixed={"array": "a", "grid": {}}), ["'register.fixed' lacks name"]),
        (changed(fixed={"array": "a", "grid": [], "name": "n"}), ["'register.fixed.grid'"]),
        (changed(labels={}), ["'register.labels' is not a list"]),
        (changed(labels=[{"array": 1, "grid": {}, "name": "n"}]), ["'register.labels[0].array' is 1"]),
        (changed(comparisons=[{"name": "n", "layer": 1.5}]), ["'register.comparisons[0]' lacks"]),
        (changed(initialize="hope"), ["'initialize' is 'hope'", "centers, scanner"]),
    ],
)
def test_what_is_wrong_is_named(line: bytes, words: list[str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request(line)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "pair", [Comparison("a", 2, 1, 0, 1), Comparison("a", 0, 1, 1, 1), Comparison("a", -1, 1, 0, 1)]
)
def test_a_comparison_of_a_layer_that_is_not_there(pair: Comparison) -> None:
    with pytest.raises(ProtocolError, match="'a' names a layer"):
        replace(FULL, comparisons=(pair,))


def test_comparisons_of_one_name() -> None:
    with pytest.raises(ProtocolError, match="same name"):
        replace(FULL, comparisons=(Comparison("a", 0, 1, 0, 1), Comparison("a", 1, 1, 0, 1)))


def test_an_event_that_is_none() -> None:
    with pytest.raises(ProtocolError, match="no event of ready, progress"):
        decode_event(b'{"event": "hello"}')


@pytest.mark.parametrize(
    ("line", "name"), [(changed(id="7", x=1), "7"), (b'{"id": 7}', None), (b"[]", None), (b"{", None), (b"3", None)]
)
def test_the_id_of_a_request_that_is_wrong(line: bytes, name: str | None) -> None:
    assert request_id(line) == name


def test_it_needs_the_standard_library_only() -> None:
    code = "import sys, dlir.worker.protocol; print({'numpy', 'torch', 'SimpleITK'} & set(sys.modules) or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"
