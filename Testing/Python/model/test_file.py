"""The model file: what is saved comes back, and whatever else is refused in one line that says what to do."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import dlir
from dlir.errors import ModelError, OutputError
from dlir.model import file as model_file
from dlir.model.file import load_model, read_header, rewrite_card, save_model
from dlir.model.multistage import MultiStageModel
from dlir.model.spec import ModelSpec, Preprocessing
from dlir.networks.spec import StageSpec

OLD = Path(__file__).resolve().parents[2] / "Data" / "format-1.safetensors"
CARD = {"name": "tiny", "licence": "CC0-1.0", "figures": {"dice": [0.25, 0.5]}, "note": "für Prüfungen"}


def tiny_spec(channels: int = 2) -> ModelSpec:
    return ModelSpec(
        Preprocessing((2.0, 2.0, 2.0), window=(-100.0, 400.0)),
        (
            StageSpec("affine", (4, 4, 4), (channels, channels)),
            StageSpec("bspline", (2, 2, 2), (channels,) * 3, (8, 8, 4), pooling="strided"),
        ),
    )


@pytest.fixture
def model() -> MultiStageModel:
    torch.manual_seed(0)
    return MultiStageModel(tiny_spec())


@pytest.fixture
def path(tmp_path: Path, model: MultiStageModel) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, CARD)
    return path


def refused(path: Path, *words: str, load: Callable[[Path], object] = load_model) -> None:
    """`path` is refused in one line that names it, has all the words and ends with what to do."""
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message
    assert message.rsplit("; ")[-1] in {"fetch it again", "choose another file", "check the path", "update DLIR"}


def with_metadata(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """`path` written anew, its metadata changed but with a checksum that fits."""
    content = json.loads(metadata(path)["dlir"])
    change(content)
    text = json.dumps(content)
    save_file(load_file(path), path, {"dlir": text, "dlir_sha256": model_file._text_checksum(text)})
    return path


def metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, str] = header["__metadata__"]
    return found


# -- there and back ----------------------------------------------------------------------------------


def test_one_model_is_one_file(path: Path, model: MultiStageModel) -> None:
    for attempt in range(8):  # the library's own order is drawn at random each time
        again = path.with_name(f"{attempt}.safetensors")
        save_model(again, model, CARD)
        assert again.read_bytes() == path.read_bytes()
    assert list(metadata(path)) == ["dlir", "dlir_sha256"]
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0  # the weights behind it are aligned


def test_a_saved_model_comes_back_and_predicts_alike(path: Path, model: MultiStageModel) -> None:
    back, header = load_model(path)
    assert header.spec == back.spec == model.spec
    assert header.card == CARD
    assert header.code_version == dlir.__version__
    assert header.path == path
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    pair = torch.rand(1, 2, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(back.networks[1](pair), model.networks[1](pair))


def test_another_card_leaves_all_else_as_it_is(path: Path) -> None:
    before, weights = read_header(path), load_file(path)
    rewrite_card(path, {"name": "renamed"})
    after = read_header(path)
    assert after == replace(before, card={"name": "renamed"})
    assert {name: value.numpy().tobytes() for name, value in load_file(path).items()} == {
        name: value.numpy().tobytes() for name, value in weights.items()
    }
    load_model(path)  # its weights match their digest


def test_files_of_format_1_keep_loading() -> None:
    """Written by DLIR 0.1.0 before cards named the bending energy, with what its networks gave then."""
    model, header = load_model(OLD)
    assert header.spec == tiny_spec()
    assert header.card["training"] == {"hours": 0.5, "config": {"seed": 11}}
    pair, shape = (torch.arange(1024).reshape(1, 2, 8, 8, 8) * 0.7).sin().abs(), torch.tensor([[8, 8, 8]])
    with torch.inference_mode():
        affine = model.networks[0](pair[:, :1], pair[:, 1:], (shape, shape))
        fractions = model.networks[1](pair)
    expected = torch.tensor([0.00229772, -0.01196906, 0.0229452, 0.00005234, -0.00024908, -0.00056716])
    torch.testing.assert_close(affine[0, :6], expected, rtol=1e-3, atol=1e-6)
    assert fractions.shape == (1, 3, 4, 2, 2)
    expected = torch.tensor([0.00961838, 0.0057865, 0.04372616, 0.02850547, 0.02804711, 0.01192565])
    torch.testing.assert_close(fractions.flatten()[:6], expected, rtol=1e-3, atol=1e-6)


def test_a_loaded_model_is_ready_to_predict(path: Path) -> None:
    back, _ = load_model(path)
    assert not back.training
    for value in back.parameters():
        assert value.device.type == "cpu"
        assert not value.requires_grad


def test_loading_draws_no_random_numbers(path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load_model(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_on_its_way_through_training_is_saved(tmp_path: Path, model: MultiStageModel) -> None:
    """As the trainer holds it: channels last, with gradients."""
    trained = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    trained.requires_grad_(True)
    save_model(tmp_path / "a.safetensors", trained, {})
    torch.testing.assert_close(load_model(tmp_path / "a.safetensors")[0].state_dict(), model.state_dict())


def test_the_header_is_read_without_torch(path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom dlir.model.file import read_header\n"
        "header = read_header(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'SimpleITK' not in sys.modules\n"
        "print(header.card['licence'], header.spec.stages[1].grid_spacing)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(dlir.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "CC0-1.0 (8, 8, 4)"


def test_others_may_read_it_as_any_new_file(path: Path) -> None:
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_folder_that_is_missing(tmp_path: Path, model: MultiStageModel) -> None:
    with pytest.raises(OutputError, match="create the folder first"):
        save_model(tmp_path / "none" / "tiny.safetensors", model, CARD)


# -- damage ------------------------------------------------------------------------------------------


def test_no_byte_can_change_unnoticed(path: Path) -> None:
    data = path.read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    places = [*range(0, header_end, 7), *np.random.default_rng(0).integers(header_end, len(data), 20).tolist()]
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(path)
    path.write_bytes(data)
    load_model(path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_file_that_is_cut(path: Path, part: float) -> None:
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path, "damaged")


def test_a_file_with_something_after_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "damaged")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"], ids=["cut", "longer"])
def test_the_header_tells_whether_the_weights_are_complete(path: Path, change: Callable[[bytes], bytes]) -> None:
    """So that a download that broke off is refused where there is no torch yet."""
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match="weights are not complete"):
        read_header(path)


def test_changed_weights(path: Path) -> None:
    weights = load_file(path)
    next(iter(weights.values()))[0] += 1
    save_file(weights, path, metadata(path))
    refused(path, "checksum")


def test_a_changed_specification(path: Path) -> None:
    """Even where the numbers still make a model: another window would register other intensities."""
    changed = metadata(path)
    assert "400.0" in changed["dlir"]
    changed["dlir"] = changed["dlir"].replace("400.0", "300.0")
    save_file(load_file(path), path, changed)
    refused(path, "specification has changed")
    refused(path, "specification has changed", load=read_header)


# -- other files -------------------------------------------------------------------------------------


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for load in (load_model, read_header):
        refused(tmp_path / "none.safetensors", "cannot read", load=load)
        refused(tmp_path, "cannot read", load=load)


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_a_pickle_in_disguise_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    for write in (lambda f: pickle.dump(Trap(trace), f), lambda f: torch.save({"a": Trap(trace)}, f)):
        with path.open("wb") as file:
            write(file)
        refused(path)
        assert not trace.exists()


@pytest.mark.parametrize(
    "header", [b"[]", b"5", b'{"__metadata__": {"dlir": 5}}', b'{"__metadata__": [1]}', b"[" * 100_000, b"\xff" * 9]
)
def test_a_header_of_another_kind(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(path)


@pytest.mark.parametrize("other", [None, {"format": "pt"}, {"dlir": "no JSON"}])
def test_weights_without_a_specification(tmp_path: Path, other: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, other)
    refused(path, "no DLIR model", "choose another file")


def test_a_newer_format(path: Path) -> None:
    with_metadata(path, lambda content: content.update(format=2, spec="told in another way"))
    refused(path, "format 2", "newer", "update DLIR")


@pytest.mark.parametrize("version", [None, 0, "1", 1.5])
def test_a_format_that_is_none(path: Path, version: object) -> None:
    with_metadata(path, lambda content: content.update(format=version))
    refused(path, "no format version")


def test_a_specification_that_contradicts_itself(path: Path) -> None:
    with_metadata(path, lambda content: content["spec"]["stages"][1].update(grid_spacing=[7, 8, 4]))
    refused(path, "not a power of two")


@pytest.mark.parametrize("key", ["spec", "card", "code_version", "sha256"])
def test_a_part_that_is_missing(path: Path, key: str) -> None:
    with_metadata(path, lambda content: content.pop(key))
    refused(path, "damaged", key)


def test_a_card_that_is_none(path: Path) -> None:
    with_metadata(path, lambda content: content.update(card=5))
    refused(path, "damaged")


@pytest.mark.parametrize("channels", [3, 10**6])
def test_weights_of_another_model(path: Path, channels: int) -> None:
    """A specification that asks for far more than there is must not allocate it first."""
    with_metadata(path, lambda content: content.update(spec=tiny_spec(channels).to_dict()))
    refused(path, "do not match its specification")


def test_weights_of_another_type(tmp_path: Path, path: Path) -> None:
    half = {name: value.bfloat16() for name, value in load_file(path).items()}
    save_file(half, path, metadata(path))
    with_metadata(path, lambda content: content.update(sha256=model_file._digest(half)))
    refused(path, "do not match its specification")
