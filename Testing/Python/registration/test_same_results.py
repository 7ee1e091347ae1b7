"""One request, whoever asks: Python, the command and the worker give the same report and the same results, field by
field.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

import dlir
from cli_runs import SOURCE, make_model, read, succeed, write_pair
from dlir.geometry import ImageGrid
from dlir.io import read_image, read_label, read_landmarks
from dlir.io.arrays import write_array
from dlir.model.catalogue import resolve_model, resource_folder
from dlir.registration.pipeline import run
from dlir.registration.request import ArrayFile, Outputs, RegistrationRequest
from dlir.transforms.files import read_transform, write_transform
from dlir.transforms.spatial import AffineTransform, CompositeTransform
from dlir.worker.protocol import Done, Failed, Register, decode_event, encode_request

# What two runs of one registration may differ in.
CIRCUMSTANCES = {"seconds", "peak_memory_mb", "threads", "outputs"}


@dataclass(frozen=True)
class Case:
    """A pair on disk with labels, masks and landmarks."""

    fixed: str
    moving: str
    fixed_label: str
    moving_label: str
    model: str
    landmarks: tuple[str, str]
    initial_transform: str | None = None

    def request(self, outputs: Outputs, **more: Any) -> RegistrationRequest:
        return RegistrationRequest(
            self.fixed,
            self.moving,
            outputs,
            self.model,
            "cpu",
            initial_transform=self.initial_transform,
            fixed_mask=self.fixed_label,
            moving_mask=self.moving_label,
            moving_labels=(self.moving_label,),
            fixed_labels=(self.fixed_label,),
            fixed_landmarks=self.landmarks[0],
            moving_landmarks=self.landmarks[1],
            **more,
        )

    def command(self, output: Path) -> list[str]:
        masks = ["--fixed-mask", self.fixed_label, "--moving-mask", self.moving_label]
        labels = ["--fixed-label", self.fixed_label, "--moving-label", self.moving_label]
        points = ["--fixed-landmarks", self.landmarks[0], "--moving-landmarks", self.landmarks[1]]
        start = ["--initial-transform", self.initial_transform] if self.initial_transform else []
        images = ["register", "--fixed", self.fixed, "--moving", self.moving, "--model", self.model, "--device", "cpu"]
        return [*images, *masks, *labels, *points, *start, "--displacement", "--json", "--output", str(output)]


def landmarks(folder: Path, grid: ImageGrid) -> tuple[str, str]:
    points = grid.center + np.array([[0, 0, 0], [5, -4, 3], [-6, 2, 1.5]])
    for name, shift in (("fixed", 0.0), ("moving", 2.0)):
        rows = [",".join(map(str, point)) for point in (points + shift).tolist()]
        (folder / f"{name}.csv").write_text("\n".join(["x,y,z", *rows]) + "\n")
    return str(folder / "fixed.csv"), str(folder / "moving.csv")


def small(folder: Path) -> Case:
    """A body on oblique, unequal grids; from a start of its own."""
    pair = write_pair(folder, make_model(folder / "tiny.safetensors"))
    write_transform(folder / "start.h5", CompositeTransform((AffineTransform.translation((2.5, 2.0, 3.0)),)))
    files = map(str, (pair.fixed, pair.moving, pair.fixed_label, pair.moving_label, pair.model))
    return Case(*files, landmarks(folder, read_image(pair.fixed).grid), str(folder / "start.h5"))


def shipped(folder: Path) -> Case:
    """The pair and the model that ship."""
    names = ("fixed_ed", "moving_es", "fixed_ed_label", "moving_es_label")
    files = [str(resource_folder("SampleData") / f"{name}.nrrd") for name in names]
    return Case(*files, str(resolve_model("cardiac-cine")), landmarks(folder, read_image(files[0]).grid))


@pytest.fixture(scope="module", params=[small, pytest.param(shipped, marks=pytest.mark.slow)])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    made: Case = request.param(tmp_path_factory.mktemp("case"))
    return made


@pytest.fixture(scope="module")
def commanded(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report and the folder of `dlir register`."""
    folder = tmp_path_factory.mktemp("command")
    return json.loads(succeed(case.command(folder))), folder


