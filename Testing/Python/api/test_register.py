"""`dlir.register`: every form of input, what comes out, and what stays in memory."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import dlir
from cli_runs import SOURCE, Pair, make_model, snapshot, write_pair
from dlir.api import registering
from dlir.api.inputs import request_of
from dlir.errors import DLIRError, ImageError, ImageNote, ModelError, OptionError, OutputError, TransformError
from dlir.io import Volume, read_image, read_label
from dlir.registration import session as sessions
from dlir.registration.session import Session
from dlir.registration.threads import processors
from dlir.transforms.resample import displacement_field
from nibabel_like import NibabelImage

RUN = {"seconds", "peak_memory_mb"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return write_pair(folder, make_model(folder / "tiny.safetensors"))


@pytest.fixture(scope="module")
def options(pair: Pair) -> dict[str, Any]:
    return {"model": pair.model, "device": "cpu"}


@pytest.fixture(scope="module")
def result(pair: Pair, options: dict[str, Any]) -> dlir.Result:
    """From files, with labels on both sides and a landmark."""
    center = [read_image(pair.fixed).grid.center]
    labels = {"moving_label": pair.moving_label, "fixed_label": str(pair.fixed_label)}
    return dlir.register(pair.fixed, str(pair.moving), **labels, moving_landmarks=center, **options)


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what a run may differ in, and what images are called."""
    named = {role: {key: value for key, value in report[role].items() if key != "file"} for role in ("fixed", "moving")}
    return {key: value for key, value in report.items() if key not in {*RUN, "fixed_mask", "moving_mask"}} | named


# -- inputs -------------------------------------------------------------------------------------------


def test_every_form_of_input_gives_the_same(pair: Pair, options: dict[str, Any], result: dlir.Result) -> None:
    fixed, moving = read_image(pair.fixed), read_image(pair.moving)
    labels = read_label(pair.fixed_label, fixed), read_label(pair.moving_label, moving)
    forms = {
        "volumes": lambda volume: volume,
        "SimpleITK": lambda volume: volume.grid.to_sitk(volume.array),
        "numpy": lambda volume: (volume.array, volume.grid),
        "torch": lambda volume: (torch.from_numpy(volume.array), volume.grid.to_sitk(volume.array)),
        "nibabel": lambda volume: NibabelImage.of(volume.array, volume.grid),
    }
    center = torch.from_numpy(fixed.grid.center)[None]
    for name, form in forms.items():
        found = dlir.register(
            form(fixed),
            form(moving),
            fixed_label=form(labels[0]),
            moving_label=form(labels[1]),
            moving_landmarks=center,
            **options,
        )
        if name == "nibabel":  # whose affine is the same to rounding only
            np.testing.assert_allclose(found.numpy().warped, result.numpy().warped, atol=1e-3)
            continue
        assert figures(found.report) == figures(result.report), name
        np.testing.assert_array_equal(found.numpy().warped, result.numpy().warped)
        np.testing.assert_array_equal(found.numpy().warped_labels[0], result.numpy().warped_labels[0])


def test_masks_and_a_transform_in_memory(pair: Pair, options: dict[str, Any], tmp_path: Path) -> None:
    start = sitk.CompositeTransform(3)
    start.AddTransform(sitk.CompositeTransform([sitk.TranslationTransform(3, (2.5, 2.0, 3.0))]))
    sitk.WriteTransform(sitk.TranslationTransform(3, (2.5, 2.0, 3.0)), str(tmp_path / "start.tfm"))
    mask = sitk.ReadImage(str(pair.fixed_label)) > 0
    ours = dlir.register(pair.fixed, pair.moving, fixed_mask=mask, initial_transform=start, **options)
    files = {"fixed_mask": pair.fixed_label, "initial_transform": tmp_path / "start.tfm"}
    with pytest.warns(ImageNote, match="several values"):
        theirs = dlir.register(pair.fixed, pair.moving, **files, **options)
    assert ours.report["initialization"]["mode"] == "given transform"
    assert theirs.report["notes"] == ["the fixed mask has several values other than 0, all of which count"]
    assert figures(ours.report) == {**figures(theirs.report), "notes": []}
    np.testing.assert_array_equal(ours.numpy().warped, theirs.numpy().warped)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"fixed": "nowhere.nrrd"}, ImageError, "'nowhere.nrrd' does not exist"),
        ({"fixed": np.zeros((3, 3, 3))}, ImageError, "lies nowhere in space"),
        ({"moving_landmarks": [[1, 2]]}, ImageError, "moving landmarks are no points"),
        ({"moving_landmarks": object()}, ImageError, "moving landmarks are no points"),
        ({"initial_transform": 3}, OptionError, "the initial transform is a int"),
        ({"initial_transform": sitk.DisplacementFieldTransform(3)}, TransformError, "the initial transform"),
        ({"initial_transform": sitk.TranslationTransform(2)}, TransformError, "is not three-dimensional"),
        ({"model": "nonsense"}, ModelError, "there is no model 'nonsense'"),
        ({"model": None}, OptionError, "the model is a NoneType; give a name"),
        ({"refine": 10}, OptionError, "refine is 10; give a text such as '10s'"),
        ({"moving_landmarks": np.zeros((0, 3))}, ImageError, "moving landmarks have no point that is known"),
        ({"moving_landmarks": [[np.nan] * 3]}, ImageError, "moving landmarks have no point that is known"),
        ({"overwrite": True}, OptionError, "are about files; give output"),
        ({"threads": 0}, OptionError, "no number of threads"),
    ],
)
def test_what_cannot_be_registered(pair: Pair, changes: dict[str, Any], kind: type[DLIRError], words: str) -> None:
    with pytest.raises(kind, match=words):
        dlir.register(**{"fixed": pair.fixed, "moving": pair.moving, **changes})


