"""Lines between the worker and its client: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from dlir.errors import ProtocolError
from dlir.registration.request import ArrayFile, Comparison, Outputs, RegistrationRequest
from dlir.worker.protocol import (
    Bye,
    Choose,
    Done,
    Event,
    Failed,
    Finish,
    Notice,
    Progress,
    Provisional,
    Ready,
    Register,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
    request_id,
)
from grids import make_grid

IMAGE = ArrayFile("/tmp/a.npy", make_grid((2, 3, 4), (1.0, 2.0, 3.0)).to_dict(), "Bild „α“ \n 2")
PLAIN = RegistrationRequest(IMAGE, IMAGE, Outputs("/tmp/1", "arrays"), "model.safetensors")
FULL = replace(
    PLAIN,
    outputs=Outputs("/tmp/1", displacement=True),
    device="cpu",
    refine="10s",
    kind="deformable",
    initialize="scanner",
    fixed_mask=IMAGE,
    moving_mask=IMAGE,
    moving_labels=(IMAGE, "more.nrrd"),
    fixed_labels=(IMAGE,),
    comparisons=(Comparison("cavity", 1, 300, 0, 2),),
    backward_labels=(IMAGE,),
    fixed_landmarks=((1.0, 2.0, 3.0), (-1.0, 0.5, 7.0)),
    moving_landmarks="moving.mrk.json",
)
FILES = RegistrationRequest("cine.nii.gz#3", "b.nrrd", Outputs("out"), initial_transform="start.h5")


@pytest.mark.parametrize("asked", [PLAIN, FULL, FILES], ids=["plain", "full", "files"])
def test_a_request_comes_out_as_it_went_in(asked: RegistrationRequest) -> None:
    line = encode_request(Register("1", asked))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_request(line) == Register("1", asked)


def test_a_question_for_the_model_comes_out_as_it_went_in() -> None:
    assert decode_request(encode_request(Choose("1", PLAIN))) == Choose("1", PLAIN)


def test_a_wish_to_finish_comes_out_as_it_went_in() -> None:
    assert decode_request(encode_request(Finish("1"))) == Finish("1")


@pytest.mark.parametrize(
    "event",
    [
        Ready({"torch": "2"}, 17),
        Progress("1", "stage 2 of 3", 0.5),
        Progress("1", "reading", 0),
        Progress("1", "refining, stage 2 of 3", 0.5, "stage 2 of 3", 0.25),
        Notice("1", "cuda ran out of memory"),
        Provisional("1", {"level": "good", "reason": "…", "inputs": {"covered": None, "local_after": 0.5}}),
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
    """The plain request as a line, with other values in what is registered; None takes a key away."""
    values = json.loads(encode_request(Register("1", PLAIN)))
    asked = {**values["registration"], **changes}
    return json.dumps({**values, "registration": {k: v for k, v in asked.items() if v is not None}}).encode()


def renamed(**changes: Any) -> bytes:
    """The plain request as a line with other keys beside what is registered."""
    return json.dumps({**json.loads(encode_request(Register("1", PLAIN))), **changes}).encode()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", ["not a JSON object"]),
        (b"{", ["not a JSON object", "{"]),
        (b"17", ["no request"]),
        (b'{"event": "bye"}', ["no request", "register"]),
        (renamed(request="dance"), ["no request", "register", "dance"]),
        (renamed(flavour=1, colour=2), ["'register'", "unknown keys: colour, flavour", "it may have id, registration"]),
        (changed(flavour=1, colour=2), ["'register.registration'", "unknown keys: colour, flavour", "fixed, moving"]),
        (changed(moving=None, outputs=None), ["'register.registration' lacks moving, outputs"]),
        (changed(device=3), ["'register.registration.device' is 3"]),
        (changed(device=True), ["'register.registration.device' is true"]),
        (changed(fixed=7), ["'register.registration.fixed' is not an object"]),
        (changed(fixed={"array": "a", "grid": {}}), ["'register.registration.fixed' lacks name"]),
        (changed(fixed={"array": "a", "grid": [], "name": "n"}), ["'register.registration.fixed.grid'"]),
        (changed(moving_labels={}), ["'register.registration.moving_labels' is not a list"]),
        (
            changed(moving_labels=[{"array": 1, "grid": {}, "name": "n"}]),
            ["'register.registration.moving_labels[0].array' is 1"],
        ),
        (changed(comparisons=[{"name": "n", "layer": 1.5}]), ["'register.registration.comparisons[0]' lacks"]),
        (changed(initialize="hope"), ["'initialize' is 'hope'", "centers, scanner"]),
        (changed(outputs={"folder": "x", "form": "smoke"}), ["'form' is 'smoke'", "files, arrays"]),
        (changed(outputs={"folder": "x", "displacement": 1}), ["'register.registration.outputs.displacement' is 1"]),
        (changed(moving_landmarks=[[1, 2, "3"]]), ["'register.registration.moving_landmarks[0][2]' is"]),
        (changed(moving_landmarks=[[1, 2]]), ["'moving_landmarks' are not points of three numbers"]),
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
    ("line", "name"), [(renamed(id="7", x=1), "7"), (b'{"id": 7}', None), (b"[]", None), (b"{", None), (b"3", None)]
)
def test_the_id_of_a_request_that_is_wrong(line: bytes, name: str | None) -> None:
    assert request_id(line) == name


def test_it_needs_the_standard_library_only() -> None:
    code = "import sys, dlir.worker.protocol; print({'numpy', 'torch', 'SimpleITK'} & set(sys.modules) or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"
