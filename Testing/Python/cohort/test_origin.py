"""What a result was made of: told from what it would be made of now, whatever form the images have."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_runs import make_model
from dlir.cohort.origin import BATCH, differences, origin_of, read_result
from dlir.errors import ImageError
from dlir.registration.request import Outputs, RegistrationRequest


def request(fixed: Path | str, moving: Path | str, **more: Any) -> RegistrationRequest:
    return RegistrationRequest(str(fixed), str(moving), Outputs("out"), **{"model": "none", **more})


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """By what changes, an image; the moving one is a plain file."""
    (tmp_path / "series").mkdir()
    for name in ("series/1.dcm", "series/2.dcm", "a.mhd", "a.raw", "b.hdr", "b.img", "c.nrrd", "m.nrrd"):
        (tmp_path / name).write_bytes(name.encode())
    return {
        "series/2.dcm": tmp_path / "series",
        "a.raw": tmp_path / "a.mhd",
        "b.img": tmp_path / "b.hdr",
        "c.nrrd": tmp_path / "c.nrrd",
    }


@pytest.mark.parametrize("file", ["series/2.dcm", "a.raw", "b.img", "c.nrrd"])
def test_whatever_file_of_an_image_changes(images: dict[str, Path], tmp_path: Path, file: str) -> None:
    asked = request(images[file], tmp_path / "m.nrrd")
    report = {BATCH: origin_of(asked)}
    assert differences(report, asked) == []
    os.utime(tmp_path / file, ns=(5, 5))
    assert differences(report, asked) == []
    (tmp_path / file).write_bytes(b"another")
    assert differences(report, asked) == ["fixed image"]
    assert differences(report, asked, inputs=False) == []
    (tmp_path / file).unlink()
    if file == "c.nrrd":
        with pytest.raises(ImageError, match=r"fixed image '.*' does not exist"):
            origin_of(asked)
    assert differences(report, asked) == ["fixed image"]


def test_what_is_asked_for_counts_too(images: dict[str, Path], tmp_path: Path) -> None:
    fixed, moving = images["c.nrrd"], tmp_path / "m.nrrd"
    report = {BATCH: origin_of(request(fixed, moving))}
    assert differences(report, request(f"{fixed}#1", moving)) == ["fixed image"]
    assert differences(report, request(fixed, moving, refine="5it", kind="rigid")) == ["--refine", "--kind"]
    assert differences(report, request(fixed, moving, fixed_mask=str(moving))) == ["fixed mask"]
    assert differences(report, request(fixed, moving, device="cuda")) == []
    packed = replace(request(fixed, moving), outputs=Outputs("out", format="nii.gz"))
    assert differences(report, packed) == ["--format"]
    del report[BATCH]["options"]["format"]  # as an earlier version wrote it
    assert differences(report, request(fixed, moving)) == []
    assert differences(report, packed) == ["--format"]


def test_a_model_is_told_by_its_weights(images: dict[str, Path], tmp_path: Path) -> None:
    fixed, moving, file = images["c.nrrd"], tmp_path / "m.nrrd", tmp_path / "tiny.safetensors"
    asked = request(fixed, moving, model=str(make_model(file)))
    report = {BATCH: origin_of(asked)}
    make_model(file)
    assert differences(report, asked) == []
    make_model(file, seed=1)
    assert differences(report, asked) == ["--model"]
    auto = request(fixed, moving, model="auto")
    chosen = {BATCH: origin_of(auto), "model": {"name": "hippocampus", "sha256": "another"}}
    assert differences(chosen, auto) == ["the model that auto took"]
    assert differences({**chosen, "model": {"name": "gone", "sha256": "another"}}, auto) == []


@pytest.mark.parametrize(
    ("outputs", "batch"),
    [
        (None, {}),
        ({"report": "report.json"}, None),
        ({"report": "report.json"}, {"inputs": [], "options": {}, "bytes": {}}),
        ({"report": "report.json"}, {"inputs": {"x": 1}, "options": {}, "bytes": {}}),
        ({"a": "warped.nrrd"}, {"inputs": {}, "options": {}, "bytes": {}}),
        ({"a": "warped.nrrd"}, {"inputs": {}, "options": {}, "bytes": {"warped.nrrd": 2}}),
        ({"a": "../x"}, {"inputs": {}, "options": {}, "bytes": {"../x": 1}}),
    ],
)
def test_what_is_no_result(tmp_path: Path, outputs: object, batch: object) -> None:
    report = {"report_version": 1, "outputs": outputs, BATCH: batch}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "warped.nrrd").write_text("x")
    assert read_result(tmp_path) is None


def test_what_is_one(tmp_path: Path) -> None:
    batch = {"inputs": {}, "options": {}, "bytes": {"warped.nrrd": 1}}
    report = {"report_version": 1, "outputs": {"a": "warped.nrrd"}, BATCH: batch}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "warped.nrrd").write_text("x")
    assert read_result(tmp_path) == report
    (tmp_path / "report.json").write_text(json.dumps(report)[:-9])
    assert read_result(tmp_path) is None
