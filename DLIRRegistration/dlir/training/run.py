"""A run from its options to its model file, in one process or several."""

from __future__ import annotations

import os
from pathlib import Path

from dlir.errors import DLIRError
from dlir.registration.progress import Notify, silent
from dlir.training.cache import Cache
from dlir.training.curves import draw_curves
from dlir.training.data import load_data
from dlir.training.draws import Draw
from dlir.training.engine import make_fabric
from dlir.training.run_folder import BOARD, CURVES, RunFolder, RunOptions
from dlir.training.subjects import Notice
from dlir.training.trainer import Progress, Trainer
from dlir.training.watching import Board

# Set by torchrun, by SLURM, and for the processes that Fabric starts.
_RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def is_first_process() -> bool:
    """Whether this process leads the run: it alone writes, and reports."""
    return all(int(os.environ.get(name, "0")) == 0 for name in _RANKS)


def train(
    folder: RunFolder,
    options: RunOptions,
    device: str,
    devices: int,
    workers: int,
    notice: Notice,
    progress: Progress,
    remark: Notify = silent,
) -> Path:
    """Train what is left of the run in `folder` and return its model file.

    device, devices: as for `make_fabric`. workers: processes that prepare batches, for each process that trains.
    notice: hears of images that are left out. progress: hears first of the "images" that are read. remark: hears what
    else a user should know. Raises ConfigError for unusable data or settings, and leaves the folder to another run
    then; OutputError where nothing can be written.
    """
    first = is_first_process()
    try:
        # The first process prepares the images before there are others, or while they wait for it.
        draws = _prepare(folder, options, notice, progress) if first else []
        fabric = make_fabric(device, devices)
        if not first:
            draws = load_data(options.config, options.data, _cache(options), silent)
        trainer = Trainer(options.config, draws, folder, fabric, workers)
    except DLIRError:
        folder.abandon()
        raise
    trainer.resume()
    if not first:
        return trainer.run(silent)
    if (former := trainer.state.precisions[-1:]) not in ([], [trainer.precision]):
        remark(f"until now the run was computed in {former[0]}; this device goes on in {trainer.precision}")
    model = trainer.run(progress, Board(folder.file(BOARD), trainer.total_iterations()).record)
    draw_curves(trainer.state.history, [phase.name for phase in trainer.phases], folder.file(CURVES))
    return model


def _cache(options: RunOptions) -> Cache:
    return Cache(options.cache, options.config.spec)


def _prepare(folder: RunFolder, options: RunOptions, notice: Notice, progress: Progress) -> list[Draw]:
    left_out: list[dict[str, str]] = []

    def remember(what: str, why: str) -> None:
        left_out.append({"what": what, "why": why})
        notice(what, why)

    def prepares(done: int, total: int) -> None:
        progress("images", done + 1, total, {})

    draws = load_data(options.config, options.data, _cache(options), remember, prepares)
    folder.keep_left_out(left_out)
    return draws
