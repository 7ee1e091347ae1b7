"""What is asked for in Slicer, as the worker is asked."""

from __future__ import annotations

from pathlib import Path

from dlir.registration.request import Comparison
from DLIRRegistrationLib.registration.parcel import worker_request
from DLIRRegistrationLib.registration.requests import RegistrationInputs
from DLIRRegistrationLib.registration.sequence_requests import SequenceInputs
from fake_worker import IMAGE


def test_both_kinds_of_inputs_become_one_kind_of_request() -> None:
    single = RegistrationInputs(object(), object(), initialize="scanner", device="cpu", refine="5s", kind="affine")
    whole = SequenceInputs(object(), initialize="scanner", device="cpu", refine="5s", kind="affine")
    one, other = (worker_request(inputs, Path("/t/7"), "none", IMAGE, IMAGE) for inputs in (single, whole))
    assert one == other
    assert one.id == "7"
    asked = one.registration
    assert (asked.outputs.folder, asked.outputs.form) == (str(Path("/t/7")), "arrays")
    assert (asked.device, asked.initialize, asked.initial_transform) == ("cpu", "scanner", None)
    assert (asked.model, asked.refine, asked.kind) == ("none", "5s", "affine")


def test_a_transform_to_start_from_takes_the_place_of_the_other_starts() -> None:
    """The panel always has a value for the latter."""
    inputs = RegistrationInputs(object(), object(), initialize="centers")
    more = {"moving_labels": (IMAGE,), "fixed_labels": (IMAGE,), "comparisons": (Comparison("a", 0, 1, 0, 1),)}
    asked = worker_request(inputs, Path("/t/7"), "m", IMAGE, IMAGE, initial_transform="i.h5", **more).registration
    assert (asked.initialize, asked.initial_transform) == (None, "i.h5")
    assert asked.comparisons == more["comparisons"]
