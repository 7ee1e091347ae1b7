"""Several processes train as one does with the same pairs: real processes, started by torchrun and by --devices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dlir.errors import DeviceError
from dlir.model.file import load_model
from dlir.training.engine import make_fabric, summed, usable_precision
from training_runs import plain_config, write_subjects

STAGE = {"iterations": 5, "batch_size": 4, "learning_rate": 0.01, "alpha": 0.01}
LAUNCHERS = {
    "one process": ["-m", "dlir"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "dlir"],
    "devices": ["-m", "dlir"],
    "SLURM": ["-m", "dlir"],
}


# What srun tells each of two tasks on one node.
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "dlir",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}


def train(launcher: str, config: Path, data: Path, output: Path) -> list[dict[str, float]]:
    """The history of a run."""
    arguments = ["train", "--config", config, "--data", data, "--output", output, "--device", "cpu"]
    more = ["--devices", "2"] if launcher == "devices" else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *LAUNCHERS[launcher], *map(str, arguments), *more]
    tasks = [environment]
    if launcher == "SLURM":
        port = str(free_port())
        ranks = [{"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k), "MASTER_PORT": port} for k in range(2)]
        tasks = [{**environment, **SLURM, **rank} for rank in ranks]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=task, **pipes) for task in tasks]  # type: ignore[call-overload]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(tasks), said
    assert sum(out.count("model  ") for out, _ in said) == 1  # one process speaks
    assert sum(err.count("reading the images") for _, err in said) == 1
    rows: list[dict[str, float]] = json.loads((output / "history.json").read_text())
    return rows


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tested on Linux")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """The same global batch: loss curves within 1e-4, through two stages and fine-tuning."""
    write_subjects(tmp_path / "data", ["one", "two", "three", "held"])
    tuning = {"iterations": 3, "batch_size": 4, "learning_rate": 0.003}
    values = plain_config(training=[STAGE, {**STAGE, "micro_batch": 1}], fine_tuning=tuning, validation_every=2)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    runs = {
        launcher: train(launcher, tmp_path / "config.yaml", tmp_path / "data", tmp_path / launcher.replace(" ", "-"))
        for launcher in LAUNCHERS
    }
    one = runs["one process"]
    assert len(one) == 8
    for launcher in ("torchrun", "devices", "SLURM"):
        for alone, together in zip(one, runs[launcher], strict=True):
            assert alone.keys() == together.keys()
            for name in ("phase", "iteration"):
                assert together[name] == alone[name]
            for name in ("loss", "similarity", "bending", "validation_similarity", "learning_rate"):
                assert together[name] == pytest.approx(alone[name], abs=1e-4), (launcher, name)
            assert together["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=0.01)
        assert load_model(tmp_path / launcher / "model.safetensors")[1].card["training"]["processes"] == 2
        differs = [a["loss"] != b["loss"] for a, b in zip(one, runs[launcher], strict=True)]
        assert any(differs)  # sums in another order: it is not the same process that ran twice


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_one_process_needs_no_sums_of_others() -> None:
    assert summed(make_fabric("cpu"), [1.5, 2.0]) == [1.5, 2.0]


def test_reduced_precision_is_used_where_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cpu, mps = torch.device("cpu"), torch.device("mps")
    for name in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True}, raising=False)
        assert usable_precision("bfloat16", cpu) == torch.bfloat16
    assert usable_precision("float32", cpu) == torch.float32
    assert usable_precision("bfloat16", mps) == torch.float32


def test_reduced_precision_that_a_processor_only_emulates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    assert usable_precision("bfloat16", torch.device("cpu")) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert usable_precision("bfloat16", torch.device("cpu")) == torch.float32


def test_more_devices_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="4 devices are asked for, and there are 1"):
        make_fabric("cuda", 4)


def test_tasks_that_slurm_may_put_anywhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(DeviceError, match="ask for --ntasks-per-node=2"):
        make_fabric("cpu")
