"""Processes that stay: what they are told, and what becomes of those that cannot begin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlir.cohort.pool import Done, Pool
from dlir.errors import DeviceError, WorkerError
from pool_workers import Dying, Telling, refuse


@dataclass
class Asked:
    devices: list[str]

    def jobs(self, device: str) -> int:
        self.devices.append(device)
        return 2


def test_tasks_are_done_by_processes_that_stay(tmp_path: Path) -> None:
    asked = Asked([])
    pool: Pool[int] = Pool(Telling, asked.jobs, lambda jobs: jobs, tmp_path, "job")
    try:
        told = dict(pool.results(range(6)))
    finally:
        pool.close()
    values = [outcome.value for outcome in told.values() if isinstance(outcome, Done)]
    assert sorted(told) == list(range(6))
    assert len(values) == 6
    assert {value["threads"] for value in values} <= {"1", "2"}
    assert 1 <= len({value["pid"] for value in values} - {os.getpid()}) <= 2
    assert set(asked.devices) == {"cpu"}
    assert not any(Path(value["scratch"]).exists() for value in values)


def test_those_that_cannot_begin_end_the_work(tmp_path: Path) -> None:
    for enter, error, words in ((Dying, WorkerError, r"exit code 7\); try fewer"), (refuse, DeviceError, "no such")):
        pool: Pool[int] = Pool(enter, lambda device: 1, lambda jobs: 1, tmp_path, "job")
        with pytest.raises(error, match=words):
            list(pool.results([1]))
        pool.close()
        assert pool.under_way == []