def test_what_is_no_name_of_a_model_is_told() -> None:
    with pytest.raises(OptionError, match="the model is a NoneType; give a name"):
        dlir.load_model(None)  # type: ignore[arg-type]


def test_a_misspelt_option_is_told(pair: Pair) -> None:
    with pytest.raises(TypeError, match="moving_lable"):
        dlir.register(pair.fixed, pair.moving, moving_lable="x")  # type: ignore[call-arg]


def test_register_takes_what_a_request_takes() -> None:
    asked, taken = (inspect.signature(function).parameters for function in (request_of, dlir.register))
    more = ("threads", "progress", "notify")
    assert {name: taken[name].default for name in taken if name not in more} == {
        name: parameter.default for name, parameter in asked.items()
    }


# -- results ------------------------------------------------------------------------------------------


def test_images_lie_on_the_fixed_image(result: dlir.Result, pair: Pair) -> None:
    fixed, arrays = sitk.ReadImage(str(pair.fixed)), result.numpy()
    assert result.warped_label is not None
    images = (result.warped, result.jacobian, result.warped_label, result.displacement)
    for image in images:
        assert image.GetSize() == fixed.GetSize()
        np.testing.assert_allclose(image.GetOrigin(), fixed.GetOrigin())
        np.testing.assert_allclose(image.GetDirection(), fixed.GetDirection())
    for image, array in zip(images, (arrays.warped, arrays.jacobian, arrays.warped_labels[0]), strict=False):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
        assert image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkUInt8)


def test_the_transform_resamples_the_moving_image_to_the_warped_one(result: dlir.Result, pair: Pair) -> None:
    moving = sitk.ReadImage(str(pair.moving), sitk.sitkFloat32)
    outside = float(sitk.GetArrayViewFromImage(moving).min())
    warped = sitk.Resample(moving, result.warped, result.transform, sitk.sitkLinear, outside)
    far = np.abs(sitk.GetArrayFromImage(warped) - result.numpy().warped)
    assert np.quantile(far, 0.99) < 0.01 * np.ptp(result.numpy().warped)
    points = result.grid.to_physical([(3, 4, 5), (12, 10, 7)])
    moved = sitk.GetArrayFromImage(result.displacement)[[5, 7], [4, 10], [3, 12]]
    expected = [result.transform.TransformPoint(point) for point in points.tolist()]
    np.testing.assert_allclose(points + moved, expected, atol=1e-4)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(result.displacement),
        displacement_field(result._finished.result.transform, result.grid),
    )


def test_landmarks_come_back_where_the_transform_sends_them(result: dlir.Result) -> None:
    assert result.moving_landmarks is not None
    (point,) = result.moving_landmarks.tolist()
    np.testing.assert_allclose(result.transform.TransformPoint(point), result.grid.center, atol=0.01)


def test_tensors_share_the_memory_of_the_arrays(result: dlir.Result) -> None:
    arrays, tensors = result.numpy(), result.torch()
    for array, tensor in zip(
        (arrays.warped, arrays.jacobian, *arrays.warped_labels),
        (tensors.warped, tensors.jacobian, *tensors.warped_labels),
        strict=True,
    ):
        assert isinstance(tensor, torch.Tensor)
        assert tensor.data_ptr() == array.ctypes.data
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensors.grid is arrays.grid


def test_labels_of_types_that_torch_lacks_are_widened(pair: Pair, options: dict[str, Any]) -> None:
    label = read_label(pair.moving_label, None)
    wide = Volume(label.array.astype(np.uint16) * 30000, label.grid, "wide")
    found = dlir.register(pair.fixed, pair.moving, moving_label=wide, **options)
    assert found.numpy().warped_labels[0].dtype == np.uint16
    (tensor,) = found.torch().warped_labels
    assert tensor.dtype == torch.int32
    np.testing.assert_array_equal(tensor.numpy(), found.numpy().warped_labels[0])


def test_another_image_of_the_moving_side_is_brought_along(result: dlir.Result, pair: Pair) -> None:
    warped = sitk.GetArrayFromImage(result.apply(pair.moving))
    np.testing.assert_allclose(warped, result.numpy().warped, atol=1e-3 * np.ptp(warped))
    label = result.apply(sitk.ReadImage(str(pair.moving_label)), label=True, onto=pair.fixed)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), result.numpy().warped_labels[0])
    coarse = result.grid.with_spacing((4, 4, 4))
    assert result.apply(pair.moving, onto=coarse).GetSize() == coarse.size


