"""The real worker with the model and the pair that ship; one process for all tests, because importing torch is slow."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dlir.io import Volume, read_image, read_label
from dlir.io.arrays import read_array, write_array
from dlir.model.catalogue import resolve_model, resource_folder
from dlir.registration.request import ArrayFile, Comparison, Outputs, RegistrationRequest
from dlir.worker.protocol import Done, Event, Failed, Progress, Register
from DLIRRegistrationLib.worker.client import WorkerClient

NAMES = ("fixed_ed", "moving_es", "fixed_ed_label", "moving_es_label")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        client = WorkerClient()
        client.start()
        yield client
        client.close()
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def sample() -> dict[str, Volume]:
    folder = resource_folder("SampleData")
    images = {name: read_image(folder / f"{name}.nrrd") for name in NAMES[:2]}
    labels = {f"{name}_label": read_label(folder / f"{name}_label.nrrd", images[name]) for name in NAMES[:2]}
    return images | labels


Ask = Callable[[], tuple[str, list[Event]]]


@pytest.fixture
def ask(client: WorkerClient, sample: dict[str, Volume]) -> Iterator[Ask]:
    """Hands in the pair with its labels. The folder goes after the test."""
    asked: list[str] = []

    def ask() -> tuple[str, list[Event]]:
        folder, heard = client.reserve(), list[Event]()
        files = {}
        for name, volume in sample.items():
            for _ in write_array(folder / f"{name}.npy", volume.array):
                pass
            files[name] = ArrayFile(str(folder / f"{name}.npy"), volume.grid.to_dict(), name)
        fixed, moving, fixed_label, moving_label = (files[name] for name in NAMES)
        request = RegistrationRequest(
            fixed,
            moving,
            Outputs(str(folder), "arrays"),
            str(resolve_model("cardiac-cine")),
            "cpu",
            moving_labels=(moving_label,),
            fixed_labels=(fixed_label,),
            comparisons=(Comparison("cavity", 0, 1, 0, 1),),
            backward_labels=(fixed_label,),
        )
        asked.append(client.submit(Register(folder.name, request), heard.append))
        return asked[-1], heard

    yield ask
    for name in asked:
        client.cancel(name)
        client.release(name)


@pytest.mark.slow
def test_the_shipped_pair(client: WorkerClient, ask: Ask, sample: dict[str, Volume]) -> None:
    name, heard = ask()
    assert client.wait(name, 120)
    done = heard[-1]
    assert isinstance(done, Done)
    steps = {event.step for event in heard if isinstance(event, Progress)}
    assert {"reading", "stage 1 of 3", "stage 3 of 3", "resampling", "labels", "figures", "writing"} <= steps
    scores = done.report["labels"]["cavity"]
    assert scores["after"]["dice"] > scores["before"]["dice"] + 0.05
    assert done.report["inverse"]["unsolved_voxels"] == 0
    warped, label = read_array(done.files["warped"]), read_array(done.files["label_0"])
    back = read_array(done.files["backward_label_0"])
    assert warped.shape == label.shape == sample["fixed_ed"].grid.shape
    systole = sample["moving_es_label"].array
    overlap = 2 * np.count_nonzero(systole * back) / (np.count_nonzero(systole) + np.count_nonzero(back))
    assert overlap > 0.9
    assert np.isfinite(warped).all()


@pytest.mark.slow
def test_polling_never_takes_long_and_the_second_time_needs_no_start(client: WorkerClient, ask: Ask) -> None:
    ask()
    polls: list[float] = []
    start = time.perf_counter()
    name, heard = ask()
    while not heard or not isinstance(heard[-1], Done):
        before = time.perf_counter()
        client.poll()
        polls.append(time.perf_counter() - before)
        time.sleep(0.005)
        assert time.perf_counter() - start < 120
    assert client.state == "ready"
    assert np.percentile(polls, 95) < 0.03
    client.release(name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs to limit the files of another process")
def test_a_full_disk_is_one_line_and_the_next_run_works(client: WorkerClient, ask: Ask) -> None:
    import resource

    if client.pid is None:
        assert client.wait(ask()[0], 120)
    pid = client.pid
    assert pid is not None
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        name, heard = ask()
        assert client.wait(name, 120)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    failed = heard[-1]
    assert isinstance(failed, Failed)
    assert failed.kind == "error"
    assert "the disk is full; free some space" in failed.message
    assert "\n" not in failed.message
    name, heard = ask()
    assert client.wait(name, 120)
    assert isinstance(heard[-1], Done)
    assert client.pid == pid


@pytest.mark.slow
def test_files_go_with_the_request(client: WorkerClient, ask: Ask) -> None:
    name, heard = ask()
    assert client.wait(name, 120)
    done = heard[-1]
    assert isinstance(done, Done)
    held = read_array(done.files["warped"])
    total = held.sum()
    folder = Path(done.files["warped"]).parent
    client.release(name)
    end = time.monotonic() + 30
    while folder.exists() and sys.platform != "win32":  # deleted little by little, not to hold up the caller
        assert time.monotonic() < end
        client.poll()
    assert held.sum() == total  # who still holds an array may read on
