"""How many threads there are: asked for, stated, or as many as a machine or container allows; and who obeys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

from cli_runs import SOURCE, make_model, refuse, succeed, write_pair
from dlir.cli import app
from dlir.errors import ImageNote, OptionError
from dlir.registration import threads
from dlir.registration.threads import available_cores, use_threads
from dlir.worker.protocol import Failed, decode_event

pytestmark = pytest.mark.usefixtures("own_threads")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a system with 16 cores, two hardware threads each, in control groups without a limit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 32, raising=False)
    for cpu in range(32):
        write(tmp_path, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 16},{cpu % 16 + 16}")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


# -- what the machine allows --------------------------------------------------------------------------


def test_a_core_counts_once_and_nothing_limits(machine: Path) -> None:
    assert available_cores(machine) == 16


def test_affinity(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 18, 20}, raising=False)
    assert available_cores(machine) == 3


def test_what_python_is_told_of_the_machine(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert available_cores(machine) == 5


def test_a_system_that_tells_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    for known, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda known=known: known)
        assert available_cores(tmp_path) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "300000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
            },
            3,
        ),
        # A path of the host that the container does not see.
        ({"proc/self/cgroup": "0::/docker/12ab", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/../../x", "sys/fs/cgroup/cpu.max": "200000 100000", "sys/x/cpu.max": "1 1"}, 2),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/12ab\n1:name=systemd:/docker/12ab\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "600000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            6,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/job",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "50000",
            },
            2,
        ),
        ({"proc/self/cgroup": "3:cpuset:/\n2:cpuacct:/", "sys/fs/cgroup/cpuset/cpu.max": "1 1"}, 16),
        ({"proc/self/cgroup": "nonsense\n\n0::", "sys/fs/cgroup/cpu.max": "many"}, 16),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 0"}, 16),
    ],
)
def test_quotas_of_control_groups(machine: Path, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        write(machine, name, text)
    assert available_cores(machine) == expected


# -- what is asked for --------------------------------------------------------------------------------


def test_who_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 8)
    monkeypatch.setattr(threads, "available_cores", lambda: 6)
    monkeypatch.setattr(threads, "_STATED", "")
    assert (use_threads(), use_threads(processes=2), use_threads(processes=7)) == (6, 3, 1)
    monkeypatch.setattr(threads, "_STATED", "4,2")
    assert (use_threads(), use_threads(processes=2)) == (4, 4)
    monkeypatch.setattr(threads, "_STATED", "true")
    assert use_threads() == 6
    monkeypatch.setenv("DLIR_THREADS", "3")
    assert (use_threads(), use_threads(2)) == (3, 2)


def test_more_threads_than_processors_are_not_taken_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 2)
    monkeypatch.setattr(threads, "_STATED", "64")
    assert use_threads() == 2  # what is said to all programs is no wish of this one
    with pytest.warns(ImageNote, match="--threads asks for 9999 threads, .*; it computes with 2 threads"):
        assert use_threads(9999) == 2
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("2", 2)
    monkeypatch.setenv("DLIR_THREADS", "3")
    with pytest.warns(ImageNote, match="DLIR_THREADS asks for 3 threads"):
        assert use_threads() == 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_what_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DLIR_THREADS", text)
    with pytest.raises(OptionError, match=f"DLIR_THREADS is '{text}'.*give 1 or more"):
        use_threads()
    with pytest.raises(OptionError, match="--threads is '0'"):
        use_threads(0)


def test_libraries_that_are_there_already_obey() -> None:
    for count in (1, 2):
        use_threads(count)
        assert torch.get_num_threads() == count
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == count
        assert sitk.BinaryThresholdImageFilter().GetNumberOfThreads() == count


# Variables of libraries that are set unless the user has set them, and other values than ours.
LEFT_TO_USERS = {"OMP_WAIT_POLICY": "ACTIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}


def test_libraries_that_come_later_obey() -> None:
    code = (
        "import sys, json\nfrom dlir.registration.threads import use_threads\nuse_threads(1)\n"
        "assert not {'torch', 'SimpleITK', 'numpy'} & set(sys.modules)\nimport torch, SimpleITK as sitk, os\n"
        "print(json.dumps([torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),"
        "os.environ['OMP_WAIT_POLICY'], os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY']]))"
    )
    unset = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", *LEFT_TO_USERS)
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE, env=environment)
    assert json.loads(done.stdout) == [1, 1, "PASSIVE", "128"], done.stderr


@pytest.mark.parametrize(("name", "value"), LEFT_TO_USERS.items())
def test_what_the_user_says_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    use_threads(1)
    assert os.environ[name] == value


# -- the commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [["--threads", "1"], []])
def test_a_registration_says_how_many_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    pair = write_pair(tmp_path, make_model(tmp_path / "tiny.safetensors"))
    monkeypatch.setenv("DLIR_THREADS", "2")
    printed = succeed(pair.register(tmp_path / "out", *asked))
    expected = 1 if asked else 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["threads"] == expected
    assert f"tiny on cpu ({expected} thread{'s' * (expected - 1)})" in printed


@pytest.mark.parametrize("command", ["register", "evaluate", "crossvalidate", "train", "demo"])
def test_every_command_that_computes_can_be_told(command: str) -> None:
    assert "--threads" in succeed([command, "--help"])


def test_a_wrong_variable_is_told_by_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLIR_THREADS", "many")
    refuse(["apply", "--transform", tmp_path / "t.h5", "--output", tmp_path / "o.csv"], tmp_path, "DLIR_THREADS")


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_that_train_share_the_cores(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: 6)
    monkeypatch.setattr(threads, "_STATED", "")
    CliRunner().invoke(app, ["train", "--devices", str(processes)])  # which lacks the rest
    assert os.environ["OMP_NUM_THREADS"] == str(6 // processes)


def test_a_worker_that_is_told_nonsense_says_so() -> None:
    command, environment = [sys.executable, "-m", "dlir.worker"], {**os.environ, "DLIR_THREADS": "none"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=SOURCE, env=environment) as process:
        assert process.stdout is not None
        failed = decode_event(process.stdout.readline())
    assert isinstance(failed, Failed)
    assert "DLIR_THREADS is 'none'" in failed.message
