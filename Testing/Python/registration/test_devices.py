"""The choice of a device, and the way out where its memory does not suffice."""

from __future__ import annotations

import gc
import weakref
from typing import get_args

import pytest
import torch

from dlir.cli.common import DeviceOption
from dlir.errors import DeviceError
from dlir.registration.choices import DEVICES
from dlir.registration.devices import choose_device, run_with_fallback

CUDA, MPS, CPU = (torch.device(name) for name in ("cuda", "mps", "cpu"))


def present(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)


@pytest.mark.parametrize(
    ("here", "chosen"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], chosen: str) -> None:
    present(monkeypatch, *here)
    assert choose_device("auto").type == chosen
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_absent_names_the_remedy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    present(monkeypatch)
    with pytest.raises(DeviceError, match=f"'{name}'.*--device auto"):
        choose_device(name)


def test_an_unknown_device() -> None:
    with pytest.raises(DeviceError, match="'tpu' is unknown; use one of auto, cpu, cuda, mps"):
        choose_device("tpu")


def test_the_command_line_offers_the_same_devices() -> None:
    assert tuple(device.value for device in get_args(DeviceOption)[0]) == DEVICES


@pytest.mark.parametrize(
    ("device", "error", "reason"),
    [
        (CUDA, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "ran out of memory"),
        (MPS, RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "ran out of memory"),
        (MPS, NotImplementedError("The operator 'aten::grid_sampler_3d' is not implemented"), "lacks an operation"),
    ],
)
def test_falls_back_to_the_cpu_and_says_so(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, error: Exception, reason: str
) -> None:
    present(monkeypatch, device.type)
    tried, said = [], []

    def run(where: torch.device) -> int:
        tried.append(where.type)
        if where.type != "cpu":
            raise error
        return 42

    outcome = run_with_fallback(run, device, said.append)
    assert tried == [device.type, "cpu"]
    assert outcome.value == 42
    assert outcome.device == f"cpu (because {device.type} {reason})"
    assert said == [f"{device.type} {reason}; repeating on the CPU"]


def test_the_failed_run_is_forgotten_before_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback would hold its tensors, and with them the memory that did not suffice."""
    present(monkeypatch, "cuda")
    held: list[weakref.ref[torch.nn.Module]] = []

    def run(where: torch.device) -> bool:
        if where.type == "cpu":
            gc.collect()
            return held[0]() is None
        large = torch.nn.Identity()
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert run_with_fallback(run, CUDA).value


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 3 GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_no_memory_in_the_computer_is_an_error_for_the_user(device: torch.device, error: Exception) -> None:
    def run(where: torch.device) -> None:
        raise error

    with pytest.raises(DeviceError, match="close other programs or use a smaller image"):
        run_with_fallback(run, device)


def test_other_errors_pass() -> None:
    def run(where: torch.device) -> None:
        raise RuntimeError("a fault in the code")

    with pytest.raises(RuntimeError, match="a fault"):
        run_with_fallback(run, CUDA)
