"""Batches, prepared ahead by processes of their own."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Generator, Sequence

from torch.utils.data import DataLoader

from dlir.training.batch import Batch, collate
from dlir.training.pairs import PairDataset


class Loader:
    """Batches in a given order, and how long was waited for them.

    indices: the pair numbers of each batch. workers: processes. seconds: waited so far.
    """

    def __init__(self, dataset: PairDataset, indices: Sequence[Sequence[int]], workers: int) -> None:
        self._batches = DataLoader(
            dataset,
            batch_sampler=indices,  # type: ignore[arg-type]  # any sequence of lists of indices will do
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=_start_worker,
        )
        self.seconds = 0.0

    def __iter__(self) -> Generator[Batch, None, None]:
        try:
            start = time.perf_counter()
            for batch in self._batches:
                self.seconds += time.perf_counter() - start
                yield batch
                start = time.perf_counter()
        except BaseException as error:
            # The loader's frames would keep its processes alive for as long as someone holds the exception.
            raise error.with_traceback(None) from None


def _start_worker(worker: int) -> None:
    """Its errors reach the run as exceptions, and nothing else of it does.

    A signal that a batch system sends to all processes of a job is for the one that trains: it ends this one in order.
    """
    sys.excepthook = lambda *details: None
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, signal.SIG_IGN)
