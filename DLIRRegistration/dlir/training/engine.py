"""Where a training runs: devices and processes, by Lightning Fabric."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from dlir.errors import DeviceError
from dlir.registration.devices import choose_device

_LONGEST_WAIT = datetime.timedelta(days=2)


def make_fabric(device: str = "auto", devices: int = 1) -> Fabric:
    """An engine on one device, on several of this computer, or as torchrun or SLURM started this process.

    device: as for `choose_device`. devices: processes, each with a device of its own, that this one starts and leads;
    not used where torchrun or SLURM has started them. Raises DeviceError.
    """
    kind = choose_device(device).type
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
        if devices * nodes > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise DeviceError(f"SLURM was asked for tasks, not for tasks per node; ask for --ntasks-per-node={devices}")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise DeviceError(f"{devices} devices are asked for, and there are {torch.cuda.device_count()}; ask for fewer")
    if kind == "mps" and devices > 1:
        raise DeviceError("there is one MPS device; leave out --devices")
    several = devices * nodes > 1
    # The other processes wait for the first one to prepare the images.
    strategy = DDPStrategy(timeout=_LONGEST_WAIT) if several else "auto"
    fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return fabric


def summed(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """The sums of each value over all processes; in one process the values themselves."""
    if fabric.world_size == 1:
        return list(values)
    total = fabric.all_reduce(torch.tensor(values, dtype=torch.float64), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    return total.tolist()


def usable_precision(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where it is wanted and the device computes with it.

    A processor without instructions for it converts to and fro: a training step took eight times as long as in float32.
    """
    if device.type == "cpu":
        has_it = _processor_has_bfloat16()
    else:
        has_it = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if wanted == "bfloat16" and has_it else torch.float32


def _processor_has_bfloat16() -> bool:
    # Tells of x86-64 alone, and only newer versions of torch have it; nothing else that torch offers tells such
    # instructions from emulation.
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
