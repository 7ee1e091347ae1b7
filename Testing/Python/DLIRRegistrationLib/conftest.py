"""Fixtures of the tests that need MRML."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from DLIRRegistrationLib.api import RegistrationApi
    from DLIRRegistrationLib.worker import WorkerClient
    from mrml import MRML
    from slicer_windows import Windows
    from small_pair import SmallPair


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
    from DLIRRegistrationLib.worker import WorkerClient

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
def worker(shared_worker: WorkerClient) -> WorkerClient:
    """The shared worker, started again where a test has killed it, and ready."""
    shared_worker.start()
    end = time.monotonic() + 120
    while shared_worker.state != "ready":
        assert time.monotonic() < end, f"the worker is {shared_worker.state}"
        shared_worker.poll()
        time.sleep(0.01)
    return shared_worker


@pytest.fixture
def logic(scene: MRML, worker: WorkerClient) -> RegistrationApi:
    """The Logic, in a scene, with the shared worker."""
    from DLIRRegistrationLib.api import RegistrationApi

    api = RegistrationApi()
    api.worker = worker
    return api


@pytest.fixture
def pair(scene: MRML) -> SmallPair:
    """Two volumes and two segmentations in the scene."""
    from small_pair import small_pair

    return small_pair(scene)
