"""A session keeps its model, notices a new one, and tells its steps in words."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_runs import FIXED, body, make_model
from dlir.errors import DeviceError, ModelError
from dlir.io.reading import Volume
from dlir.registration import session as module
from dlir.registration.loading import Loaded
from dlir.registration.oneshot import Registration
from dlir.registration.session import Session
from grids import make_grid


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def loaded() -> Loaded:
    other = make_grid((15, 24, 23), (2.2, 2.0, 2.7), tuple(FIXED.origin), (0.25, -0.45, 0.85))
    return Loaded(
        Volume(body(FIXED, FIXED.center, 0.0), FIXED, "fixed"), Volume(body(other, other.center, 3.0), other, "moving")
    )


def test_equals_a_registration_of_its_own(loaded: Loaded, model: Path) -> None:
    session = Session()
    header = session.load(model)
    outcome = session.register(loaded, model, "cpu")
    network, _ = module.load_model(model)
    alone = Registration(network, torch.device("cpu"))(loaded.fixed, loaded.moving)
    np.testing.assert_array_equal(outcome.value.warped, alone.warped)
    assert outcome.device == "cpu"
    assert header.card["name"] == "tiny"


def test_the_model_is_read_once_and_again_when_its_file_changes(
    loaded: Loaded, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load_model = module.load_model
    monkeypatch.setattr(module, "load_model", lambda path: read.append(path) or load_model(path))
    session, own = Session(), make_model(tmp_path / "own.safetensors", seed=1)
    for _ in range(2):
        session.register(loaded, model, "cpu")
    session.load(own)
    first = session.register(loaded, own, "cpu").value.warped
    assert read == [model, own]
    make_model(own, seed=2)
    os.utime(own, ns=(1, 1))
    assert not np.array_equal(session.register(loaded, own, "cpu").value.warped, first)
    assert read == [model, own, own]


def test_a_file_that_vanished_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    own = make_model(tmp_path / "own.safetensors")
    session = Session()
    session.load(own)
    own.unlink()
    with pytest.raises(ModelError, match="own"):
        session.register(loaded, own, "cpu")


def test_steps_are_told_in_words_and_forwards(loaded: Loaded, model: Path) -> None:
    told: list[tuple[str, float]] = []
    Session().register(loaded, model, "cpu", lambda step, fraction: told.append((step, fraction)))
    steps = list(dict.fromkeys(step for step, _ in told))
    assert steps == ["preparing", "stage 1 of 2", "stage 2 of 2", "resampling"]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1


def test_an_unknown_device_is_refused(loaded: Loaded, model: Path) -> None:
    with pytest.raises(DeviceError, match="abacus"):
        Session().register(loaded, model, "abacus")


def test_a_full_graphics_card_is_told_and_the_cpu_takes_over(
    loaded: Loaded, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "choose_device", lambda name: torch.device("cuda"))

    class Full(Registration):
        def __init__(self, network: object, device: torch.device) -> None:
            if device.type == "cuda":
                raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
            super().__init__(network, device)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "Registration", Full)
    notices: list[str] = []
    outcome = Session().register(loaded, model, "auto", notify=notices.append)
    assert notices == ["cuda ran out of memory; repeating on the CPU"]
    assert outcome.device == "cpu (because cuda ran out of memory)"


def test_the_start_is_computed_once(loaded: Loaded) -> None:
    assert loaded.start is loaded.start


def test_threads_compute_one_after_the_other(loaded: Loaded, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signs of an error, too: two at once would watch the same network."""
    session, within, most = Session(), 0, 0
    result = session.register(loaded, model, "cpu").value

    def judged(*given: object) -> None:
        nonlocal within, most
        within += 1
        most = max(most, within)
        time.sleep(0.05)
        within -= 1

    monkeypatch.setattr(module, "signs_of", judged)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: session.error_signs(loaded, result, model, "cpu"), range(6)))
    assert most == 1
