"""Scripts call the Logic as they could in DLIR 0.1, and find in its results what they found there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core")

from DLIRRegistrationLib.logic import (
    DLIRRegistrationLogic,
    MaskInput,
    OutputSelection,
    RegistrationNodes,
    SequenceNodes,
    SequenceOutputs,
)
from DLIRRegistrationLib.registration.run import Run
from DLIRRegistrationLib.registration.sequence_run import SequenceRun

NEEDED = inspect.Parameter.empty
CALLBACKS = {"blocking": True, "processEvents": False, "onProgress": None, "onDone": None, "onFailed": None}
# The start was "centers", which "auto" takes too where the scanner's positions say nothing.
SEQUENCE = {"segmentation": None, "initialize": "auto", "device": "auto", "outputs": None}
# Of each call of DLIR 0.1, what could be given by place, in this order, and what by name only; with the defaults.
CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "close": ({}, {}),
    "poll": ({}, {}),
    "register": (
        {"fixed": NEEDED, "moving": NEEDED, "model": "cardiac-cine"},
        {
            "fixedMask": None,
            "movingMask": None,
            "initialTransform": None,
            "initialize": "auto",
            "segmentations": (),
            "fixedSegmentation": None,
            "movingLandmarks": None,
            "fixedLandmarks": None,
            "device": "auto",
            "outputs": None,
            **CALLBACKS,
        },
    ),
    "registerSequence": ({"sequence": NEEDED, "reference": 0, "model": "cardiac-cine"}, {**SEQUENCE, **CALLBACKS}),
    "newSequenceRun": ({"sequence": NEEDED, "reference": 0, "model": "cardiac-cine", **SEQUENCE}, {}),
    "propagateSegmentation": (
        {"segmentation": NEEDED, "transform": NEEDED, "reference": NEEDED, "output": None},
        {},
    ),
    "propagateMarkups": ({"markups": NEEDED, "transform": NEEDED, "output": None}, {}),
    "propagateModel": ({"model": NEEDED, "transform": NEEDED, "output": None}, {}),
    "jacobianVolume": ({"transform": NEEDED, "reference": NEEDED, "output": None}, {}),
}
# The calls that take what others take, and hand it on.
HANDS_ON = {"register": "newRun", "registerSequence": "newSequenceRun"}

# Fields in their order, with their defaults.
GIVEN: dict[type, dict[str, Any]] = {
    MaskInput: {"node": MISSING, "segment_id": None},
    OutputSelection: {
        "warped": None,
        "transform": None,
        "jacobian": None,
        "segmentations": (),
        "landmarks": None,
        "want_warped": True,
        "want_transform": True,
        "want_jacobian": True,
        "transform_kind": "native",
    },
    SequenceOutputs: {
        "warped": None,
        "transform": None,
        "jacobian": None,
        "segmentation": None,
        "want_warped": True,
        "want_transform": True,
        "want_jacobian": False,
    },
}
SHARED = {"warped", "transform", "jacobian", "table", "verdict", "seconds"}
RETURNED = {
    RegistrationNodes: SHARED | {"segmentations", "landmarks", "report"},
    SequenceNodes: SHARED | {"segmentation", "browser", "reports"},
}


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(DLIRRegistrationLogic, name)).parameters


@pytest.mark.parametrize("name", CALLS)
def test_the_call_takes_what_it_took(name: str) -> None:
    placed, named = CALLS[name]
    own = parameters(name)
    by_place = [(p.name, p.default) for p in own.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert by_place[: len(placed) + 1] == [("self", NEEDED), *placed.items()]
    taken = {**own, **(parameters(HANDS_ON[name]) if name in HANDS_ON else {})}
    assert {key: taken[key].default for key in named} == named
    needed = {p.name for p in taken.values() if p.default is NEEDED and p.kind is not inspect.Parameter.VAR_KEYWORD}
    assert needed == {"self", *(key for key, default in placed.items() if default is NEEDED)}


def test_the_logic_is_made_without_arguments_and_has_its_worker() -> None:
    logic = DLIRRegistrationLogic()
    assert logic.worker.state == "stopped"
    logic.close()


@pytest.mark.parametrize("made", GIVEN, ids=lambda made: made.__name__)
def test_what_is_given_is_made_as_it_was(made: Any) -> None:
    found = [(field.name, field.default) for field in fields(made)]
    assert found[: len(GIVEN[made])] == list(GIVEN[made].items())


@pytest.mark.parametrize("returned", RETURNED, ids=lambda returned: returned.__name__)
def test_what_is_returned_has_what_it_had(returned: Any) -> None:
    assert {field.name for field in fields(returned)} >= RETURNED[returned]


@pytest.mark.parametrize("run", [Run, SequenceRun])
def test_a_run_in_the_background_can_be_asked_what_it_could(run: type) -> None:
    assert isinstance(inspect.getattr_static(run, "active"), property)
    assert list(inspect.signature(run.start).parameters) == ["self", "on_progress", "on_done", "on_failed"]  # type: ignore[attr-defined]
    assert list(inspect.signature(run.wait).parameters) == ["self", "process_events"]  # type: ignore[attr-defined]
    assert callable(run.cancel)  # type: ignore[attr-defined]
    assert callable(run.poll)  # type: ignore[attr-defined]