def test_several_layers_are_no_single_label(result: dlir.Result) -> None:
    assert result.warped_label is not None
    result.__dict__["warped_labels"] = (result.warped_label,) * 2
    try:
        with pytest.raises(ImageError, match="2 layers; take them from warped_labels"):
            _ = result.warped_label
    finally:
        del result.__dict__["warped_labels"]


def test_without_labels_there_are_none(pair: Pair, options: dict[str, Any]) -> None:
    found = dlir.register(pair.fixed, pair.moving, **options)
    assert (found.warped_label, found.warped_labels, found.moving_landmarks, found.files) == (None, (), None, {})
    assert repr(found) == f"<dlir.Result: moving.nrrd to fixed.nrrd by tiny, {found.verdict.level}>"


def test_what_is_saved_is_what_is_written(pair: Pair, options: dict[str, Any], tmp_path: Path) -> None:
    files = {"moving_label": pair.moving_label, "displacement": True, **options}
    written = dlir.register(pair.fixed, pair.moving, output=tmp_path / "written", **files)
    del files["displacement"]
    saved = dlir.register(pair.fixed, pair.moving, **files).save(tmp_path / "saved", displacement=True)
    assert saved.keys() == written.files.keys()
    for key, path in saved.items():
        if key not in ("report", "transform"):
            assert path.read_bytes() == written.files[key].read_bytes()
    assert json.loads(written.files["report"].read_text()) == written.report
    with pytest.raises(OutputError, match="holds another registration"):
        dlir.register(pair.moving, pair.fixed, **options).save(tmp_path / "saved")


# -- what stays ---------------------------------------------------------------------------------------


def test_a_second_call_loads_nothing(
    pair: Pair, options: dict[str, Any], result: dlir.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    dlir.register(pair.fixed, pair.moving, **options)
    monkeypatch.setattr(sessions, "load_model", pytest.fail)
    found = dlir.register(pair.fixed, pair.moving, **options)
    assert found.report["seconds"]["load"] < 0.1
    model = dlir.load_model(pair.model)
    assert (model.name, model.path, model.card["licence"]) == ("tiny", pair.model, "CC0")
    assert isinstance(model.network, torch.nn.Module)
    assert dlir.register(pair.fixed, pair.moving, model=model, device="cpu").report["model"]["name"] == "tiny"
    assert registering.warm_session() is registering.warm_session()


def test_threads_compute_one_after_the_other(
    pair: Pair, options: dict[str, Any], result: dlir.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever registers at the same time, with whatever model, gets what they would get alone."""
    other = {**options, "model": make_model(pair.folder / "other.safetensors", seed=1)}
    alone = [dlir.register(pair.fixed, pair.moving, **each) for each in (options, other)]
    inside, most, register = 0, 0, Session._register

    def counted(*given: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            return register(*given)
        finally:
            inside -= 1

    monkeypatch.setattr(Session, "_register", counted)
    found: dict[int, dlir.Result] = {}

    def work(number: int) -> None:
        found[number] = dlir.register(pair.fixed, pair.moving, **(options, other)[number % 2])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 1
    assert not np.array_equal(alone[0].numpy().warped, alone[1].numpy().warped)
    for number, one in found.items():
        np.testing.assert_array_equal(one.numpy().warped, alone[number % 2].numpy().warped)


def test_threads_of_torch_are_left_alone_unless_asked_for(own_threads: None) -> None:
    torch.set_num_threads(1)
    registering.prepare_threads(None)
    assert torch.get_num_threads() == 1
    registering.prepare_threads(2)
    assert torch.get_num_threads() == min(2, processors())
    registering.prepare_threads(None)
    assert torch.get_num_threads() == min(2, processors())


def test_nothing_is_written_unless_asked_for(
    pair: Pair, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(pair.folder)
    dlir.register(pair.fixed, pair.moving, **options)
    assert (snapshot(tmp_path), snapshot(pair.folder)) == ({}, before)


def test_torch_comes_with_the_first_registration(pair: Pair) -> None:
    code = f"""
import sys
import dlir
try:
    dlir.register({str(pair.fixed)!r}, "nowhere.nrrd")
except dlir.DLIRError as error:
    assert "nowhere.nrrd" in str(error)
assert "torch" not in sys.modules
result = dlir.register({str(pair.fixed)!r}, {str(pair.moving)!r}, model={str(pair.model)!r}, device="cpu")
assert "torch" in sys.modules and result.report["threads"] == 1
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "DLIR_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_name_that_dlir_has_is_there() -> None:
    assert set(dlir.__all__) <= set(dir(dlir))
    assert all(getattr(dlir, name) is not None for name in dlir.__all__)
    with pytest.raises(AttributeError, match="no attribute 'registre'"):
        _ = dlir.registre