def ask_worker(*asked: RegistrationRequest) -> list[Done]:
    """What the real process answers."""
    lines = b"".join(encode_request(Register(str(number), one)) for number, one in enumerate(asked))
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": str(os.environ.get("OMP_NUM_THREADS", 1)),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "dlir.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines)
        process.stdin.flush()
        done: list[Done] = []
        while len(done) < len(asked):
            event = decode_event(process.stdout.readline())
            assert not isinstance(event, Failed), event
            if isinstance(event, Done):
                done.append(event)
        process.stdin.close()
    return done


def figures(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in CIRCUMSTANCES}


def test_the_command_and_the_worker_agree(case: Case, commanded: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    report, folder = commanded
    files, arrays = ask_worker(
        case.request(Outputs(str(tmp_path / "files"), displacement=True)),
        case.request(Outputs(str(tmp_path / "arrays"), "arrays", displacement=True)),
    )
    # The reports: all fields but the circumstances, and every field in both.
    assert set(files.report) == set(arrays.report) == set(report)
    assert figures(files.report) == figures(report)
    assert figures(arrays.report) == figures(report)
    assert files.report["outputs"] == report["outputs"]
    assert set(files.report["seconds"]) == set(arrays.report["seconds"]) == set(report["seconds"])
    assert {"labels", "landmarks", "moving_landmarks", "jacobian", "similarity"} <= set(report)
    # The files, byte for byte but where one holds a date or the time taken.
    assert {path.name for path in (tmp_path / "files").iterdir()} == {path.name for path in folder.iterdir()}
    for name in set(report["outputs"].values()) - {"transform.h5", "report.json"}:
        assert (tmp_path / "files" / name).read_bytes() == (folder / name).read_bytes(), name
    assert json.loads((tmp_path / "files" / "report.json").read_text()) == files.report
    for done in (files, arrays):
        ours, theirs = (sitk.ReadTransform(path) for path in (done.files["transform"], str(folder / "transform.h5")))
        ours, theirs = (sitk.CompositeTransform(transform) for transform in (ours, theirs))
        assert ours.GetNumberOfTransforms() == theirs.GetNumberOfTransforms()
        for number in range(ours.GetNumberOfTransforms()):
            one, other = ours.GetNthTransform(number), theirs.GetNthTransform(number)
            assert one.GetParameters() == other.GetParameters()
            assert one.GetFixedParameters() == other.GetFixedParameters()
    # The arrays, voxel by voxel.
    for name, file in (
        ("warped", "warped"),
        ("jacobian", "jacobian"),
        ("label_0", "warped_label"),
        ("displacement", "displacement"),
    ):
        array, image = np.load(arrays.files[name]), read(folder / f"{file}.nrrd")
        assert array.dtype == image.dtype
        np.testing.assert_array_equal(array, image)


def test_python_and_the_command_agree(case: Case, commanded: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """Whether Python writes files at once, or later, or has everything in memory alone."""
    report, folder = commanded
    asked = {
        "model": case.model,
        "device": "cpu",
        "initial_transform": case.initial_transform,
        "fixed_label": case.fixed_label,
        "moving_label": case.moving_label,
        "fixed_mask": case.fixed_label,
        "moving_mask": case.moving_label,
        "fixed_landmarks": case.landmarks[0],
        "moving_landmarks": case.landmarks[1],
    }
    in_memory = dlir.register(case.fixed, case.moving, **asked)
    (written,) = dlir.register_many(
        [{"fixed": case.fixed, "moving": case.moving, "output": tmp_path / "files", "displacement": True, **asked}]
    )
    assert list(in_memory.report) == list(written.report) == list(report)
    assert figures(in_memory.report) == figures(written.report) == figures(report)
    assert written.report["outputs"] == report["outputs"]
    assert set(written.report["seconds"]) == {*in_memory.report["seconds"], "write"} == set(report["seconds"])
    saved = in_memory.save(tmp_path / "saved", displacement=True)
    assert saved.keys() == written.files.keys() == report["outputs"].keys()
    for key, name in report["outputs"].items():
        if key not in ("transform", "report"):
            content = (folder / name).read_bytes()
            assert saved[key].read_bytes() == written.files[key].read_bytes() == content, name
    for image, name in (
        (in_memory.warped, "warped"),
        (in_memory.jacobian, "jacobian"),
        (in_memory.warped_label, "warped_label"),
        (in_memory.displacement, "displacement"),
    ):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read(folder / f"{name}.nrrd"))
    points = read_landmarks(folder / "moving_landmarks.csv").points
    np.testing.assert_array_equal(in_memory.moving_landmarks, points)
    theirs = sitk.ReadTransform(str(folder / "transform.h5"))
    for point in points.tolist():
        np.testing.assert_allclose(in_memory.transform.TransformPoint(point), theirs.TransformPoint(point), atol=1e-9)


def test_images_in_memory_are_the_files(case: Case, commanded: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    """Whether a request gives paths, volumes or array files, only what they are called differs."""
    fixed, moving = read_image(case.fixed, "fixed image"), read_image(case.moving, "moving image")
    labels = {"fixed": read_label(case.fixed_label, fixed), "moving": read_label(case.moving_label, moving)}
    asked = replace(
        case.request(Outputs(str(tmp_path / "out"), displacement=True)),
        fixed=fixed,
        moving=moving,
        fixed_mask=labels["fixed"],
        moving_mask=labels["moving"],
        moving_labels=(labels["moving"],),
        fixed_labels=(labels["fixed"],),
        fixed_landmarks=tuple(map(tuple, read_landmarks(case.landmarks[0]).points.tolist())),
        moving_landmarks=tuple(map(tuple, read_landmarks(case.landmarks[1]).points.tolist())),
    )
    for _ in write_array(tmp_path / "fixed.npy", fixed.array):
        pass
    mixed = replace(asked, fixed=ArrayFile(str(tmp_path / "fixed.npy"), fixed.grid.to_dict(), case.fixed))
    report, folder = commanded
    for one in (asked, mixed):
        assert figures(run(one).report) == figures(report)
        for name in ("warped.nrrd", "warped_label.nrrd", "moving_landmarks.csv"):
            assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_landmarks_are_where_the_transform_sends_them(
    case: Case, commanded: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """T(fixed) against moving for the errors, T^-1 for the moving landmarks on the fixed image."""
    report, folder = commanded
    transform = read_transform(folder / "transform.h5")
    fixed, moving = (read_landmarks(path).points for path in case.landmarks)
    errors = np.linalg.norm(transform.apply(fixed) - moving, axis=1)
    found = report["landmarks"]
    assert found["count"] == 3
    assert found["after"]["mean_mm"] == pytest.approx(errors.mean(), abs=1e-6)
    assert found["after"]["median_mm"] == pytest.approx(np.median(errors), abs=1e-6)
    assert found["after"]["max_mm"] == pytest.approx(errors.max(), abs=1e-6)
    offset = np.array([2.5, 2.0, 3.0]) if case.initial_transform else np.zeros(3)
    assert found["before"]["mean_mm"] == pytest.approx(np.linalg.norm(fixed + offset - moving, axis=1).mean(), abs=1e-6)
    carried = read_landmarks(folder / "moving_landmarks.csv").points
    np.testing.assert_allclose(transform.apply(carried), moving, atol=0.01)
    np.testing.assert_array_equal(carried, report["moving_landmarks"]["points"])
    assert report["moving_landmarks"]["unsolved"] == 0
