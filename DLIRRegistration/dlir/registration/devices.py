"""Which processor computes, and what happens where its memory does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from dlir.errors import DeviceError
from dlir.registration.choices import DEVICES
from dlir.registration.progress import Notify, silent

T = TypeVar("T")

# torch raises plain RuntimeErrors where Apple's memory or the computer's own does not suffice.
_DEVICE_FULL = "out of memory"
_COMPUTER_FULL = ("can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a computation gave. device: where it ran in the end and, where that was not as asked, why; for reports."""

    value: T
    device: str


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises DeviceError for one that is unknown or not here.
    """
    if name not in DEVICES:
        raise DeviceError(f"device '{name}' is unknown; use one of {', '.join(DEVICES)}")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, available in here.items() if available)
    if not here[name]:
        raise DeviceError(f"device '{name}' {_why_not(name)}; use --device auto or --device cpu")
    return torch.device(name)


def run_with_fallback(run: Callable[[torch.device], T], device: torch.device, notify: Notify = silent) -> Outcome[T]:
    """`run(device)`; where that runs out of memory on a graphics card, says so by `notify` and repeats it on the CPU.

    The same for an operation that MPS does not have. Raises DeviceError where the CPU has no memory left either.
    """
    try:
        return Outcome(run(device), device.type)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _COMPUTER_FULL):
            raise DeviceError(
                "the computer's memory does not suffice; close other programs or use a smaller image"
            ) from error
        reason = _reason(error, device)
        if reason is None:
            raise
    # Outside the handler: the traceback of the failed run would keep its tensors alive.
    notify(f"{device.type} {reason}; repeating on the CPU")
    gc.collect()
    _free(device)
    repeated = run_with_fallback(run, torch.device("cpu"))
    return Outcome(repeated.value, f"cpu (because {device.type} {reason})")


def _why_not(name: str) -> str:
    if name == "mps":
        return "needs macOS on an Apple processor and is not available here"
    if not torch.backends.cuda.is_built():
        return "is not available: the installed torch is a build without CUDA"
    return "is not available: no NVIDIA graphics card, or its driver is missing or too old"


def _reason(error: RuntimeError, device: torch.device) -> str | None:
    """Why a run on a graphics card failed, if that is something that the CPU may not suffer from."""
    if device.type != "cpu" and _DEVICE_FULL in str(error):
        return "ran out of memory"
    if device.type == "mps" and isinstance(error, NotImplementedError):
        return "lacks an operation"
    return None


def _free(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()
