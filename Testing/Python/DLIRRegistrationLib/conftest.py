"""Fixtures of the tests that need MRML."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

import slicer_standins

if TYPE_CHECKING:
    from DLIRRegistrationLib.logic import DLIRRegistrationLogic
    from DLIRRegistrationLib.worker.client import WorkerClient
    from mrml import MRML
    from slicer_windows import Windows
    from small_pair import SmallPair

if importlib.util.find_spec("slicer") is not None:
    slicer_standins.install_module_classes()


@pytest.fixture
def scene() -> Iterator[MRML]:
    """An empty scene with Slicer's logics; the test is skipped where slicer-core is not installed."""
    pytest.importorskip("slicer", reason="needs slicer-core")
    from mrml import MRML

    mrml = MRML()
    yield mrml
    mrml.close()


@pytest.fixture
def windows(scene: MRML) -> Iterator[Windows]:
    """Slicer's windows with their layouts, drawn offscreen; the test is skipped where nothing can be drawn."""
    from mrml import skip_without_rendering
    from slicer_windows import Windows

    skip_without_rendering()
    shown = Windows(scene)
    yield shown
    shown.close()


@pytest.fixture(scope="session")
def shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    """The real worker process, one for all tests, because importing torch is slow. At the end no file of it is left."""
    from DLIRRegistrationLib.worker.client import WorkerClient

    folder = tmp_path_factory.mktemp("worker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        # One thread: on a machine that does other things too, several wait for each other.
        client = WorkerClient(sys.executable, {"OMP_NUM_THREADS": "1", "DLIR_TEST_WORKER": str(folder)})
        client.start()
        yield client
        client.close()
    assert list(folder.iterdir()) == []


@pytest.fixture
def worker(shared_worker: WorkerClient) -> Iterator[WorkerClient]:
    """The shared worker, started again where a test has killed it, and ready. A test may leave nothing behind."""
    shared_worker.start()
    _wait_until(shared_worker, lambda: shared_worker.state == "ready", 120)
    yield shared_worker
    _wait_until(shared_worker, lambda: not _leftovers(shared_worker), 30)


def _wait_until(client: WorkerClient, over: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not over():
        assert time.monotonic() < end, (client.state, _leftovers(client))
        client.poll()
        time.sleep(0.01)


def _leftovers(client: WorkerClient) -> list[str]:
    """Folders of requests, and processes beside the one that there should be."""
    from processes import processes_with

    scratch = client.reserve()
    client.release(scratch.name)
    folders = [str(path) for path in scratch.parent.iterdir() if path.name.startswith("request-")]
    return folders + [f"process {pid}" for pid in processes_with(f"DLIR_TEST_WORKER={scratch.parents[1]}")[1:]]


@pytest.fixture
def logic(scene: MRML, worker: WorkerClient) -> DLIRRegistrationLogic:
    """The Logic, in a scene, with the shared worker."""
    from DLIRRegistrationLib.logic import DLIRRegistrationLogic

    logic = DLIRRegistrationLogic()
    logic.worker = worker
    return logic


@pytest.fixture
def pair(scene: MRML) -> SmallPair:
    """Two volumes and two segmentations in the scene."""
    from small_pair import small_pair

    return small_pair(scene)
