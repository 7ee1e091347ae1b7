"""The client ends a refinement with the best so far, and nothing else."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fake_worker
from dlir.worker.protocol import Done, Event, Progress
from DLIRRegistrationLib.worker.client import WorkerClient

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake worker is a shell script")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerClient]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = WorkerClient(fake_worker.script(tmp_path), fake_worker.ENVIRONMENT)
    yield client
    client.close()


def refining(client: WorkerClient) -> tuple[str, list[Event]]:
    """A request that ends only when it is told to; its id, and what it will have been told."""
    folder, heard = client.reserve(), list[Event]()
    return client.submit(fake_worker.asking(folder.name, folder, "refine"), heard.append), heard


def until(client: WorkerClient, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        client.poll()
        time.sleep(0.002)


def test_a_refinement_is_ended_with_what_there_is(client: WorkerClient) -> None:
    name, heard = refining(client)
    client.finish(name)  # the process is not there yet
    until(client, lambda: any(isinstance(event, Progress) and event.value is not None for event in heard))
    waiting, heard_of_it = refining(client)
    client.finish("of nobody")
    client.finish(waiting)
    assert not client.wait(name, 0.2)
    client.finish(name)
    assert client.wait(name, 60)
    assert isinstance(heard[-1], Done)
    client.finish(name)  # it has ended
    until(client, lambda: len(heard_of_it) > 3)
    client.finish(waiting)
    assert client.wait(waiting, 60)
    assert isinstance(heard_of_it[-1], Done)
