"""What a request may say, and how it travels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dlir.errors import OptionError, ProtocolError
from dlir.geometry import ImageGrid
from dlir.io import Volume
from dlir.registration.request import (
    ArrayFile,
    Comparison,
    Outputs,
    RegistrationRequest,
    from_values,
    to_values,
)

ARRAY = ArrayFile("a.npy", ImageGrid((2, 3, 4)).to_dict(), "α")
PLAIN = RegistrationRequest("fixed.nrrd", "cine.nii.gz#3", Outputs("out"))
FULL = replace(
    PLAIN,
    moving=ARRAY,
    outputs=Outputs("out", "arrays", displacement=True),
    initialize="scanner",
    moving_labels=("label.nrrd", ARRAY),
    fixed_labels=(ARRAY,),
    comparisons=(Comparison("cavity", 1, 300, 0, 2),),
    backward_labels=("back.nrrd",),
    fixed_landmarks=(None, (1.0, 2.0, 3.0)),
    moving_landmarks="points.mrk.json",
)


@pytest.mark.parametrize("request_", [PLAIN, FULL], ids=["plain", "full"])
def test_it_comes_out_of_json_as_it_went_in(request_: RegistrationRequest) -> None:
    assert from_values(json.loads(json.dumps(to_values(request_), allow_nan=False)), "asked") == request_


def test_a_volume_in_memory_cannot_be_sent() -> None:
    volume = Volume(np.zeros((2, 3, 4)), ImageGrid((2, 3, 4)), "from Python")
    for asked in (replace(PLAIN, fixed=volume), replace(PLAIN, moving_labels=(volume,))):
        with pytest.raises(ProtocolError, match="'from Python' lies in memory and cannot be sent; give a path"):
            to_values(asked)


def test_results_in_memory_stay_in_their_process() -> None:
    with pytest.raises(ProtocolError, match="without outputs cannot be sent; give a folder"):
        to_values(replace(PLAIN, outputs=None))
    with pytest.raises(ProtocolError, match=r"'asked\.outputs' is not an object"):
        from_values({**to_values(PLAIN), "outputs": None}, "asked")


def test_only_outputs_have_full_paths() -> None:
    asked = [replace(PLAIN, outputs=outputs) for outputs in (None, Outputs("out"), Outputs("out", full_paths=True))]
    assert [one.full_paths for one in asked] == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fixed_labels": ("a",)}, "--fixed-label is compared with the moving label; give --moving-label too"),
        ({"fixed_landmarks": "a.csv"}, "--fixed-landmarks .* give --moving-landmarks too"),
        ({"initial_transform": "a.h5", "initialize": "centers"}, "--initial-transform and --initialize exclude"),
    ],
)
def test_options_that_contradict_each_other(changes: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        replace(PLAIN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"initialize": "hope"}, "'initialize' is 'hope'; use one of auto, centers, scanner"),
        ({"moving_labels": ("a", "b"), "fixed_labels": ("c",)}, "several layers .* 'comparisons'"),
        ({"moving_landmarks": ()}, "'moving_landmarks' are not points"),
        ({"moving_landmarks": (None, None)}, "'moving_landmarks' are not points"),
        ({"moving_landmarks": ((1.0, 2.0),)}, "'moving_landmarks' are not points"),
        ({"moving_landmarks": ((1.0, 2.0, float("nan")),)}, "'moving_landmarks' are not points"),
    ],
)
def test_values_that_make_no_sense(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(PLAIN, **changes)  # type: ignore[arg-type]


def test_what_is_read_must_not_be_overwritten() -> None:
    named = {"fixed.nrrd", "a.npy", "label.nrrd", "back.nrrd", "points.mrk.json"}
    assert set(FULL.input_files()) == named
    assert set(PLAIN.input_files()) == {"fixed.nrrd", "cine.nii.gz#3"}
